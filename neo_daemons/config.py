"""``neo-daemons.toml`` or ``[tool.neo_daemons]`` in ``pyproject.toml`` → definitions.

What a file may say of a daemon is `Settings`; the types there are the checks. Whatever is wrong becomes one
`ConfigError` that names all faults, each with file, key, value and remedy. Paths are made absolute and real here, once.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import tomllib
import urllib.parse
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from .catalog import BUILTINS, Project, bracketed
from .catalog.project import CACHE_VARIABLE, default_cache, real_path, working_directory
from .config_errors import MAX_DEPTH, ConfigError, Reader, fits, join
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
from .environment import PREFIX
from .references import UnknownReference, escape, expand, names, texts
from .state_dir import DEFAULT_NAME, ENVIRONMENT_VARIABLE, StateDir, StateDirError, is_text, refuse_foreign_links
from .urls import host_and_port, is_url, redacted

__all__ = ["ConfigError", "Configuration", "find_state_dir", "load"]

FILE_NAME = "neo-daemons.toml"
PYPROJECT = "pyproject.toml"
MAX_FILE_BYTES = 1_000_000
ORIGIN = "http://${host}:${port}"
"""How exports of built-in daemons begin that are URLs."""
PortSetting = PortNumber | Literal["auto"]
PortName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]+\Z", description="use letters, digits, - and _")]
VariableName = Annotated[str, Meta(pattern=r"^[^=\0]+\Z", description="write a name without =")]
Strings = Annotated[tuple[str, ...], Meta(min_length=1)]
Text = Annotated[str, Meta(min_length=1)]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a ``[daemons.NAME]`` table. See `Definition` for what they mean."""

    command: Strings | None = None
    env: dict[VariableName, str] = {}
    cwd: Text | None = None
    host: Text = "127.0.0.1"
    port: PortSetting | None = None
    ports: dict[PortName, PortSetting] = {}
    data_dir: Text | None = None
    url: Text | None = None
    exports: dict[VariableName, str] = {}
    external: str | None = None
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
    state_dir: Text | None = None
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
    isolated: bool = False,
    observing: bool = False,
) -> Configuration:
    """Find and read the configuration.

    Args:
        file: read this one; else ``neo-daemons.toml`` or a ``pyproject.toml`` with ``[tool.neo_daemons]`` in
            `directory` or the nearest directory above it that has one.
        state_dir: overrides ``NEO_DAEMONS_STATE_DIR``, which overrides the file.
        directory: where to begin, by default the working directory.
        isolated: give every daemon a data directory in the state directory, a database there, and any free port, so
            that it has nothing in common with one that is in use. A port that the command does not refer to stays.
        observing: nothing is to be started: variables that the environment lacks are no fault.

    Raises:
        ConfigError: the configuration cannot be used; it names all faults.
    """
    environment = dict(os.environ if environ is None else environ)
    source, root = _find(directory) if file is None else _given(file)
    if not is_text(root):
        raise ConfigError(f"{root}: the path of the project is not UTF-8; rename the directory")
    raw = _read(source) if source is not None else {}
    reader = Reader(str(source) if source is not None else "built-in defaults", _prefix(source))
    usable, broken = _usable(raw, reader)
    content: File = reader.convert(usable, File, "")
    state, cache = root, root
    try:
        state = _state_dir(state_dir, environment, content.state_dir, root, source)
    except ConfigError as error:
        reader.faults += error.faults
    try:
        cache = default_cache(environment)
    except ValueError as error:
        reader.faults.append(f"{CACHE_VARIABLE}={environment[CACHE_VARIABLE]}: {error}; set it to a directory")
    project = Project(root=root, cache=cache, environ=environment)
    if content.daemons is UNSET:
        tables: dict[str, dict[str, Any]] = {name: {} for name, builtin in BUILTINS.items() if builtin.by_default}
    else:
        # A table that was dropped for its faults keeps its name, which others may refer to.
        broken |= raw["daemons"].keys() - content.daemons.keys()
        tables = {name: content.daemons.get(name, {}) for name in raw["daemons"]}
        if not tables:
            remedy = f"add a table such as [{reader.prefix}daemons.chroma], or remove it"
            reader.fault("daemons", {}, "names no daemon", remedy)
    if isolated:
        tables = {name: _without_data_options(name, table) for name, table in tables.items()}
    definitions = _Builder(reader, project, state, tables, broken, observing=observing).build()
    reader.raise_faults()
    if isolated:
        definitions = tuple(_isolate(definition, state) for definition in definitions)
    return Configuration(
        project=project, state=StateDir(state), source=source, definitions=definitions, parallel=content.parallel
    )


def find_state_dir(state_dir: Path | None = None, *, file: Path | None = None) -> StateDir:
    """Only where the state directory is, for commands that talk to a supervisor: a configuration that has become
    invalid must not keep anybody from stopping it.

    Raises:
        ConfigError: the file cannot be read, and nobody supervises the usual place.
    """
    environment = dict(os.environ)
    if state_dir is not None or environment.get(ENVIRONMENT_VARIABLE):
        return StateDir(_state_dir(state_dir, environment, None, None, None))
    source, root = _find(None) if file is None else _given(file)
    try:
        stated = _read(source).get("state_dir") if source is not None else None
    except ConfigError:
        usual = StateDir(root / DEFAULT_NAME)
        if usual.record.exists():
            return usual
        raise
    return StateDir(_state_dir(None, environment, stated if isinstance(stated, str) else None, root, source))


def _given(file: Path) -> tuple[Path, Path]:
    """The configuration file that is asked for, and the project's root."""
    try:
        source = real_path(file)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}; name a readable file with --config") from None
    return source, source.parent


def _find(start: Path | None) -> tuple[Path | None, Path]:
    """The configuration file and the project's root: the nearest directory, from `start` (by default the working
    directory) up, that has one; without any, the nearest that has been supervised before; else `start`."""
    try:
        start = (start or working_directory()).resolve()
    except ValueError as error:
        raise ConfigError(f"{error}, or name a configuration with --config") from None
    for directory in (start, *start.parents):
        if os.path.lexists(directory / FILE_NAME):  # also what is no file: reading it says so
            return directory / FILE_NAME, directory
        if _holds((directory / PYPROJECT).is_file) and _has_table(directory / PYPROJECT):
            return directory / PYPROJECT, directory
    for directory in (start, *start.parents):
        if _holds((directory / DEFAULT_NAME / "journal.jsonl").is_file):
            return None, directory
    return None, start


def _holds(test: Callable[[], bool]) -> bool:
    """A path's own test; what cannot even be looked at is not there."""
    try:
        return test()
    except OSError:
        return False


def _has_table(pyproject: Path) -> bool:
    with contextlib.suppress(OSError):  # `_parse` says it better
        if not re.search("neo[-_]daemons", pyproject.read_text(encoding="utf-8", errors="replace")):
            return False
    content = _parse(pyproject)
    tool = content.get("tool")
    if _table(content) is None and isinstance(tool, dict) and "neo-daemons" in tool:
        raise ConfigError(f"{pyproject}: tool.neo-daemons: unknown table; write [tool.neo_daemons], with an underscore")
    return _table(content) is not None


def _table(content: dict[str, Any]) -> Any:
    tool = content.get("tool")
    return tool.get("neo_daemons") if isinstance(tool, dict) else None


def _prefix(source: Path | None) -> str:
    return "tool.neo_daemons." if source is not None and source.name == PYPROJECT else ""


def _parse(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; name a readable file with --config") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES} bytes; name a configuration with --config")
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply; keep to {MAX_DEPTH} levels") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}; mend it there") from None
    except ValueError:  # Python's limit for the digits of a number
        raise ConfigError(f"{path}: holds a number of thousands of digits; write a smaller one") from None


def _read(path: Path) -> dict[str, Any]:
    content = _parse(path)
    if path.name != PYPROJECT:
        return content
    table = _table(content)
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: has no table [tool.neo_daemons]; add one, or name another file with --config")
    return table


def _usable(raw: dict[str, Any], reader: Reader) -> tuple[dict[str, Any], set[str]]:
    """A file's content without values that no key can have, and the names of the daemons that lost their table."""
    content = {key: value for key, value in raw.items() if key != "daemons" or not isinstance(value, dict)}
    content = {key: value for key, value in content.items() if reader.refuse_unusable(value, key, 1)}
    broken: set[str] = set()
    if isinstance(tables := raw.get("daemons"), dict):
        broken = {name for name, table in tables.items() if not reader.refuse_unusable(table, join("daemons", name), 2)}
        content["daemons"] = {name: {} if name in broken else table for name, table in tables.items()}
    return content, broken


def _state_dir(
    argument: Path | None, environ: Mapping[str, str], stated: str | None, root: Path | None, source: Path | None
) -> Path:
    variable = environ.get(ENVIRONMENT_VARIABLE)
    if argument is not None:
        place, text, base = f"--state-dir {argument}", str(argument), None
    elif variable:
        place, text, base = f"{ENVIRONMENT_VARIABLE}={variable}", variable, None
    elif stated:
        place, text, base = f"{source}: {_prefix(source)}state_dir = {stated!r}", stated, root
    else:
        place, text, base = f"the state directory of {root}", DEFAULT_NAME, root
    try:
        real = real_path(text, base)
        named = Path(text).expanduser()
        refuse_foreign_links(named if named.is_absolute() else (base or Path.cwd()) / named)
    except StateDirError as error:
        raise ConfigError(f"{place}: {error}") from None
    except ValueError as error:
        raise ConfigError(f"{place}: {error}; name a directory, or a new one") from None
    return real


def check_order(definitions: Iterable[Definition]) -> None:
    """Check that every daemon can be started after those that it names.

    Raises:
        ConfigError: there is a cycle, or one that it names is missing.
    """
    graph = {definition.name: {*definition.after, *definition.requires} for definition in definitions}
    for name, others in graph.items():
        for other in sorted(others - set(graph)):
            raise ConfigError(f"{name} is to start after {other!r}, and there is no such daemon")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise ConfigError(f"daemons that wait for each other: {' → '.join(reversed(error.args[1]))}") from None


def _answers(url: str) -> HttpProbe:
    return HttpProbe(url=escape(url), status=tuple(range(200, 500)))


def _leads_further(url: str) -> bool:
    """Whether a URL says itself where on its host the service is."""
    return urllib.parse.urlsplit(url).path.strip("/") != ""


def external(name: str, url: str) -> Definition:
    """The definition of a daemon that somebody else runs at `url`.

    Raises:
        ConfigError: that is no URL, or no name.
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
            own = text.removeprefix(ORIGIN)
            value = expand(text, values) if own == text else url if _leads_further(url) else url.rstrip("/") + own
            exports[variable] = escape(value)
    return Definition(name=name, external=url, exports=exports, live=(_answers(url),))


def _without_data_options(name: str, table: Any) -> Any:
    builtin = BUILTINS.get(name)
    if builtin is None or not isinstance(table, dict):
        return table
    return {key: value for key, value in table.items() if key not in builtin.data_options}


def _isolate(definition: Definition, state: Path) -> Definition:
    """A definition that shares neither data nor ports with the one it is made from."""
    if definition.external:
        return definition
    own = (definition.command, definition.env, definition.url)
    referred = {name for _, text in texts(own) for name in names(text)}
    first = next(iter(definition.ports), None)
    if "port" in referred:
        referred.add(f"ports.{first}")
    builtin = definition.builtin is not None and not definition.command
    ports = {
        name: Port() if builtin or f"ports.{name}" in referred else port for name, port in definition.ports.items()
    }
    data_dir = str(StateDir(state).data_dir(definition.name)) if definition.data_dir is not None else None
    return msgspec.structs.replace(definition, ports=ports, data_dir=data_dir)


class _Builder:
    """Tables → definitions, with the checks that look at several keys or daemons.

    What is wrong is kept by the reader. A daemon with a fault of its own is checked no further, except for what it
    shares with others, as one fault would look like others.
    """

    def __init__(
        self,
        reader: Reader,
        project: Project,
        state: Path,
        tables: Mapping[str, dict[str, Any]],
        broken: Container[str],
        *,
        observing: bool = False,
    ) -> None:
        self._reader = reader
        self._project = project
        self._tables = tables
        self._broken = broken
        self._observing = observing
        self._places = {
            "state_dir": str(state),
            "project": str(project.root),
            "cache_dir": str(project.cache),
        }
        self._globals = {**self._places, **project.references()}
        self._reasons: dict[tuple[str, str], str] = {}
        """Why a daemon depends on another: the key that says so."""

    def build(self) -> tuple[Definition, ...]:
        """The definitions, of which some are missing if there are faults."""
        definitions: dict[str, Definition] = {}
        sharing: list[Definition] = []
        for name, table in self._tables.items():
            if not fits(name, Name) or not name.isprintable():
                remedy = "use a-z, 0-9, - and _, a letter first, 63 characters at most"
                self._reader.fault(join("daemons", name), UNSET, "not a name for a daemon", remedy)
            elif name not in self._broken:
                before = len(self._reader.faults)
                definition = self._define(name, table)
                if definition is not None:
                    sharing.append(definition)
                    if len(self._reader.faults) == before:
                        definitions[name] = definition
        definitions = {name: self._connect(d, definitions) for name, d in definitions.items()}
        self._check_shared(sharing)
        if not self._reader.faults:
            self._check_order(definitions)
        return tuple(definitions.values())

    def _fault(self, name: str, key: str, value: Any, problem: str, remedy: str) -> None:
        self._reader.fault(f"daemons.{name}.{key}", value, problem, remedy)

    def _define(self, name: str, table: dict[str, Any]) -> Definition | None:
        """The definition; of one with faults at least what it may share with others, or None."""
        key = f"daemons.{name}"
        before = len(self._reader.faults)
        builtin = BUILTINS.get(name)
        options: dict[str, str] = {}
        own = dict(table)
        if builtin is not None:
            for option in builtin.options:
                if option in own:
                    options[option] = self._option(name, option, own.pop(option))
        known = {**{f.encode_name: f for f in msgspec.structs.fields(Settings)}, **(builtin.options if builtin else {})}
        stated: Settings = self._reader.convert(own, Settings, key, known)
        if len(self._reader.faults) > before:
            ports = _ports(stated, None)
            return self._settle_paths(
                Definition(
                    name=name, cwd=stated.cwd or "", ports=ports, data_dir=stated.data_dir, external=stated.external
                )
            )
        merged = self._merge(builtin.settings(options), own) if builtin is not None and not stated.external else own
        settings: Settings = self._reader.convert(merged, Settings, key, known)
        for other in ("command", "port", "ports"):
            if stated.external and own.get(other):
                self._fault(name, other, own[other], "an external daemon has none", "remove this, or external")
        if builtin is None and not stated.command and not stated.external:
            near = difflib.get_close_matches(name, BUILTINS, n=1)
            hint = f", or did you mean [{self._reader.prefix}daemons.{near[0]}]?" if near else ""
            remedy = f'add one, e.g. command = ["python", "-m", "http.server"]{hint}'
            self._fault(name, "command", UNSET, "missing", remedy)
        if settings.port is not None and settings.ports:
            self._fault(name, "port", settings.port, "given together with ports", "keep one of the two")
        preferred = builtin.preferred_port if builtin is not None and "port" not in own and "ports" not in own else None
        ready, live = _as_tuple(settings.ready), _as_tuple(settings.live)
        if settings.external:
            if not self._check_url(name, "external", settings.external):
                return None
            if not ready and not live:
                live = (_answers(settings.external),)
        restart = settings.restart if isinstance(settings.restart, Restart) else Restart(when=settings.restart)
        definition = Definition(
            name=name,
            builtin=name if builtin is not None and not settings.external else None,
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
        return self._settle_paths(bracketed(definition))

    def _option(self, name: str, option: str, value: Any) -> str:
        if not isinstance(value, str) or not value:
            remedy = f"write in quotes the {BUILTINS[name].options[option]}"
            self._fault(name, option, value, "is empty" if value == "" else "expected a string", remedy)
            return ""
        path = self._path(name, option, value, self._project.root)
        if option == "model" and not value.startswith(("/", "./", "../", "~")) and not _holds(path.is_dir):
            return value
        return str(path)

    @staticmethod
    def _merge(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
        merged = {**defaults, **own}
        for key in ("env", "exports", "stop"):
            if key in defaults and isinstance(own.get(key), dict):
                merged[key] = {**defaults[key], **own[key]}
        if "ports" in own and "port" not in own:
            merged.pop("port", None)
        return merged

    def _path(self, name: str, key: str, text: str, base: Path) -> Path:
        try:
            return real_path(text, base)
        except ValueError as error:
            self._fault(name, key, text, str(error), "name another path")
            return base

    def _settle_paths(self, definition: Definition) -> Definition:
        """Working and data directory and the files of probes, absolute and real."""
        name, changes = definition.name, dict[str, Any]()
        before = len(self._reader.faults)
        for key, stated in (("cwd", definition.cwd or "."), ("data_dir", definition.data_dir)):
            if stated is not None:
                if self._check_references(name, key, stated, self._places) is None:
                    continue
                changes[key] = str(self._path(name, key, expand(stated, self._places), self._project.root))
        if "cwd" in changes and not _holds(Path(changes["cwd"]).is_dir):
            self._fault(name, "cwd", definition.cwd, "is not a directory", "make it, or name one that exists")
        if "data_dir" in changes:
            path = Path(changes["data_dir"])
            if _holds(path.exists) and not path.is_dir():
                remedy = "name a directory, or a new one"
                self._fault(name, "data_dir", definition.data_dir, "is not a directory", remedy)
        if len(self._reader.faults) > before:
            changes["data_dir"] = None  # it is not the place that was meant, and shared with nobody
        for key in ("ready", "live"):
            probes = (found for found in _probes(definition) if found[0].startswith(key))
            changes[key] = tuple(self._settle_probe(name, place, probe) for place, probe in probes)
        return msgspec.structs.replace(definition, **changes)

    def _settle_probe(self, name: str, place: str, probe: AnyProbe) -> AnyProbe:
        if not isinstance(probe, FileProbe):
            return probe
        base = Path(escape(str(self._project.root)))
        paths = {key: path for key in ("path", "database") if (path := getattr(probe, key)) and path[0] != "$"}
        settled = {key: str(self._path(name, f"{place}.{key}", path, base)) for key, path in paths.items()}
        return msgspec.structs.replace(probe, **settled)

    def _check_references(self, name: str, place: str, text: str, known: Mapping[str, str]) -> list[str] | None:
        """The references in `text`, if all of them are known."""
        try:
            found = names(text)
        except ValueError:
            remedy = "write ${name} for a reference, $$ for a dollar sign"
            self._fault(name, place, text, "a $ that begins no reference", remedy)
            return None
        unknown = [reference for reference in found if reference not in known and not self._may_be(reference)]
        for reference in dict.fromkeys(unknown):
            if reference.startswith(PREFIX) and self._globals.keys() <= known.keys():
                variable = reference.removeprefix(PREFIX)
                near = difflib.get_close_matches(reference, filter(_is_variable, known), n=1, cutoff=0.7)
                problem = f"the environment has no variable {variable}"
                remedy = f"did you mean ${{{near[0]}}}?" if near else f"set {variable}, or write a value here"
            else:
                problem, remedy = f"unknown reference ${{{reference}}}", self._remedy(name, reference, known)
            self._fault(name, place, text, problem, remedy)
        return None if unknown else found

    def _may_be(self, reference: str) -> bool:
        """Whether a reference that is not known can be right: it is to a daemon that has a fault itself, or nobody
        needs its value."""
        if self._observing and reference.startswith(PREFIX):
            return True
        first, _, rest = reference.partition(".")
        return first == "daemons" and rest.partition(".")[0] in self._tables and bool(self._reader.faults)

    def _remedy(self, name: str, reference: str, known: Mapping[str, str]) -> str:
        """What to do about a reference that is not `known`."""
        other = reference.split(".")[1] if reference.startswith("daemons.") else name
        if other in BUILTINS and other not in self._tables:
            return f"add a table [{self._reader.prefix}daemons.{other}]"
        stem, external = re.sub("(port|url)$", "", reference), "external" in self._tables.get(other, ())
        if external and f"{stem}url" in known:
            return f"it is external: use ${{{stem}url}}"
        if not external and stem != reference and f"{stem}host" in known and f"{stem}port" not in known:
            return f'add port = "auto" to [{self._reader.prefix}daemons.{other}]'
        if f"{PREFIX}{reference}" in known:
            return f"did you mean ${{{PREFIX}{reference}}}?"
        listed = sorted(other for other in known if not other.startswith(PREFIX))
        near = difflib.get_close_matches(reference, listed, n=1)
        return f"did you mean ${{{near[0]}}}?" if near else f"use one of: {', '.join(listed)}"

    def _check_url(self, name: str, place: str, url: str) -> bool:
        if not is_url(url):
            self._fault(name, place, redacted(url), "not a URL", 'write one such as "http://host:8000/path"')
        return is_url(url)

    def _check_probes(self, definition: Definition) -> None:
        for place, probe in _probes(definition):
            match probe:
                case HttpProbe():
                    self._check_http(definition.name, place, probe)
                case LogProbe():
                    self._check_pattern(definition.name, f"{place}.pattern", probe.pattern)
                    if place.startswith("live"):
                        problem = "a line once written stays written"
                        self._fault(definition.name, place, "log", problem, "use another type for live")
                case FileProbe() if (probe.database is None) != (probe.query is None):
                    problem = "database and query belong together"
                    self._fault(definition.name, place, "file", problem, "give both or none")
            if isinstance(probe, TcpProbe) or (isinstance(probe, HttpProbe) and probe.url is None):
                self._check_port(definition, place, probe)

    def _check_port(self, definition: Definition, place: str, probe: HttpProbe | TcpProbe) -> None:
        if not definition.ports:
            kind = probe.__struct_config__.tag
            remedy = "use an http probe with a url" if definition.external else 'add port = "auto"'
            self._fault(definition.name, place, kind, "needs a port, and the daemon has none", remedy)
        elif probe.port is not None and probe.port not in definition.ports:
            ports = ", ".join(definition.ports)
            self._fault(definition.name, f"{place}.port", probe.port, "no such port", f"name one of: {ports}")

    def _check_http(self, name: str, place: str, probe: HttpProbe) -> None:
        if not probe.path.startswith(("/", "$")):
            self._fault(name, f"{place}.path", probe.path, "does not begin with /", f"write {'/' + probe.path!r}")
        if probe.url is not None and not probe.url.startswith("$"):
            self._check_url(name, f"{place}.url", probe.url)
        if probe.body is not None:
            self._check_pattern(name, f"{place}.body", probe.body)
        try:
            json.dumps(probe.json)
        except TypeError:  # TOML has dates
            problem = "holds a date or time, which JSON has not"
            self._fault(name, f"{place}.json", probe.json, problem, "write it in quotes")

    def _check_pattern(self, name: str, place: str, pattern: str) -> None:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            remedy = "correct it, or escape special characters with a backslash"
            self._fault(name, place, pattern, f"not a regular expression ({error})", remedy)

    def _connect(self, definition: Definition, all_: Mapping[str, Definition]) -> Definition:
        """Check every reference; one to another daemon means: after that one."""
        name = definition.name
        for key in ("after", "requires"):
            for number, other in enumerate(getattr(definition, key)):
                if other not in self._tables:
                    near = difflib.get_close_matches(other, self._tables, n=1)
                    table = f"add a table [{self._reader.prefix}daemons.{other}]" if other in BUILTINS else ""
                    remedy = f"did you mean {near[0]!r}?" if near else f"name one of: {', '.join(self._tables)}"
                    self._fault(name, f"{key}[{number}]", other, "no such daemon", table or remedy)
                self._reasons.setdefault((name, other), f"{key}[{number}]")
        before_url = {**self._globals, **_own_references(definition)}
        known = {**before_url, **_url_reference(definition)}
        for other in all_.values():
            if other.name != name:
                theirs = {**_own_references(other), **_url_reference(other)}
                known |= {f"daemons.{other.name}.{key}": value for key, value in theirs.items()}
        after = list(definition.after)
        strings = [(key, getattr(definition, key)) for key in ("command", "env", "url", "exports")]
        for key, value in (*strings, *_probes(definition)):
            for place, text in texts(value, key):
                for reference in self._check_references(name, place, text, before_url if key == "url" else known) or ():
                    first, *rest = reference.split(".")
                    if first == "daemons":
                        self._reasons.setdefault((name, rest[0]), place)
                        if rest[0] not in after:
                            after.append(rest[0])
        return msgspec.structs.replace(definition, after=tuple(after))

    def _check_order(self, definitions: Mapping[str, Definition]) -> None:
        graph = {d.name: {*d.after, *d.requires} for d in definitions.values()}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            name, other, *rest = reversed(error.args[1])
            problem = f"a cycle: {' → '.join((name, other, *rest))}"
            place = self._reasons[name, other]
            self._fault(name, place, other, problem, "remove one of these dependencies")

    def _check_shared(self, definitions: Iterable[Definition]) -> None:
        ports: dict[int, str] = {}
        directories: dict[str, str] = {}
        for definition in definitions:
            for port_name, port in definition.ports.items():
                if port.fixed is None or definition.external:
                    continue
                key = "port" if "port" in self._tables[definition.name] else f"ports.{port_name}"
                if port.fixed in ports:
                    problem = f"also that of {ports[port.fixed]}"
                    self._fault(definition.name, key, port.fixed, problem, 'choose another, or "auto"')
                    continue
                ports[port.fixed] = f"daemons.{definition.name}.{key}"
            if definition.data_dir is not None:
                if definition.data_dir in directories:
                    stated = self._tables[definition.name].get("data_dir", UNSET)
                    problem = f"is {definition.data_dir}, also that of daemons.{directories[definition.data_dir]}"
                    remedy = "give each daemon a directory of its own"
                    self._fault(definition.name, "data_dir", stated, problem, remedy)
                    continue
                directories[definition.data_dir] = definition.name


def _ports(settings: Settings, preferred: int | None) -> dict[str, Port]:
    stated = {"main": settings.port} if settings.port is not None else settings.ports
    return {
        name: Port(preferred=preferred) if number == "auto" else Port(fixed=int(number))
        for name, number in stated.items()
    }


def _url_reference(definition: Definition) -> dict[str, str]:
    """Its URL, if it has one."""
    return {"url": ""} if definition.url or definition.external or definition.ports else {}


def _own_references(definition: Definition) -> dict[str, str]:
    values = {"name": "", "host": "", "log_path": ""}
    if definition.ports:
        values["port"] = ""
        values |= {f"ports.{name}": "" for name in definition.ports}
    if definition.data_dir is not None:
        values["data_dir"] = ""
    return values


def _probes(definition: Definition) -> Iterator[tuple[str, AnyProbe]]:
    """The probes, each with its key."""
    for key in ("ready", "live"):
        probes = getattr(definition, key)
        yield from ((key if len(probes) == 1 else f"{key}[{number}]", probe) for number, probe in enumerate(probes))


def _is_variable(reference: str) -> bool:
    return reference.startswith(PREFIX)


def _as_tuple(probes: Any) -> tuple[AnyProbe, ...]:
    return probes if isinstance(probes, tuple) else (probes,)
