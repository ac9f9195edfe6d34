"""What an engine runs for a daemon: its definition, in a container of its own.

Inside, the daemon listens on all addresses; others reach it by its name. What a definition says of this machine (its
directories, its interpreter, its environment) means nothing there, so it is an error unless `deploy` takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, TypeVar

from msgspec import Struct

from neo_daemons.definitions import AnyProbe, Definition, Deploy, HttpProbe, Secret
from neo_daemons.references import UnknownReference, expand, expand_all, of_daemon, own_values, split, texts
from neo_daemons.urls import host_and_port, is_url, redacted

from .image import Image
from .images import image_of
from .stack import Faults, Stack

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - of a container, whose engine decides who can reach it
LOOPBACK = "127.0.0.1"
OF_THIS_MACHINE = "is of this machine, and means nothing in a container"
Until = Literal["ready", "started", "done"]
T = TypeVar("T")


class Need(Struct, frozen=True, kw_only=True):
    """Another daemon that must be there first."""

    name: str
    until: Until
    cascades: bool
    """Whether this one is restarted when that one was."""


class Workload(Struct, frozen=True, kw_only=True):
    """A daemon as an engine runs it. No string holds references any more."""

    definition: Definition
    deploy: Deploy
    image: Image
    entrypoint: tuple[str, ...] | None
    arguments: tuple[str, ...] | None
    env: dict[str, str | Secret]
    ready: tuple[AnyProbe, ...]
    live: tuple[AnyProbe, ...]
    needs: tuple[Need, ...]
    exports: dict[str, str]
    """The variables by which others find it."""

    @property
    def name(self) -> str:
        """The daemon's name."""
        return self.definition.name

    @property
    def probe_with(self) -> str | None:
        """The program of the image that probes use."""
        return self.deploy.probe_with or self.image.probe_with

    @property
    def start_grace_s(self) -> float:
        """How long a start may take."""
        return self.definition.start_grace_s


class Plan(Struct, frozen=True, kw_only=True):
    """All that an engine runs for a project."""

    stack: Stack
    workloads: dict[str, Workload]
    external: dict[str, dict[str, str]]
    """The exports of external daemons, which an engine does not run."""
    notes: tuple[str, ...]
    """What is left out, and why."""

    def exports_for(self, workload: Workload) -> dict[str, dict[str, str]]:
        """Return the exports that a daemon is given, by the name of the daemon that has them."""
        used = dict.fromkeys(workload.definition.requires + workload.definition.after)
        all_exports = {**self.external, **{name: one.exports for name, one in self.workloads.items()}}
        return {name: all_exports[name] for name in used if all_exports.get(name)}


def plan(stack: Stack, faults: Faults) -> Plan:
    """Return what an engine runs for the daemons of a project, apart from those that have errors."""
    notes, images, external = [], dict[str, Image](), dict[str, Definition]()
    definitions = {definition.name: definition for definition in stack.definitions}
    for name, definition in definitions.items():
        if not definition.enabled:
            notes.append(f"{name} is left out: enabled = false")
        elif definition.is_template:
            notes.append(f"{name} is left out: it has a process for each client (share = false)")
        elif definition.external:
            notes.append(f"{name} is external: it is used where it is, at {redacted(definition.external)}")
            external[name] = definition
            if redacted(definition.external) != definition.external and definition.exports:
                problem = "holds a password, which would be written into files"
                remedy = "remove exports, and give their values to who needs them in deploy.env, as secrets"
                faults.add(name, "external", problem, remedy)
        elif image := image_of(definition, faults):
            images[name] = image
    outside = {
        **{name: _values(definitions[name], image, name) for name, image in images.items()},
        **{name: _external_values(definition) for name, definition in external.items()},
    }
    return Plan(
        stack=stack,
        workloads={
            name: _workload(definitions[name], image, outside, definitions, faults) for name, image in images.items()
        },
        external={
            name: _Texts(name, outside[name], outside, faults).each("exports", definition.exports)
            for name, definition in external.items()
        },
        notes=tuple(notes),
    )


def _values(definition: Definition, image: Image, host: str) -> dict[str, str]:
    """Return what refers to a daemon in a container, as seen from where its host is `host`."""
    values = own_values(definition, log_path="", ports=image.ports) | {"host": host}
    del values["log_path"]
    values.pop("data_dir", None)
    if image.data_dir is not None:
        values["data_dir"] = image.data_dir
    url = image.url
    if url is None and image.ports:
        scheme = "http" if any(isinstance(probe, HttpProbe) for probe in definition.ready) else "tcp"
        url = f"{scheme}://${{host}}:${{port}}"
    if url is not None:
        values["url"] = expand(_without_brackets(url), values)
    return values


def _external_values(definition: Definition) -> dict[str, str]:
    url = definition.external or ""
    host, port = host_and_port(url) if is_url(url) else ("", 0)
    values = {"name": definition.name, "url": url, "host": host, "port": str(port)}
    if redacted(url) != url:
        del values["url"]  # nothing that is rendered holds its password
    return values


def _without_brackets(text: str) -> str:
    """Return a URL whose host is a name: one of this machine may have been an IPv6 address."""
    return text.replace("[${host}]", "${host}")


class _Texts:
    """Expands the strings of one daemon.

    Args:
        own: what refers to the daemon itself.
        outside: what refers to each daemon, as others see it.
    """

    def __init__(
        self, name: str, own: Mapping[str, str], outside: Mapping[str, Mapping[str, str]], faults: Faults
    ) -> None:
        others = {
            of_daemon(other, key): value
            for other, values in outside.items()
            for key, value in values.items()
            if other != name and key != "data_dir"  # which is in another container
        }
        self._name = name
        self._values = {**others, **own}
        self._faults = faults
        self._root = faults.root

    def one(self, key: str, text: str, instead: str | None = None) -> str:
        """Return the string at a key of the daemon. `instead` is the key that can take its place, for the error."""
        remedy = f"set daemons.{self._name}.{instead}" if instead else "remove it"
        try:
            found = expand(_without_brackets(text), self._values)
        except UnknownReference as error:
            self._faults.add(self._name, key, f"${{{error.name}}} {_why_unknown(error.name)}", remedy)
            return ""
        if found == self._root or found.startswith(f"{self._root}/"):
            self._faults.add(self._name, key, f"{found} {OF_THIS_MACHINE}", remedy)
        return found

    def each(self, key: str, table: Mapping[str, str], instead: str | None = None) -> dict[str, str]:
        """Return a table with each of its strings expanded."""
        return {
            name: self.one(f"{key}.{name}", text, f"{instead}.{name}" if instead else None)
            for name, text in table.items()
        }

    def all(self, key: str, value: T, instead: str) -> T:
        """Return a structure with all of its strings expanded."""
        before = len(self._faults)
        for place, text in texts(value, key):
            self.one(place, text, instead)
        if len(self._faults) > before:
            return value
        expanded: T = expand_all(value, self._values)
        return expanded


def _why_unknown(reference: str) -> str:
    other = split(reference)
    if other is None:
        return OF_THIS_MACHINE
    return "is a path in another container" if other[1] in ("data_dir", "log_path") else "is not rendered"


def _workload(
    definition: Definition,
    image: Image,
    outside: Mapping[str, Mapping[str, str]],
    definitions: Mapping[str, Definition],
    faults: Faults,
) -> Workload:
    name, deploy = definition.name, definition.deploy or Deploy()
    url = {"url": outside[name]["url"]} if "url" in outside[name] else {}
    inside = _Texts(name, {**_values(definition, image, ANY_ADDRESS), **url}, outside, faults)
    asked = _Texts(name, _values(definition, image, LOOPBACK), outside, faults)
    seen = _Texts(name, outside[name], outside, faults)
    if definition.oneshot and deploy.replicas > 1:
        faults.add(name, "deploy.replicas", "it runs once", "remove it")
    command_key = "deploy.command" if deploy.command is not None else "command"
    stated = {key: text for key, text in {**image.env, **definition.env}.items() if key not in deploy.env}
    env: dict[str, str | Secret] = dict(inside.each("env", stated, "deploy.env"))
    for key, value in deploy.env.items():
        env[key] = value if isinstance(value, Secret) else inside.one(f"deploy.env.{key}", value)
    return Workload(
        definition=definition,
        deploy=deploy,
        image=image,
        entrypoint=inside.all(command_key, image.entrypoint, "deploy.command"),
        arguments=inside.all(command_key, image.arguments, "deploy.command"),
        env=env,
        ready=asked.all("ready", _tuple(deploy.ready, image.ready), "deploy.ready"),
        live=asked.all("live", _tuple(deploy.live, image.live), "deploy.live"),
        needs=tuple(_needs(definition, outside, definitions)),
        exports=seen.each("exports", image.exports),
    )


def _tuple(stated: AnyProbe | tuple[AnyProbe, ...] | None, own: tuple[AnyProbe, ...]) -> tuple[AnyProbe, ...]:
    if stated is None:
        return own
    return stated if isinstance(stated, tuple) else (stated,)


def _needs(
    definition: Definition, outside: Mapping[str, Mapping[str, str]], definitions: Mapping[str, Definition]
) -> Iterator[Need]:
    """Yield what the engine has to wait for. `after` has also what the daemon refers to."""
    for name in dict.fromkeys(definition.requires + definition.after):
        if name not in outside or definitions[name].external:
            continue
        until: Until = "started"
        if name in definition.requires:
            until = "done" if definitions[name].oneshot else "ready"
        yield Need(name=name, until=until, cascades=name in definition.cascades)
