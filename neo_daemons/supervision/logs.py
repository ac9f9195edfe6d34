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
import time
from collections.abc import AsyncIterator
from pathlib import Path

from neo_daemons.definitions import Log

from .broadcast import Broadcast

FALLOC_FL_COLLAPSE_RANGE = 0x08
"""fallocate(2), include/uapi/linux/falloc.h."""
CHUNK = 1 << 16
LOST = "was deleted or moved, and its daemon still writes to the old file"
BLOCK_BYTES = 512
"""The unit of st_blocks."""
REMEMBERED_BYTES = 64
SAID_AGAIN_S = 10.0
"""A file that is emptied again and again (some programs do that to their own log) is not told each time."""
LONGEST_LINE = 8192
"""Bytes of a line that a tail shows; the rest of a longer one is left out."""


class DaemonLog:
    """The log of one daemon. Positions count all bytes that were ever in this file, also those that were rotated
    away or that somebody removed by emptying the file, so that a follower keeps its place."""

    def __init__(self, path: Path, limits: Log) -> None:
        self.path = path
        self.limits = limits
        self.removed = 0
        """Bytes that have gone from this file since this object was made."""
        self.method: str | None = None
        """How the last rotation was done: ``lossless`` or ``copy-truncate``."""
        self.rotated = Broadcast()
        self.cuts = 0
        """How often the file was found to have begun anew, and not by us: emptied, or another one in its place."""
        self.inode: int | None = None
        """Of the file that the daemon writes to, as far as is known."""
        self._kept_to = 0
        """Position after the last byte of the newest older file."""
        self._seen: tuple[int, int, int] | None = None
        """Inode, size and time of change, as last looked at."""
        self._last = b""
        """The last bytes then: if they are not where they were, the file has begun anew and outgrown its old size."""
        self._missing = False

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
        self.look()
        return self.removed + self.size

    @property
    def lost(self) -> bool:
        """The daemon, while it lives, writes to a file that is not here any more: it was deleted or moved away. As it
        was at the last look."""
        if self.inode is None or self._seen is None:
            return False
        return self._missing or self._seen[0] != self.inode

    def look(self) -> None:
        """See what others have done to the file: emptied it, deleted it, put another one in its place."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._missing = self._seen is not None
            return
        except OSError:
            return
        self._missing = False
        seen = (found.st_ino, found.st_size, found.st_mtime_ns)
        if seen == self._seen:
            return
        try:
            with self.path.open("rb", buffering=0) as file:
                if self._seen is not None and not self._goes_on(file.fileno(), seen, self._seen):
                    self.removed += self._seen[1]
                    self.cuts += 1
                start = max(seen[1] - REMEMBERED_BYTES, 0)
                self._last = os.pread(file.fileno(), seen[1] - start, start)
        except OSError:
            return
        self._seen = seen

    def _goes_on(self, descriptor: int, now: tuple[int, int, int], before: tuple[int, int, int]) -> bool:
        if now[0] != before[0] or now[1] < before[1]:
            return False
        return os.pread(descriptor, len(self._last), before[1] - len(self._last)) == self._last

    def read(self, position: int, limit: int = CHUNK) -> tuple[bytes, int]:
        """Up to `limit` bytes from `position`, and the position after them. What is no longer there is skipped."""
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
                if data[:1] == b"\0":  # left by a writer that does not append, where the file was emptied under it
                    file.seek(start := _after_hole(file.fileno(), start))
                    data = file.read(limit)
        except FileNotFoundError:
            return b"", position
        return data.lstrip(b"\0"), first + start + len(data)

    def tail(self, lines: int, since: int | None = None, until: int | None = None) -> list[str]:
        """The last `lines` lines, not from before position `since` nor from after `until`; where the log has just
        been rotated, they begin in the part before. Bytes that are no UTF-8 are replaced."""
        if not lines:
            return []
        self.look()
        data = self._before(b"", lines, self.path, self.removed, since, until)
        if self.limits.keep and (since is None or since < self._kept_to):
            # Cut at a block's bounds, not at a line's: only one after the other are the two complete.
            older = self._numbered(1)
            data = self._before(data, lines, older, self._kept_to - _size(older), since, until)
        found = data.decode("utf-8", "replace").splitlines()
        return [line.lstrip("\0")[:LONGEST_LINE] for line in found[-lines:]]

    @staticmethod
    def _before(data: bytes, lines: int, path: Path, first: int, since: int | None, until: int | None) -> bytes:
        """`data`, and before it as much of the end of a file, whose first byte has the position `first`, as makes it
        so many lines."""
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
        """What a reader must know where the lines are not all that the daemon writes."""
        self.look()
        if self.lost:
            return f"[neo-daemons: {self.path} {LOST}; restart it to have a log again]"
        return f"[neo-daemons: {self.path} was deleted]" if self._missing else None

    async def follow(self, lines: int, poll_s: float = 0.1) -> AsyncIterator[str]:
        """The last `lines` lines, then what is written as it is written. A line of our own says where the file was
        emptied, deleted or replaced meanwhile."""
        position = self.end
        cuts, said, said_at = self.cuts, self.remark(), -SAID_AGAIN_S
        last = self.tail(lines)
        if last or said:
            yield "".join(f"{line}\n" for line in (*last, *([said] if said else [])))
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a piece may end within a character
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
        """Rotate if the file has outgrown its bounds; whether it did.

        Raises:
            OSError: it could not be rotated (a full disk, for one); the log is as it was.
        """
        self.look()
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return False
        size = found.st_size
        # What it takes of the disk: a writer that does not append leaves a hole where its file was emptied.
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
