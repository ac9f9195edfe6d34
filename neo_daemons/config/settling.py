"""Paths in a file, made absolute and real, once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from neo_daemons.definitions import AnyProbe, Definition, FileProbe
from neo_daemons.paths import holds, real_path
from neo_daemons.references import escape, expand

from .checks import probes
from .linking import Linker
from .reader import Reader


class Settler:
    """Settles the paths of one file's daemons.

    Args:
        reader: keeps the faults.
        linker: checks references in paths.
        root: what relative paths are relative to.
        places: the directories that paths can refer to, by name.
    """

    def __init__(self, reader: Reader, linker: Linker, root: Path, places: Mapping[str, str]) -> None:
        self._reader = reader
        self._linker = linker
        self._root = root
        self._places = places

    def path(self, name: str, key: str, text: str, base: Path | None = None) -> Path:
        """The path at a key of a daemon, relative to `base` (by default the root)."""
        base = base or self._root
        try:
            return real_path(text, base)
        except ValueError as error:
            self._reader.fault_of(name, key, text, str(error), "name another path")
            return base

    def settle(self, definition: Definition) -> Definition:
        """A definition with its working and data directory and the files of its probes absolute and real."""
        name, changes = definition.name, dict[str, object]()
        before = len(self._reader.faults)
        for key, stated in (("cwd", definition.cwd or "."), ("data_dir", definition.data_dir)):
            if stated is not None:
                if self._linker.check(name, key, stated, self._places) is None:
                    continue
                changes[key] = str(self.path(name, key, expand(stated, self._places)))
        if "cwd" in changes and not holds(Path(str(changes["cwd"])).is_dir):
            self._reader.fault_of(name, "cwd", definition.cwd, "is not a directory", "make it, or name one that exists")
        if "data_dir" in changes:
            path = Path(str(changes["data_dir"]))
            if holds(path.exists) and not path.is_dir():
                remedy = "name a directory, or a new one"
                self._reader.fault_of(name, "data_dir", definition.data_dir, "is not a directory", remedy)
        if len(self._reader.faults) > before:
            changes["data_dir"] = None  # it is not the place that was meant, and shared with nobody
        for key in ("ready", "live"):
            found = ((place, probe) for place, probe in probes(definition) if place.startswith(key))
            changes[key] = tuple(self._settle_probe(name, place, probe) for place, probe in found)
        return msgspec.structs.replace(definition, **changes)

    def _settle_probe(self, name: str, place: str, probe: AnyProbe) -> AnyProbe:
        if not isinstance(probe, FileProbe):
            return probe
        base = Path(escape(str(self._root)))
        paths = {key: path for key in ("path", "database") if (path := getattr(probe, key)) and path[0] != "$"}
        settled = {key: str(self.path(name, f"{place}.{key}", path, base)) for key, path in paths.items()}
        return msgspec.structs.replace(probe, **settled)
