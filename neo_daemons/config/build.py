"""Tables → definitions.

What is wrong is kept by the reader. A daemon with a fault of its own is checked no further, except for what it shares
with others, as one fault would look like others.
"""

from __future__ import annotations

import difflib
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from neo_daemons.definitions import AnyProbe, Definition, Name, Port, Restart
from neo_daemons.paths import holds

from .builtins import BUILTINS, Builtin
from .checks import check_probes, check_shared, check_url
from .external import answers
from .kinds import fits
from .linking import Linker
from .project import Project
from .reader import Reader
from .schema import Settings
from .settling import Settler
from .wording import join


def build(
    tables: Mapping[str, dict[str, Any]],
    broken: Container[str],
    *,
    reader: Reader,
    project: Project,
    state: Path,
    observing: bool,
) -> tuple[Definition, ...]:
    """The definitions of a file's daemons, of which some are missing if the reader has faults.

    Args:
        tables: what the file says of each, by name.
        broken: names of daemons whose tables were dropped for their faults.
        reader: keeps the faults.
        state: the state directory.
        observing: nothing is to be started: variables that the environment lacks are no fault.
    """
    linker = Linker(reader, tables, project.references(state), observing=observing)
    settler = Settler(reader, linker, project.root, project.places(state))
    whole: dict[str, Definition] = {}
    sharing: list[Definition] = []
    for name, table in tables.items():
        if not fits(name, Name) or not name.isprintable():
            remedy = "use a-z, 0-9, - and _, a letter first, 63 characters at most"
            reader.fault(join("daemons", name), UNSET, "not a name for a daemon", remedy)
        elif name not in broken:
            before = len(reader.faults)
            definition = _define(name, table, reader, settler)
            if definition is not None:
                sharing.append(definition)
                if len(reader.faults) == before:
                    whole[name] = definition
    connected = {name: linker.connect(definition, whole) for name, definition in whole.items()}
    check_shared(reader, sharing, tables)
    if not reader.faults:
        linker.check_cycle(connected)
    return tuple(connected.values())


def _define(name: str, table: dict[str, Any], reader: Reader, settler: Settler) -> Definition | None:
    """The definition of one daemon; of one with faults at least what it may share with others, or None."""
    before = len(reader.faults)
    builtin = BUILTINS.get(name)
    options: dict[str, str] = {}
    own = dict(table)
    if builtin is not None:
        for option, meaning in builtin.options.items():
            if option in own:
                options[option] = _option(name, option, own.pop(option), meaning, reader, settler)
    known = {**{f.encode_name: f for f in msgspec.structs.fields(Settings)}, **(builtin.options if builtin else {})}
    stated: Settings = reader.convert(own, Settings, f"daemons.{name}", known)
    if len(reader.faults) > before:
        ports = _ports(stated, None)
        return settler.settle(
            Definition(name=name, cwd=stated.cwd or "", ports=ports, data_dir=stated.data_dir, external=stated.external)
        )
    if stated.external:
        builtin = None
    merged = _merge(builtin.settings(options), own) if builtin is not None else own
    settings: Settings = reader.convert(merged, Settings, f"daemons.{name}", known)
    _check_keys(name, own, settings, reader)
    if settings.external and not check_url(reader, name, "external", settings.external):
        return None
    definition = _definition(name, own, settings, builtin, options)
    check_probes(reader, definition)
    return settler.settle(_bracketed(definition))


def _option(name: str, option: str, value: Any, meaning: str, reader: Reader, settler: Settler) -> str:
    """The value of a key that only one built-in daemon has."""
    if not isinstance(value, str) or not value:
        problem = "is empty" if value == "" else "expected a string"
        reader.fault_of(name, option, value, problem, f"write in quotes the {meaning}")
        return ""
    path = settler.path(name, option, value)
    if option == "model" and not value.startswith(("/", "./", "../", "~")) and not holds(path.is_dir):
        return value
    return str(path)


def _merge(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The settings of a built-in daemon, overridden key by key."""
    merged = {**defaults, **own}
    for key in ("env", "exports", "stop"):
        if key in defaults and isinstance(own.get(key), dict):
            merged[key] = {**defaults[key], **own[key]}
    if "ports" in own and "port" not in own:
        merged.pop("port", None)
    return merged


def _check_keys(name: str, own: Mapping[str, Any], settings: Settings, reader: Reader) -> None:
    """Look for keys that are missing, or that do not go together."""
    for other in ("command", "port", "ports"):
        if settings.external and own.get(other):
            reader.fault_of(name, other, own[other], "an external daemon has none", "remove this, or external")
    if name not in BUILTINS and not settings.command and not settings.external:
        near = difflib.get_close_matches(name, BUILTINS, n=1)
        hint = f", or did you mean [{reader.prefix}daemons.{near[0]}]?" if near else ""
        remedy = f'add one, e.g. command = ["python", "-m", "http.server"]{hint}'
        reader.fault_of(name, "command", UNSET, "missing", remedy)
    if settings.port is not None and settings.ports:
        reader.fault_of(name, "port", settings.port, "given together with ports", "keep one of the two")


def _definition(
    name: str, own: Mapping[str, Any], settings: Settings, builtin: Builtin | None, options: dict[str, str]
) -> Definition:
    """The definition that settings come to; paths and references are still as stated.

    Args:
        own: what the file says.
        settings: that, with the defaults of `builtin`, which is None for a daemon that is external or not known.
    """
    preferred = builtin.preferred_port if builtin is not None and not own.keys() & {"port", "ports"} else None
    ready, live = _as_tuple(settings.ready), _as_tuple(settings.live)
    if settings.external and not ready and not live:
        live = (answers(settings.external),)
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
        requires=settings.requires,
        log=settings.log,
        max_runtime_s=settings.max_runtime_s,
        max_rss_bytes=settings.max_rss_bytes,
        enabled=settings.enabled,
    )


def _ports(settings: Settings, preferred: int | None) -> dict[str, Port]:
    stated = {"main": settings.port} if settings.port is not None else settings.ports
    return {
        name: Port(preferred=preferred) if number == "auto" else Port(fixed=int(number))
        for name, number in stated.items()
    }


def _bracketed(definition: Definition) -> Definition:
    """`definition`, with an IPv6 host in brackets where its URLs begin with it: RFC 3986, section 3.2.2."""
    if ":" not in definition.host:
        return definition

    def mend(text: str) -> str:
        return text.replace("://${host}", "://[${host}]")

    url = mend(definition.url) if definition.url is not None else None
    exports = {name: mend(text) for name, text in definition.exports.items()}
    return msgspec.structs.replace(definition, url=url, exports=exports)


def _as_tuple(probes: AnyProbe | tuple[AnyProbe, ...]) -> tuple[AnyProbe, ...]:
    return probes if isinstance(probes, tuple) else (probes,)
