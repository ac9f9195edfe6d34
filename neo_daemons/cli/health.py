"""``health``: check the daemons from outside. It needs no supervisor and changes nothing."""

from __future__ import annotations

import argparse
import time
from typing import Any

from neo_daemons.config.errors import ConfigError
from neo_daemons.definitions import is_name
from neo_daemons.health.observation import HealthStatus
from neo_daemons.health.observer import Observer
from neo_daemons.health.project import observer_at, project_observers
from neo_daemons.health.report import check_all
from neo_daemons.similar import among
from neo_daemons.urls import redacted

from . import display
from .streams import complain, drop_output

CODES: dict[HealthStatus, int] = {"healthy": 0, "degraded": 1, "unhealthy": 2, "unknown": 3}
"""The exit codes of monitoring plugins."""
CANNOT_LOOK = CODES["unknown"]
PAUSE_S = 0.1


def health(options: argparse.Namespace) -> int:
    """Print the health of the daemons and return the exit code of the worst."""
    try:
        observers = _chosen(options)
    except ConfigError as error:
        return complain(str(error), CANNOT_LOOK)
    except OSError as error:
        return complain(f"{error.strerror}: {error.filename or 'the working directory'}", CANNOT_LOOK)
    if not observers:
        return complain("no daemon is enabled in this project; pass --url NAME=URL to check one", CANNOT_LOOK)
    import httpx  # noqa: F401 - so that loading it does not count as part of a check

    deadline = time.monotonic() + options.wait
    seen = check_all(observers)
    while seen.status != "healthy" and (rest_s := deadline - time.monotonic()) > 0:
        time.sleep(min(PAUSE_S, rest_s))
        seen = check_all(observers)
    code = CODES[seen.status]
    try:
        print(seen.json() if options.json else "\n".join(display.clean(str(one)) for one in seen.daemons), flush=True)
    except BrokenPipeError:
        drop_output()
    except OSError as error:
        drop_output()
        return complain(f"standard output: {error.strerror}", CANNOT_LOOK)
    return code


def _chosen(options: argparse.Namespace) -> list[Observer[Any]]:
    urls = dict(_url(text, options.names) for text in options.url)
    if options.names and set(options.names) <= set(urls):  # then the configuration need not be right
        known = {name: observer_at(name, url) for name, url in urls.items()}
    else:
        known = project_observers(options.config, state_dir=options.state_dir, urls=urls)
    names = list(dict.fromkeys(options.names or known))
    for name in names:
        if name not in known:
            enabled = f"enabled daemons: {among(name, known)}" if known else "no daemon is enabled"
            if not is_name(name):  # such as a group
                raise ConfigError(f"{name!r} is no name of a daemon; {enabled}")
            raise ConfigError(f"unknown daemon {name!r}; {enabled}; or pass --url {name}=URL")
    return [known[name] for name in names]


def _url(text: str, names: list[str]) -> tuple[str, str]:
    """Split ``NAME=URL``; if only one daemon is checked, ``URL`` alone is enough."""
    name, equals, url = text.partition("=")
    if equals and is_name(name):
        return name, url
    if len(names) == 1:
        return names[0], text
    shown = redacted(text)
    raise ConfigError(f"--url {shown} does not say which daemon; use --url NAME={shown}")
