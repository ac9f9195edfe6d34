"""Replaces the daemons of a run by those that an engine runs: by their addresses, or by tunnels to them."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

import msgspec

from neo_daemons.definitions import Definition
from neo_daemons.interpreter import installed_modules
from neo_daemons.urls import url_host

from .deployed import Deployed, Unreachable

with installed_modules():
    from neo_daemons.ephemeral.questions import Answer, ask
    from neo_daemons.render import reach

ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where a pod finds the name of its namespace."""
IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
"""A variable that Kubernetes sets in every container."""
CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv")
"""Files by which Docker and Podman tell a program that it runs in a container."""
ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - told by Docker
LOOPBACK = "127.0.0.1"
ASK_S = 30.0
"""How long Docker may take to say where ports are published."""
NO_KUBECTL = "kubectl was not found on PATH, which makes the tunnels to a cluster; install it"
DONE = ("true",)
"""What runs in place of a oneshot: the engine has run it."""


class _Found:
    """Collects what the daemons of a run become."""

    def __init__(self) -> None:
        self.definitions: dict[str, Definition] = {}
        self.places: dict[str, str] = {}
        self.unreachable: dict[str, Unreachable] = {}
        self.ports: dict[str, dict[str, int]] = {}
        """Daemons that remain to be reached → the ports of their services, by name."""

    def deployed(self, engine: str, tunnels: frozenset[str] = frozenset()) -> Deployed:
        """Return the daemons that the engine runs."""
        return Deployed(engine=engine, places=self.places, tunnels=tunnels, unreachable=self.unreachable)


def deploy(
    engine: str,
    namespace: str | None,
    definitions: Mapping[str, Definition],
    root: Path,
    environ: Mapping[str, str] = os.environ,
) -> tuple[dict[str, Definition], Deployed]:
    """Return the definitions of a run whose daemons an engine runs, without those that cannot be reached there.

    Args:
        engine: ``kubernetes`` or ``compose``.
        namespace: that of Kubernetes; None: that of this pod, or of the current context.
        definitions: those of the project. External daemons stay what they are.
        root: the directory of the project, where the programs of the engine run.
    """
    found = _Found()
    for name, definition in definitions.items():
        if definition.external:
            alone = msgspec.structs.replace(definition, requires=(), after=(), cascades=())
            found.definitions[name] = alone
        elif definition.oneshot and definition.enabled:
            found.definitions[name] = Definition(name=name, command=DONE, cwd=str(root), oneshot=True)
            found.places[name] = "done before"
        else:
            try:
                found.ports[name] = reach.ports_of(definition)
            except reach.NotReachable as error:
                found.unreachable[name] = Unreachable(why=str(error), skips=True)
    if engine == "kubernetes":
        deployed = _kubernetes(namespace, definitions, found, root, environ)
    else:
        deployed = _compose(definitions, found, root, environ)
    return {name: found.definitions[name] for name in definitions if name in found.definitions}, deployed


def _kubernetes(
    namespace: str | None,
    definitions: Mapping[str, Definition],
    found: _Found,
    root: Path,
    environ: Mapping[str, str],
) -> Deployed:
    inside = bool(environ.get(IN_CLUSTER))
    # The one that the shell would run: daemons look into the environment of this interpreter first.
    kubectl = shutil.which("kubectl", path=environ.get("PATH"))
    namespace = namespace or (_own_namespace() if inside else None)
    for name, numbers in found.ports.items():
        definition = definitions[name]
        service = reach.service(definition)
        if inside:
            host = f"{service}.{namespace}.svc" if namespace is not None else service
            found.definitions[name] = reach.at(definition, host, numbers)
        elif kubectl is not None:
            found.definitions[name] = reach.tunnel(definition, numbers, namespace, str(root), kubectl)
        else:
            found.unreachable[name] = Unreachable(why=NO_KUBECTL, skips=True)
            continue
        found.places[name] = f"service/{service}:{next(iter(numbers.values()))}"
    if namespace is not None:
        where = f"namespace {namespace}"
    else:
        where = "the namespace of this pod" if inside else "the namespace of the current context"
    return found.deployed(f"Kubernetes ({where})", frozenset() if inside or kubectl is None else frozenset(found.ports))


def _own_namespace() -> str | None:
    with contextlib.suppress(OSError):
        return ACCOUNT_NAMESPACE.read_text().strip() or None
    return None


def _compose(definitions: Mapping[str, Definition], found: _Found, root: Path, environ: Mapping[str, str]) -> Deployed:
    asked = []
    for name, numbers in found.ports.items():
        if _is_neighbour(name):
            found.definitions[name] = reach.at(definitions[name], name, numbers)
            found.places[name] = f"{name}:{next(iter(numbers.values()))}"
        else:
            asked += [(name, port, number) for port, number in numbers.items()]
    docker = shutil.which("docker", path=environ.get("PATH")) or "docker"
    commands = [(docker, "compose", "port", name, str(number)) for name, _, number in asked]
    published: dict[str, dict[str, int]] = {}
    hosts: dict[str, str] = {}
    for (name, port, number), answer in zip(asked, ask(commands, environ, root, ASK_S) if asked else (), strict=True):
        address = _address(answer, environ)
        if address is None:
            found.unreachable.setdefault(
                name, Unreachable(why=_not_published(name, number, answer), skips=answer.missing)
            )
        else:
            hosts[name] = address[0]
            published.setdefault(name, {})[port] = address[1]
    for name, numbers in published.items():
        if name not in found.unreachable:
            found.definitions[name] = reach.at(definitions[name], hosts[name], numbers)
            found.places[name] = f"{name}:{next(iter(found.ports[name].values()))}"
    return found.deployed("Docker Compose")


def _is_neighbour(name: str) -> bool:
    """Return whether this process runs in a container that has a service of this name in its network."""
    if not any(Path(path).exists() for path in CONTAINER_FILES):
        return False
    try:
        return bool(socket.getaddrinfo(name, None))
    except (OSError, UnicodeError):
        return False


def _address(answer: Answer, environ: Mapping[str, str]) -> tuple[str, int] | None:
    """Return the host and port that Docker has told; None if it has not."""
    host, separator, port = answer.line.rpartition(":")
    if not answer.succeeded or not separator or not port.isdecimal() or int(port) == 0:
        return None
    host = host.strip("[]")
    if host in ANY_ADDRESS or not host:
        # All addresses of the machine that Docker runs on.
        host = urllib.parse.urlsplit(environ.get("DOCKER_HOST", "")).hostname or LOOPBACK
    return host, int(port)


def _not_published(name: str, number: int, answer: Answer) -> str:
    if answer.missing:
        return f"docker cannot be run, which knows where Docker Compose publishes its port: {answer.line}"
    return (
        f"`docker compose port {name} {number}` says: {answer.line}; start the service, and publish its port: "
        f'add ports: ["{url_host(LOOPBACK)}::{number}"] to the service {name}'
    )
