"""A snapshot in one file: a tar archive, packed by gzip, with the manifest first and the data after it."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import io
import os
import stat
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from neo_daemons.files import sync_file
from neo_daemons.unpatched import Unpatched

from .manifest import MAX_BYTES, File, Manifest, SeedError, decode, encode

MANIFEST = "manifest.json"
DATA = "data/"
LEVEL = 6
"""Of compression: gzip's own default."""
CHUNK = 1 << 20
ZEROS = bytes(CHUNK)
SUFFIX = ".tar.gz"
UNFINISHED = ".neo-daemons-unfinished"
"""Ends the name of a snapshot that is being written. Its writer holds a lock on it."""


def pack(source: Path, manifest: Manifest, path: Path) -> None:
    """Write a snapshot of a directory that nothing changes meanwhile. It is whole and verified, or absent.

    Raises:
        OSError: it cannot be written.
        SeedError: what was written differs from the manifest.
    """
    content = encode(manifest, source)
    temporary = path.with_name(f".{path.name}.{Unpatched.urandom(4).hex()}{UNFINISHED}")
    try:
        with _locked(temporary) as file:
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=LEVEL, format=tarfile.PAX_FORMAT) as archive:
                archive.addfile(_member(MANIFEST, len(content), 0o600, manifest), io.BytesIO(content))
                for name, entry in sorted(manifest.files.items()):
                    with (source / name).open("rb") as reading:
                        archive.addfile(_member(DATA + name, entry.size, entry.mode, manifest), reading)
            file.flush()
            sync_file(file.fileno())
            verify(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """Create a file and lock it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    while True:
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            with contextlib.suppress(OSError):  # of a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists():  # else `sweep` was faster
                yield file
                return


def sweep(directory: Path) -> None:
    """Remove the unfinished snapshots whose writers were killed."""
    for path in directory.glob(f".*{UNFINISHED}"):
        with contextlib.suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _member(name: str, size: int, mode: int, manifest: Manifest) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, mode, int(manifest.made_at)
    return member


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of a snapshot.

    Raises:
        OSError: it cannot be read.
        SeedError: it is damaged, or not a snapshot.
    """
    reading = _Reading(path)
    try:
        return reading.manifest
    finally:
        reading.close()


def verify(path: Path) -> Manifest:
    """Read a whole snapshot and compare it with its manifest.

    Raises:
        OSError, SeedError: as `read_manifest`.
    """
    return _read(path, None)


def unpack(path: Path, target: Path) -> Manifest:
    """Write the data of a snapshot into a new directory, verifying it.

    Raises:
        OSError: it cannot be read or written.
        SeedError: it is damaged, or not a snapshot.
    """
    return _read(path, target)


def _read(path: Path, target: Path | None) -> Manifest:
    reading = _Reading(path)
    try:
        manifest, missing = reading.manifest, dict(reading.manifest.files)
        if target is not None:
            target.mkdir(mode=0o700)
            for name in sorted(manifest.directories):
                (target / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, size, content in reading.members():
            entry = missing.pop(name, None)
            if entry is None or entry.size != size:
                raise reading.damaged(f"it holds {name!r}, which its manifest describes differently or not at all")
            if target is None:
                _check(content, entry, name, None, reading)
            else:
                with (target / name).open("xb") as writing:
                    _check(content, entry, name, writing, reading)
                    os.fchmod(writing.fileno(), entry.mode)
                    writing.flush()  # else closing it would change the time
                    os.utime(writing.fileno(), ns=(entry.mtime_ns, entry.mtime_ns))
        if missing:
            raise reading.damaged(f"{min(missing)} is missing")
        if target is not None:
            for name, to in manifest.links.items():  # last: nothing is written through them
                (target / name).symlink_to(to)
            for name, directory in sorted(manifest.directories.items(), reverse=True):  # children first
                (target / name).chmod(directory.mode | stat.S_IRWXU)
                os.utime(target / name, ns=(directory.mtime_ns, directory.mtime_ns))
            target.chmod(manifest.mode | stat.S_IRWXU)
        return manifest
    finally:
        reading.close()


def _check(content: IO[bytes], entry: File, name: str, writing: IO[bytes] | None, reading: _Reading) -> None:
    digest = hashlib.sha256()
    while piece := reading.piece(content):
        digest.update(piece)
        if writing is None:
            continue
        if piece == ZEROS[: len(piece)]:
            writing.seek(len(piece), os.SEEK_CUR)  # a hole; written out, a sparse file could fill the disk
        else:
            writing.write(piece)
    if writing is not None:
        writing.truncate()
    if digest.hexdigest() != entry.sha256:
        raise reading.damaged(f"{name} differs from its checksum")


class _Reading:
    """A snapshot that is being read from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        try:
            try:
                # gzip's own reader, which checks the end as well; `close` closes both.
                self._unzipped = gzip.GzipFile(fileobj=self._file)
                self._archive = tarfile.open(fileobj=self._unzipped, mode="r|")  # noqa: SIM115
            except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
                raise self.damaged(str(error)) from None
            first = next(self._members(), None)
            if first is None or first[0] != MANIFEST or first[1] > MAX_BYTES:
                raise self.damaged(f"its first member is not {MANIFEST}")
            text = b"".join(iter(lambda: self.piece(first[2]), b""))
            self.manifest = decode(text, f"{path}: {MANIFEST}")
        except BaseException:
            self._file.close()
            raise

    def damaged(self, why: str) -> SeedError:
        """Return the error for a file that cannot be used."""
        return SeedError(f"{self._path} is damaged, or not a snapshot by neo-daemons: {why}")

    def piece(self, content: IO[bytes] | gzip.GzipFile) -> bytes:
        """Return the next bytes of a member; none at its end."""
        try:
            return content.read(CHUNK)
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise self.damaged(str(error)) from None

    def _members(self) -> Iterator[tuple[str, int, IO[bytes]]]:
        while True:
            try:
                member = self._archive.next()
                content = self._archive.extractfile(member) if member is not None and member.isreg() else None
            except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
                raise self.damaged(str(error)) from None
            if member is None:
                return
            if content is None:
                raise self.damaged(f"{member.name!r} is not a regular file")
            yield member.name, member.size, content

    def members(self) -> Iterator[tuple[str, int, IO[bytes]]]:
        """Yield each file of the data: its name, size and content."""
        for name, size, content in self._members():
            yield name.removeprefix(DATA), size, content
        while self.piece(self._unzipped):
            pass

    def close(self) -> None:
        """Close the file."""
        self._archive.close()
        self._file.close()
