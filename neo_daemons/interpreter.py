"""Which modules this interpreter imports.

Runs before anything else of ours, in directories whose files are not ours to run: imports only what the interpreter has
loaded by then, and takes no annotation from `typing`.
"""

import os
import sys

LIBRARY = os.path.dirname(os.__file__)


def installed_first() -> list[str]:
    """The import path, with what PYTHONPATH, ``python -m`` or pytest put before the standard library behind the
    installed packages."""
    before = _before_library()
    return sys.path[before:] + sys.path[:before]


def prefer_installed_modules() -> None:
    """For a process that is ours: nothing is imported from the working directory, and what PYTHONPATH names comes
    after the standard library and the installed packages. So no ``queue.py`` or ``httpx.py`` of a project takes the
    place of the module that we mean."""
    before = _before_library()
    sys.path[:] = sys.path[before:] + [entry for entry in sys.path[:before] if not _is_foreign(entry)]


def _before_library() -> int:
    return sys.path.index(LIBRARY) if LIBRARY in sys.path else 0


def _is_foreign(entry: str) -> bool:
    """Whether a directory on the path is the working directory, and we were not imported from there."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        return _same(entry or os.curdir, os.curdir) and not _same(own, os.curdir)
    except OSError:
        return not entry  # what is not there does no harm


def _same(one: str, other: str) -> bool:
    return os.path.samestat(os.stat(one), os.stat(other))


def command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours in a process of its own, whatever lies in its working directory."""
    return [sys.executable, "-P", "-m", module, *arguments]
