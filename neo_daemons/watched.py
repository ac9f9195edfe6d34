"""Finds the files that the patterns of ``watch`` name, and tells whether their content has changed.

``*``, ``?`` and ``[…]`` match within a name, ``**`` any number of directories. As in a shell, they do not match a name
that begins with a dot; ``**`` and ``*`` leave out directories that hold no source code (`NO_SOURCES`, virtual
environments). A pattern that begins with such a directory finds what is in it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

NO_SOURCES = frozenset({"node_modules", "__pycache__"})
VIRTUAL_ENVIRONMENT = "pyvenv.cfg"
"""A directory with this file is a virtual environment."""
MAX_FILES = 10_000
MAX_BYTES = 200_000_000
"""Reading them takes a fraction of a second."""
MAX_DIRECTORIES = 100_000
CHUNK = 1 << 20
UNREADABLE = "unreadable"
NOT_IN_SETS = r"[\\\[\]^&~|]"
"""What means something else in the sets of regular expressions."""


class CannotWatch(ValueError):
    """Patterns name no file, or too many; ``str()`` says which."""


class Pattern:
    """A pattern of files.

    Args:
        text: the pattern.
        root: the directory that it is relative to.

    Raises:
        CannotWatch: it is not a pattern.
    """

    def __init__(self, text: str, root: Path) -> None:
        parts = [part for part in text.split("/") if part not in ("", ".")]
        if not parts or text.endswith("/") or "\0" in text:
            raise CannotWatch(f"{text!r} names no files")
        fixed = 0
        while fixed < len(parts) - 1 and not re.search(r"[*?\[]", parts[fixed]):
            fixed += 1
        self.text = text
        start = Path("/") if text.startswith("/") else root
        self.base = Path(os.path.normpath(start.joinpath(*parts[:fixed])))
        """The directory below which all of its files are."""
        try:
            self._expression = re.compile("".join(_expression(parts[fixed:])))
        except re.error as error:
            raise CannotWatch(f"{text!r} is not a pattern: {error.msg}") from None
        self.is_deep = len(parts) - fixed > 1 or parts[-1] == "**"
        """Whether files in directories below it are among them."""

    def matches(self, path: str) -> bool:
        """Return whether it names the file at an absolute path."""
        base = f"{self.base}{os.sep}" if self.base != Path("/") else os.sep
        return path.startswith(base) and self._expression.fullmatch(path.removeprefix(base)) is not None

    def files(self) -> Iterator[str]:
        """Return the absolute paths of the files that it names.

        Raises:
            CannotWatch: it leads through too many directories.
        """
        for passed, (place, directories, names) in enumerate(os.walk(self.base)):
            if passed >= MAX_DIRECTORIES:
                raise CannotWatch(
                    f"{self.text!r} leads through more than {MAX_DIRECTORIES} directories; name fewer of them"
                )
            if not self.is_deep:
                directories.clear()
            directories[:] = [name for name in directories if not is_left_out(place, name)]
            yield from (path for name in names if self.matches(path := os.path.join(place, name)))


def _expression(parts: list[str]) -> Iterator[str]:
    """Translate the parts of a pattern, from the first that is not a plain name."""
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            yield r"(?:[^/.][^/]*/)*" + (r"[^/.][^/]*" if last else "")
        else:
            yield _name(part) + ("" if last else "/")


def _name(part: str) -> str:
    """Translate one name of a pattern."""
    result = r"(?!\.)" if part[0] in "*?[" else ""
    for piece in re.findall(
        r"\*+|\?|\[!?+\]?+[^\]]*\]|.", part, re.DOTALL
    ):  # "[]" and "[!]" are no sets, as in a shell
        if piece[0] == "*":
            result += r"[^/]*"
        elif piece == "?":
            result += r"[^/]"
        elif len(piece) > 1:
            negation, inside = ("^", piece[2:-1]) if piece[1] == "!" else ("", piece[1:-1])
            inside = re.sub(NOT_IN_SETS, r"\\\g<0>", inside)
            result += f"[{negation}{inside}]"
        else:
            result += re.escape(piece)
    return result


def is_left_out(place: str, name: str) -> bool:
    """Return whether wildcards leave out the directory `name` in the directory `place`."""
    if name.startswith(".") or name in NO_SOURCES:
        return True
    return Path(place, name, VIRTUAL_ENVIRONMENT).exists()


def digests(patterns: Iterable[str], root: Path) -> dict[str, str]:
    """Return the files that patterns name, by their paths relative to `root` (absolute outside of it), with a digest of
    the content of each.

    Raises:
        CannotWatch: a pattern names no file, or all of them too many or too large ones.
    """
    found: dict[str, str] = {}
    total = 0
    for text in patterns:
        empty = True
        for path in Pattern(text, root).files():
            name = shown(path, root)
            if name not in found:
                if len(found) >= MAX_FILES:
                    raise CannotWatch(f"{text!r} and the patterns before it name more than {MAX_FILES} files")
                total += _size(path)
                if total > MAX_BYTES:
                    raise CannotWatch(f"{text!r} and the patterns before it name files of more than {MAX_BYTES} bytes")
                digest = _digest(path)
                if digest is None:
                    continue
                found[name] = digest
            empty = False
        if empty:
            raise CannotWatch(f"no file in {root} matches {text!r}")
    return found


def shown(path: str, root: Path) -> str:
    """Return how messages name a file."""
    prefix = f"{root}{os.sep}"
    return (path.removeprefix(prefix) if path.startswith(prefix) else path).encode("utf-8", "replace").decode()


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the files that were changed, added or removed."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def in_words(files: list[str]) -> str:
    """Name the first of some changed files."""
    more = len(files) - 1
    return f"{files[0]} changed" if more < 1 else f"{files[0]} and {more} more file{'s' if more > 1 else ''} changed"


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _digest(path: str) -> str | None:
    """Return a digest of a file's content; None if it is not a regular file, or has just been removed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not block us
    except FileNotFoundError:
        return None
    except OSError:
        return UNREADABLE
    import hashlib  # it loads OpenSSL, which most configurations do not need

    result = hashlib.blake2b(digest_size=8)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        while chunk := os.read(descriptor, CHUNK):
            result.update(chunk)
    except OSError:
        return UNREADABLE
    finally:
        os.close(descriptor)
    return result.hexdigest()
