"""Makes the paths in a file absolute and free of links, once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from neo_daemons.definitions import AnyProbe, Definition, FileProbe
from neo_daemons.paths import holds, real_path
from neo_daemons.references import escape, expand
from neo_daemons.watched import CannotWatch, Pattern

from .checks import probes
from .reader import Reader
from .reference_checker import ReferenceChecker


class PathResolver:
    """Resolves the paths of one file's daemons.

    Args:
        reader: collects the errors.
        references: checks references in paths.
        root: the base of relative paths.
        places: the values of the references that a path may begin with.
    """

    def __init__(self, reader: Reader, references: ReferenceChecker, root: Path, places: Mapping[str, str]) -> None:
        self._reader = reader
        self._references = references
        self._root = root
        self._places = places

    def path(self, name: str, key: str, text: str, base: Path | None = None) -> Path:
        """Return the path at a key of a daemon. A relative one starts at `base`, by default the root."""
        base = base or self._root
        try:
            return real_path(text, base)
        except ValueError as error:
            self._reader.fault_of(name, key, text, str(error), "use another path")
            return base

    def resolve(self, definition: Definition) -> Definition:
        """Return a definition whose working directory, data directory and probed files are resolved."""
        name, changes = definition.name, dict[str, object]()
        before = len(self._reader.faults)
        for key, stated in (("cwd", definition.cwd or "."), ("data_dir", definition.data_dir)):
            if stated is not None:
                if self._references.check_text(name, key, stated, self._places) is None:
                    continue
                changes[key] = str(self.path(name, key, expand(stated, self._places)))
        cwd = changes.get("cwd", self._places["state_dir"])  # which is created before the first start
        if cwd != self._places["state_dir"] and not holds(Path(str(cwd)).is_dir):
            self._reader.fault_of(
                name, "cwd", definition.cwd, "is not a directory", "create it, or use an existing directory"
            )
        if "data_dir" in changes:
            path = Path(str(changes["data_dir"]))
            if holds(path.exists) and not path.is_dir():
                remedy = "use an existing directory or a new path"
                self._reader.fault_of(name, "data_dir", definition.data_dir, "is not a directory", remedy)
        if len(self._reader.faults) > before:
            changes["data_dir"] = None  # unknown, so not compared with that of other daemons
        for key in ("ready", "live"):
            found = ((place, probe) for place, probe in probes(definition) if place.startswith(key))
            changes[key] = tuple(self._resolve_probe(name, place, probe) for place, probe in found)
        return msgspec.structs.replace(definition, **changes)

    def check_files(self, definition: Definition) -> None:
        """Check that each pattern of files that a run depends on names a file."""
        key = "inputs" if definition.inputs else "watch"
        for number, text in enumerate(definition.files):
            try:
                if next(Pattern(text, self._root).files(), None) is None:
                    raise CannotWatch(f"no file in {self._root} matches it")
            except CannotWatch as error:
                remedy = "correct it, or create the file"
                self._reader.fault_of(definition.name, f"{key}[{number}]", text, str(error), remedy)

    def _resolve_probe(self, name: str, place: str, probe: AnyProbe) -> AnyProbe:
        if not isinstance(probe, FileProbe):
            return probe
        base = Path(escape(str(self._root)))
        paths = {key: path for key in ("path", "database") if (path := getattr(probe, key)) and path[0] != "$"}
        resolved = {key: str(self.path(name, f"{place}.{key}", path, base)) for key, path in paths.items()}
        return msgspec.structs.replace(probe, **resolved)
