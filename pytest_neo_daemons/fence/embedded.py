"""Refuses databases that native code opens in the process itself, which no audit hook sees: ``PersistentClient`` of
chromadb on the data of a production chroma.

Like `wall`, this is executed by the Python processes that tests start, too.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing is not imported
if TYPE_CHECKING:
    import importlib.machinery
    from typing import Any

    from .wall import Wall

MODULE = "chromadb_rust_bindings"


def guard(wall: Wall) -> None:
    """Put the native code of chromadb behind the wall, now or when it is imported."""
    if MODULE in sys.modules:
        _guard(sys.modules[MODULE], wall)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(wall))


def _guard(module: Any, wall: Wall) -> None:
    native = getattr(module, "Bindings", None)
    if native is None:
        return  # of another version
    if hasattr(native, "_neo_daemons_native"):
        native = native._neo_daemons_native

    def bindings(*arguments: Any, **options: Any) -> Any:
        path = options.get("persist_path")
        owner = wall.owner_of(str(path)) if path is not None else None
        if owner is not None:
            wall.refuse(owner, f"opens the database in {path}")
        return native(*arguments, **options)

    bindings._neo_daemons_native = native  # type: ignore[attr-defined]
    module.Bindings = bindings


class _Finder:
    """Finds the native module where the others find it, and puts it behind the wall once it is loaded."""

    def __init__(self, wall: Wall) -> None:
        self._wall = wall

    # importlib.abc is not imported: it takes longer than all of this.

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != MODULE or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)  # its work is done
        import importlib.util

        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._wall)  # type: ignore[assignment]
        return spec


class _Loader:
    def __init__(self, loader: Any, wall: Wall) -> None:
        self._loader = loader
        self._wall = wall

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        self._loader.exec_module(module)
        _guard(module, self._wall)
