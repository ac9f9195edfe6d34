"""Makes paths that users state absolute and free of links."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .state_dir import is_text


def real_path(path: str | Path, base: Path | None = None) -> Path:
    """Return a path, relative to `base` (by default the working directory) or "~", as an absolute path without links.

    Raises:
        ValueError: there is no such path (an unknown "~user", a loop of links, no working directory any more), or it
            is not UTF-8. ``str()`` says which.
    """
    try:
        stated = Path(path).expanduser()
        if not stated.is_absolute():
            stated = (base or working_directory()) / stated
        real = stated.resolve()
    except (RuntimeError, OSError) as error:
        raise ValueError("the home directory is unknown" if "home directory" in str(error) else str(error)) from None
    if not is_text(real):
        raise ValueError("the path is not UTF-8")
    return real


def working_directory() -> Path:
    """Return the working directory.

    Raises:
        ValueError: it has been deleted.
    """
    try:
        return Path.cwd()
    except OSError:
        raise ValueError("the working directory has been deleted; change to another directory") from None


def holds(test: Callable[[], bool]) -> bool:
    """Return the result of a path's own test, or False if the system does not let us check."""
    try:
        return test()
    except OSError:
        return False
