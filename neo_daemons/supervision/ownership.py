"""Decides what belongs to a state directory: which records, which marks, which processes.

Everybody who adopts, ends, reaps, clears or reports asks here. A path proves nothing: a project is copied, moved,
restored from a backup or mounted elsewhere while its daemons run. These are the proofs, each enough by itself:

* A process holds a lock in a file of this directory: the kernel says so, whatever the process did to its environment.
* Its mark names this directory by path, device and inode, or a run that a record of this directory names. Device and
  inode alone do not: the next directory that is made anywhere may get the inode of one that was deleted.
* Its mark names this path, and it keeps its lock or its log open, which were at this path and have been deleted: then
  the directory that it was started for is no more, and it is nobody else's.

A record counts only in the directory in which it was written.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path

from neo_daemons import locks, records
from neo_daemons.records import DaemonRecord, DamagedRecord, Directory
from neo_daemons.state_dir import StateDir

from .platform import Mark, NotOurs, Platform, Process


class Ownership:
    """What belongs to one state directory. The directory need not exist any more."""

    def __init__(self, platform: Platform, state_dir: StateDir) -> None:
        self._platform = platform
        self.state_dir = state_dir
        self._directories: list[Directory] = []
        """Where this path has led while we looked: more than one if the directory was deleted and made again."""
        self._tokens: set[str] = set()
        """Of the runs that records of this directory name."""
        self.look_again()

    @property
    def directory(self) -> Directory:
        """The state directory as it was last seen.

        Raises:
            FileNotFoundError: there is none.
        """
        if not self._directories:
            raise FileNotFoundError(2, "No such file or directory", str(self.state_dir.path))
        return self._directories[-1]

    def look_again(self) -> None:
        """See which directory the path leads to now, and what its records name."""
        here = Directory.of(self.state_dir.path)
        if here is None:
            return
        if not self._directories or self._directories[-1] != here:
            self._directories.append(here)
        for record in self._records():
            self._tokens.add(record.token)

    def _records(self) -> Iterator[DaemonRecord]:
        for path in self.state_dir.daemons.glob("*.json"):
            try:
                record = records.read(path, DaemonRecord)
            except (DamagedRecord, OSError):
                continue
            if record is not None and self.counts(record):
                yield record

    def counts(self, record: DaemonRecord) -> bool:
        """Whether a record was written here; else it is a copy, and says nothing of what runs here."""
        return record.directory is not None and any(record.directory.is_same(one) for one in self._directories)

    # Marks

    def mark(self, token: str, name: str) -> Mark:
        """The mark of a process that is about to be started here."""
        return Mark(token, name, self.directory)

    def owns_mark(self, mark: Mark) -> bool:
        """Whether a mark by itself proves that its process belongs here."""
        return mark.directory in self._directories or mark.token in self._tokens

    def _owns_by_mark(self, pid: int, mark: Mark) -> bool:
        if self.owns_mark(mark):
            return True
        # An earlier directory at this path: deleted, or moved away together with its daemons?
        files = (self.state_dir.daemon_lock(mark.name), self.state_dir.daemon_log(mark.name))
        return mark.state_dir == str(self.state_dir.path) and self._platform.keeps_deleted(pid, files)

    # Processes

    def marked(self, name: str | None = None, known: Container[int] = frozenset()) -> list[tuple[Process, Mark]]:
        """The living processes that belong here by their mark: of one daemon, or of all. The caller closes them."""
        path = str(self.state_dir.path)

        def may_be_ours(mark: Mark) -> bool:
            return name in (None, mark.name) and (mark.state_dir == path or self.owns_mark(mark))

        found = []
        for process, mark in self._platform.marked(may_be_ours, known):
            if self._owns_by_mark(process.pid, mark):
                found.append((process, mark))
            else:
                process.close()
        return found

    def lock_holders(self, name: str) -> list[Process]:
        """The living processes that hold the lock of a daemon. The caller closes them."""
        return self._platform.lock_holders(self.state_dir.daemon_lock(name)) if self.is_here() else []

    def is_lock_free(self, name: str) -> bool:
        """Whether nobody holds the lock of a daemon, so that no process of it lives that has kept it."""
        if not self.is_here():
            return True  # the marks must do
        try:
            lock = self._platform.lock(self.state_dir.daemon_lock(name))
        except FileNotFoundError:  # its directory has just been deleted
            return True
        if lock is not None:
            lock.release()
        return lock is not None

    def is_here(self) -> bool:
        """Whether the path still leads to our directory: it may have been deleted, and made anew by somebody else."""
        here = Directory.of(self.state_dir.path)
        return here is not None and any(here.is_same(one) for one in self._directories)

    def of_run(self, record: DaemonRecord) -> list[Process]:
        """The living processes of a recorded run, by its mark or, where they have lost that, by the lock that they
        inherited; the lowest pid first. The caller closes them."""
        found = [process for process, _ in self._platform.marked(lambda mark: mark.token == record.token)]
        return sorted(found or self.lock_holders(record.name), key=lambda process: process.pid)

    def owns(self, pid: int, name: str) -> bool:
        """Whether a process belongs to a daemon of this directory."""
        mark = self._platform.mark_of(pid)
        if mark is not None:
            return mark.name == name and self._owns_by_mark(pid, mark)
        holders = self.lock_holders(name)
        for holder in holders:
            holder.close()
        return any(holder.pid == pid for holder in holders)

    def find_living(self, record: DaemonRecord) -> tuple[Process | None, str | None]:
        """The process that a record of this directory speaks of, if it lives and is proven to be that; else None and,
        where the record speaks of a process that is not ours, what was found there.

        Raises:
            Unverifiable: a process has that pid and cannot be looked at: unknown is not dead.
        """
        origin = records.origin(record, self.state_dir.path)
        if origin is not None:
            return None, f"the record is a copy: it was written in {origin}"
        platform = self._platform
        if record.pid is None or record.identity is None:
            # A crash between intent and fact: the mark leads to what was spawned, its session's leader first.
            found = [marked for marked, _ in platform.marked(lambda mark: mark.token == record.token)]
            found.sort(key=lambda marked: marked.pid)
            for stray in found[1:]:
                stray.close()
            return (found[0], None) if found else (None, None)
        if record.identity.boot_id != platform.boot_id():
            return None, None
        try:
            process = platform.open(record.pid, record.identity)
        except NotOurs as error:
            return None, f"recorded pid {record.pid} is not the daemon: {error}"
        if process is None:
            return None, None
        mark = platform.mark_of(record.pid)
        # A program may overwrite its environment; then the lock that it inherited speaks for it. That somebody holds
        # the lock proves nothing: it may be the daemon itself, and the record be wrong about who that is.
        if (mark is not None and mark.token == record.token) or self.owns(record.pid, record.name):
            return process, None
        process.close()
        description = platform.describe(record.pid)
        return None, f"recorded pid {record.pid} ({description}) does not carry the daemon's mark"

    # Files

    def held_locks(self) -> list[Path]:
        """The locks in the state directory that somebody holds: while there is one, nothing here may be deleted, for
        it proves whose that process is."""
        paths = [self.state_dir.lock, *self.state_dir.daemons.glob("*.lock")]
        return [path for path in paths if locks.is_held(path)]
