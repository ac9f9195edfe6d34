"""Keeps a supervisor findable: its state directory, its lock, its record, and the records of its daemons."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from neo_daemons.records import SupervisorRecord
from neo_daemons.state_dir import StateDir, StateDirError, StateDirLost
from neo_daemons.status import EventName
from neo_daemons.version import VERSION

from .claim import AlreadyRunning, Claim
from .journal import Journal
from .platform import Platform
from .presence import Presence, find_supervisor, presence
from .provenance import Provenance, provenance
from .slot import Slot


class Upkeep:
    """The hold on one state directory, from `claim` to `release`.

    Args:
        token: in the mark of what the supervisor itself runs.
    """

    def __init__(
        self, state_dir: StateDir, platform: Platform, *, token: str, config: str | None, started_at: float
    ) -> None:
        self.state_dir = state_dir
        self.warning: str | None = None
        """What cannot be kept up now."""
        self.provenance: Provenance | None = None
        """How the records in the state directory came here, and from where."""
        self._platform = platform
        self._token = token
        self._config = config
        self._started_at = started_at
        self._claim = Claim(state_dir)
        self._socket = ""
        self._announced = False
        self._lost: StateDirLost | None = None
        self._records_changed_at = 0
        """Of their directory, at the latest look."""

    @property
    def is_lost(self) -> bool:
        """The path is no longer ours: nothing may be written there."""
        return self._lost is not None

    def claim(self) -> None:
        """Take the state directory's lock.

        Raises:
            AlreadyRunning: another supervisor has it. Nothing was written.
            StateDirError: the directory cannot be used.
        """
        state_dir = self.state_dir
        if presence(state_dir) is Presence.LOCK_DELETED:
            # Under a supervisor that may still live, and is about to make it again.
            found = find_supervisor(state_dir, self._platform)
            if found is not None:
                found.close()
                raise AlreadyRunning(state_dir, found.record, str(found))
        self._claim.take()

    def announce(self, socket: str) -> None:
        """Write down who supervises, and where it is reached.

        Raises:
            StateDirError: it cannot be written. At the first time the directory is given back then.
        """
        self._socket = socket
        first, self._announced = not self._announced, True
        if first:
            self.provenance = provenance(self.state_dir)
        record = SupervisorRecord(
            directory=self._claim.directory,
            pid=os.getpid(),
            identity=self._platform.own_identity(),
            token=self._token,
            version=VERSION,
            socket=socket,
            config=self._config,
            started_at=self._started_at,
        )
        try:
            self._claim.announce(record)
        except StateDirError:
            if first:
                self.release()
            raise

    def keep(self, journal: Journal, on_remade: Callable[[], None]) -> None:
        """Make again what is missing of the things by which the supervisor is found: its directory, its lock, its
        record.

        Args:
            on_remade: writes again what was in a directory that was deleted.

        Raises:
            StateDirLost: the directory is no longer ours: it was moved, or another supervisor has taken its place.
                Nothing is written there any more, and the supervisor should stop.
        """
        if self._lost is not None:
            raise self._lost
        try:
            self._claim.keep()
            if self._claim.remade:
                self.announce(self._socket)
                on_remade()
                self._claim.remade = False
                detail = f"{self.state_dir.path} was deleted, fully or partly"
                journal.add(EventName.STATE_DIR_REMADE, detail=detail)
            self.warning = None
        except StateDirLost as error:
            self._lost = error
            journal.stay()
            journal.add(EventName.STATE_DIR_LOST, detail=str(error))
            raise
        except (OSError, StateDirError) as error:  # it may be possible later
            why = error.strerror if isinstance(error, OSError) else error
            self.warning = f"cannot restore {self.state_dir.path}: {why}"

    def missing_records(self, slots: Iterable[Slot]) -> list[Slot]:
        """The daemons whose records somebody has deleted while they run.

        Raises:
            OSError: the directory of records cannot be looked at now.
        """
        changed_at = self.state_dir.daemons.stat().st_mtime_ns
        if changed_at == self._records_changed_at:
            return []
        self._records_changed_at = changed_at
        return [slot for slot in slots if slot.pidfile.record is not None and not slot.pidfile.path.exists()]

    def is_in(self, directory: str) -> bool:
        """Whether this is the state directory that a client means, by its device and inode; see `Directory.key`."""
        return directory == self._claim.directory.key

    def release(self) -> None:
        """Give the state directory back."""
        self._claim.release()
