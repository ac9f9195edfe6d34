"""Choose the port numbers of a daemon, and find other processes that hold them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping

from neo_daemons.definitions import Definition

from .platform import Platform, PortHolder

UNIDENTIFIED = "an unidentified process"
"""A port holder that the system does not name."""


class PortHeld(Exception):
    """Another process holds a fixed port. ``str()`` names the process and the remedy."""


class PortBook:
    """The ports of all daemons of one supervisor."""

    def __init__(self) -> None:
        self._daemons: Counter[int] = Counter()
        """Port → the number of daemons that have it."""

    def change(self, before: Collection[int], after: Collection[int]) -> None:
        """Note that the ports of one daemon have changed."""
        self._daemons.subtract(set(before))
        self._daemons.update(set(after))
        for number in before:
            if not self._daemons[number]:
                del self._daemons[number]

    def has_another(self, number: int, own: Collection[int]) -> bool:
        """Whether a port belongs to another daemon than the one with these ports."""
        return self._daemons[number] > (number in own)


class Ports:
    """The ports of one daemon.

    Args:
        book: the ports of all daemons of this supervisor.
    """

    def __init__(self, platform: Platform, definition: Definition, book: PortBook) -> None:
        self._platform = platform
        self._definition = definition
        self._book = book
        self._numbers: Mapping[str, int] = {}

    @property
    def numbers(self) -> Mapping[str, int]:
        """The number of each port, by its name."""
        return self._numbers

    def assign(self, numbers: Mapping[str, int]) -> None:
        """Set the number of each port."""
        self._book.change(self._numbers.values(), numbers.values())
        self._numbers = dict(numbers)

    def give_up(self) -> None:
        """Let other daemons take the numbers, which stay known."""
        self._book.change(self._numbers.values(), ())
        self._book = PortBook()

    def settle(self, previous: Mapping[str, int]) -> None:
        """Give every port a number: the fixed one, else the previous one, else a free one. `claim` checks right
        before a spawn whether they are free."""
        numbers: dict[str, int] = {}
        for name, port in self._definition.ports.items():
            if port.fixed is not None:
                numbers[name] = port.fixed
            elif name in previous and not self._is_anothers(previous[name]):
                numbers[name] = previous[name]
            else:
                numbers[name] = self._free(port.preferred, numbers.values())
        self.assign(numbers)

    def claim(self) -> list[str]:
        """Check right before a spawn that the ports are free. Where another process holds one, take another number.
        Returns remarks on the numbers that changed.

        Raises:
            PortHeld: the port is fixed.
        """
        definition, remarks = self._definition, []
        for name, port in definition.ports.items():
            number = self.numbers[name]
            if self._platform.port_is_free(definition.host, number):
                continue
            holder = self._platform.port_holder(number, definition.host) or UNIDENTIFIED
            if port.fixed is not None:
                key = "port" if len(self.numbers) == 1 else f"ports.{name}"
                raise PortHeld(f"port {number} is held by {holder}; stop it or set daemons.{definition.name}.{key}")
            self.assign({**self.numbers, name: self._free(port.preferred, self.numbers.values())})
            remarks.append(f"port {number} is held by {holder}; using {self.numbers[name]}")
        return remarks

    def held(self) -> bool:
        """Whether another process holds one of the ports, while the daemon does not run. Nobody holds one of a host
        that is no address of this machine."""
        with contextlib.suppress(OSError):
            return not all(self._platform.port_is_free(self._definition.host, port) for port in self.numbers.values())
        return False

    def stranger(self, pid: int, owns: Callable[[int], bool]) -> tuple[int, PortHolder] | None:
        """Find another process that has taken a port between `claim` and the daemon's own bind. Returns it with the
        port's number, or None."""
        for number in self.numbers.values():
            if self._platform.listens(pid, number, self._definition.host):
                continue
            holder = self._platform.port_holder(number, self._definition.host)
            if holder is not None and holder.pid is not None and holder.pid != pid and not owns(holder.pid):
                return number, holder
        return None

    def _is_anothers(self, number: int) -> bool:
        return self._book.has_another(number, self._numbers.values())

    def _free(self, preferred: int | None, chosen: Collection[int]) -> int:
        """Find a free port that is not `chosen` for another one of this daemon."""

        def is_ours(number: int) -> bool:
            return number not in chosen and not self._is_anothers(number)

        host = self._definition.host
        if preferred is not None and is_ours(preferred) and self._platform.port_is_free(host, preferred):
            return preferred
        while not is_ours(port := self._platform.free_port(host)):
            pass
        return port
