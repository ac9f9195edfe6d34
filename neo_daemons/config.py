"""``neo-daemons.toml`` or ``[tool.neo_daemons]`` in ``pyproject.toml`` → definitions.

What a file may say of a daemon is `Settings`; the types there are the checks. Whatever is wrong becomes one
`ConfigError` that names file, key, value and remedy. Paths are made absolute and real here, once.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from .catalog import BUILTINS, Project
from .catalog.project import default_cache
from .definitions import (
    AnyProbe,
    Bytes,
    Count,
    Definition,
    FileProbe,
    HttpProbe,
    Log,
    LogProbe,
    Name,
    Port,
    PortNumber,
    Restart,
    Seconds,
    Stop,
    TcpProbe,
)
from .references import UnknownReference, expand_all, references_in
from .state_dir import DEFAULT_NAME, ENVIRONMENT_VARIABLE, StateDir

FILE_NAME = "neo-daemons.toml"
PYPROJECT = "pyproject.toml"
MAX_FILE_BYTES = 1_000_000
PortSetting = PortNumber | Literal["auto"]
Strings = Annotated[tuple[str, ...], Meta(min_length=1)]


class ConfigError(Exception):
    """A configuration that cannot be used. ``str()`` is one line: file, key, value, remedy."""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a ``[daemons.NAME]`` table. See `Definition` for what they mean."""

    command: Strings | None = None
    env: dict[str, str] = {}
    cwd: str | None = None
    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: PortSetting | None = None
    ports: dict[str, PortSetting] = {}
    data_dir: Annotated[str, Meta(min_length=1)] | None = None
    url: str | None = None
    exports: dict[str, str] = {}
    external: Annotated[str, Meta(pattern=r"^https?://[^\s/]+")] | None = None
    ready: AnyProbe | tuple[AnyProbe, ...] = ()
    live: AnyProbe | tuple[AnyProbe, ...] = ()
    restart: Literal["always", "on-failure", "never"] | Restart = Restart()
    stop: Stop = Stop()
    start_grace_s: Seconds = 60.0
    after: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    log: Log = Log()
    max_runtime_s: Seconds | None = None
    max_rss_bytes: Bytes | None = None
    enabled: bool = True


class File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of a configuration."""

    daemons: dict[str, dict[str, Any]] | UnsetType = UNSET
    state_dir: Annotated[str, Meta(min_length=1)] | None = None
    parallel: Count | None = None


class Configuration(Struct, frozen=True, kw_only=True):
    """What a project wants to run, and where."""

    project: Project
    state: StateDir
    source: Path | None
    """The file; None for a project without one."""
    definitions: tuple[Definition, ...]
    parallel: int | None = None


def load(
    file: Path | None = None,
    *,
    state_dir: Path | None = None,
    directory: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Configuration:
    """Find and read the configuration.

    Args:
        file: read this one; else ``neo-daemons.toml`` or a ``pyproject.toml`` with ``[tool.neo_daemons]`` in
            `directory` or the nearest directory above it that has one.
        state_dir: overrides ``NEO_DAEMONS_STATE_DIR``, which overrides the file.
        directory: where to begin, by default the working directory.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    environment = dict(os.environ if environ is None else environ)
    start = (directory or Path.cwd()).resolve()
    source, root = (file.resolve(), file.resolve().parent) if file is not None else _find(start)
    raw = _read(source) if source is not None else {}
    reader = _Reader(str(source) if source is not None else "built-in defaults", _prefix(source))
    content = reader.convert(raw, File, "")
    state = _state_dir(state_dir, environment, content.state_dir, root)
    project = Project(root=root, cache=default_cache(environment), environ=environment)
    if content.daemons is UNSET:
        tables: dict[str, dict[str, Any]] = {name: {} for name, builtin in BUILTINS.items() if builtin.by_default}
    else:
        tables = content.daemons
        if not tables:
            raise reader.error("daemons", {}, "names no daemon", "add a table such as [daemons.chroma], or remove it")
    definitions = _Builder(reader, project, state).build(tables)
    return Configuration(
        project=project, state=StateDir(state), source=source, definitions=definitions, parallel=content.parallel
    )


def find_state_dir(state_dir: Path | None = None, *, file: Path | None = None) -> StateDir:
    """Only where the state directory is, for commands that talk to a supervisor: a configuration that has become
    invalid must not keep anybody from stopping it.

    Raises:
        ConfigError: the file cannot be read.
    """
    environment = dict(os.environ)
    if state_dir is not None or ENVIRONMENT_VARIABLE in environment:
        return StateDir(_state_dir(state_dir, environment, None, Path.cwd()))
    source, root = (file.resolve(), file.resolve().parent) if file is not None else _find(Path.cwd().resolve())
    stated = _read(source).get("state_dir") if source is not None else None
    return StateDir(_state_dir(None, environment, stated if isinstance(stated, str) else None, root))


def _find(start: Path) -> tuple[Path | None, Path]:
    """The configuration file and the project's root: the nearest directory, from `start` up, that has one; without
    any, the nearest that has been supervised before; else `start`."""
    for directory in (start, *start.parents):
        if (directory / FILE_NAME).is_file():
            return directory / FILE_NAME, directory
        pyproject = directory / PYPROJECT
        if pyproject.is_file() and "neo_daemons" in pyproject.read_text(errors="replace") and _has_table(pyproject):
            return pyproject, directory
    for directory in (start, *start.parents):
        if (directory / DEFAULT_NAME / "journal.jsonl").is_file():
            return None, directory
    return None, start


def _has_table(pyproject: Path) -> bool:
    return "neo_daemons" in _parse(pyproject).get("tool", {})


def _prefix(source: Path | None) -> str:
    return "tool.neo_daemons." if source is not None and source.name == PYPROJECT else ""


def _parse(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; name a readable file with --config") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES} bytes: this is no configuration")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {str(error) or 'nested too deeply'}; mend it there") from None


def _read(path: Path) -> dict[str, Any]:
    content = _parse(path)
    if path.name != PYPROJECT:
        return content
    table = content.get("tool", {}).get("neo_daemons")
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: has no table [tool.neo_daemons]; add one, or name another file with --config")
    return table


def _state_dir(argument: Path | None, environ: Mapping[str, str], stated: str | None, root: Path) -> Path:
    if argument is not None:
        return argument.expanduser().resolve()
    if environ.get(ENVIRONMENT_VARIABLE):
        return Path(environ[ENVIRONMENT_VARIABLE]).expanduser().resolve()
    return (root / Path(stated or DEFAULT_NAME).expanduser()).resolve()


class _Reader:
    """Turns raw tables into typed ones, and faults into errors that say where."""

    def __init__(self, source: str, prefix: str) -> None:
        self.source = source
        self.prefix = prefix

    def error(self, key: str, value: Any, problem: str, remedy: str) -> ConfigError:
        """The one line."""
        shown = "" if value is UNSET else f" = {_shorten(value)}"
        return ConfigError(f"{self.source}: {self.prefix}{key}{shown}: {problem}; {remedy}")

    def convert(self, raw: Any, kind: type[Any], key: str, known: Mapping[str, Any] | None = None) -> Any:
        """`raw` as a `kind`.

        Raises:
            ConfigError: it is none.
        """
        try:
            return msgspec.convert(raw, kind)
        except msgspec.ValidationError as error:
            message, _, path = str(error).partition(" - at `$")
            raise self._explain(raw, kind, key, message, path.rstrip("`"), known) from None

    def _explain(
        self, raw: Any, kind: type[Any], key: str, message: str, path: str, known: Mapping[str, Any] | None
    ) -> ConfigError:
        steps = re.findall(r"\.([A-Za-z0-9_-]+)|\[(\d+|\.\.\.)\]", path)
        where, value = key, raw
        for name, index in steps:
            if name:
                where = f"{where}.{name}" if where else name
                value = value.get(name, UNSET) if isinstance(value, dict) else UNSET
            else:
                where += f"[{index}]" if index != "..." else "[…]"
                numbered = isinstance(value, list) and index.isdigit() and int(index) < len(value)
                value = value[int(index)] if numbered else UNSET
        unknown = re.search(r"contains unknown field `(.+)`", message)
        if unknown:
            name = unknown[1]
            allowed = sorted(known if known is not None and not steps else _fields_at(kind, raw, [n for n, _ in steps]))
            close = difflib.get_close_matches(name, allowed, n=1)
            remedy = f"did you mean {close[0]!r}?" if close else "remove it"
            full = f"{where}.{name}" if where else name
            found = value.get(name, UNSET) if isinstance(value, dict) else UNSET
            return self.error(full, found, "unknown key", f"{remedy} (known: {', '.join(allowed)})")
        missing = re.search(r"missing required field `(.+)`", message)
        if missing:
            return self.error(f"{where}.{missing[1]}" if where else missing[1], UNSET, "missing", "add it")
        return self.error(where or "the file", value, message[0].lower() + message[1:], _remedy(where, message))


def _fields_at(kind: type[Any], raw: Any, steps: list[str]) -> list[str]:
    """The keys that are known where an unknown one was found."""
    current: Any = kind
    for name in filter(None, steps):
        raw = raw.get(name) if isinstance(raw, dict) else raw
        hints = {f.name: f.type for f in msgspec.structs.fields(current)} if _is_struct(current) else {}
        current = hints.get(name, current)
    if isinstance(raw, list):
        raw = next((item for item in raw if isinstance(item, dict)), {})
    structs = [s for s in _structs_in(current)]
    tagged = [s for s in structs if isinstance(raw, dict) and s.__struct_config__.tag == raw.get("type")]
    chosen = (tagged or structs)[:1]
    names = [field.encode_name for struct in chosen for field in msgspec.structs.fields(struct)]
    return names + (["type"] if tagged else [])


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _structs_in(kind: Any) -> list[type[Struct]]:
    if _is_struct(kind):
        return [kind]
    return [found for argument in get_args(kind) for found in _structs_in(argument)]


def _remedy(where: str, message: str) -> str:
    key = where.rpartition(".")[2].partition("[")[0]
    for name, remedy in _REMEDIES.items():
        if key == name or f".{name}." in f".{where}.":
            return remedy
    if "`str`" in message and "got `int`" in message:
        return "write it in quotes"
    return "correct it"


_REMEDIES = {
    "command": 'write a list of strings, e.g. ["python", "-m", "http.server"]; there is no shell',
    "port": 'write a number from 1 to 65535, or "auto"',
    "ports": 'write a table of names and numbers from 1 to 65535, e.g. { http = 8000, admin = "auto" }',
    "env": 'write a table of strings, e.g. { LEVEL = "3" }',
    "restart": 'write "always", "on-failure", "never", or a table such as { limit = 5, window_s = 600 }',
    "type": 'write "http", "tcp", "exec", "file" or "log"',
    "signal": "write SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2 or SIGKILL",
    "external": 'write the URL of a daemon that runs elsewhere, e.g. "http://host:8000"',
    "enabled": "write true or false",
    "daemons": "write one table for each daemon, e.g. [daemons.chroma]",
    "after": 'write a list of daemon names, e.g. ["chroma"]',
    "requires": 'write a list of daemon names, e.g. ["chroma"]',
}


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


class _Builder:
    """Tables → definitions, with the checks that look at several keys or daemons."""

    def __init__(self, reader: _Reader, project: Project, state: Path) -> None:
        self._reader = reader
        self._project = project
        self._state = state
        self._globals = {
            "state_dir": str(state),
            "project": str(project.root),
            "cache_dir": str(project.cache),
        }

    def build(self, tables: Mapping[str, dict[str, Any]]) -> tuple[Definition, ...]:
        for name in tables:
            try:
                msgspec.convert(name, Name)
            except msgspec.ValidationError:
                raise self._reader.error(
                    f"daemons.{name}", UNSET, "not a name for a daemon", "use a-z, 0-9, - and _, a letter first"
                ) from None
        definitions = {name: self._define(name, table) for name, table in tables.items()}
        definitions = {name: self._connect(d, definitions) for name, d in definitions.items()}
        self._check_order(definitions)
        self._check_shared(definitions)
        return tuple(definitions.values())

    def _error(self, name: str, key: str, value: Any, problem: str, remedy: str) -> ConfigError:
        return self._reader.error(f"daemons.{name}.{key}", value, problem, remedy)

    def _define(self, name: str, table: dict[str, Any]) -> Definition:
        key = f"daemons.{name}"
        builtin = BUILTINS.get(name)
        options: dict[str, str] = {}
        own = dict(table)
        if builtin is not None:
            for option in builtin.options:
                if option in own:
                    options[option] = self._option(name, option, own.pop(option))
        known = {**{f.encode_name: f for f in msgspec.structs.fields(Settings)}, **(builtin.options if builtin else {})}
        stated: Settings = self._reader.convert(own, Settings, key, known)
        merged = self._merge(builtin.settings(options), own) if builtin is not None and not stated.external else own
        settings: Settings = self._reader.convert(merged, Settings, key, known)
        if stated.external and stated.command:
            raise self._error(
                name, "external", stated.external, "an external daemon has no command", "remove one of the two"
            )
        if builtin is None and not stated.command and not stated.external:
            near = difflib.get_close_matches(name, BUILTINS, n=1)
            hint = f", or did you mean [daemons.{near[0]}]?" if near else ""
            raise self._error(
                name, "command", UNSET, "missing", f'add one, e.g. command = ["python", "-m", "http.server"]{hint}'
            )
        if settings.port is not None and settings.ports:
            raise self._error(name, "port", settings.port, "given together with ports", "keep one of the two")
        preferred = builtin.preferred_port if builtin is not None and "port" not in own and "ports" not in own else None
        stated_ports = {"main": settings.port} if settings.port is not None else settings.ports
        ports = {
            port: Port(preferred=preferred) if number == "auto" else Port(fixed=int(number))
            for port, number in stated_ports.items()
        }
        ready, live = _as_tuple(settings.ready), _as_tuple(settings.live)
        if settings.external:
            ports = {}
            if not ready and not live:
                live = (HttpProbe(url=settings.external, status=tuple(range(200, 500))),)
        restart = settings.restart if isinstance(settings.restart, Restart) else Restart(when=settings.restart)
        definition = Definition(
            name=name,
            builtin=name if builtin is not None and not settings.external else None,
            options=options,
            command=settings.command or (),
            env=settings.env,
            cwd=settings.cwd or "",
            host=settings.host,
            ports=ports,
            data_dir=settings.data_dir,
            url=settings.url,
            exports=settings.exports,
            external=settings.external,
            ready=ready,
            live=live,
            restart=restart,
            stop=settings.stop,
            start_grace_s=settings.start_grace_s,
            after=settings.after,
            requires=settings.requires,
            log=settings.log,
            max_runtime_s=settings.max_runtime_s,
            max_rss_bytes=settings.max_rss_bytes,
            enabled=settings.enabled,
        )
        self._check_probes(definition)
        return self._settle_paths(definition)

    def _option(self, name: str, option: str, value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise self._error(name, option, value, "expected a string", f"write {BUILTINS[name].options[option]}")
        path = self._project.root / Path(value).expanduser()
        if option != "model":
            return str(path.resolve())
        looks_like_path = value.startswith(("/", "./", "../", "~")) or path.is_dir()
        return str(path.resolve()) if looks_like_path else value

    @staticmethod
    def _merge(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
        merged = {**defaults, **own}
        for key in ("env", "exports"):
            if key in defaults and isinstance(own.get(key), dict):
                merged[key] = {**defaults[key], **own[key]}
        if "ports" in own and "port" not in own:
            merged.pop("port", None)
        return merged

    def _settle_paths(self, definition: Definition) -> Definition:
        """Working and data directory, absolute and real."""
        changes: dict[str, str] = {}
        for key, stated in (("cwd", definition.cwd or "."), ("data_dir", definition.data_dir)):
            if stated is None:
                continue
            text = self._resolve_references(definition.name, key, stated, self._globals)
            changes[key] = str((self._project.root / Path(text).expanduser()).resolve())
        if not Path(changes["cwd"]).is_dir():
            raise self._error(
                definition.name, "cwd", definition.cwd, "is not a directory", "make it, or name one that exists"
            )
        data_dir = changes.get("data_dir")
        if data_dir is not None and Path(data_dir).exists() and not Path(data_dir).is_dir():
            raise self._error(
                definition.name, "data_dir", definition.data_dir, "is not a directory", "name a directory, or a new one"
            )
        return msgspec.structs.replace(definition, **changes)

    def _resolve_references(self, name: str, key: str, value: Any, known: Mapping[str, str]) -> Any:
        try:
            return expand_all(value, known)
        except UnknownReference as error:
            near = difflib.get_close_matches(error.name, known, n=1)
            hint = f"did you mean ${{{near[0]}}}? " if near else ""
            remedy = f"{hint}(known here: {', '.join(sorted(known))})"
            raise self._error(name, key, value, f"unknown reference ${{{error.name}}}", remedy) from None
        except ValueError as error:
            raise self._error(name, key, value, "invalid reference", str(error).partition(": ")[2]) from None

    def _check_probes(self, definition: Definition) -> None:
        for key in ("ready", "live"):
            for probe in getattr(definition, key):
                if isinstance(probe, HttpProbe | TcpProbe) and getattr(probe, "url", None) is None:
                    if probe.port is not None and probe.port not in definition.ports:
                        names = ", ".join(definition.ports) or "none"
                        raise self._error(
                            definition.name, f"{key}.port", probe.port, "no such port", f"name one of: {names}"
                        )
                    if not definition.ports:
                        kind = probe.__struct_config__.tag
                        raise self._error(
                            definition.name, key, kind, "needs a port, and the daemon has none", 'add port = "auto"'
                        )
                pattern = {HttpProbe: "body", LogProbe: "pattern"}.get(type(probe))
                text = getattr(probe, pattern) if pattern else None
                if text is not None:
                    try:
                        re.compile(text)
                    except re.error as error:
                        raise self._error(
                            definition.name,
                            f"{key}.{pattern}",
                            text,
                            f"not a regular expression ({error})",
                            "correct it, or escape special characters with a backslash",
                        ) from None
                if isinstance(probe, FileProbe) and (probe.database is None) != (probe.query is None):
                    raise self._error(
                        definition.name, key, "file", "database and query belong together", "give both or none"
                    )
                if key == "live" and isinstance(probe, LogProbe):
                    raise self._error(
                        definition.name, key, "log", "a line once written stays written", "use another type for live"
                    )

    def _connect(self, definition: Definition, all_: Mapping[str, Definition]) -> Definition:
        """Check every reference; one to another daemon means: after that one."""
        known = {**self._globals, **_own_references(definition)}
        for other in all_.values():
            if other.name != definition.name:
                references = {**_own_references(other), "url": ""}
                known |= {f"daemons.{other.name}.{key}": value for key, value in references.items()}
        after = list(definition.after)
        for key in ("command", "env", "url", "exports", "ready", "live"):
            value = getattr(definition, key)
            own_only = {k: v for k, v in known.items() if not k.startswith("daemons.")} if key == "url" else known
            self._resolve_references(definition.name, key, value or "", own_only)
            for reference in references_in(value):
                parts = reference.split(".")
                if parts[0] == "daemons" and parts[1] not in after:
                    after.append(parts[1])
        for key in ("after", "requires"):
            for name in getattr(definition, key):
                if name not in all_:
                    near = difflib.get_close_matches(name, all_, n=1)
                    remedy = f"did you mean {near[0]!r}?" if near else f"configured: {', '.join(all_)}"
                    raise self._error(definition.name, key, name, "no such daemon", remedy)
        return msgspec.structs.replace(definition, after=tuple(after))

    def _check_order(self, definitions: Mapping[str, Definition]) -> None:
        graph = {d.name: {*d.after, *d.requires} for d in definitions.values()}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            cycle: list[str] = error.args[1]
            name = cycle[0]
            key = "requires" if cycle[1] in definitions[name].requires else "after"
            raise self._error(
                name, key, UNSET, f"a cycle: {' → '.join(reversed(cycle))}", "remove one of these dependencies"
            ) from None

    def _check_shared(self, definitions: Mapping[str, Definition]) -> None:
        ports: dict[int, str] = {}
        directories: dict[str, str] = {}
        for definition in definitions.values():
            for port_name, port in definition.ports.items():
                if port.fixed is None:
                    continue
                key = "port" if port_name == "main" else f"ports.{port_name}"
                if port.fixed in ports:
                    raise self._error(
                        definition.name,
                        key,
                        port.fixed,
                        f"also that of {ports[port.fixed]}",
                        'choose another, or "auto"',
                    )
                ports[port.fixed] = f"daemons.{definition.name}.{key}"
            if definition.data_dir is not None:
                if definition.data_dir in directories:
                    raise self._error(
                        definition.name,
                        "data_dir",
                        definition.data_dir,
                        f"also that of daemons.{directories[definition.data_dir]}",
                        "give each daemon a directory of its own",
                    )
                directories[definition.data_dir] = definition.name


def _own_references(definition: Definition) -> dict[str, str]:
    values = {"name": "", "host": "", "log_path": ""}
    if definition.ports:
        values["port"] = ""
        values |= {f"ports.{name}": "" for name in definition.ports}
    if definition.data_dir is not None:
        values["data_dir"] = ""
    return values


def _as_tuple(probes: Any) -> tuple[AnyProbe, ...]:
    return probes if isinstance(probes, tuple) else (probes,)
