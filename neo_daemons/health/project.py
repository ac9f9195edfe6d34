"""Creates the observers of the daemons that a project defines."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neo_daemons.config.configuration import Configuration, load
from neo_daemons.config.errors import ConfigError
from neo_daemons.definitions import AnyProbe, Definition, HttpProbe
from neo_daemons.references import expand, names

from .bridge import BridgeObserver
from .chroma import ChromaObserver
from .http import HttpObserver
from .mlx import MlxObserver
from .observer import Observer
from .process import ProcessObserver
from .tcp import TcpObserver

ANSWERS = range(200, 500)
"""The statuses that show that a server is up, if nothing else is known about it."""


def project_observers(
    file: Path | None = None,
    *,
    state_dir: Path | None = None,
    directory: Path | None = None,
    urls: Mapping[str, str] | None = None,
) -> dict[str, Observer[Any]]:
    """Return an observer for each daemon of the project's configuration, by name; without a configuration, for each
    built-in daemon.

    Args:
        file, state_dir, directory: as in `neo_daemons.config.load`.
        urls: the URLs of external daemons, by name, including daemons that are not in the configuration.

    Raises:
        ConfigError: the configuration or a URL is invalid.
    """
    configuration = load(file, state_dir=state_dir, directory=directory, observing=True)
    observers = {
        definition.name: _observer(definition, configuration)
        for definition in configuration.definitions
        if definition.enabled and not definition.oneshot and definition.share
    }
    for observer in observers.values():
        if observer.state is not None:
            observer.state = configuration.state  # whose options are those with which to start a supervisor
    return observers | {name: observer_at(name, url) for name, url in (urls or {}).items()}


def observer_at(name: str, url: str) -> Observer[Any]:
    """Return an observer for an external daemon: one for its kind if the name is known, else one that checks whether it
    answers.

    Raises:
        ConfigError: the URL is invalid.
    """
    try:
        match name:
            case "chroma":
                return ChromaObserver(url, name=name)
            case "mlx":
                return MlxObserver(url, name=name)
            case _:
                return HttpObserver(url, name=name, path="", status=ANSWERS)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None


def _observer(definition: Definition, configuration: Configuration) -> Observer[Any]:
    name, state = definition.name, configuration.state.path
    if definition.external is not None:
        return _external(name, definition.external, definition)
    match definition.builtin if not definition.command else None:
        case "chroma":
            return ChromaObserver(name=name, state_dir=state)
        case "mlx":
            return MlxObserver(name=name, state_dir=state)
        case "bridge":
            return BridgeObserver(name=name, state_dir=state)
    probe = next(filter(_is_readable, (*definition.live, *definition.ready)), None)
    if isinstance(probe, HttpProbe):
        return HttpObserver(
            name=name,
            path=expand(probe.path, {}),
            method="HEAD" if probe.method == "HEAD" else "GET",
            status=probe.status,
            body=probe.body,
            headers={key: expand(value, {}) for key, value in probe.headers.items()},
            state_dir=state,
            timeout_s=probe.timeout_s,
        )
    if definition.ports:
        return TcpObserver(definition.host, name=name, state_dir=state)
    return ProcessObserver(name, state)


def _external(name: str, url: str, definition: Definition) -> Observer[Any]:
    """Return an observer for the URL that the configured probe uses, if there is one."""
    stated = next((probe for probe in (*definition.ready, *definition.live) if isinstance(probe, HttpProbe)), None)
    where = expand(stated.url, {}) if stated is not None and stated.url and not names(stated.url) else None
    if stated is None or where is None or stated.method == "POST" or where == url:
        return observer_at(name, url)
    parts = urllib.parse.urlsplit(where)
    path = parts._replace(scheme="", netloc="").geturl() if parts.path or parts.query else stated.path
    base = parts._replace(path="", query="", fragment="").geturl()
    return HttpObserver(base, name=name, path=path, status=stated.status, body=stated.body)


def _is_readable(probe: AnyProbe) -> bool:
    """Return whether an observer may use this probe: it must change nothing and contain nothing that only the
    supervisor can resolve."""
    if not isinstance(probe, HttpProbe) or probe.method == "POST" or probe.url is not None or probe.port is not None:
        return False
    return not any(names(text) for text in (probe.path, *probe.headers.values()))
