"""Judges of what runs on demand (I8), and of what follows a change below it (I9).

What is needed is asked of the clients, and what a run was started with is read in its process: the core's own books are
what is being judged. Of the core they take the states of its daemons, the moment a state changes.
"""

from __future__ import annotations

from neo_daemons.status import Cause, Needed
from neo_daemons.supervision.daemon import SupervisedDaemon
from neo_daemons.supervision.demand import NOT_YET_S
from neo_daemons.supervision.following import RETRY_S
from neo_daemons.supervision.machine import ALIVE, LEAVING, State
from neo_daemons.supervision.supervisor import Supervisor

from .clients import Clients, Wait
from .daemons import MAX_RUNTIME_S, references
from .expectations import Expectations
from .kernel import Proc
from .world import World

NEEDED = "it is needed"
"""The reason of a start on demand."""
AT_REST = (State.STOPPED, State.HELD)
SLACK_S = NOT_YET_S + 0.1
"""How much longer than its idle time a daemon may run: a reload may be in its way."""
STARTED_S = 1.0
"""Time limit within which a lease has its daemon started."""
ANSWERED_S = 45.0
"""Time limit within which a need is answered with readiness or a failure, if the client waits that long."""
FOLLOWED_S = RETRY_S + 0.1
"""Time limit within which a run is ended that stands on what is no longer true."""
TOLERANCE_S = 0.001


class DemandJudge:
    """Sees each change of state of the serving supervisor; the scenario has it look at the time that passes."""

    def __init__(self, world: World, clients: Clients, expectations: Expectations) -> None:
        self._world = world
        self._kernel = world.kernel
        self._clients = clients
        self._expectations = expectations
        self._made: Supervisor | None = None
        self._states: dict[str, State] = {}
        self._granted: dict[str, str] = {}
        """Daemons whose stop in progress was judged to be right, and why."""
        self._unneeded: dict[str, float] = {}
        """Daemons on demand that run while nobody needs them → since when."""
        self._waiting: dict[str, float] = {}
        """Daemons that are down under a lease → since when."""
        self._untrue: dict[tuple[int, str], float] = {}
        """Process and what it stands on that is no longer true → since when."""
        self._reloaded_at = 0.0
        self._flipped_at: dict[str, float] = {}
        self.reloads = 0
        """Reloads in progress."""
        self.flips: set[str] = set()
        """Daemons of which a reload in progress changes the rule by which they start."""
        self._asked: set[str] = set()
        """Daemons that a client has asked for during a reload, so that they are started afterwards."""
        clients.on_ask = self._note_asked
        clients.on_change = self.review
        clients.on_answer = self._answered

    def begin(self, made: Supervisor) -> None:
        """Begin to judge a supervisor that has started."""
        self._made = made
        self.reloads = 0
        for noted in (self._granted, self._unneeded, self._waiting, self._untrue, self.flips, self._asked):
            noted.clear()
        self._states = {name: daemon.state for name, daemon in made.daemons.items()}
        made.changed.listeners.append(lambda name: self._changed(made, name))
        self.review()

    def may_stop(self, name: str) -> bool:
        """Whether the stop of a daemon that is in progress was judged to be right."""
        return name in self._granted

    def reload_ended(self) -> None:
        """Note that a reload has ended."""
        self._reloaded_at = self._kernel.now
        self._flipped_at |= dict.fromkeys(self.flips, self._reloaded_at)
        self.reloads = max(self.reloads - 1, 0)
        if not self.reloads:
            self.flips.clear()
            self._asked.clear()
        self.review()

    def _note_asked(self, name: str) -> None:
        if self.reloads:
            self._asked.add(name)

    # What is needed

    def is_needed(self, name: str) -> bool:
        """Whether clients, or daemons that run or are about to, need a daemon."""
        made = self._made
        assert made is not None
        return self._clients.hold(made, name) or any(other.state not in AT_REST for other in self._dependants(name))

    def _is_needed_above(self, name: str) -> bool:
        """Whether a daemon is needed, perhaps by one that is still to be started."""
        return self.is_needed(name) or any(self._is_needed_above(other.name) for other in self._dependants(name))

    def _dependants(self, name: str) -> list[SupervisedDaemon]:
        assert self._made is not None
        daemons = self._made.daemons.values()
        return [one for one in daemons if name in (*one.definition.after, *one.definition.requires)]

    # Each change

    def _changed(self, made: Supervisor, name: str) -> None:
        if made is not self._world.serving or made is not self._made or made.stopping:
            return
        daemon = made.daemons.get(name)
        before = self._states.get(name)
        if daemon is not None and daemon.state is not before:
            self._states[name] = daemon.state
            self._entered(daemon, before)
        self.review()

    def _entered(self, daemon: SupervisedDaemon, before: State | None) -> None:
        name, state, situation = daemon.name, daemon.state, daemon.situation
        if state not in LEAVING:
            self._granted.pop(name, None)
        # What is needed during a reload is started afterwards, without a word about the need.
        wanted = self.reloads and (name in self.flips | self._asked or self._is_needed_above(name))
        if state is State.STARTING and wanted:
            self._expectations.down.discard(name)
        if situation.detail == NEEDED and state in (State.STARTING, State.CYCLING):
            self._started(daemon, before)
        elif situation.cause is Cause.IDLE and state in (State.STOPPING, State.STOPPED):
            if before is not State.STOPPING:
                self._found_idle(daemon)
        elif situation.cause is Cause.RECYCLED and state is State.CYCLING:
            self._recycled(daemon)

    def _started(self, daemon: SupervisedDaemon, before: State | None) -> None:
        """Judge a start on demand."""
        if before in ALIVE or before is State.STARTING:
            self._world.violated(f"I8: a need started {daemon.name} once more, which was {before}")
        if not self._is_needed_above(daemon.name):
            self._world.violated(f"I8: {daemon.name} was started on demand, but nobody needs it")
        self._world.trace("on-demand", daemon.name)
        self._expectations.down.discard(daemon.name)
        self._expectations.forgive_starts(daemon.name)

    def _found_idle(self, daemon: SupervisedDaemon) -> None:
        """Judge the stop of what nobody needs."""
        made, name, after_s = self._made, daemon.name, daemon.definition.idle_stop_s
        assert made is not None
        self._world.trace("idle", name)
        if self.is_needed(name) or self._clients.inhibit(made, name):
            self._world.violated(f"I8: {name} was stopped for being idle while somebody needs it")
        elif daemon.definition.start == "always" or after_s is None:
            self._world.violated(f"I8: {name} was stopped for being idle, and is never idle")
        else:
            idle_s = self._kernel.now - self._unneeded.get(name, self._kernel.now)
            if idle_s < after_s - TOLERANCE_S:
                self._world.violated(f"I8: {name} was stopped after being idle for {idle_s:.3f} of {after_s:g} s")
        self._granted[name] = "idle"

    def _recycled(self, daemon: SupervisedDaemon) -> None:
        """Judge a restart because of what has changed, or because of the age."""
        made, run, limit_s = self._made, daemon.run, daemon.definition.max_runtime_s
        assert made is not None
        name = daemon.name
        proc = self._proc(daemon)
        if proc is None or run is None:
            return
        self._world.trace("recycled", name, daemon.situation.detail)
        age_s = self._kernel.now - proc.identity.start_time
        worn_out = limit_s is not None and age_s >= MAX_RUNTIME_S - 0.1
        if not worn_out and not self._outdated(daemon, proc):
            self._world.violated(f"I9: {name} was restarted, but nothing has changed ({daemon.situation.detail})")
        if daemon.held or self._clients.inhibit(made, name):
            self._world.violated(f"I9: {name} was restarted while it is on hold, or a client uses it")
        self._granted[name] = "recycled"
        self._expectations.forgive_starts(name)

    # What time brings

    def review(self) -> None:
        """Look at what lasts too long."""
        made, now = self._made, self._kernel.now
        if made is None or made is not self._world.serving or made.stopping:
            return
        unneeded, waiting, untrue = self._unneeded, self._waiting, self._untrue
        self._unneeded, self._waiting, self._untrue = {}, {}, {}
        for name, daemon in made.daemons.items():
            after_s = daemon.definition.idle_stop_s if daemon.definition.start == "on-demand" else None
            runs = daemon.state not in (*AT_REST, State.STOPPING)
            needed = self.is_needed(name) or self._clients.inhibit(made, name)
            if after_s is not None and runs and not needed:
                since = self._unneeded[name] = unneeded.get(name, now)
                due = max(since + after_s, self._flipped_at.get(name, 0.0) + after_s, self._reloaded_at)
                if now > due + SLACK_S and not self.reloads:
                    self._world.violated(f"I8: {name} runs {now - since:.1f} s after anybody needed it")
            off = name in self._expectations.down or daemon.held
            if daemon.state is State.STOPPED and self._clients.lease(made, name) and not off and not self.reloads:
                since = self._waiting[name] = waiting.get(name, now)
                if now - since > STARTED_S:
                    self._world.violated(f"I8: {name} is down under a lease")
            proc = self._proc(daemon)
            if proc is None or daemon.state not in ALIVE or daemon.held or self._clients.inhibit(made, name):
                continue
            for what in self._outdated(daemon, proc):
                key = (proc.identity.inode or 0, what)
                since = self._untrue[key] = untrue.get(key, now)
                if now - since > FOLLOWED_S:
                    self._world.violated(f"I9: {name} still stands on {what}, {now - since:.1f} s after it changed")
        for wait in self._clients.waits(made):
            if now - wait.since > wait.wait_s + 0.1:
                self._world.violated(f"I8: a need of {wait.name} was not answered within {wait.wait_s:g} s")
            elif now - wait.since > ANSWERED_S:
                self._world.violated(f"I8: after {ANSWERED_S:g} s {wait.name} is neither ready nor failed")

    def _proc(self, daemon: SupervisedDaemon) -> Proc | None:
        """Return the process of the current run."""
        run = daemon.run
        proc = self._kernel.table.get(run.process.pid) if run is not None else None
        return proc if proc is not None and proc.identity.matches(run.process.identity) else None  # type: ignore[union-attr]

    def _outdated(self, daemon: SupervisedDaemon, proc: Proc) -> list[str]:
        """Return what the process of a daemon stands on and is no longer true."""
        made, found = self._made, []
        assert made is not None
        for name in references(daemon.definition):
            below = self._below(made, name)
            if below is not None and below.told_port is not None and proc.env.get(f"PORT_OF_{name}") is not None:
                before = proc.env[f"PORT_OF_{name}"]
                if before != str(below.told_port):
                    found.append(f"port {before} of {name}")
        for name in daemon.definition.cascades:
            below = self._below(made, name)
            if below is not None and below.number != proc.stands_on.get(name):
                found.append(f"run {proc.stands_on.get(name)} of {name}")
        return found

    def _below(self, made: Supervisor, name: str) -> Proc | None:
        daemon = made.daemons.get(name)
        return self._proc(daemon) if daemon is not None and daemon.state in ALIVE else None

    # Answers

    def _answered(self, wait: Wait, needed: Needed) -> None:
        made, now, name = self._made, self._kernel.now, wait.name
        if made is not wait.made or made is not self._world.serving:
            return
        daemon, waited_s = made.daemons[name], now - wait.since
        if needed.failure is not None:
            off = name in self._expectations.off() or daemon.held
            if needed.daemon.state in ("stopped", "idle") and not off:
                self._world.violated(f"I8: the need of {name} failed, but nothing hinders it: {needed.failure}")
        elif not needed.daemon.ready:
            if waited_s < wait.wait_s - TOLERANCE_S:
                self._world.violated(f"I8: a need of {name} was answered by neither readiness nor failure")
        else:
            proc = self._proc(daemon)
            # What a launcher has left may be taken for the daemon until its probes fail.
            if proc is not None and proc.alive and proc.kind == "daemon" and not proc.ports:
                self._world.violated(f"I8: a need was told that {name} is ready, but it does not listen")

    # The end

    def must_be_ready(self, daemon: SupervisedDaemon) -> bool:
        """Whether a daemon that is neither stopped nor held must be ready once all is calm."""
        return daemon.definition.start == "always" or self.is_needed(daemon.name)
