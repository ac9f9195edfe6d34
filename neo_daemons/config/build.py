"""Builds definitions from tables.

The reader collects the errors. A daemon with an error is checked no further, except for what it shares with others: one
error would be reported as several.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from neo_daemons.definitions import AnyProbe, Definition, HttpProbe, Name, Port, Restart
from neo_daemons.paths import holds
from neo_daemons.similar import closest

from .builtins import BUILTINS, Builtin
from .checks import check_places, check_probes, check_shared, check_url
from .external import answers
from .messages import join
from .not_shared import check_not_shared, check_templates
from .path_resolver import PathResolver
from .project import Project
from .reader import Reader
from .reference_checker import ReferenceChecker
from .schema import Settings
from .schema_types import fits

IDLE_STOP_S = 300.0
"""How long a daemon on demand keeps running while nobody needs it, unless its table says otherwise. Long enough that
one command after the other finds it running."""


_PROBED = "remove it: it is done when its command has ended with exit code 0"
_SERVES = "remove it: a oneshot serves nobody"
NOT_OF_ONESHOTS = {
    "ready": _PROBED,
    "live": _PROBED,
    "start_grace_s": "use max_runtime_s, after which it counts as failed",
    "max_rss_bytes": "remove it",
    "watch": "use inputs: it runs again when they change",
    "idle_stop_s": "remove it: it ends by itself",
    "external": "remove it, or remove oneshot",
    "port": _SERVES,
    "ports": _SERVES,
    "url": _SERVES,
}
"""What makes no sense for a daemon that runs once, and what to do instead."""


def build(
    tables: Mapping[str, dict[str, Any]],
    broken: Container[str],
    *,
    reader: Reader,
    project: Project,
    state: Path,
    observing: bool,
) -> tuple[Definition, ...]:
    """Return the definitions of a file's daemons. Some are missing if the reader has errors.

    Args:
        tables: the file's tables, by the name of the daemon.
        broken: names of daemons whose tables were dropped because of errors.
        reader: collects the errors.
        state: the state directory.
        observing: accept references to environment variables that are not set.
    """
    references = ReferenceChecker(reader, tables, project.references(state), observing=observing)
    paths = PathResolver(reader, references, project.root, project.places(state))
    whole: dict[str, Definition] = {}
    sharing: list[Definition] = []
    for name, table in tables.items():
        if not fits(name, Name) or not name.isprintable():
            remedy = "use a-z, 0-9, - and _, starting with a letter, at most 63 characters"
            reader.fault(join("daemons", name), UNSET, "not a valid daemon name", remedy)
        elif name not in broken:
            before = len(reader.faults)
            definition = _define(name, table, reader, paths)
            if definition is not None:
                sharing.append(definition)
                if len(reader.faults) == before:
                    whole[name] = definition
    connected = references.check(whole)
    check_shared(reader, sharing, tables)
    check_templates(reader, connected)
    if not reader.faults:
        references.check_cycle(connected)
    return tuple(connected.values())


def _define(name: str, table: dict[str, Any], reader: Reader, paths: PathResolver) -> Definition | None:
    """Return the definition of one daemon. If the daemon has errors, return only what it may share with others, or
    None."""
    before = len(reader.faults)
    builtin = BUILTINS.get(name)
    options: dict[str, str] = {}
    file: dict[str, Any] = {}
    own = dict(table)
    if builtin is not None:
        for option, meaning in builtin.options.items():
            if option in own:
                options[option] = _option(name, option, own.pop(option), meaning, reader, paths)
        if builtin.stated_elsewhere is not None and "settings" in own:
            file = _file(name, own, builtin.stated_elsewhere, reader)
    known = {**_keys(), **_own_keys(builtin)}
    stated: Settings = reader.convert(own, Settings, f"daemons.{name}", known)
    if len(reader.faults) > before:
        ports = _ports(stated, None)
        return paths.resolve(
            Definition(name=name, cwd=stated.cwd or "", ports=ports, data_dir=stated.data_dir, external=stated.external)
        )
    if stated.external:
        builtin = None
    merged = _merge(builtin.settings(options), own) if builtin is not None else own
    settings: Settings = reader.convert(merged, Settings, f"daemons.{name}", known)
    _check_keys(name, own, settings, reader)
    if settings.external and not check_url(reader, name, "external", settings.external):
        return None
    definition = msgspec.structs.replace(_definition(name, own, settings, builtin, options), settings=file)
    check_places(reader, definition)
    check_probes(reader, definition)
    paths.check_files(definition)
    return paths.resolve(_bracketed(definition))


@functools.cache
def _keys() -> dict[str, Any]:
    """Return the keys that every daemon can have."""
    return {field.encode_name: field for field in msgspec.structs.fields(Settings)}


def _own_keys(builtin: Builtin | None) -> dict[str, Any]:
    """Return the keys that only this built-in daemon can have."""
    if builtin is None:
        return {}
    return {**builtin.options, **({"settings": ""} if builtin.stated_elsewhere is not None else {})}


def _file(name: str, own: dict[str, Any], elsewhere: Mapping[str, str], reader: Reader) -> dict[str, Any]:
    """Take the table ``settings`` out of a daemon's table and return it. Its keys are not checked, as they differ from
    version to version of the program; chroma 1.5 ignores those that it does not know.

    Args:
        elsewhere: keys that it must not have, with the keys of the daemon that state them.
    """
    stated = own.pop("settings")
    if not isinstance(stated, dict):
        remedy = "use a table, e.g. { allow_reset = true }"
        reader.fault_of(name, "settings", stated, "expected a table", remedy)
        return {}
    for key in ("command", "external"):
        if own.get(key):
            reader.fault_of(name, "settings", UNSET, f"has no effect together with {key}", "remove one of the two")
    for key, instead in elsewhere.items():
        if key in stated:
            remedy = f"remove it, and set daemons.{name}.{instead}"
            reader.fault_of(name, f"settings.{key}", stated[key], f"is set by daemons.{name}.{instead}", remedy)
    for place, value in _leaves("settings", stated):
        if not isinstance(value, str | int | float):
            reader.fault_of(name, place, value, "dates are not supported", "put it in quotes")
    return stated


def _leaves(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the values in nested tables and lists, each after its place."""
    if isinstance(value, dict | list):
        items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
        for step, item in items:
            yield from _leaves(join(place, step), item)
    else:
        yield place, value


def _option(name: str, option: str, value: Any, meaning: str, reader: Reader, paths: PathResolver) -> str:
    """Return the value of a key that only this built-in daemon has."""
    if not isinstance(value, str) or not value:
        problem = "is empty" if value == "" else "expected a string"
        reader.fault_of(name, option, value, problem, f"set it to the {meaning}")
        return ""
    path = paths.path(name, option, value)
    if option == "model" and not value.startswith(("/", "./", "../", "~")) and not holds(path.is_dir):
        return value
    return str(path)


def _merge(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return the default settings of a built-in daemon with the user's own in their place, key by key."""
    merged = {**defaults, **own}
    for key in ("env", "exports", "stop"):
        if key in defaults and isinstance(own.get(key), dict):
            merged[key] = {**defaults[key], **own[key]}
    if "ports" in own and "port" not in own:
        merged.pop("port", None)
    return merged


def _check_keys(name: str, own: Mapping[str, Any], settings: Settings, reader: Reader) -> None:
    """Check that no required key is missing and no two keys contradict each other."""
    for other in ("command", "port", "ports", "watch", "start", "user", "deploy"):
        if settings.external and own.get(other):
            reader.fault_of(
                name, other, own[other], "not allowed for an external daemon", "remove it, or remove external"
            )
    if name not in BUILTINS and not settings.command and not settings.external:
        near = closest(name, BUILTINS)
        hint = f", or did you mean [{reader.prefix}daemons.{near}]?" if near else ""
        remedy = f'add one, e.g. command = ["python", "-m", "http.server"]{hint}'
        reader.fault_of(name, "command", UNSET, "missing", remedy)
    if settings.idle_stop_s is not None and settings.start != "on-demand" and settings.share:
        remedy = 'add start = "on-demand", or remove it'
        reader.fault_of(name, "idle_stop_s", settings.idle_stop_s, "only daemons on demand stop when idle", remedy)
    for key in NOT_OF_ONESHOTS if settings.oneshot else ():
        if key in own:
            reader.fault_of(name, key, own[key], "not allowed for a oneshot", f"{NOT_OF_ONESHOTS[key]}")
    if settings.inputs and not settings.oneshot:
        remedy = "add oneshot = true, or use watch"
        reader.fault_of(name, "inputs", own["inputs"], "only a oneshot has inputs", remedy)
    if settings.oneshot and name in BUILTINS and not settings.command:
        reader.fault_of(name, "oneshot", UNSET, "a built-in daemon runs on", "remove it, or give it a command")
    if not settings.share:
        check_not_shared(reader, name, own, settings)
    if settings.user is not None and name in BUILTINS and not settings.command and not settings.external:
        problem = "a built-in daemon runs as the user of its supervisor"
        reader.fault_of(name, "user", settings.user, problem, "remove it, or give it a command")
    if settings.port is not None and settings.ports:
        reader.fault_of(name, "port", settings.port, "port and ports are mutually exclusive", "keep one of the two")


def _definition(
    name: str, own: Mapping[str, Any], settings: Settings, builtin: Builtin | None, options: dict[str, str]
) -> Definition:
    """Return the definition that settings describe, with paths and references as the file states them.

    Args:
        own: the table in the file.
        settings: the same, completed by the defaults of `builtin`.
        builtin: None for an external daemon, and for one that has no catalog entry.
    """
    preferred = builtin.preferred_port if builtin is not None and not own.keys() & {"port", "ports"} else None
    ready, live = _as_tuple(settings.ready), _as_tuple(settings.live)
    if settings.external:
        ready, live = _at(settings.external, ready), _at(settings.external, live)
        live = live if ready or live else (answers(settings.external),)
    return Definition(
        name=name,
        builtin=name if builtin is not None else None,
        options=options,
        command=settings.command or (),
        env=settings.env,
        cwd=settings.cwd or "",
        host=settings.host,
        ports=_ports(settings, preferred),
        data_dir=settings.data_dir,
        url=settings.url,
        exports=settings.exports,
        external=settings.external,
        ready=ready,
        live=live,
        restart=settings.restart if isinstance(settings.restart, Restart) else Restart(when=settings.restart),
        stop=settings.stop,
        start_grace_s=settings.start_grace_s,
        after=settings.after,
        requires=tuple(one if isinstance(one, str) else one.name for one in settings.requires),
        cascades=tuple(one.name for one in settings.requires if not isinstance(one, str) and one.cascade),
        log=settings.log,
        max_runtime_s=settings.max_runtime_s,
        max_rss_bytes=settings.max_rss_bytes,
        enabled=settings.enabled,
        start=settings.start if settings.share else "on-demand",
        idle_stop_s=_idle_stop_s(settings),
        watch=settings.watch,
        user=settings.user,
        oneshot=settings.oneshot,
        inputs=settings.inputs,
        share=settings.share,
        groups=settings.groups,
        deploy=settings.deploy,
    )


def _at(url: str, probes: tuple[AnyProbe, ...]) -> tuple[AnyProbe, ...]:
    """Return the probes of an external daemon: those over HTTP ask it unless they say otherwise."""
    return tuple(
        msgspec.structs.replace(probe, url=url)
        if isinstance(probe, HttpProbe) and probe.url is None and probe.port is None
        else probe
        for probe in probes
    )


def _idle_stop_s(settings: Settings) -> float | None:
    stated_s = settings.idle_stop_s if settings.idle_stop_s is not None else IDLE_STOP_S
    return stated_s if settings.start == "on-demand" and not math.isinf(stated_s) else None


def _ports(settings: Settings, preferred: int | None) -> dict[str, Port]:
    stated = {"main": settings.port} if settings.port is not None else settings.ports
    return {
        name: Port(preferred=preferred) if number == "auto" else Port(fixed=int(number))
        for name, number in stated.items()
    }


def _bracketed(definition: Definition) -> Definition:
    """Return `definition` with its IPv6 host in brackets at the start of its URLs (RFC 3986, section 3.2.2)."""
    if ":" not in definition.host:
        return definition

    def bracket(text: str) -> str:
        return text.replace("://${host}", "://[${host}]")

    url = bracket(definition.url) if definition.url is not None else None
    exports = {name: bracket(text) for name, text in definition.exports.items()}
    return msgspec.structs.replace(definition, url=url, exports=exports)


def _as_tuple(probes: AnyProbe | tuple[AnyProbe, ...]) -> tuple[AnyProbe, ...]:
    return probes if isinstance(probes, tuple) else (probes,)
