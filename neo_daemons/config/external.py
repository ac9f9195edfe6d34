"""Definitions of daemons that somebody else runs: we observe them at a URL and never control them."""

from __future__ import annotations

import contextlib
import urllib.parse

from neo_daemons.definitions import Definition, HttpProbe, Name
from neo_daemons.references import UnknownReference, escape, expand
from neo_daemons.urls import host_and_port, is_url, redacted

from .builtins import BUILTINS, HTTP_URL
from .errors import ConfigError
from .schema_types import fits


def answers(url: str) -> HttpProbe:
    """Return a probe that passes if a server answers at `url` without an error of its own."""
    return HttpProbe(url=escape(url), status=tuple(range(200, 500)))


def _leads_further(url: str) -> bool:
    """Return whether a URL has a path, which says where on its host the service is."""
    return urllib.parse.urlsplit(url).path.strip("/") != ""


def external(name: str, url: str) -> Definition:
    """Return the definition of a daemon that somebody else runs at `url`.

    Raises:
        ConfigError: `url` is not a URL, or `name` cannot be a daemon's name.
    """
    if not fits(name, Name):
        raise ConfigError(f"{name!r} is not a name for a daemon; use a-z, 0-9, - and _, a letter first")
    if not is_url(url):
        raise ConfigError(f"{name}={redacted(url)}: not a URL; write one such as http://host:8000")
    host, port = host_and_port(url)
    values = {"host": host, "port": str(port)}
    builtin = BUILTINS.get(name)
    exports = {}
    for variable, text in (builtin.settings({}).get("exports", {}) if builtin is not None else {}).items():
        with contextlib.suppress(UnknownReference):  # what only one of ours has
            own = text.removeprefix(HTTP_URL)
            value = expand(text, values) if own == text else url if _leads_further(url) else url.rstrip("/") + own
            exports[variable] = escape(value)
    return Definition(name=name, external=url, exports=exports, live=(answers(url),))
