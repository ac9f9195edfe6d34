"""Starts the supervisor of a session, in the process that owns the session."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from neo_daemons import interpreter
from neo_daemons.control.client import Client
from neo_daemons.state_dir import StateDir, StateDirError
from neo_daemons.status import Change
from neo_daemons.supervision.platform import Lock, Platform, Process, SpawnSpec, current_platform, file_lock
from neo_daemons.supervision.presence import Presence, presence
from neo_daemons.unpatched import Unpatched

from . import places
from . import session as sessions
from .clear import end_what_is_left
from .session import Owner
from .surroundings import environment
from .warm import ENDED_S, POLL_S, stop_supervisor

if TYPE_CHECKING:
    from neo_daemons.config.project import Configuration
    from neo_daemons.definitions import Definition

    from .standby import Standby

LOCK_S = 2.0
"""How long to wait for the lock of a warm session, which may just be ending. One that stays locked is in use."""
IN_USE = "another run is using them"


class Owned:
    """A session that this process owns: its locked directory, and its supervisor while there is one.

    Args:
        platform: None: it is loaded when it is needed. A run that finds its session warm starts and ends nothing.
    """

    def __init__(
        self, state_dir: StateDir, lock: Lock, platform: Platform | None, standby: Standby | None = None
    ) -> None:
        self.state_dir = state_dir
        self._standby = standby
        self._lock = lock
        self._loaded = platform
        self.keep_s = 0.0
        """How long the supervisor keeps running after the run, in seconds."""
        self.not_reused: str | None = None
        """Why the session that was kept warm for the project was not used; None if it was, or there was none."""
        self._env: dict[str, str] = {}
        self.definitions: tuple[Definition, ...] = ()
        """Those of the session, once it has begun."""
        self._supervisor: Process | None = None

    @property
    def _platform(self) -> Platform:
        if self._loaded is None:
            with interpreter.installed_modules():
                self._loaded = current_platform()
        return self._loaded

    def begin(self, configuration: Configuration, *, keep_s: float) -> bool:
        """Start the supervisor without waiting for it, or find a suitable one that was kept warm. Return whether one
        was found: then `set_up` must set its definitions.

        Raises:
            StateDirError: the session's directory cannot be used.
        """
        self.keep_s = keep_s if places.is_warm(self.state_dir) else 0.0
        # The environment as it is now: a supervisor that replaces another during a test gets the same environment.
        self._env = environment(os.environ)
        self.definitions = configuration.definitions
        replaced: str | None = None
        try:
            if presence(self.state_dir) is Presence.RUNNING:
                self.not_reused = sessions.differences(sessions.read(self.state_dir), configuration, self._env)
                if self.not_reused is None:
                    return True
                replaced = self.not_reused
                self._end_other()
            owner = Owner(os.getpid(), self._platform.own_identity())
            if self.state_dir.path.exists():
                end_what_is_left(self.state_dir, self._platform)
                if not sessions.remove_files(self.state_dir, self._platform):
                    raise StateDirError(
                        f"a process that an earlier run left in {self.state_dir.path} cannot be stopped; "
                        f"run: {self.state_dir.command('doctor')}"
                    )
            self.state_dir.create()
            record = sessions.new(configuration, owner, keep_s=self.keep_s, replaced=replaced)
            sessions.write(self.state_dir, record)
            self.spawn()
        except OSError as error:
            where = error.filename or self.state_dir.path
            raise StateDirError(
                f"cannot use {where}: {error.strerror}; free some space, or set TMPDIR to another directory"
            ) from None
        return False

    def _end_other(self) -> None:
        if not stop_supervisor(self.state_dir):
            raise StateDirError(
                f"the supervisor kept warm in {self.state_dir.path} must be replaced but does not stop; "
                "try again, or run without --neo-daemons-keep"
            )

    def set_up(self, client: Client) -> list[Change]:
        """Give the definitions of this session to a supervisor that was kept warm. Return what changed."""
        return client.set_up(self.definitions, keep_s=self.keep_s)

    def spawn(self) -> None:
        """Start a supervisor on the session's directory, replacing one that died, if any.

        Raises:
            OSError: the supervisor cannot be started.
        """
        if self._supervisor is not None:
            self._supervisor.close()
        standby, self._standby = self._standby, None
        if standby is not None:
            self._supervisor = standby.begin(self._env)
            if self._supervisor is not None:
                return
        command = interpreter.command("neo_daemons.ephemeral", str(self.state_dir.path))
        output = places.open_output(self.state_dir)
        try:
            self._supervisor = self._platform.spawn(SpawnSpec(command, self._env, str(self.state_dir.path), output))
        finally:
            Unpatched.close(output)

    @contextlib.contextmanager
    def wanting(self, names: Iterable[str]) -> Iterator[None]:
        """Make a supervisor that is only just starting begin with these daemons. Ask it for them in the context: it
        may already be past that."""
        with contextlib.suppress(OSError):  # they start later
            sessions.want(self.state_dir, names)
        try:
            yield
        finally:
            sessions.take_wanted(self.state_dir)

    def supervisor_lives(self) -> bool:
        """Return whether the supervisor that was started or found is running."""
        if self._supervisor is not None:
            return self._supervisor.is_alive()
        return presence(self.state_dir) is Presence.RUNNING

    def last_words(self) -> str:
        """Return the last line of the supervisor's log, which shows why it exited."""
        try:
            said = self.state_dir.supervisor_log.read_text(errors="replace").strip().splitlines()
        except OSError:
            said = []
        return said[-1] if said else "its log is empty"

    def release(self) -> None:
        """Release the session, so that others can use it or its supervisor can end it."""
        self._lock.release()

    def abandon(self) -> None:
        """Give up the session before it has begun."""
        if self._standby is not None:
            self._standby.close()
        if self._supervisor is None and presence(self.state_dir) is not Presence.RUNNING:
            sessions.remove(self.state_dir, self._lock, self._platform)
        self._lock.release()

    def wait_until_gone(self) -> None:
        """Wait until the supervisor has exited after the last lease was given up, and nothing remains. If it was
        killed, clean up in its place."""
        deadline = Unpatched.monotonic() + ENDED_S
        while self.supervisor_lives() and Unpatched.monotonic() < deadline:
            Unpatched.sleep(POLL_S)
        alive = self.supervisor_lives()
        if self._supervisor is not None:
            self._supervisor.close()
        path = places.lock_of(self.state_dir)
        if alive or not (self.state_dir.path.exists() or path.exists()):
            return
        lock = file_lock.take(path) if path.parent.exists() else None
        end_what_is_left(self.state_dir, self._platform)
        if lock is not None:
            sessions.remove(self.state_dir, lock, self._platform)


def own(root: Path, source: Path | None, *, warm: bool, standby: Standby | None = None) -> Owned:
    """Create a new session, or return the project's `warm` one unless that is in use.

    Args:
        standby: a supervisor for the new session.

    Raises:
        StateDirError: there is no usable directory for it.
    """
    not_reused = None
    if warm:
        state_dir = places.warm(root, source)
        lock = _lock(state_dir)
        if lock is not None:
            if standby is not None:
                standby.close()
            return Owned(state_dir, lock, None)
        not_reused = IN_USE
    platform = current_platform()
    while True:
        state_dir = standby.state_dir if standby is not None else places.new()
        lock = file_lock.take(places.lock_of(state_dir))
        if lock is not None:
            owned = Owned(state_dir, lock, platform, standby)
            owned.not_reused = not_reused
            return owned
        standby = None


def _lock(state_dir: StateDir) -> Lock | None:
    deadline = Unpatched.monotonic() + LOCK_S
    while True:
        lock = file_lock.take(places.lock_of(state_dir))
        if lock is not None or Unpatched.monotonic() > deadline:
            return lock
        Unpatched.sleep(POLL_S)
