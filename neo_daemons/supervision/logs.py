"""A daemon's log file: the daemon writes it, and we rotate and read it.

The daemon's standard output and error are the file, opened for appending, so that it keeps logging when the supervisor
is gone. Rotation therefore must not rename the file: it copies the older part to ``NAME.log.1`` and then removes it
from the start of the file. Some file systems (ext4, xfs) do this without loss, whatever is written meanwhile. On others
the file is truncated after the copy (copy-truncate), which can lose what is written between the two.
"""

from __future__ import annotations

import codecs
import ctypes
import errno
import itertools
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from neo_daemons.definitions import Log

from .broadcast import Broadcast

FALLOC_FL_COLLAPSE_RANGE = 0x08
"""fallocate(2), include/uapi/linux/falloc.h."""
CHUNK = 1 << 16
COPIED = 1 << 20
"""Bytes that are copied at a time when a log is rotated."""
LOST = "was deleted or moved, and its daemon still writes to the old file"
BLOCK_BYTES = 512
"""The unit of st_blocks."""
REMEMBERED_BYTES = 64
SAID_AGAIN_S = 10.0
"""Minimum time between two remarks about a file that is repeatedly emptied, as some programs do to their own log."""
LONGEST_LINE = 8192
"""Maximum length of a line in a tail, in bytes; longer lines are cut."""


class DaemonLog:
    """The log of one daemon. Positions count all bytes that were ever in this file, including those that were
    rotated or emptied away, so that a follower keeps its place."""

    def __init__(self, path: Path, limits: Log) -> None:
        self.path = path
        self.limits = limits
        self.removed = 0
        """Bytes that were removed from this file since this object was created."""
        self.method: str | None = None
        """How the last rotation was done: ``lossless`` or ``copy-truncate``."""
        self.rotated = Broadcast()
        self.cuts = 0
        """How often another program emptied or replaced the file."""
        self.inode: int | None = None
        """Inode of the file that the daemon writes to, if known."""
        self._kept_to = 0
        """Position after the last byte of the newest rotated file."""
        self._seen: tuple[int, int, int] | None = None
        """Inode, size and modification time at the last check."""
        self._last = b""
        """The last bytes at that check: if they have changed, the file was emptied and has outgrown its old size."""
        self._missing = False

    def open(self) -> int:
        """Return a descriptor for a daemon to append to; the caller closes it.

        Raises:
            OSError: the file cannot be opened.
        """
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    @property
    def size(self) -> int:
        """The current size in bytes; 0 if the file is missing."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    @property
    def known_size(self) -> int | None:
        """The size in bytes at the last check; None if there was none. It asks nothing of the system."""
        return self._seen[1] if self._seen is not None else None

    @property
    def end(self) -> int:
        """The position after the last byte."""
        size = self.look()
        return self.removed + size

    @property
    def lost(self) -> bool:
        """Whether the daemon, if it runs, writes to a file that was deleted or moved, as of the last check."""
        if self.inode is None or self._seen is None:
            return False
        return self._missing or self._seen[0] != self.inode

    def look(self) -> int:
        """Check whether another program has emptied, deleted or replaced the file. Returns its size, as `size`."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            self._missing = self._seen is not None
            return 0
        except OSError:
            return 0
        self._missing = False
        seen = (found.st_ino, found.st_size, found.st_mtime_ns)
        if seen == self._seen:
            return found.st_size
        try:
            with self.path.open("rb", buffering=0) as file:
                if self._seen is not None and not self._goes_on(file.fileno(), seen, self._seen):
                    self.removed += self._seen[1]
                    self.cuts += 1
                start = max(seen[1] - REMEMBERED_BYTES, 0)
                self._last = os.pread(file.fileno(), seen[1] - start, start)
        except OSError:
            return found.st_size
        self._seen = seen
        return found.st_size

    def _goes_on(self, descriptor: int, now: tuple[int, int, int], before: tuple[int, int, int]) -> bool:
        if now[0] != before[0] or now[1] < before[1]:
            return False
        return os.pread(descriptor, len(self._last), before[1] - len(self._last)) == self._last

    def read(self, position: int, limit: int = CHUNK) -> tuple[bytes, int]:
        """Return up to `limit` bytes from `position`, and the position after them. Removed bytes are skipped."""
        self.look()
        path, first = self.path, self.removed
        if position < self._kept_to and self.limits.keep:
            older = self._numbered(1)
            if older_size := _size(older):
                path, first = older, self._kept_to - older_size
                limit = min(limit, self._kept_to - max(position, first))
        start = max(position - first, 0)
        try:
            with path.open("rb") as file:
                file.seek(start)
                data = file.read(limit)
                if data[:1] == b"\0":  # left by a writer that does not append, after the file was emptied
                    file.seek(start := _after_hole(file.fileno(), start))
                    data = file.read(limit)
        except FileNotFoundError:
            return b"", position
        return data.lstrip(b"\0"), first + start + len(data)

    def tail(self, lines: int, since: int | None = None, until: int | None = None) -> list[str]:
        """Return the last `lines` lines between the positions `since` and `until`, across a rotation. Bytes that are
        not UTF-8 are replaced."""
        if not lines:
            return []
        self.look()
        data = self._before(b"", lines, self.path, self.removed, since, until)
        if self.limits.keep and (since is None or since < self._kept_to):
            # Rotation cuts at a block, not at a line, so the two files are only complete when joined.
            older = self._numbered(1)
            data = self._before(data, lines, older, self._kept_to - _size(older), since, until)
        found = data.decode("utf-8", "replace").splitlines()
        return [line.lstrip("\0")[:LONGEST_LINE] for line in found[-lines:]]

    @staticmethod
    def _before(data: bytes, lines: int, path: Path, first: int, since: int | None, until: int | None) -> bytes:
        """Prepend to `data` the end of a file, until it has `lines` lines. The file's first byte has the position
        `first`."""
        limit = min(lines * LONGEST_LINE, 4_000_000)
        floor = max(since - first, 0) if since is not None else 0
        try:
            with path.open("rb") as file:
                start = file.seek(0, os.SEEK_END)
                if until is not None:
                    start = min(start, until - first)
                while start > floor and data.count(b"\n") <= lines and len(data) < limit:
                    step = min(CHUNK, start - floor)
                    start -= step
                    file.seek(start)
                    data = file.read(step) + data
        except FileNotFoundError:
            pass
        return data

    def remark(self) -> str | None:
        """Return a remark for readers if the file does not show all that the daemon writes."""
        self.look()
        if self.lost:
            return f"[neo-daemons: {self.path} {LOST}; restart the daemon to get a new log]"
        return f"[neo-daemons: {self.path} was deleted]" if self._missing else None

    async def follow(self, lines: int, poll_s: float = 0.1) -> AsyncIterator[str]:
        """Yield the last `lines` lines, then new output as it is written. A line of our own says where the file was
        emptied, deleted or replaced."""
        position = self.end
        cuts, said, said_at = self.cuts, self.remark(), -SAID_AGAIN_S
        last = self.tail(lines)
        if last or said:
            yield "".join(f"{line}\n" for line in (*last, *([said] if said else [])))
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a chunk may end within a character
        begun = False  # within a line
        while True:
            data, position = self.read(position)
            remarks = []
            if self.cuts != cuts:
                cuts = self.cuts
                if time.monotonic() - said_at > SAID_AGAIN_S:
                    said_at = time.monotonic()
                    remarks.append(f"[neo-daemons: {self.path} was emptied or replaced; what follows is new]")
            if (remark := self.remark()) != said:
                said = remark
                remarks += [remark] if remark is not None else []
            if remarks:
                text = "".join(f"{line}\n" for line in remarks)
                yield f"\n{text}" if begun else text
                begun = False
            if data:
                if text := decoder.decode(data):
                    begun = not text.endswith("\n")
                    yield text
            else:
                await self.rotated.wait(poll_s)

    def rotate(self) -> bool:
        """Rotate the file if it has outgrown its limit. Returns whether it did.

        Raises:
            OSError: it could not be rotated (a full disk, for example); the log is unchanged.
        """
        self.look()
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return False
        size = found.st_size
        # The space on disk counts: a writer that does not append leaves a hole after its file was emptied.
        if min(size, found.st_blocks * BLOCK_BYTES) <= self.limits.max_bytes:
            return False
        descriptor = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            block = os.fstatvfs(descriptor).f_bsize
            # The kernel wants whole blocks, and less than the whole file.
            removable = (size - 1) // block * block
            if removable and self.is_lossless():
                self._keep(descriptor, removable)
                self._fallocate(descriptor, removable)
                self.method, gone = "lossless", removable
            else:
                self._keep(descriptor, size)
                os.ftruncate(descriptor, 0)
                self.method, gone = "copy-truncate", size
        finally:
            os.close(descriptor)
        self.removed += gone
        self._kept_to = self.removed
        self._seen = None
        self.look()
        self.rotated.notify()
        return True

    def _keep(self, descriptor: int, length: int) -> None:
        """Copy the first `length` bytes to the numbered files, in several pieces if a flood has outrun us. A piece is
        smaller than twice ``max_bytes``."""
        if self.limits.keep == 0:
            return
        count = max(length // self.limits.max_bytes, 1)
        bounds = [length * number // count for number in range(count + 1)]
        for start, end in list(itertools.pairwise(bounds))[-self.limits.keep :]:
            self._keep_piece(descriptor, start, end - start)

    def _keep_piece(self, descriptor: int, start: int, length: int) -> None:
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        try:
            with temporary.open("wb") as target:
                offset, end = start, start + length
                # Not by sendfile, which writes to no files on macOS.
                while offset < end and (piece := os.pread(descriptor, min(COPIED, end - offset), offset)):
                    target.write(piece)
                    offset += len(piece)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        for number in range(self.limits.keep - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        temporary.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def is_lossless(self) -> bool:
        """Whether this file system can remove the start of a file while it is being written."""
        if self.method is not None:
            return self.method == "lossless"
        return self._can_collapse(os.statvfs(self.path.parent).f_bsize)

    def _can_collapse(self, block: int) -> bool:
        """Try it on our own file in the same directory: a failed attempt must not touch the log."""
        probe = self.path.with_name(f".{self.path.name}.probe.tmp")
        try:
            with probe.open("wb") as file:
                file.write(b"\0" * (2 * block))
                file.flush()
                self._fallocate(file.fileno(), block)
        except OSError:
            return False
        finally:
            probe.unlink(missing_ok=True)
        return True

    @staticmethod
    def _fallocate(descriptor: int, length: int) -> None:
        fallocate = getattr(_libc, "fallocate", None)
        if fallocate is None:
            raise OSError(errno.EOPNOTSUPP, "no fallocate")
        arguments = (ctypes.c_int(descriptor), FALLOC_FL_COLLAPSE_RANGE, ctypes.c_int64(0), ctypes.c_int64(length))
        if fallocate(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _after_hole(descriptor: int, start: int) -> int:
    try:
        return os.lseek(descriptor, start, os.SEEK_DATA)
    except (OSError, AttributeError):
        return start


_libc = ctypes.CDLL(None, use_errno=True)
