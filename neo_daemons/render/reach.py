"""How programs outside an engine's containers reach the daemons in them: by a tunnel, or at an address."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

import msgspec

from neo_daemons.config.external import answers
from neo_daemons.definitions import AnyProbe, Definition, Deploy, HttpProbe, Port, Restart, Stop, TcpProbe
from neo_daemons.references import escape, names, texts
from neo_daemons.urls import is_url, url_host

from .images import SERVERS
from .kubernetes.names import name_of

LOOPBACK = "127.0.0.1"
LOOPBACK_NAMES = frozenset({"localhost", LOOPBACK, "::1", "0.0.0.0"})  # noqa: S104 - stated by a URL
LIVE_INTERVAL_S = 1.0
"""The longest time between two liveness probes through a tunnel: tests wait for a broken one."""
START_S = 30.0
"""The longest start of a tunnel: the daemon behind it is running already."""
NEVER = 1_000_000
RESTART = Restart(base_s=0.2, ceiling_s=2.0, stable_s=5.0, limit=NEVER, kills=NEVER)
"""A tunnel costs nothing to restart, so it is never parked."""
STOP = Stop(grace_s=2.0)
KEPT = ("host", "port", "url", "name")
"""References to what has a meaning outside the container. So have ``ports.…`` and ``env.…``."""


class NotReachable(Exception):
    """A daemon in a container cannot be reached from outside; ``str()`` says why, and how to change that."""


def ports_of(definition: Definition) -> dict[str, int]:
    """Return the ports of a daemon's service, by name.

    Raises:
        NotReachable: it has none, or is not run by an engine.
    """
    if not definition.enabled:
        raise NotReachable("the engine does not run it, as its definition says enabled = false")
    if definition.is_template:
        raise NotReachable("the engine does not run it: each client has a process of its own (share = false)")
    if not definition.ports:
        raise NotReachable("it has no port, so it cannot be reached in another container")
    deploy = definition.deploy or Deploy()
    stated = dict(deploy.ports)
    if deploy.port is not None:
        stated.setdefault(next(iter(definition.ports)), deploy.port)
    found = {}
    for name, port in definition.ports.items():
        number = stated.get(name, port.fixed or port.preferred)
        if number is None:
            key = "deploy.port" if len(definition.ports) == 1 else f"deploy.ports.{name}"
            raise NotReachable(f"the port of its service is not known; set daemons.{definition.name}.{key}")
        found[name] = number
    return found


def service(definition: Definition) -> str:
    """Return the name of a daemon's service in Kubernetes."""
    return name_of(definition.name)


def tunnel(
    definition: Definition, numbers: Mapping[str, int], namespace: str | None, cwd: str, kubectl: str
) -> Definition:
    """Return the definition of the ``kubectl port-forward`` that leads to a daemon, with the URL, exports and probes of
    that daemon.

    Args:
        numbers: the ports of its service, by name.
        namespace: that of the service; None: that of the current context.
        cwd: where kubectl runs.
        kubectl: its path.
    """
    options = ("--address", LOOPBACK, *(("--namespace", namespace) if namespace is not None else ()))
    pairs = (f"${{ports.{name}}}:{number}" for name, number in numbers.items())
    exports = {name: text for name, text in definition.exports.items() if _means_something(text)}
    ready, live = _probes(definition)
    said = [text for _, text in texts((definition.url, exports, ready, live))]
    return Definition(
        name=definition.name,
        command=(escape(kubectl), "port-forward", *options, f"service/{service(definition)}", *pairs),
        cwd=cwd,
        host=LOOPBACK,
        ports={name: _local(port, said) for name, port in definition.ports.items()},
        url=definition.url,
        exports=exports,
        ready=ready or (TcpProbe(),),
        live=live,
        restart=RESTART,
        stop=STOP,
        start_grace_s=min(definition.start_grace_s, START_S),
        log=definition.log,
    )


def _local(port: Port, said: list[str]) -> Port:
    """Return the near end of a tunnel: the daemon's own port if strings name it by its number, else any free one."""
    number = str(port.fixed)
    literal = any(number in re.findall(r"\d+", text) for text in said)
    return port if port.fixed is not None and literal else Port()


def at(definition: Definition, host: str, numbers: Mapping[str, int]) -> Definition:
    """Return the definition of an external daemon at an address.

    Args:
        numbers: its ports there, by name.
    """
    ready, live = _probes(definition)
    first = next(iter(numbers.values()))
    own = {"name": definition.name, "host": url_host(host), "port": str(first)}
    own |= {f"ports.{name}": str(number) for name, number in numbers.items()}
    scheme = "http" if any(isinstance(probe, HttpProbe) for probe in ready) else "tcp"
    url = _elsewhere(_fill(definition.url or f"{scheme}://${{host}}:${{port}}", own), host, first)
    values = {**own, "host": host, "url": url}
    exports = {name: _fill(text, values) for name, text in definition.exports.items() if _means_something(text)}
    probes = tuple(_addressed(probe, own, numbers) for probe in live or ready if isinstance(probe, HttpProbe))
    if not probes and is_url(url):
        probes = (answers(url),)
    return Definition(name=definition.name, external=url, host=host, exports=exports, live=probes)


def _elsewhere(url: str, host: str, port: int) -> str:
    """Return a URL with this host and port if it names the loopback interface by itself."""
    parts = urllib.parse.urlsplit(url)
    if parts.hostname not in LOOPBACK_NAMES:
        return url
    return parts._replace(netloc=f"{url_host(host)}:{port}").geturl()


def _addressed(probe: HttpProbe, own: Mapping[str, str], numbers: Mapping[str, int]) -> HttpProbe:
    number = numbers[probe.port] if probe.port is not None else next(iter(numbers.values()))
    url = f"http://{own['host']}:{number}" if probe.url is None else _fill(probe.url, own)
    filled: HttpProbe = msgspec.structs.replace(probe, url=url, port=None, path=_fill(probe.path, own))
    return filled


def _probes(definition: Definition) -> tuple[tuple[AnyProbe, ...], tuple[AnyProbe, ...]]:
    """Return the readiness and liveness probes that work from outside the container."""
    deploy = definition.deploy or Deploy()
    ready, live = definition.ready, definition.live
    if deploy.server is not None:
        ready = live = (HttpProbe(path=SERVERS[deploy.server].health),)
    ready, live = _stated(deploy.ready, ready), _stated(deploy.live, live)
    often = (
        msgspec.structs.replace(probe, interval_s=min(probe.interval_s, LIVE_INTERVAL_S)) for probe in _usable(live)
    )
    return _usable(ready), tuple(often)


def _stated(instead: AnyProbe | tuple[AnyProbe, ...] | None, own: tuple[AnyProbe, ...]) -> tuple[AnyProbe, ...]:
    if instead is None:
        return own
    return instead if isinstance(instead, tuple) else (instead,)


def _usable(probes: tuple[AnyProbe, ...]) -> tuple[AnyProbe, ...]:
    return tuple(probe for probe in probes if isinstance(probe, HttpProbe | TcpProbe) and _means_something(probe))


def _means_something(value: Any) -> bool:
    """Return whether all that a value refers to has a meaning outside the container."""
    referred = (name for _, text in texts(value) for name in names(text))
    return all(name in KEPT or name.startswith(("ports.", "env.")) for name in referred)


def _fill(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with references replaced by `values`. All others stay references."""

    def value(match: re.Match[str]) -> str:
        found = values.get(match[1]) if match[1] else None
        return escape(found) if found is not None else match[0]

    return re.sub(r"\$\$|\$\{([^}]*)\}", value, text)
