"""Keep a supervisor findable: maintain its state directory, lock and record, and the records of its daemons."""

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
from .provenance import Provenance, Way, provenance
from .slot import Slot

CAME = {
    Way.COPIED: (EventName.STATE_DIR_COPIED, "its daemons do not belong to this copy"),
    Way.MOVED: (EventName.STATE_DIR_MOVED, "its daemons still belong to it"),
}


class Upkeep:
    """Maintain the claim on one state directory, from `claim` to `release`.

    Args:
        token: the token in the mark of processes that the supervisor itself runs.
    """

    def __init__(
        self, state_dir: StateDir, platform: Platform, *, token: str, config: str | None, started_at: float
    ) -> None:
        self.state_dir = state_dir
        self.warning: str | None = None
        """What cannot be restored at present."""
        self.provenance: Provenance | None = None
        """Where the records in the state directory were written, and how they came here."""
        self._platform = platform
        self._token = token
        self._config = config
        self.started_at = started_at
        self._claim = Claim(state_dir)
        self._socket = ""
        self._announced = False
        self._lost: StateDirLost | None = None
        self._records_changed_at = 0
        """Modification time of their directory at the latest check."""

    @property
    def is_lost(self) -> bool:
        """Whether we no longer own the path, so that nothing may be written there."""
        return self._lost is not None

    def claim(self) -> None:
        """Take the state directory's lock.

        Raises:
            AlreadyRunning: another supervisor holds it. Nothing was written.
            StateDirError: the directory cannot be used.
        """
        state_dir = self.state_dir
        if presence(state_dir) is Presence.LOCK_DELETED:
            # A supervisor may still run, and be about to recreate it.
            found = find_supervisor(state_dir, self._platform)
            if found is not None:
                found.close()
                raise AlreadyRunning(state_dir, found.record, str(found))
        self._claim.take()

    def announce(self, socket: str) -> None:
        """Write the supervisor's record, with the address of its control API.

        Raises:
            StateDirError: it cannot be written. The first time, this also releases the directory.
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
            started_at=self.started_at,
        )
        try:
            self._claim.announce(record)
        except StateDirError:
            if first:
                self.release()
            raise

    def note_provenance(self, journal: Journal) -> None:
        """Add an entry to the journal if the state directory was copied or moved."""
        if (origin := self.provenance) is not None and origin.way in CAME:
            event, what = CAME[origin.way]
            detail = f"{self.state_dir.path} was {origin.way.value} from {origin.directory.path}; {what}"
            journal.add(event, detail=detail)

    def keep(self, journal: Journal, on_remade: Callable[[], None]) -> None:
        """Recreate whatever is missing of the directory, the lock and the record.

        Args:
            on_remade: restores the contents of a deleted directory.

        Raises:
            StateDirLost: we no longer own the directory: it was moved, or another supervisor owns the path.
                Nothing more is written there, and the supervisor should stop.
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
        """Return the daemons whose records were deleted while they run.

        Raises:
            OSError: the directory of records cannot be checked at present.
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
        """Release the state directory."""
        self._claim.release()
