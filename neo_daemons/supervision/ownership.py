"""Decide which records, marks and processes belong to a state directory.

All code that adopts, stops, reaps, clears or reports processes asks here. A path proves nothing: a project may be
copied, moved, restored from a backup or mounted elsewhere while its daemons run. Each of these is a proof by itself:

* A process holds a lock on a file of this directory. The kernel reports this, whatever the process did to its
  environment.
* Its mark names this directory by path, device and inode, or has a token that a record of this directory names. Device
  and inode alone prove nothing: a new directory anywhere may get the inode of a deleted one.
* A mark in a process of another user proves only that its run is ours if its token is one of ours: that user could not
  know it otherwise. Only root sees such processes.
* Its mark names this path, and it holds its lock or its log open, which were at this path and have been deleted: then
  its own directory no longer exists, and no other directory can claim it.

A record is valid only in the directory in which it was written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from neo_daemons import locks, records
from neo_daemons.records import DaemonRecord, DamagedRecord, Directory, DoneRecord, SupervisorRecord
from neo_daemons.state_dir import StateDir

from .census import Marks
from .platform import Mark, NotOurs, Platform, Process, Unverifiable


class Ownership:
    """Decide what belongs to one state directory, which need not exist any more."""

    def __init__(self, platform: Platform, state_dir: StateDir) -> None:
        self._platform = platform
        self.state_dir = state_dir
        self._directories: list[Directory] = []
        """All directories seen at this path: more than one if it was deleted and recreated."""
        self._tokens: set[str] = set()
        """Tokens that records of this directory name: of runs, and of the probes of a supervisor."""
        self._expected: dict[str, str] = {}
        """Daemon of another user → the token of its latest run."""
        self.look_again()

    @property
    def directory(self) -> Directory:
        """The state directory as last seen.

        Raises:
            FileNotFoundError: it was never seen.
        """
        if not self._directories:
            raise FileNotFoundError(2, "No such file or directory", str(self.state_dir.path))
        return self._directories[-1]

    def look_again(self) -> None:
        """Check which directory is at the path now, and read its records."""
        here = Directory.of(self.state_dir.path)
        if here is None:
            return
        if not self._directories or self._directories[-1] != here:
            self._directories.append(here)
        for record in self._records():
            self._tokens.add(record.token)
        with contextlib.suppress(DamagedRecord, OSError):
            supervisor = records.read(self.state_dir.record, SupervisorRecord)
            if supervisor is not None and self.counts(supervisor):
                self._tokens.add(supervisor.token)

    def _records(self) -> Iterator[DaemonRecord]:
        for path in self.state_dir.daemons.glob("*.json"):
            try:
                record = records.read(path, DaemonRecord)
            except (DamagedRecord, OSError):
                continue
            if record is not None and self.counts(record):
                yield record

    def counts(self, record: DaemonRecord | DoneRecord | SupervisorRecord) -> bool:
        """Whether a record was written here; else it is a copy and does not apply here."""
        return record.directory is not None and any(record.directory.is_same(one) for one in self._directories)

    # Marks

    def mark(self, token: str, name: str) -> Mark:
        """Return the mark for a process that is about to be started here."""
        return Mark(token, name, self.directory)

    def expect(self, mark: Mark) -> None:
        """Note the mark of a process that is about to be started here as another user."""
        self._expected[mark.name] = mark.token

    def owns_mark(self, mark: Mark) -> bool:
        """Whether a mark by itself proves that its process belongs here."""
        if mark.token in self._tokens or mark.token == self._expected.get(mark.name):
            return True
        return not mark.foreign and mark.directory in self._directories

    def _owns_by_mark(self, pid: int, mark: Mark) -> bool:
        if mark.foreign or self.owns_mark(mark):
            return self.owns_mark(mark)
        # An earlier directory at this path: deleted, or moved away together with its daemons?
        files = (self.state_dir.daemon_lock(mark.name), self.state_dir.daemon_log(mark.name))
        return mark.state_dir == str(self.state_dir.path) and self._platform.keeps_deleted(pid, files)

    # Processes

    def marked(self) -> list[tuple[Process, Mark]]:
        """Return the running processes whose mark belongs here. The caller closes them."""
        path = str(self.state_dir.path)
        found = []
        for process, mark in self._platform.marked(lambda mark: mark.state_dir == path or self.owns_mark(mark)):
            if self._owns_by_mark(process.pid, mark):
                found.append((process, mark))
            else:
                process.close()
        return found

    def of_daemon(self, name: str, marks: Marks) -> list[Process]:
        """Return the running processes of a daemon of this directory, among those with these marks. The caller closes
        them."""
        wanted = ((pid, mark) for pid, mark in marks.items() if mark.name == name and self._owns_by_mark(pid, mark))
        found = [self._platform.open_marked(pid, mark) for pid, mark in wanted]
        return [process for process in found if process is not None]

    def lock_holders(self, name: str) -> list[Process]:
        """Return the running processes that are seen to hold the lock of a daemon. The caller closes them. Where the
        system does not tell, `is_lock_free` still says whether there is one."""
        return self._lock_holders(name) or []

    def _lock_holders(self, name: str) -> list[Process] | None:
        return self._platform.lock_holders(self.state_dir.daemon_lock(name)) if self.is_here() else []

    def is_lock_free(self, name: str) -> bool:
        """Whether the lock of a daemon is free, so that no process of it runs that inherited the lock."""
        if not self.is_here():
            return True  # only the marks can tell
        try:
            lock = self._platform.lock(self.state_dir.daemon_lock(name))
        except FileNotFoundError:  # its directory has just been deleted
            return True
        if lock is not None:
            lock.release()
        return lock is not None

    def is_here(self) -> bool:
        """Whether our directory is still at the path: it may have been deleted and replaced by another one."""
        here = Directory.of(self.state_dir.path)
        return here is not None and any(here.is_same(one) for one in self._directories)

    def of_run(self, record: DaemonRecord, marks: Marks) -> list[Process]:
        """Return the running processes of a recorded run, lowest pid first: by these marks or, if they have lost their
        mark, by the lock that they inherited. The caller closes them."""
        opened = [self._platform.open_marked(pid, mark) for pid, mark in marks.items() if mark.token == record.token]
        found = [process for process in opened if process is not None]
        if not found and not self.is_lock_free(record.name):
            found = self.lock_holders(record.name)
        return sorted(found, key=lambda process: process.pid)

    def owns(self, pid: int, name: str) -> bool:
        """Whether a process is seen to belong to a daemon of this directory."""
        return self._owns(pid, name) is True

    def _owns(self, pid: int, name: str) -> bool | None:
        """Return whether a process belongs to a daemon of this directory; None if it has no mark, and the system does
        not tell who holds the lock that it may have inherited."""
        mark = self._platform.mark_of(pid)
        if mark is not None:
            return mark.name == name and self._owns_by_mark(pid, mark)
        holders = self._lock_holders(name)
        if holders is None:
            return False if self.is_lock_free(name) else None
        for holder in holders:
            holder.close()
        return any(holder.pid == pid for holder in holders)

    def find_living(self, record: DaemonRecord) -> tuple[Process | None, str | None]:
        """Return the running process that a record of this directory describes, if that is proven; else None and, if
        the recorded pid belongs to another process, a description of it.

        Raises:
            Unverifiable: the process with that pid cannot be identified. Unknown is not dead.
        """
        if record.directory is None:
            return None, f"the record {records.UNPLACED}"
        origin = records.origin(record, self.state_dir.path)
        if origin is not None:
            return None, f"the record is a copy: it was written in {origin}"
        platform = self._platform
        if record.pid is None or record.identity is None:
            # A crash before the pid was recorded: the mark leads to the spawned processes, the session leader first.
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
        # A program may overwrite its environment; then the lock that it inherited proves it. That some process holds
        # the lock is not enough: it may be the daemon itself, and the recorded pid wrong.
        owned = True if mark is not None and mark.token == record.token else self._owns(record.pid, record.name)
        if owned:
            return process, None
        process.close()
        if owned is None:
            raise Unverifiable(
                f"pid {record.pid}: its environment shows no mark, and this system does not tell who holds "
                f"{self.state_dir.daemon_lock(record.name)}, which is held"
            )
        description = platform.describe(record.pid)
        return None, f"recorded pid {record.pid} ({description}) does not carry the daemon's mark"

    # Files

    def held_locks(self) -> list[Path]:
        """Return the locks in the state directory that are held. While there is one, nothing here may be deleted,
        because it proves who owns the lock holder."""
        paths = [self.state_dir.lock, *self.state_dir.daemons.glob("*.lock")]
        return [path for path in paths if locks.is_held(path)]
