"""Controls which modules this interpreter imports.

This runs before our other modules, in directories whose files we must not run. It imports only modules that the
interpreter has already loaded, not even `typing`.
"""

import _thread
import os
import sys

LIBRARY = os.path.dirname(os.__file__)


def installed_first() -> list[str]:
    """Return the import path with the entries that PYTHONPATH, ``python -m`` or pytest put before the standard library
    moved behind the installed packages."""
    before = _before_library()
    return sys.path[before:] + sys.path[:before]


UNUSED = ("httpx._main",)
"""The command line of httpx, which httpx imports if click and rich are installed, and does without otherwise."""


def leave_out_unused_modules() -> None:
    """Make the imports of `UNUSED` fail. They take longer than httpx itself, and a tenth of a supervisor's memory. Only
    for processes of our own."""
    for name in UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    if "typing_extensions" not in sys.modules:
        # msgspec imports it if it is installed, and needs it for nothing. It takes as long as msgspec.
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]
        try:
            import msgspec  # noqa: F401
        finally:
            del sys.modules["typing_extensions"]  # others need it


_lock = _thread.allocate_lock()
_within: list["installed_modules"] = []
_saved: list[list[str]] = []


class installed_modules:
    """A context in which imports find installed packages rather than modules of a project with the same names. A test
    run imports on demand in it, because pytest puts test directories first on the path. Several threads may be in it
    at a time: the last one restores the path."""

    def __enter__(self) -> None:
        with _lock:
            if not _saved:
                _saved.append(sys.path[:])
                sys.path[:] = installed_first()
            _within.append(self)

    def __exit__(self, *error: object) -> None:
        with _lock:
            _within.remove(self)
            if not _within:
                sys.path[:] = _saved.pop()


def prefer_installed_modules() -> None:
    """Import nothing from the working directory, and search PYTHONPATH after the standard library and the installed
    packages. So a project's ``queue.py`` or ``httpx.py`` does not shadow the module that we need. Only for processes
    of our own."""
    before = _before_library()
    sys.path[:] = sys.path[before:] + [entry for entry in sys.path[:before] if not _is_foreign(entry)]


def _before_library() -> int:
    return sys.path.index(LIBRARY) if LIBRARY in sys.path else 0


def _is_foreign(entry: str) -> bool:
    """Return whether a directory on the path is the working directory, unless we were imported from there."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        return _same(entry or os.curdir, os.curdir) and not _same(own, os.curdir)
    except OSError:
        return not entry  # a missing directory does no harm


def _same(one: str, other: str) -> bool:
    return os.path.samestat(os.stat(one), os.stat(other))


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of ours in a new process, whatever is in its working directory."""
    return [sys.executable, "-P", "-m", module, *arguments]
