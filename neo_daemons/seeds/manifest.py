"""Describes the files of a directory, so that a copy can be compared with the original."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec
from msgspec import Struct

from neo_daemons.files import read_regular
from neo_daemons.state_dir import is_text

RESTORED = ".neo-daemons-restored"
"""Marks a directory that is about to become a data directory; see `replacing`."""
LEFT_OUT = frozenset({".neo-daemons.lock", ".neo-daemons-settings.yaml", RESTORED})
"""Files of a data directory that are ours, not the daemon's."""
MAX_BYTES = 1 << 28
"""The limit of a manifest: more than a million files."""
ENTRY_BYTES = 170
"""At most what a manifest says of a file, besides its name."""
REMEDIES = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there, or raise the quota",
    errno.EACCES: "check its owner and permissions",
    errno.EPERM: "check its owner and permissions",
    errno.EROFS: "its file system is mounted read-only",
}


class SeedError(Exception):
    """A directory cannot be sealed, cloned or restored; ``str()`` says which, why, and what to do."""


class File(Struct, frozen=True):
    """A regular file."""

    size: int
    """Bytes."""
    sha256: str
    mode: int
    """Permissions."""
    mtime_ns: int
    """When it was last changed: nanoseconds since the epoch."""


class Directory(Struct, frozen=True):
    """A directory below the one that is described."""

    mode: int
    mtime_ns: int


class Manifest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a sealed directory contains, and what it was made from. Names of files are relative, with ``/``."""

    name: str
    """The name of the seed, or of the daemon whose snapshot this is."""
    daemon: str
    files: dict[str, File]
    directories: dict[str, Directory] = {}
    links: dict[str, str] = {}
    """Symbolic link → where it leads."""
    mode: int = 0o700
    """Permissions of the directory itself."""
    counts: dict[str, int] = {}
    """What is in it, in the daemon's own terms where they are known."""
    counted: tuple[str, ...] = ()
    """Those of `counts` that can be counted again in a clone."""
    key: str = ""
    """Identifies what a seed was built from."""
    program: str | None = None
    """The version of the daemon's program, if known."""
    data_dir: str | None = None
    """The data directory of which this is a snapshot."""
    made_at: float = 0.0
    """Seconds since the epoch."""
    format: int = 1

    @property
    def size(self) -> int:
        """The size of all files in bytes."""
        return sum(file.size for file in self.files.values())


class Contents(Struct, frozen=True):
    """The files of a directory as they are now."""

    files: dict[str, File]
    directories: dict[str, Directory]
    links: dict[str, str]


def entries(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield each directory, regular file and symbolic link below a directory: its relative name, parents first. Sockets
    and pipes are left out: they mean nothing without the process that made them.

    Raises:
        OSError: it cannot be read.
        SeedError: a name is not UTF-8, so a manifest cannot hold it.
    """
    ahead = [""]
    while ahead:
        below = ahead.pop()
        for name in sorted(os.listdir(root / below)):
            relative = f"{below}/{name}" if below else name
            if relative in LEFT_OUT:
                continue
            if not is_text(relative):
                raise SeedError(f"{root}: the name of {relative!r} is not UTF-8; rename or remove the file")
            found = os.lstat(root / relative)
            if stat.S_ISDIR(found.st_mode):
                ahead.append(relative)
            elif not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                continue
            yield relative, found


def describe(root: Path) -> Contents:
    """Read all files below a directory.

    Raises:
        OSError: one cannot be read.
        SeedError: a name cannot be described.
    """
    files, directories, links = dict[str, File](), dict[str, Directory](), dict[str, str]()
    for name, found in entries(root):
        mode = stat.S_IMODE(found.st_mode)
        if stat.S_ISDIR(found.st_mode):
            directories[name] = Directory(mode, found.st_mtime_ns)
        elif stat.S_ISLNK(found.st_mode):
            links[name] = _link(root, name)
        else:
            with (root / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                files[name] = File(os.fstat(file.fileno()).st_size, digest, mode, found.st_mtime_ns)
    return Contents(files, directories, links)


def check(root: Path) -> bool:
    """Check, without reading any file, that a directory can be described. A daemon may be using it. Return whether
    there is a file in it.

    Raises:
        OSError: it cannot be read.
        SeedError: a manifest cannot hold a name, or not so many.
    """
    size, has_files = 0, False
    with contextlib.suppress(FileNotFoundError):  # of what a daemon has just removed
        for name, found in entries(root):
            if stat.S_ISLNK(found.st_mode):
                _link(root, name)
            has_files = has_files or stat.S_ISREG(found.st_mode)
            size += len(msgspec.json.encode(name)) + ENTRY_BYTES
            if size > MAX_BYTES:
                raise _too_many(root)
    return has_files


def _link(root: Path, name: str) -> str:
    to = os.readlink(root / name)
    if not _is_within(_target(name, to)):
        raise SeedError(f"{root / name} is a link that leads out of the directory, to {to}; put the data itself there")
    return to


def _too_many(root: Path) -> SeedError:
    return SeedError(f"{root} has more files than a manifest can hold ({MAX_BYTES >> 20} MiB of names and checksums)")


def difference(manifest: Manifest, root: Path) -> str | None:
    """Compare a directory with its manifest. Return the first difference, or None.

    Raises:
        OSError, SeedError: it cannot be read.
    """
    found = describe(root)
    for name in sorted(manifest.files.keys() | found.files.keys()):
        wanted, there = manifest.files.get(name), found.files.get(name)
        if there is None:
            return f"{name} is missing"
        if wanted is None:
            return f"{name} was added"
        if (wanted.size, wanted.sha256) != (there.size, there.sha256):
            return f"{name} has changed"
    if manifest.directories.keys() != found.directories.keys() or manifest.links != found.links:
        return "its directories or links have changed"
    return None


def encode(manifest: Manifest, root: Path) -> bytes:
    """Encode the manifest of a directory.

    Raises:
        SeedError: it would be too large to be read again.
    """
    content = msgspec.json.encode(manifest)  # not indented: that would take a fifth more
    if len(content) > MAX_BYTES:
        raise _too_many(root)
    return content


def read(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        OSError: it cannot be read.
        SeedError: it is damaged, or another version wrote it.
    """
    return decode(read_regular(path, MAX_BYTES), str(path))


def decode(data: bytes, place: str) -> Manifest:
    """Decode a manifest, and check that its names stay below its directory.

    Raises:
        SeedError: it is damaged, or another version wrote it.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SeedError(f"{place} is damaged: {error}") from None
    if manifest.format != 1:
        raise SeedError(f"{place} was written by a newer neo-daemons (format {manifest.format}); upgrade neo-daemons")
    targets = [_target(name, to) for name, to in manifest.links.items()]
    for name in (*manifest.files, *manifest.directories, *manifest.links, *targets):
        if not _is_within(name):
            raise SeedError(f"{place} names {name!r}, which is outside its directory")
    return manifest


def _target(link: str, to: str) -> str:
    """Return where a link leads, relative to the directory unless it is absolute."""
    return os.path.normpath(PurePosixPath(link).parent / to)


def _is_within(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not name.startswith("/") and ".." not in parts and "\0" not in name and name != ""


def explain(error: OSError, place: Path) -> str:
    """Return which file an error is about, what it was, and what to do.

    Args:
        place: what is named if the error names no file.
    """
    where = error.filename2 or error.filename or place  # a copy fails at its second
    remedy = REMEDIES.get(error.errno or 0)
    return f"{where}: {error.strerror or error}" + (f"; {remedy}" if remedy else "")
