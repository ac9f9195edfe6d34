"""What somebody who misspelt a name may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def closest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name that was most likely meant; None if none is similar (see `difflib` for `cutoff`)."""
    import difflib  # only a mistake needs it

    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=cutoff)), None)


def among(name: str, known: Iterable[str]) -> str:
    """Say which names are known, and which of them `name` is similar to: ``api, db; did you mean 'db'?``."""
    names = sorted(known)
    near = closest(name, names)
    return (", ".join(names) or "none") + (f"; did you mean {near!r}?" if near else "")
