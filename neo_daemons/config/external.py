"""Definitions of external daemons, which we observe at a URL and never control."""

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
    """Return a probe that passes if a server answers at `url` without a server error."""
    return HttpProbe(url=escape(url), status=tuple(range(200, 500)))


def _leads_further(url: str) -> bool:
    """Return whether a URL has a path, which says where on its host the service is."""
    return urllib.parse.urlsplit(url).path.strip("/") != ""


def external(name: str, url: str) -> Definition:
    """Return the definition of an external daemon at `url`.

    Raises:
        ConfigError: `url` is not a URL, or `name` cannot be a daemon's name.
    """
    if not fits(name, Name):
        raise ConfigError(f"{name!r} is not a valid daemon name; use a-z, 0-9, - and _, starting with a letter")
    if not is_url(url):
        raise ConfigError(f"{name}={redacted(url)}: not a URL; use e.g. http://host:8000")
    host, port = host_and_port(url)
    values = {"host": host, "port": str(port)}
    builtin = BUILTINS.get(name)
    exports = {}
    for variable, text in (builtin.settings({}).get("exports", {}) if builtin is not None else {}).items():
        with contextlib.suppress(UnknownReference):  # a value that only our own daemons have
            own = text.removeprefix(HTTP_URL)
            value = expand(text, values) if own == text else url if _leads_further(url) else url.rstrip("/") + own
            exports[variable] = escape(value)
    return Definition(name=name, external=url, exports=exports, live=(answers(url),))
