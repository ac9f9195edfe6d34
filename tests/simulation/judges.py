"""The invariants: what must hold at each spawn, each signal and each step of a world, after its trouble, and at its
end."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Any

import msgspec

from neo_daemons import records
from neo_daemons.records import DaemonRecord, DamagedRecord, Intentions, SupervisorRecord
from neo_daemons.status import JournalEntry
from neo_daemons.supervision.machine import ALIVE, State
from neo_daemons.supervision.run import Run
from neo_daemons.supervision.supervisor import Supervisor

from .daemons import FAILURES, GRACE_S, INTERVAL_S, LIMIT, TIMEOUT_S, WINDOW_S
from .demand import DemandJudge
from .expectations import Expectations, held_by
from .incarnations import Killed
from .kernel import Proc
from .world import World

LOOK_S = 0.5
"""How long a look at the process table takes at most."""
UNWELL_S = FAILURES * (INTERVAL_S + TIMEOUT_S) + 1.0
"""A daemon that has answered for this long counts as healthy: there is no reason left to stop it."""
NOTICED_S = 0.1
"""Time limit within which the exit of a process has a consequence."""


class Judges:
    """See every spawn, signal and start of a supervisor; the scenario asks them for the rest."""

    def __init__(self, world: World, expectations: Expectations, demand: DemandJudge) -> None:
        self._world = world
        self._kernel = world.kernel
        self._expectations = expectations
        self._demand = demand
        self._unnoticed: dict[Run, float] = {}
        """Run → the time of an exit that has had no consequence yet."""
        world.kernel.on_spawn = self._spawn
        world.kernel.on_signal = self._signal
        world.on_start = self._start
        world.on_failed_start = self._failed_start

    # What the machine reports

    def _spawn(self, proc: Proc) -> None:
        violated = self._world.violated
        runs = {other.mark for other in self._kernel.living("daemon", "stray") if other.name == proc.name}
        if len(runs) > 1:
            violated(f"I1: {proc.name} was started while another run of it is alive")
        if proc.name in self._world.rivals:
            violated(f"I1: {proc.name} was started on a data directory that is in use")
        now = self._kernel.now
        times = [at for at in self._expectations.starts.get(proc.name, []) if at > now - WINDOW_S]
        self._expectations.starts[proc.name] = [*times, now]
        if len(times) > 2 * LIMIT + 2:  # a stable run in between resets the count
            violated(f"limit: {proc.name} was started {len(times) + 1} times within {WINDOW_S:g} s")

    def _signal(self, proc: Proc, signum: int) -> None:
        violated = self._world.violated
        if proc.kind == "stranger":
            violated(f"I3: signal {signum} to {proc}, which is not ours")
        if not proc.alive or proc.kind != "daemon":
            return
        now = self._kernel.now
        if signum == signal.SIGTERM:
            proc.termed_at = proc.termed_at if proc.termed_at is not None else now
        if signum == signal.SIGKILL and (proc.termed_at is None or now - proc.termed_at < GRACE_S - 0.001):
            violated(f"grace: {proc} was killed before its grace period of {GRACE_S:g} s")
        asked = self._expectations.may_stop(proc.name, now) or self._demand.may_stop(proc.name)
        unasked = not asked and proc.termed_at in (None, now)
        if signum not in (signal.SIGTERM, signal.SIGKILL) or not unasked or not proc.ports:
            return
        silent_s = now - proc.answered_at
        just_up = now - proc.up_at <= LOOK_S  # a supervisor may have begun to sweep it before
        if proc.hung and silent_s < (FAILURES - 1) * INTERVAL_S and not just_up:
            violated(f"impatience: {proc} answered a probe {silent_s:.2f} s ago")
        if not (proc.stopped or proc.hung) and now - proc.unwell_at > UNWELL_S:
            violated(f"I4: signal {signum} to {proc}, which is healthy, without a request")

    def _start(self, made: Supervisor) -> None:
        expected = self._expectations
        expected.forgive_starts()
        held = held_by(made)
        if expected.held_saved and held != expected.held:
            self._world.violated(f"a hold did not survive: {expected.held} became {held}")
        expected.held = held
        # The next supervisor starts what an operator stopped.
        expected.down.clear()
        self._demand.begin(made)

    def _failed_start(self, error: Exception) -> None:
        # While the disk is full it says so, and releases the directory.
        if not self._world.disk.full:
            self._world.violated(f"I6: a supervisor did not start: {error!r}")

    def fault(self, message: object, error: object) -> None:
        """Judge what the event loop reports."""
        if error is not None and not isinstance(error, Killed):
            self._world.violated(f"I6: {message}: {error!r}")

    # What the scenario asks

    def at_any_time(self) -> None:
        """Check what must hold at any time."""
        for name in {definition.name for definition in self._world.definitions}:
            runs = {proc.mark for proc in self._kernel.living("daemon", "stray") if proc.name == name}
            if len(runs) > 1:
                self._world.violated(f"I1: {len(runs)} runs of {name} at once")
        self._states()
        self._demand.review()
        if len(self._world.living) > 1:
            self._world.violated("I1: two supervisors of one directory")

    def _states(self) -> None:
        """Check that stopped daemons stay down, and that an exit is noticed directly, not by a failing probe."""
        made, now, before = self._world.serving, self._kernel.now, self._unnoticed
        self._unnoticed = {}
        for daemon in made.daemons.values() if made is not None else ():
            if daemon.name in self._expectations.down and daemon.state in (State.STARTING, State.BACKOFF, *ALIVE):
                self._world.violated(f"I4: {daemon.name} is {daemon.state}, although an operator has stopped it")
            if daemon.run is not None and daemon.state in ALIVE and not daemon.run.process.is_alive():
                since = self._unnoticed[daemon.run] = before.get(daemon.run, now)
                if now - since > NOTICED_S:
                    self._world.violated(f"I4: {daemon.name} is {daemon.state}, although its process has exited")

    def files(self) -> None:
        """Check what must hold whenever a supervisor was killed."""
        state = self._world.state
        kinds: list[tuple[Path, Any]] = [(state.record, SupervisorRecord), (state.intentions, Intentions)]
        kinds += [(path, DaemonRecord) for path in state.daemons.glob("[!.]*.json")]
        for path, kind in kinds:
            try:
                records.read(path, kind)
            except DamagedRecord as error:
                if path.read_bytes() not in self._world.disk.torn:
                    self._world.violated(f"I5: {error}")
        with contextlib.suppress(FileNotFoundError):
            for line in state.journal.read_bytes().splitlines()[:-1]:
                try:
                    msgspec.json.decode(line or b"null", type=JournalEntry | None)
                except msgspec.DecodeError:
                    # A kill or a full disk may cut it off, but then it must not swallow the next one.
                    if line.count(b'{"at"') != 1 and len(line) > len(b'{"at"'):
                        self._world.violated(f"I5: a line of the journal holds several entries: {line!r}")

    def after_the_calm(self) -> None:
        """Check that everything wanted is up, and that the core found no fault of its own."""
        made = self._world.serving
        if made is None:
            self._world.violated("I6: there is no supervisor, and nobody killed it")
            return
        off = self._expectations.off()
        for daemon in made.daemons.values():
            if daemon.name not in off and not daemon.ready and self._demand.must_be_ready(daemon):
                self._world.violated(f"I4: {daemon.name} is {daemon.state}, not ready ({daemon.situation.detail})")
        faults = [entry for entry in made.events(500) if entry.event == "internal-error"]
        if faults:
            self._world.violated(f"I6: {faults[0].detail}")

    def after_the_stop(self) -> None:
        """Check that nothing is left."""
        violated, state = self._world.violated, self._world.state
        left = self._kernel.living("daemon", "stray")
        if left:
            violated(f"I2: left after the stop: {left}")
        if self._kernel.locked():
            violated(f"I2: locked after the stop: {self._kernel.locked()}")
        files = [*state.path.rglob("*.tmp"), *state.daemons.glob("*.json"), state.record]
        files = [path for path in files if path.exists()]
        if files:
            violated(f"I2: files after the stop: {files}")
        self.files()
