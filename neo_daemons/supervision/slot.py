"""What a daemon keeps from run to run: name, log, record, ports, data lock, and the values that strings refer to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from neo_daemons.definitions import Definition, HttpProbe, Launch, fingerprint
from neo_daemons.files import read_regular
from neo_daemons.references import UnknownReference, expand, expand_all, of_daemon, own_values, split
from neo_daemons.status import Cause, EventName
from neo_daemons.urls import url_host

from . import faults
from .context import Context
from .done import DoneFile
from .logs import DaemonLog
from .machine import State
from .pidfile import PidFile
from .platform import MARK_VARIABLE, Lock, Mark
from .ports import PortBook, Ports
from .tally import Tally
from .tree import Tree


class Slots:
    """The slots of all daemons: the only way from one daemon to another."""

    def __init__(self) -> None:
        self._slots: dict[str, Slot] = {}
        self.port_book = PortBook()
        """The ports of all daemons."""
        self._followers: dict[str, set[str]] = {}

    def __getitem__(self, name: str) -> Slot:
        return self._slots[name]

    def get(self, name: str) -> Slot | None:
        """Return the slot of that name, if there is one."""
        return self._slots.get(name)

    def follow(self, name: str, others: Iterable[str]) -> None:
        """Note that the run of a daemon stands on these others."""
        for other in others:
            self._followers.setdefault(other, set()).add(name)

    def followers(self, name: str) -> list[str]:
        """Return the daemons of which a run stands on this one, or stood on it once."""
        return sorted(self._followers.get(name, ()))

    def add(self, slot: Slot) -> None:
        """Make a slot known to the others, replacing one of the same name."""
        replaced = self._slots.get(slot.name)
        if replaced is not None:
            self.remove(replaced)
        self._slots[slot.name] = slot

    def remove(self, slot: Slot) -> None:
        """Remove a slot, unless another one has replaced it."""
        if self._slots.get(slot.name) is slot:
            del self._slots[slot.name]
            slot.ports.give_up()

    def others(self, slot: Slot) -> Iterator[Slot]:
        """Iterate over all slots but this one."""
        return (other for other in self._slots.values() if other is not slot)


class Slot:
    """What one daemon keeps from run to run."""

    def __init__(self, definition: Definition, context: Context, slots: Slots) -> None:
        self.definition = definition
        self.name = definition.name
        self.context = context
        self.state = State.EXTERNAL if definition.external else State.STOPPED
        """The state in its lifecycle. Only its driver changes it."""
        self.restarts = 0
        """Restarts by the supervisor since the daemon was last started by an operator or by `serve`."""
        self.tally = Tally()
        self.may_have_survivor = True
        """Whether an earlier supervisor may have left it running; False once that was checked."""
        self.log = DaemonLog(context.state_dir.daemon_log(self.name), definition.log)
        self.pidfile = PidFile(context.state_dir.daemon_record(self.name), context.ownership)
        self.done = DoneFile(context.state_dir.done_record(self.name), context.ownership)
        self.ports = Ports(context.platform, definition, slots.port_book)
        self.tree = Tree(context.platform, self.name, context.ownership, self.note, context.census)
        self.data_lock: Lock | None = None
        self.slots = slots
        """The slots of all daemons."""
        self._fingerprint: tuple[Definition, Launch, str] | None = None

    def load(self) -> None:
        """Read the record of an earlier supervisor and settle the ports. Must be called before any start."""
        try:
            fault = self.pidfile.load()
        except OSError as error:
            fault = f"{self.pidfile.path} cannot be read or moved aside: {error.strerror}"
        if fault is not None:
            self.note(EventName.RECORD_DAMAGED, fault)
        self._load_done()
        record = self.pidfile.record
        if record is not None:
            self.restarts = record.restarts
        # The host is not of this machine, or its name does not resolve: the start will report that.
        with contextlib.suppress(OSError):
            self.ports.settle(record.ports if record is not None else {})
        for name, port in self.definition.ports.items():
            number = self.ports.numbers.get(name)
            if record is None and port.preferred is not None and number not in (None, port.preferred):
                self.note(EventName.PORT_TAKEN, f"port {port.preferred} is in use; using {number}")

    def _load_done(self) -> None:
        if not self.definition.oneshot:
            return
        try:
            fault = self.done.load()
        except OSError as error:
            fault = f"{self.done.path} cannot be read or moved aside: {error.strerror}"
        if fault is not None:
            self.note(EventName.RECORD_DAMAGED, f"{fault}; it runs once more")

    def note(
        self, event: EventName, detail: str | None = None, pid: int | None = None, cause: Cause | None = None
    ) -> None:
        """Add an entry about this daemon to the journal."""
        if event is EventName.EXIT:
            self.tally.exited(cause)
        self.context.journal.add(event, daemon=self.name, state=self.state.public, pid=pid, detail=detail, cause=cause)

    def count_restart(self) -> None:
        """Count a restart by the supervisor."""
        self.restarts += 1
        self.tally.restarts += 1

    # Files and locks

    def lock_data(self) -> Lock | str:
        """Take the lock of the data directory, which must exist. Returns a description of the holder if it is taken."""
        if self.data_lock is not None and not self.data_lock.is_at_its_path():
            self.release_data()  # of a directory that was deleted
        if self.data_lock is None:
            assert self.definition.data_dir is not None
            path = Path(self.definition.data_dir) / DATA_LOCK
            owner = f"daemon {self.name} of {self.context.state_dir.path}\n"
            self.data_lock = self.context.platform.lock(path, owner)
            if self.data_lock is None:
                with contextlib.suppress(OSError):
                    return read_regular(path, 300).decode(errors="replace").strip()  # its owner may make it a pipe
                return "an unidentified process"
        return self.data_lock

    def release_data(self) -> None:
        """Release the data directory; the daemon's processes hold its lock as long as they run."""
        if self.data_lock is not None:
            self.data_lock.release()
            self.data_lock = None

    def has_lost_data(self) -> bool:
        """Whether the data directory was deleted while we hold its lock."""
        return self.data_lock is not None and not self.data_lock.is_at_its_path()

    def clear_record(self, *, gone: bool) -> None:
        """Remove the record if all processes of the daemon are gone. If one could not be stopped, the record stays to
        prove who owns it."""
        if not gone:
            return
        try:
            self.pidfile.clear()
        except OSError as error:
            self.note(EventName.RECORD_NOT_REMOVED, faults.describe(error))

    def finish(self) -> None:
        """Remember that the current run, of a daemon that runs once, has succeeded."""
        assert self.pidfile.record is not None
        try:
            self.done.finish(self.pidfile.record)
        except OSError as error:
            self.note(EventName.RECORD_NOT_WRITTEN, f"{faults.describe(error)}; a later supervisor runs it once more")

    def redo(self) -> None:
        """Let a daemon that runs once run again."""
        with contextlib.suppress(OSError):  # its start tries again
            self.done.forget()

    def move_record(self) -> None:
        """Rewrite the records after the state directory was recreated."""
        self.done.move()
        try:
            self.pidfile.move()
        except OSError as error:
            self.note(EventName.RECORD_NOT_WRITTEN, f"{error.strerror}; its mark still identifies it")

    async def end_leftovers(self) -> None:
        """Stop what an earlier supervisor left of a daemon that is no longer configured."""
        self.clear_record(gone=await self.tree.sweep(self.definition.stop.grace_s))

    # Values

    def fingerprint(self, launch: Launch) -> str:
        """Return the fingerprint of the definition, started like this."""
        known = self._fingerprint
        if known is None or known[:2] != (self.definition, launch):
            self._fingerprint = known = (self.definition, launch, fingerprint(self.definition, launch))
        return known[2]

    @property
    def url(self) -> str | None:
        """The URL of the daemon, from its definition or its first port."""
        definition = self.definition
        if definition.external:
            return definition.external
        if definition.url is not None:
            with contextlib.suppress(UnknownReference):  # its ports are not settled yet
                return expand(definition.url, self._values_before_url())
            return None
        if not self.ports.numbers:
            return None
        scheme = "http" if any(isinstance(probe, HttpProbe) for probe in definition.ready) else "tcp"
        return f"{scheme}://{url_host(definition.host)}:{next(iter(self.ports.numbers.values()))}"

    def values(self) -> Values:
        """Return all values that this daemon's strings can refer to, current at each lookup."""
        return Values(self)

    def values_for_others(self) -> dict[str, str]:
        """Return the values that the strings of other daemons can refer to, as ``daemons.NAME.…``."""
        return {**self._own_values(), "url": self.url or ""}

    def values_of_its_own(self) -> dict[str, str]:
        """Return the values of the daemon and of the project that its own strings can refer to."""
        url = self.url
        return {**self._values_before_url(), **({"url": url} if url is not None else {})}

    def _values_before_url(self) -> dict[str, str]:
        return {**self.context.values, **self._own_values()}

    def _own_values(self) -> dict[str, str]:
        return own_values(self.definition, log_path=str(self.log.path), ports=self.ports.numbers)

    def environment(
        self, launch_env: Mapping[str, str], mark: Mark, values: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Return the environment of the daemon's processes: the inherited one, its catalog entry, its definition,
        and its mark.

        Args:
            values: what its strings refer to; by default the current `values`.
        """
        stated = expand_all({**launch_env, **self.definition.env}, self.values() if values is None else values)
        return {**self.context.env, **stated, MARK_VARIABLE: str(mark)}

    def exports(self) -> dict[str, str]:
        """Return the environment variables for programs that use the daemon."""
        with contextlib.suppress(UnknownReference):  # its ports are not settled yet
            exports: dict[str, str] = expand_all(self.definition.exports, self.values())
            return exports
        return {}


DATA_LOCK = ".neo-daemons.lock"
"""Lock file in a data directory, held by the daemon that uses it and the supervisor that started it. A supervisor that
adopted the daemon does not hold it until it restarts the daemon."""


class Values(Mapping[str, str]):
    """A daemon's own values, and those of all others, which are computed on demand: there may be many."""

    def __init__(self, slot: Slot) -> None:
        self._own = slot.values_of_its_own()
        self._slot = slot
        self.used: dict[str, str] = {}
        """The values of other daemons that were looked up."""

    def __getitem__(self, name: str) -> str:
        if name in self._own:
            return self._own[name]
        found = split(name)
        if found is None or found[0] == self._slot.name:
            raise KeyError(name)
        other, key = found
        value = self._slot.slots[other].values_for_others()[key]
        self.used[name] = value
        return value

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        for other in self._slot.slots.others(self._slot):
            yield from (of_daemon(other.name, key) for key in other.values_for_others())

    def __len__(self) -> int:
        return sum(1 for _ in self)
