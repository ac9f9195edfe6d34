"""What is fenced: the daemons of all registered supervisors, but for those that the run may use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from neo_daemons import registry
from neo_daemons.registry import Entry, Registered
from neo_daemons.state_dir import StateDir
from neo_daemons.urls import host_and_port

from ..names import CLIENTS, fixture_name
from .wall import Owner, Plan, Port, Zone, is_reached


class Known:
    """The registry, as it was last read.

    Args:
        root: the run's root directory. A directory that contains it, or tests, is not fenced.
        allowed: names of daemons and absolute state directories that are let through.
        is_on: whether the run has daemons of its own.
    """

    def __init__(self, root: Path, allowed: Collection[str], *, is_on: bool) -> None:
        self._places = registry.directories()
        self._tests = {os.path.realpath(root)}
        """Directories with tests."""
        self._allowed = {os.path.realpath(one) if "/" in one else one for one in allowed}
        self._is_on = is_on
        self._external: set[tuple[str, int]] = set()
        """Hosts and ports of the run's external daemons."""
        self._stamp: tuple[int, ...] = ()
        self.entries: list[Entry] = []
        self.remarks: list[str] = []
        """What the summary says about directories that cannot be fenced."""

    def allow(self, state_dir: Path) -> None:
        """Let the daemons of this state directory through."""
        self._allowed.add(os.path.realpath(state_dir))
        self._stamp = ()

    def allow_url(self, url: str) -> None:
        """Let what listens at the host and port of a URL through: it is an external daemon of the run."""
        with contextlib.suppress(ValueError, KeyError):  # it is reported when the options are read
            self._external.add(host_and_port(url))
            self._stamp = ()

    def found_tests(self, directories: Iterable[str]) -> None:
        """Fence none of these directories, nor what contains them, because they have tests."""
        before = len(self._tests)
        self._tests.update(map(os.path.realpath, directories))
        if len(self._tests) != before:
            self._stamp = ()

    def has_changed(self) -> bool:
        """Return whether a supervisor has been started or ended, or its daemons have changed, since the last `plan`."""
        return registry.stamp(self._places) != self._stamp

    def plan(self) -> Plan:
        """Read the registry, and return what is fenced."""
        self._stamp = registry.stamp(self._places)
        self.entries = [entry for entry in registry.entries(self._places) if self._is_fenced(entry)]
        self.remarks.clear()
        ports: dict[int, tuple[Port, ...]] = {}
        zones: list[Zone] = []
        sockets: dict[str, Owner] = {}
        for entry in self.entries:
            supervisor = self._owner(entry, None)
            if entry.socket is not None:
                sockets[os.path.realpath(entry.socket)] = supervisor
            if entry.control is not None:
                host, number = entry.control
                self._add(ports, number, Port(host, supervisor))
            zones += self._zones([entry.state_dir], supervisor)
            for daemon in entry.daemons:
                is_open = daemon.name in self._allowed
                owner = self._owner(entry, daemon)
                data = [path for path in (daemon.data_dir, daemon.database) if path is not None]
                zones += self._zones(data, owner, is_open=is_open)
                for number in () if is_open else daemon.ports.values():
                    self._add(ports, number, Port(daemon.host, owner))
        return Plan(ports, tuple(zones), sockets, tuple(map(str, self._places)))

    def _add(self, ports: dict[int, tuple[Port, ...]], number: int, port: Port) -> None:
        if not any(number == other and is_reached(port.host, host) for host, other in self._external):
            ports[number] = (*ports.get(number, ()), port)

    def _is_fenced(self, entry: Entry) -> bool:
        return os.path.realpath(entry.state_dir) not in self._allowed

    def _zones(self, paths: Iterable[str], owner: Owner, *, is_open: bool = False) -> Iterable[Zone]:
        for path in map(os.path.realpath, paths):
            if any(f"{tests}/".startswith(f"{path.rstrip('/')}/") for tests in self._tests):
                self.remarks.append(f"{path} is not fenced, because it contains the tests: it is of {owner.what}")
            else:
                yield Zone(path, owner, is_open)

    def _owner(self, entry: Entry, daemon: Registered | None) -> Owner:
        allow = "To let tests use it all the same, add {} to the setting neo_daemons_fence_allow."
        if daemon is None:
            what = f"the production supervisor in {entry.state_dir}"
            return Owner(what, allow.format(entry.state_dir), entry.state_dir)
        what = f"{daemon.name} of the production supervisor in {entry.state_dir}"
        fixture = fixture_name(daemon.name)
        fixture = f"the fixture {fixture}" if fixture is not None else f'the fixture neo_daemons["{daemon.name}"]'
        if f"{daemon.name}_client" in CLIENTS:
            fixture = f"{fixture} or {daemon.name}_client"
        use = f"Use {fixture} instead" + (". " if self._is_on else ", with pytest --neo-daemons. ")
        return Owner(what, use + allow.format(daemon.name), entry.state_dir, daemon.name)

    def still_has(self, number: int, owner: Owner) -> bool:
        """Return whether a port still belongs to its supervisor, which may have died."""
        for entry in registry.entries(self._places):
            if entry.state_dir == owner.state_dir:
                held: list[tuple[str | None, int]] = []
                if entry.control is not None:
                    held.append((None, entry.control[1]))
                held += [(daemon.name, port) for daemon in entry.daemons for port in daemon.ports.values()]
                if (owner.daemon, number) in held:
                    return True
        return False


def own_ports(state_dir: Path) -> frozenset[int]:
    """Return the ports of the daemons of a run's own session; none if its supervisor does not answer."""
    from neo_daemons.control.client import Client, ControlError

    try:
        status = Client(StateDir(state_dir)).status()
    except ControlError:
        return frozenset()
    return frozenset(port for daemon in status.daemons for port in daemon.ports.values())
