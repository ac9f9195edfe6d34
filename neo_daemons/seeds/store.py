"""Keeps sealed seeds in the user's cache directory, for all projects.

A seed is the directory ``NAME-KEY``: its manifest and its ``data``. It is written aside and renamed when it is whole,
so a kill at any step leaves nothing that is used.

Only the holder of the lock of a name builds seeds of that name. Whoever uses a seed holds a shared lock on its
manifest: such a seed is not removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from neo_daemons.files import write_whole
from neo_daemons.unpatched import Unpatched

from . import copying, manifest
from .manifest import Manifest, SeedError

MANIFEST = "manifest.json"
DATA = "data"
KEY_DIGITS = 16
KEY = "[0-9a-f]" * KEY_DIGITS
"""The pattern of a key for `glob`: the name of one seed may begin with that of another."""
NAME_PATTERN = r"[a-z0-9][a-z0-9_-]{0,59}\Z"
SEALED = re.compile(rf"(?P<name>[a-z0-9][a-z0-9_-]*)-[0-9a-f]{{{KEY_DIGITS}}}\Z")
PARTIAL = re.compile(rf"\.(?P<name>[a-z0-9][a-z0-9_-]*)-{KEY}\.partial\Z")
MAX_BYTES = 4_000_000_000
MAX_AGE_S = 30 * 86_400.0
_now = functools.partial(time.clock_gettime, time.CLOCK_REALTIME)
"""`time.time`, whatever a test has put in its place."""


class Held:
    """A seed in use: it stays in the store until `close`, or the death of this process."""

    def __init__(self, path: Path, contents: Manifest, descriptor: int) -> None:
        self.path = path
        self.manifest = contents
        self._descriptor = descriptor

    def clone(self, target: Path) -> copying.How:
        """Make `target`, which is absent or an empty directory, a clone of the data.

        Raises:
            SeedError: it cannot be written.
        """
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return copying.clone(self.path / DATA, target)
        except OSError as error:
            raise SeedError(
                f"cannot clone the seed {self.manifest.name} to {target}: {manifest.explain(error, target)}"
            ) from None

    def close(self) -> None:
        """Release the seed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Limits(Struct, frozen=True):
    """How much is kept. The seeds that were not used for longest are removed first, and never one in use."""

    max_bytes: int = MAX_BYTES
    max_age_s: float = MAX_AGE_S
    """Since the last use."""


class Store:
    """The sealed seeds of one user.

    Args:
        root: the directory; it is created when something is sealed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextlib.contextmanager
    def building(self, name: str) -> Iterator[None]:
        """Wait for the lock of a name and hold it: nobody else builds a seed of it.

        Raises:
            SeedError: the directory cannot be written.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = self._open_lock(name)
        except OSError as error:
            raise SeedError(
                f"cannot write {self.root}: {error.strerror}; set NEO_DAEMONS_CACHE_DIR to a writable directory"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._sweep(name)
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # a forked child may have the descriptor, too
            os.close(lock)

    def _open_lock(self, name: str) -> int:
        """Open the lock file of a name. It is never removed: that would split those who wait for it."""
        return os.open(self.root / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def _sweep(self, name: str) -> None:
        """Remove what killed builders of a name have left. The caller holds its lock."""
        for left in (*self.root.glob(f".{name}-{KEY}.partial"), *self.root.glob(".trash-*")):
            shutil.rmtree(left, ignore_errors=True)

    def hold(self, name: str, key: str, *, verified: bool = False) -> Held | str | None:
        """Return the seed, held and verified; None if there is none, or what is wrong with it. The caller closes it.

        Args:
            verified: another process of the same run has just verified it.

        Raises:
            SeedError: it cannot be read.
        """
        path = self.root / f"{name}-{key}"
        try:
            descriptor = self._hold(path)
            if descriptor is None:
                return None
            try:
                contents = manifest.read(path / MANIFEST)
                wrong = None if verified else manifest.difference(contents, path / DATA)
                if wrong is None:
                    held = Held(path, contents, descriptor)
                    descriptor = -1
                    return held
                return wrong
            except SeedError as error:
                return str(error)
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
        except FileNotFoundError as error:
            return f"{error.filename} is missing"
        except OSError as error:
            raise SeedError(f"cannot read the seed {path}: {error.strerror}; remove it: rm -r {path}") from None

    def _hold(self, path: Path) -> int | None:
        """Take the shared lock of a seed and note its use; None if there is none, or it is being removed."""
        try:
            descriptor = os.open(path / MANIFEST, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            if path.is_dir():
                raise
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(path / MANIFEST), os.fstat(descriptor)):
                os.utime(descriptor, (_now(), _now()))
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def seal(self, source: Path, **described: object) -> Held:
        """Seal a copy of a directory as the seed of a manifest's `name` and `key`. Call it within `building`.

        Args:
            described: the other fields of its `Manifest`.

        Raises:
            SeedError: it cannot be written.
        """
        name = f"{described['name']}-{described['key']}"
        partial, path = self.root / f".{name}.partial", self.root / name
        try:
            found = manifest.describe(source)
            contents = Manifest(
                files=found.files,
                directories=found.directories,
                links=found.links,
                made_at=_now(),
                **described,  # type: ignore[arg-type]
            )
            encoded = manifest.encode(contents, source)
            partial.mkdir(mode=0o700)
            copying.copy_tree(source, partial / DATA)
            wrong = manifest.difference(contents, partial / DATA)
            if wrong is not None:
                raise SeedError(f"cannot seal {source}: {wrong} while it was copied; a process still writes there")
            write_whole(partial / MANIFEST, encoded, sync=True)
            self.discard(path)  # a damaged one
            partial.rename(path)
        except OSError as error:
            remedy = "free space there, or set NEO_DAEMONS_CACHE_DIR to another directory"
            raise SeedError(f"cannot write {error.filename or partial}: {error.strerror}; {remedy}") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        descriptor = self._hold(path)
        if descriptor is None:
            raise SeedError(f"{path} was removed by another process; try again")
        return Held(path, contents, descriptor)

    def discard(self, path: Path) -> None:
        """Remove a directory of the store: at once from its place, then from the disk."""
        trash = self.root / f".trash-{Unpatched.urandom(4).hex()}"
        with contextlib.suppress(FileNotFoundError):
            path.rename(trash)
            shutil.rmtree(trash, ignore_errors=True)

    def evict(self, limits: Limits) -> list[str]:
        """Remove what exceeds the limits, and what killed builders have left. Return the names of the removed seeds."""
        self._sweep_all()
        kept, removed, total = list[tuple[float, int, Path]](), list[str](), 0
        for path in self.root.glob("*"):
            if SEALED.match(path.name) and path.is_dir():
                try:
                    size, used = manifest.read(path / MANIFEST).size, (path / MANIFEST).stat().st_mtime
                except (OSError, SeedError):
                    size, used = 0, 0.0  # useless
                kept.append((used, size, path))
                total += size
        for used, size, path in sorted(kept):
            if (total > limits.max_bytes or _now() - used > limits.max_age_s) and self._evict(path):
                removed.append(path.name)
                total -= size
        return removed

    def _sweep_all(self) -> None:
        for left in self.root.glob(".trash-*"):
            shutil.rmtree(left, ignore_errors=True)
        for name in {match["name"] for path in self.root.glob(".*.partial") if (match := PARTIAL.match(path.name))}:
            with contextlib.suppress(OSError):
                lock = self._open_lock(name)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._sweep(name)
                finally:
                    fcntl.flock(lock, fcntl.LOCK_UN)  # as in `building`
                    os.close(lock)

    def _evict(self, path: Path) -> bool:
        """Remove a seed unless it is, or may be, in use."""
        descriptor = -1
        try:
            # NFS grants an exclusive lock only for writing.
            descriptor = os.open(path / MANIFEST, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            pass  # nobody can hold it
        except OSError:
            return False
        try:
            if descriptor >= 0:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not os.path.samestat(os.stat(path / MANIFEST), os.fstat(descriptor)):
                    return False  # it was built again just now
            self.discard(path)
        except OSError:
            return False
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return True
