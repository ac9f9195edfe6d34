"""The set of daemons of one state directory: order, bounded parallelism, adoption, reload, shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import time
from collections.abc import Callable, Iterable, Mapping

from neo_daemons import records
from neo_daemons.definitions import Definition, Launch, Unavailable, fingerprint, is_name
from neo_daemons.files import write_struct
from neo_daemons.records import DaemonRecord, DamagedRecord, Directory, Intentions, SupervisorRecord
from neo_daemons.state_dir import StateDir, StateDirError, StateDirLost
from neo_daemons.status import Cause, Change, EventName, Explanation, JournalEntry, Status, SupervisorStatus
from neo_daemons.version import VERSION

from . import faults
from .claim import AlreadyRunning, Claim
from .daemon import Daemon
from .journal import Journal
from .log_keeper import LogKeeper
from .machine import Event, Refused, State
from .ownership import Ownership
from .platform import Platform, Usage, current_platform
from .presence import find_supervisor
from .probes import Prober
from .site import Site

PARALLEL = max(4, 2 * (os.cpu_count() or 1))
"""Daemons that are starting at once."""
UNKILLABLE_S = 60.0
"""A process that is still there so long after its grace sleeps in the kernel, or is held by a tracer."""
EXPLAINED_EVENTS = 15
EXPLAINED_LINES = 20


class UnknownDaemon(KeyError):
    """No daemon of that name is configured; ``str()`` names those that are."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.message = f"there is no daemon {name!r}; configured: {', '.join(sorted(known)) or 'none'}"
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


class Supervisor:
    """Supervises the daemons of one state directory, from `start` to `stop`.

    Args:
        definitions: the daemons.
        state: where everything is kept.
        resolve: how a definition is run on this machine.
        values: what references can name besides the daemons' own.
        env: the environment that daemons inherit.
        on_demand: start nothing by itself but what an earlier supervisor had running.
    """

    def __init__(
        self,
        definitions: Iterable[Definition],
        *,
        state: StateDir,
        resolve: Callable[[Definition], Launch | Unavailable],
        values: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        platform: Platform | None = None,
        prober: Prober | None = None,
        parallel: int = PARALLEL,
        rng: random.Random | None = None,
        config: str | None = None,
        on_demand: bool = False,
    ) -> None:
        self.state = state
        self.platform = platform or current_platform()
        self.prober = prober or Prober(self.platform)
        self.config = config
        self.url: str | None = None
        """Of the control API over TCP, if there is one."""
        self.started_at = time.time()
        self.stopping = False
        self.inhibitors: dict[int, str | None] = {}
        """Clients that ask for no recycling: of one daemon, or (None) of any."""
        self._definitions = tuple(definitions)
        self._resolve = resolve
        self._values = {"state_dir": str(state.path), **(values or {})}
        self._env = dict(os.environ if env is None else env)
        self._parallel = parallel
        self._on_demand = on_demand
        self._rng = rng or random.Random()
        self._token = secrets.token_hex(16)
        self._claim = Claim(state)
        self._reloading = asyncio.Lock()
        self._log_keeper = LogKeeper({})
        self._keeping_logs: asyncio.Task[None] | None = None
        self._clearing: asyncio.Task[None] | None = None
        self.changing: dict[str, bool] = {}
        """Daemons that a reload is stopping or replacing, which nobody starts meanwhile → whether they are to run
        afterwards by somebody's order."""
        self._site: Site | None = None
        self._socket = ""
        self._origin: tuple[EventName, Directory] | None = None
        """How the state directory came here, and from where, if it was copied or moved."""
        self._lost: StateDirLost | None = None
        self._claim_warning: str | None = None
        self._records_changed_at = 0
        """Of their directory, at the latest look."""
        self.on_remade: Callable[[], None] = lambda: None
        """Called when the state directory was deleted and has been made again."""
        self._warning: str | None = None
        """Of the operator's holds, until they are saved again."""
        self._unsaved = False
        """An operator's hold is not on the disk yet: that was full, most likely."""

    # Life

    async def start(self, socket: str = "") -> None:
        """Take the state directory and start (or adopt) every enabled daemon. Returns when all starts are under
        way, not when they are done.

        Raises:
            AlreadyRunning: another supervisor has it. Nothing was written.
            StateDirError: the directory cannot be used.
        """
        self.claim()
        self.announce(socket)
        self.launch()

    def claim(self) -> None:
        """Take the state directory's lock. See `start`."""
        if not self.state.lock.exists() and (self.state.record.exists() or not self.state.path.exists()):
            # The lock, or all, was deleted under a supervisor that may still live, and is about to make it again.
            found = find_supervisor(self.state, self.platform)
            if found is not None:
                if found.process is not None:
                    found.process.close()
                raise AlreadyRunning(self.state, found.record, str(found))
        self._claim.take()

    def announce(self, socket: str) -> None:
        """Write down who supervises, and where it is reached.

        Raises:
            StateDirError: it cannot be written.
        """
        self._socket = socket
        if self._site is None:
            self._origin = _origin(self.state)
        record = SupervisorRecord(
            directory=self._claim.directory,
            pid=os.getpid(),
            identity=self.platform.own_identity(),
            token=self._token,
            version=VERSION,
            socket=socket,
            config=self.config,
            started_at=self.started_at,
        )
        try:
            self._claim.announce(record)
        except StateDirError:
            if self._site is None:
                self.release()
            raise

    def keep_claim(self) -> None:
        """Make again what is missing of the things by which this supervisor is found: its directory, its lock, its
        record.

        Raises:
            StateDirLost: the directory is no longer its own: it was moved, or another supervisor has taken its place.
                Nothing is written there any more, and the supervisor should stop.
        """
        if self._lost is not None:
            raise self._lost
        try:
            self._claim.keep()
            if self._claim.remade:
                self._claim_anew()
            self._claim_warning = None
        except StateDirLost as error:
            self._lost = error
            if self._keeping_logs is not None:
                self._keeping_logs.cancel()
            self.journal.stay()
            self.journal.add(EventName.STATE_DIR_LOST, detail=str(error))
            raise
        except (OSError, StateDirError) as error:  # it may be possible later
            why = error.strerror if isinstance(error, OSError) else error
            self._claim_warning = f"{self.state.path} cannot be kept up: {why}"

    def keep_records(self) -> None:
        """Write again the records of running daemons that somebody has deleted.

        Raises:
            OSError: their directory cannot be looked at now.
        """
        changed_at = self.state.daemons.stat().st_mtime_ns
        if changed_at == self._records_changed_at:
            return
        self._records_changed_at = changed_at
        for daemon in self.daemons.values():
            if daemon.pidfile.record is not None and not daemon.pidfile.path.exists():
                daemon.moved()

    def is_in(self, directory: str) -> bool:
        """Whether this is the state directory that a client means, by its device and inode; see `Directory.key`."""
        return directory == self._claim.directory.key

    def _claim_anew(self) -> None:
        self.site.ownership.look_again()
        self.announce(self._socket)
        for daemon in self.daemons.values():
            daemon.moved()
        if any(daemon.held for daemon in self.daemons.values()):
            self._save_intentions()
        self.on_remade()
        self._claim.remade = False
        self.journal.add(EventName.STATE_DIR_REMADE, detail=f"{self.state.path} was deleted, wholly or in part")

    def launch(self) -> None:
        """Begin to supervise. See `start`."""
        journal = Journal(self.state.journal)
        self._site = Site(
            platform=self.platform,
            ownership=Ownership(self.platform, self.state),
            token=self._token,
            journal=journal,
            prober=self.prober,
            resolve=self._resolve,
            values=self._values,
            env=self._env,
            parallel=self._parallel,
            rng=self._rng,
        )
        self._site.inhibited = lambda name: name in self.inhibitors.values() or None in self.inhibitors.values()
        journal.add(EventName.SUPERVISOR_STARTED, pid=os.getpid(), detail=f"version {VERSION}")
        if self._origin is not None:
            event, origin = self._origin
            copied = event is EventName.STATE_DIR_COPIED
            how, what = ("copied", "its daemons are not this one's") if copied else ("moved", "its daemons are ours")
            journal.add(event, detail=f"{self.state.path} was {how} from {origin.path}; {what}")
        self._site.keep_claim = self.keep_claim
        held = self._read_intentions()
        self._collect_leftovers()
        for definition in self._definitions:
            daemon = self._add(definition)
            daemon.held = definition.name in held
        self._site.save_intentions = self._save_intentions
        self._log_keeper = LogKeeper(self.daemons)
        self._keeping_logs = faults.reported(
            asyncio.get_running_loop().create_task(self._log_keeper.keep(self._save_again)), "keeping the logs"
        )
        orphans = self._orphans()
        if orphans:
            self._site.ending_orphans = orphans
            self._clearing = faults.reported(
                asyncio.get_running_loop().create_task(self._end_orphans(orphans)), "ending orphans"
            )
        for daemon in self.daemons.values():
            survives = daemon.pidfile.record is not None or daemon.name in self._site.leftovers
            if survives or daemon.definition.external or not self._on_demand:
                self._begin(daemon)

    async def _end_orphans(self, orphans: list[Daemon]) -> None:
        ends = await asyncio.gather(*(orphan.end_leftovers() for orphan in orphans), return_exceptions=True)
        for orphan, end in zip(orphans, ends, strict=True):
            if isinstance(end, Exception):
                faults.report(f"ending {orphan.name}, which is not configured any more", end)
                self.journal.add(EventName.ORPHAN_NOT_ENDED, daemon=orphan.name, detail=str(end))
        self.site.ending_orphans = []
        self.site.changed.notify()

    @property
    def site(self) -> Site:
        """What the daemons share; there from `launch` on."""
        assert self._site is not None, "the supervisor has not been started"
        return self._site

    @property
    def daemons(self) -> dict[str, Daemon]:
        """The daemons by name, in the order of their definitions."""
        return self.site.daemons

    @property
    def journal(self) -> Journal:
        """What happened."""
        return self.site.journal

    def order(self, name: str, event: Event) -> Daemon:
        """Carry out an operator's wish; the daemon, whose `state` will tell. With a daemon, those that it requires
        are started too.

        Raises:
            UnknownDaemon: there is none of that name.
            Refused: it cannot be done; says why.
        """
        daemon = self.daemon(name)
        self._refuse_if_stopping()
        if name in self.changing:
            return self._order_later(daemon, event)
        daemon.order(event, f"{event} by an operator", Cause.OPERATOR)
        if event in (Event.START, Event.RESTART):
            for required in daemon.definition.requires:
                other = self.daemons.get(required)
                if other is None or other.held or required in self.changing:
                    continue
                if other.state in (State.STOPPED, State.STOPPING):
                    self.order(required, Event.START)
        return daemon

    def _order_later(self, daemon: Daemon, event: Event) -> Daemon:
        if event not in (Event.START, Event.RESTART):
            raise Refused("it is just being changed by a reload; try again when that is done")
        self.changing[daemon.name] = True
        return daemon

    def daemon(self, name: str) -> Daemon:
        """The daemon of that name.

        Raises:
            UnknownDaemon: there is none.
        """
        try:
            return self.daemons[name]
        except KeyError:
            raise UnknownDaemon(name, self.daemons) from None

    def _add(self, definition: Definition) -> Daemon:
        daemon = Daemon(definition, self.site)
        self.daemons[definition.name] = daemon
        daemon.load()
        return daemon

    @staticmethod
    def _begin(daemon: Daemon, *, by_hand: bool = False) -> None:
        if not daemon.definition.enabled and not by_hand:
            daemon.detail = "not enabled in the configuration"
        elif daemon.definition.external:
            daemon.observe()
        else:
            daemon.order(Event.START)

    async def stop(self, *, detach: bool = False) -> None:
        """Stop every daemon, dependants first. With `detach` the daemons are left running, for the next supervisor to
        adopt. The state directory stays taken until `release`."""
        if self._site is None:
            return
        self.stopping = True
        async with self._reloading:  # what it has begun to start must be stopped too
            await self._stop(detach=detach)

    async def _stop(self, *, detach: bool) -> None:
        self.journal.add(EventName.SUPERVISOR_DETACHING if detach else EventName.SUPERVISOR_STOPPING, pid=os.getpid())
        if detach:
            await asyncio.gather(*(daemon.detach() for daemon in self.daemons.values()))
        else:
            await self._stop_in_order(list(self.daemons.values()))
            for daemon in self.daemons.values():
                await daemon.detach(finish=_is_down(daemon))
        if self._clearing is not None:
            await asyncio.gather(self._clearing, return_exceptions=True)
        if self._keeping_logs is not None:
            self._keeping_logs.cancel()
            await asyncio.gather(self._keeping_logs, return_exceptions=True)
        await self.prober.close()
        self.journal.add(EventName.SUPERVISOR_STOPPED, pid=os.getpid())
        self.journal.close()

    def hurry(self) -> None:
        """Cut every grace: SIGKILL now."""
        for daemon in (*self.daemons.values(), *self.site.ending_orphans):
            daemon.tree.hurry()

    def release(self) -> None:
        """Give the state directory back."""
        self._claim.release()

    async def _stop_in_order(self, daemons: list[Daemon]) -> None:
        given_up: set[str] = set()
        await asyncio.gather(*(self._stop_after_dependants(daemon, daemons, given_up) for daemon in daemons))

    async def _stop_after_dependants(self, daemon: Daemon, daemons: list[Daemon], given_up: set[str]) -> None:
        for other in daemons:
            if daemon.name in (*other.definition.after, *other.definition.requires) and other is not daemon:
                await other.wait_for(lambda other: _is_down(other) or other.name in given_up)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + daemon.definition.stop.grace_s + UNKILLABLE_S
        while not _is_down(daemon):
            # Again and again: an operator may have ordered a start meanwhile.
            if daemon.state is not State.STOPPING:
                daemon.order(Event.STOP, "stopping", Cause.SUPERVISOR)
                continue
            if loop.time() > deadline:
                daemon.note(EventName.NOT_STOPPED, "it cannot be ended; it is left to the next supervisor")
                given_up.add(daemon.name)
                self.site.changed.notify()
                return
            await self.site.changed.wait(deadline - loop.time())

    # What an earlier supervisor left

    def _read_intentions(self) -> frozenset[str]:
        try:
            intentions = records.read(self.state.intentions, Intentions)
        except DamagedRecord as error:
            aside = self.state.intentions.with_name(f"{self.state.intentions.name}.damaged-{time.time_ns()}")
            self.state.intentions.replace(aside)
            self.journal.add(EventName.RECORD_DAMAGED, detail=f"{error}; set aside as {aside.name}")
            return frozenset()
        except OSError as error:
            self._warning = f"{self.state.intentions} cannot be read: {error.strerror}"
            return frozenset()
        return frozenset(intentions.held) if intentions is not None else frozenset()

    def _save_intentions(self) -> None:
        if self._lost is not None:
            return
        held = tuple(sorted(daemon.name for daemon in self.daemons.values() if daemon.held))
        try:
            write_struct(self.state.intentions, Intentions(held=held), sync=True)
            self._warning = None
            self._unsaved = False
        except OSError as error:
            self._unsaved = True
            self._warning = f"{self.state.intentions} is not written, holds are forgotten at exit: {error.strerror}"

    def _save_again(self) -> None:
        if self._unsaved:
            self._save_intentions()

    def _collect_leftovers(self) -> None:
        """Everything that belongs here by its mark, by one look at the process table."""
        for process, mark in self.site.ownership.marked():
            self.site.leftovers.setdefault(mark.name, []).append(process)

    def _orphans(self) -> list[Daemon]:
        """Daemons that an earlier supervisor left, and that the configuration no longer has us run: they are ended,
        as a reload would."""
        wanted = {daemon.name for daemon in self.daemons.values() if daemon.definition.enabled}
        wanted -= {daemon.name for daemon in self.daemons.values() if daemon.definition.external}
        recorded = {path.stem for path in self.state.daemons.glob("*.json") if is_name(path.stem)}
        orphans = []
        for name in sorted((recorded | set(self.site.leftovers)) - wanted):
            processes = self.site.leftovers.pop(name, [])
            if processes:
                pids = ", ".join(str(process.pid) for process in processes)
                self.journal.add(
                    EventName.ORPHAN, daemon=name, detail=f"no longer configured to run: ending pid {pids}"
                )
            for process in processes:
                process.close()
            orphans.append(self.daemons.get(name) or Daemon(Definition(name=name), self.site))
        return orphans

    # Looking

    def status(self) -> Status:
        """The state of everything, now."""
        usage = self._usage(self.daemons.values())
        return Status(
            supervisor=SupervisorStatus(
                pid=os.getpid(),
                version=VERSION,
                state_dir=str(self.state.path),
                started_at=self.started_at,
                config=self.config,
                url=self.url,
                stopping=self.stopping,
                warning=self._claim_warning or self._warning or self._log_keeper.warning or self.journal.fault,
            ),
            daemons=tuple(daemon.status(usage.get(daemon.name)) for daemon in self.daemons.values()),
        )

    def _usage(self, daemons: Iterable[Daemon]) -> dict[str, Usage]:
        pids = {daemon.name: daemon.tree.main.pid for daemon in daemons if daemon.tree.main is not None}
        found = self.platform.usage(pids.values())
        return {name: found[pid] for name, pid in pids.items() if pid in found}

    def explain(self, name: str) -> Explanation:
        """Why a daemon is in the state it is in.

        Raises:
            UnknownDaemon: there is none of that name.
        """
        daemon = self.daemon(name)
        pid = daemon.tree.main.pid if daemon.tree.main is not None else None
        holders = {}
        for port in daemon.ports.numbers.values():
            holder = self.platform.port_holder(port, daemon.definition.host)
            if holder is not None:
                holders[str(port)] = "this daemon" if holder.pid == pid and pid is not None else str(holder)
        lines, log_pid = daemon.telling_lines(EXPLAINED_LINES)
        return Explanation(
            daemon=daemon.status(self._usage([daemon]).get(name)),
            since=daemon.since,
            next_try_s=daemon.next_try_s,
            first_cause=daemon.history.first_cause,
            failures=daemon.history.failures,
            port_holders=holders,
            probes=tuple(f"{_clock(at)} {r.answer}: {r.detail}" for at, r in daemon.probe_results),
            events=tuple(self.events(EXPLAINED_EVENTS, name)),
            log_tail=tuple(lines),
            log_pid=log_pid,
        )

    def events(self, count: int, name: str | None = None) -> list[JournalEntry]:
        """The latest entries of the journal."""
        return self.journal.latest(count, name)

    # Reload

    def plan(self, definitions: Iterable[Definition]) -> list[Change]:
        """What `reload` with these definitions would do."""
        new = {definition.name: definition for definition in definitions}
        gone = [name for name in self.daemons if name not in new]
        return [
            *(self._change(definition) for definition in new.values()),
            *(Change(name=name, action="stop", reason="no longer configured") for name in gone),
        ]

    def _change(self, new: Definition) -> Change:
        daemon = self.daemons.get(new.name)
        if daemon is None:
            return Change(name=new.name, action="start" if new.enabled else "apply", reason="newly configured")
        old = daemon.definition
        if old.enabled != new.enabled:
            action = "start" if new.enabled else "stop"
            return Change(name=new.name, action=action, reason=f"enabled = {str(new.enabled).lower()}")
        if daemon.state is State.UNAVAILABLE:
            return Change(name=new.name, action="replace", reason="was unavailable: tried again")
        differing = [f for f in new.__struct_fields__ if getattr(old, f) != getattr(new, f)]
        launched = self._resolve(new)
        record = daemon.pidfile.record
        if isinstance(launched, Launch):
            before = self._resolve(old) if record is None else None
            known = record.fingerprint if record is not None else None
            if known is None and isinstance(before, Launch):
                known = fingerprint(old, before)
            if known != fingerprint(new, launched):
                what = ", ".join(differing) or "the installed program"
                return Change(name=new.name, action="replace", reason=f"changed: {what}")
        elif differing:
            return Change(name=new.name, action="replace", reason=f"changed: {', '.join(differing)}")
        if differing:
            return Change(name=new.name, action="apply", reason=f"changed: {', '.join(differing)}; no restart needed")
        return Change(name=new.name, action="keep", reason="unchanged")

    def _refuse_if_stopping(self) -> None:
        if self.stopping:
            raise Refused("the supervisor is stopping")

    async def reload(self, definitions: Iterable[Definition], *, config: str | None = None) -> list[Change]:
        """Bring the daemons in line with new definitions, touching only what changed. Returns what was done; new
        processes may still be starting."""
        self._refuse_if_stopping()  # whose stop has the lock until all has ended
        async with self._reloading:
            self._refuse_if_stopping()
            new = {definition.name: definition for definition in definitions}
            changes = self.plan(new.values())
            self.config = config or self.config
            self.changing = {c.name: False for c in changes if c.action in ("stop", "replace", "start")}
            for change in changes:
                if change.action != "keep":
                    self.journal.add(EventName(f"reload-{change.action}"), daemon=change.name, detail=change.reason)
            try:
                await self._carry_out(changes, new)
            finally:
                self.changing = {}
                self.site.changed.notify()
            return changes

    async def _carry_out(self, changes: list[Change], new: dict[str, Definition]) -> None:
        await self._stop_in_order([self.daemons[c.name] for c in changes if c.action == "stop"])
        for change in changes:
            daemon = self.daemons.get(change.name)
            if change.action == "apply" and daemon is not None:
                daemon.apply(new[change.name])
            elif change.action == "stop" and change.name not in new:
                gone = self.daemons.pop(change.name)
                await gone.detach(finish=_is_down(gone))
            elif change.action == "stop" and daemon is not None:
                daemon.apply(new[change.name])
                daemon.detail = "not enabled in the configuration"
        await asyncio.gather(*(self._replace(new[c.name]) for c in changes if c.action in ("start", "replace")))
        for change in changes:
            if change.action == "apply" and change.name not in self.daemons and not self.stopping:
                self._begin(self._add(new[change.name]))
        ordered = {name: self.daemons[name] for name in new if name in self.daemons}
        self.daemons.clear()
        self.daemons.update(ordered)

    async def _replace(self, definition: Definition) -> None:
        old = self.daemons.get(definition.name)
        # Down by an operator's word, or by its own restart rule; nobody can give that word for an external one.
        down = old is not None and old.state in (State.STOPPED, State.STOPPING)
        disabled = old is not None and not old.definition.enabled
        by_hand = old is not None and disabled and not down and old.state is not State.EXTERNAL
        if old is not None:
            await self._stop_in_order([old])
            await old.detach(finish=_is_down(old))
        if self.stopping:
            return
        daemon = self._add(definition)
        if old is not None:
            old.log.limits = definition.log
            daemon.log = old.log  # its followers keep their place
            daemon.held = old.held
            daemon.last_exit = old.last_exit
            daemon.ports.settle(old.ports.numbers)
        if by_hand or self.changing.get(definition.name):
            self._begin(daemon, by_hand=not definition.external)
        elif disabled or not down or definition.external:
            self._begin(daemon)


def _is_down(daemon: Daemon) -> bool:
    return daemon.state in (State.STOPPED, State.HELD, State.EXTERNAL)


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _origin(state: StateDir) -> tuple[EventName, Directory] | None:
    """Whether the records in a state directory, which nobody supervises, were copied or moved here, and from where."""
    here = Directory.of(state.path)
    found: list[SupervisorRecord | DaemonRecord | None] = []
    with contextlib.suppress(DamagedRecord, OSError):
        found.append(records.read(state.record, SupervisorRecord))
    for path in state.daemons.glob("*.json"):
        with contextlib.suppress(DamagedRecord, OSError):
            found.append(records.read(path, DaemonRecord))
    for record in found:
        directory = record.directory if record is not None else None
        if directory is None or here is None or directory == here:
            continue
        if not directory.is_same(here):
            # A backup put back, or the directory made again: the same project.
            return (EventName.STATE_DIR_COPIED, directory) if directory.path != here.path else None
        if directory.path != here.path:
            return EventName.STATE_DIR_MOVED, directory
    return None
