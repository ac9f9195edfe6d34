"""A daemon's log file: written by the daemon itself, kept within bounds and read by us.

The daemon's standard output and error are the file, opened for appending, so that it keeps logging when the supervisor
is gone. Rotation therefore may not rename the file under it: the older part is copied to ``NAME.log.1`` and then cut
off the front. Where the file system can (ext4, xfs) that loses nothing, whatever is written meanwhile; elsewhere the
file is truncated after the copy, which can lose what is written between the two.
"""

from __future__ import annotations

import codecs
import ctypes
import errno
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

from neo_daemons.definitions import Log

from .broadcast import Broadcast

FALLOC_FL_COLLAPSE_RANGE = 0x08
"""fallocate(2), include/uapi/linux/falloc.h."""
CHUNK = 1 << 16
LONGEST_LINE = 8192
"""Bytes of a line that a tail shows; the rest of a longer one is left out."""


class DaemonLog:
    """The log of one daemon. Positions count all bytes that were ever in this file, also those that were rotated
    away, so that a follower keeps its place."""

    def __init__(self, path: Path, limits: Log) -> None:
        self.path = path
        self.limits = limits
        self.removed = 0
        """Bytes rotated away since this object was made."""
        self.method: str | None = None
        """How the last rotation was done: ``lossless`` or ``copy-truncate``."""
        self.rotated = Broadcast()

    def open(self) -> int:
        """A descriptor for a daemon to append to; the caller closes it.

        Raises:
            OSError: the file cannot be opened.
        """
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    @property
    def size(self) -> int:
        """Bytes in the file now; 0 if there is none."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    @property
    def end(self) -> int:
        """The position after the last byte."""
        return self.removed + self.size

    def read(self, position: int, limit: int = CHUNK) -> tuple[bytes, int]:
        """Up to `limit` bytes from `position`, and the position after them. What has been rotated away is skipped."""
        start = max(position - self.removed, 0)
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                data = file.read(limit)
        except FileNotFoundError:
            return b"", position
        return data, self.removed + start + len(data)

    def tail(self, lines: int, since: int | None = None) -> list[str]:
        """The last `lines` lines, not from before position `since`; where the log has just been rotated, they begin in
        the part before. Bytes that are no UTF-8 are replaced."""
        if not lines:
            return []
        data = self._before(b"", lines, self.path, max(since - self.removed, 0) if since is not None else 0)
        if self.limits.keep and (since is None or since < self.removed):
            # Cut at a block's bounds, not at a line's: only one after the other are the two complete.
            older, floor = self._numbered(1), 0
            if since is not None and older.exists():
                floor = max(older.stat().st_size - (self.removed - since), 0)
            data = self._before(data, lines, older, floor)
        found = data.decode("utf-8", "replace").splitlines()
        return [line[:LONGEST_LINE] for line in found[-lines:]]

    @staticmethod
    def _before(data: bytes, lines: int, path: Path, floor: int) -> bytes:
        """`data`, and before it as much of the end of a file as makes it so many lines."""
        limit = min(lines * LONGEST_LINE, 4_000_000)
        try:
            with path.open("rb") as file:
                start = file.seek(0, os.SEEK_END)
                while start > floor and data.count(b"\n") <= lines and len(data) < limit:
                    step = min(CHUNK, start - floor)
                    start -= step
                    file.seek(start)
                    data = file.read(step) + data
        except FileNotFoundError:
            pass
        return data

    async def follow(self, lines: int, poll_s: float = 0.1) -> AsyncIterator[str]:
        """The last `lines` lines, then what is written as it is written."""
        position = self.end
        last = self.tail(lines)
        if last:
            yield "\n".join(last) + "\n"
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a piece may end within a character
        while True:
            data, position = self.read(position)
            if data:
                if text := decoder.decode(data):
                    yield text
            else:
                await self.rotated.wait(poll_s)

    def rotate(self) -> bool:
        """Rotate if the file has outgrown its bounds; whether it did.

        Raises:
            OSError: it could not be rotated (a full disk, for one); the log is as it was.
        """
        size = self.size
        if size <= self.limits.max_bytes:
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
        self.rotated.notify()
        return True

    def _keep(self, descriptor: int, length: int) -> None:
        """Copy the first `length` bytes to the numbered files, in as many pieces as the bounds call for: a flood may
        have outrun us. A piece is smaller than twice ``max_bytes``."""
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
                while offset < end and (sent := os.sendfile(target.fileno(), descriptor, offset, end - offset)):
                    offset += sent
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
        """Whether this file system can cut off the front of a file that is being written."""
        if self.method is not None:
            return self.method == "lossless"
        return self._can_collapse(os.statvfs(self.path.parent).f_bsize)

    def _can_collapse(self, block: int) -> bool:
        """Tried on a file of our own, in the same directory: a failed attempt must not touch the log."""
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


_libc = ctypes.CDLL(None, use_errno=True)
