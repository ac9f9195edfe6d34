"""Choose the port numbers of a daemon, and find other processes that hold them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from neo_daemons.definitions import Definition

from .platform import Platform, PortHolder

UNIDENTIFIED = "an unidentified process"
"""A port holder that the system does not name."""


class PortHeld(Exception):
    """Another process holds a fixed port. ``str()`` names the process and the remedy."""


class Ports:
    """The ports of one daemon.

    Args:
        taken: returns the ports of the other daemons of this supervisor.
    """

    def __init__(self, platform: Platform, definition: Definition, taken: Callable[[], Collection[int]]) -> None:
        self._platform = platform
        self._definition = definition
        self._taken = taken
        self.numbers: dict[str, int] = {}

    def settle(self, previous: Mapping[str, int]) -> None:
        """Give every port a number: the fixed one, else the previous one, else a free one. `claim` checks right
        before a spawn whether they are free."""
        taken = set(self._taken())
        numbers: dict[str, int] = {}
        for name, port in self._definition.ports.items():
            if port.fixed is not None:
                numbers[name] = port.fixed
            elif name in previous and previous[name] not in taken:
                numbers[name] = previous[name]
            else:
                numbers[name] = self._free(port.preferred, taken | set(numbers.values()))
        self.numbers = numbers

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
            self.numbers[name] = self._free(port.preferred, {*self._taken(), *self.numbers.values()})
            remarks.append(f"port {number} is held by {holder}; using {self.numbers[name]}")
        return remarks

    def held(self) -> bool:
        """Whether another process holds one of the ports, while the daemon does not run.

        Raises:
            OSError: its host is not an address of this machine.
        """
        return not all(self._platform.port_is_free(self._definition.host, number) for number in self.numbers.values())

    def stranger(self, pid: int, owns: Callable[[int], bool]) -> tuple[int, PortHolder] | None:
        """Find another process that has taken a port between `claim` and the daemon's own bind. Returns it with the
        port's number, or None."""
        for number in self.numbers.values():
            holder = self._platform.port_holder(number, self._definition.host)
            if holder is not None and holder.pid is not None and holder.pid != pid and not owns(holder.pid):
                return number, holder
        return None

    def _free(self, preferred: int | None, taken: Collection[int]) -> int:
        host = self._definition.host
        if preferred is not None and preferred not in taken and self._platform.port_is_free(host, preferred):
            return preferred
        while (port := self._platform.free_port(host)) in taken:
            pass
        return port
