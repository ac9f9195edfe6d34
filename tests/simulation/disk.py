"""The disk of a simulated world: it can be full, a kill or a power cut can come between any two steps."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import random
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self
from unittest import mock

from neo_daemons import files

from .incarnations import Killed, running


class Disk:
    """The files of supervisors. After a power cut, those that were synced are left, and of the others anything."""

    def __init__(self, rng: random.Random, directories: Sequence[Path], effect: Callable[[str], None]) -> None:
        self._rng = rng
        self._directories = directories
        self._effect = effect
        self.full = False
        self._synced: set[int] = set()
        self._at_risk: dict[Path, tuple[bytes | None, bool]] = {}
        """File → what it was when its directory was last synced, and whether its own content is on the disk."""
        self.torn: set[bytes] = set()
        """What a power cut has left of some."""

    def sync(self, descriptor: int) -> None:
        entry = os.fstat(descriptor)
        if not stat.S_ISDIR(entry.st_mode):
            self._synced.add(entry.st_ino)
            return
        directory = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        for path, (_, whole) in list(self._at_risk.items()):
            if path.parent == directory and whole:
                del self._at_risk[path]

    def replacing(self, source: Path, target: Path) -> None:
        self._at_risk[target] = (self._before(target), source.stat().st_ino in self._synced)
        self._synced.discard(source.stat().st_ino)

    def unlinking(self, path: Path) -> None:
        if path.exists() and path.suffix == ".json":
            self._at_risk[path] = (self._before(path), True)

    def _before(self, path: Path) -> bytes | None:
        if path in self._at_risk:
            return self._at_risk[path][0]
        return path.read_bytes() if path.exists() else None

    def cut(self) -> None:
        for path, (before, whole) in self._at_risk.items():
            if self._rng.random() < 0.4:
                if before is None:
                    path.unlink(missing_ok=True)
                else:
                    path.write_bytes(before)
            elif not whole and path.exists() and self._rng.random() < 0.5:
                content = path.read_bytes()
                left = content[: self._rng.choice((0, self._rng.randrange(len(content) + 1)))]
                path.write_bytes(left)
                self.torn.add(left)
        self._at_risk.clear()

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        """Have all files written through this disk."""
        replace, exchange, unlink, write, opened = os.replace, files.exchange, os.unlink, os.write, pathlib.Path.open

        def sim_replace(source: Any, target: Any) -> None:
            self._effect("before-replace")
            if Path(target).parent in self._directories:
                self.replacing(Path(source), Path(target))
            replace(source, target)
            self._effect("after-replace")

        def sim_exchange(one: str | Path, other: Path) -> bool:
            self._effect("before-exchange")
            if other.parent in self._directories and other.exists():
                self.replacing(Path(one), other)
            done = exchange(one, other)
            self._effect("after-exchange")
            return done

        def sim_unlink(path: Any, **options: Any) -> None:
            self._effect("before-unlink")
            if running.get() is not None and Path(path).parent in self._directories:
                self.unlinking(Path(path))
            unlink(path, **options)
            self._effect("after-unlink")

        def sim_write(descriptor: int, data: bytes) -> int:
            if running.get() is None:
                return write(descriptor, data)
            if self.full:
                if len(data) > 8 and self._rng.random() < 0.3:
                    return write(descriptor, data[:4])
                raise _no_space()
            try:
                self._effect("write")
            except Killed:
                assert running.get() is not None
                if self._rng.random() < 0.3:
                    write(descriptor, data[: self._rng.randrange(len(data) + 1)])
                raise
            return write(descriptor, data)

        disk = self

        class Cut:
            """A file that may be cut off, by a kill or a full disk."""

            def __init__(self, file: Any) -> None:
                self._file = file

            def write(self, data: bytes) -> int:
                if disk.full:
                    self._file.write(data[: disk._rng.randrange(len(data) + 1)])
                    raise _no_space()
                try:
                    disk._effect("file-write")
                except Killed:
                    self._file.write(data[: disk._rng.randrange(len(data) + 1)])
                    self._file.flush()
                    raise
                return int(self._file.write(data))

            def __getattr__(self, name: str) -> Any:
                return getattr(self._file, name)

            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: Any) -> None:
                self._file.close()

        def sim_open(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
            if running.get() is None or not set(mode) & set("wxa"):
                return opened(path, mode, *args, **options)
            self._effect("open")
            return Cut(opened(path, mode, *args, **options))

        with (
            mock.patch.object(os, "replace", sim_replace),
            mock.patch.object(files, "exchange", sim_exchange),
            mock.patch.object(os, "unlink", sim_unlink),
            mock.patch.object(os, "write", sim_write),
            mock.patch.object(os, "fsync", self.sync),
            mock.patch.object(pathlib.Path, "open", sim_open),
        ):
            yield


def _no_space() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")
