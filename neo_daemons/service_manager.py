"""Tells systemd how the supervisor is doing, by the protocol of sd_notify(3): ready, reloading, stopping, a line of
status, and a sign of life for the watchdog.

The protocol is a line of text in a datagram. The libraries for it block on a full socket, or need libsystemd.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import socket
import time
from collections.abc import Iterator, MutableMapping
from typing import Self

from .environment import OF_SERVICE_MANAGER
from .supervision import describe, faults
from .supervision.daemon import SupervisedDaemon
from .supervision.machine import State
from .supervision.supervisor import Supervisor

START_S = 600.0
"""After this time the supervisor is called ready even if a daemon still has no outcome: `up` waits as long."""
REPORT_S = 10.0
"""The interval of reports while nothing changes."""
RETRY_S = 1.0
"""The interval at which a report is tried again that could not be sent."""
PAUSE_S = 0.2
"""The shortest interval of reports, since a thousand daemons may change at once."""
MORE_TIME_S = 30.0
"""How much longer the service manager is asked to wait, with each report of a start, reload or stop."""
NAMED = 5
"""At most so many daemons are named for each state."""


class Phase(enum.Enum):
    """Where the supervisor is in its life. The values are the lines that systemd gets."""

    STARTING = ""
    READY = "READY=1"
    RELOADING = "RELOADING=1"
    STOPPING = "STOPPING=1"


class ServiceManager:
    """The service manager that has started this process, if it asked to be told how the supervisor is doing.

    Args:
        address: the socket at which it listens, as in ``NOTIFY_SOCKET``; None: it does not want to hear anything.
        watchdog_s: the longest silence that it tolerates; None: any.
    """

    def __init__(self, address: str | None = None, *, watchdog_s: float | None = None) -> None:
        self._address = address
        self.watchdog_s = watchdog_s
        self._phase = Phase.STARTING
        self._told: tuple[Phase, str] = (Phase.STARTING, "")
        self._reloads = 0
        self._supervisor: Supervisor | None = None
        self._socket: socket.socket | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._fault: str | None = None

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Self:
        """Return the one that the environment names, and remove the variables that do. They are not meant for our
        children."""
        address, pid, watchdog = (environ.pop(name, "") for name in OF_SERVICE_MANAGER)
        watchdog_us = int(watchdog) if watchdog.isascii() and watchdog.isdigit() else 0
        if pid not in ("", str(os.getpid())):
            watchdog_us = 0  # it watches another process
        return cls(address or None, watchdog_s=watchdog_us / 1e6 or None)

    def begin(self, supervisor: Supervisor) -> None:
        """Report on a supervisor, which has begun to start its daemons, until `end`."""
        if self._address is None:
            return
        self._supervisor = supervisor
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        loop = asyncio.get_running_loop()
        reporting = loop.create_task(self._report(supervisor, loop.time() + START_S))
        self._tasks.append(faults.reported(reporting, "reporting to the service manager"))
        if self.watchdog_s is not None:
            living = loop.create_task(self._live(self.watchdog_s / 2))
            self._tasks.append(faults.reported(living, "answering the watchdog of the service manager"))

    async def end(self) -> None:
        """Report no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """A context in which the configuration is reloaded."""
        self._reloads += 1
        if self._phase is Phase.READY:
            self._enter(Phase.RELOADING)
        try:
            yield
        finally:
            self._reloads -= 1
            if self._phase is Phase.RELOADING and not self._reloads:
                self._enter(Phase.READY)

    def stopping(self, *, well: bool) -> None:
        """Tell that the supervisor is stopping.

        Args:
            well: by request, so that it exits with 0. If it has not been ready yet, it is called so now: systemd takes
                an end before that for a failure, and starts the service again.
        """
        if well and self._phase is Phase.STARTING:
            self._enter(Phase.READY)
        self._enter(Phase.STOPPING)

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._tell()

    async def _report(self, supervisor: Supervisor, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            daemons = supervisor.daemons.values()
            if self._phase is Phase.STARTING and (
                loop.time() >= deadline or all(_has_outcome(supervisor, daemon) for daemon in daemons)
            ):
                self._phase = Phase.READY
            await supervisor.changed.wait(REPORT_S if self._tell() else RETRY_S)
            await asyncio.sleep(PAUSE_S)

    def _tell(self) -> bool:
        """Tell what has changed, and ask for more time if that takes any. Return False if it has to be told again."""
        if self._supervisor is None:
            return True
        now = (self._phase, summary(self._supervisor))
        lines = []
        if now[0] is not self._told[0]:
            lines.append(now[0].value)
            if now[0] is Phase.RELOADING:
                lines.append(f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        if now[1] != self._told[1]:
            lines.append(f"STATUS={now[1]}")
        if now[0] is not Phase.READY:
            lines.append(f"EXTEND_TIMEOUT_USEC={MORE_TIME_S * 1e6:.0f}")
        if lines and not self._send("\n".join(lines)):
            return False
        self._told = now
        return True

    async def _live(self, interval_s: float) -> None:
        """Show that the event loop is running."""
        while True:
            self._send("WATCHDOG=1")
            await asyncio.sleep(interval_s)

    def _send(self, message: str) -> bool:
        """Send a message, unless the service manager is behind, and return whether that was possible."""
        if self._socket is None or self._address is None:
            return False
        fault = None
        try:
            self._socket.sendto(message.encode(), _address(self._address))
        except BlockingIOError:
            return False
        except (OSError, ValueError) as error:
            named = os.fsencode(self._address).decode(errors="backslashreplace")
            why = getattr(error, "strerror", None) or error
            fault = f"cannot report to the service manager at NOTIFY_SOCKET={named}: {why}"
        if fault != self._fault and self._supervisor is not None:
            self._fault = self._supervisor.remark = fault
        return fault is None


def summary(supervisor: Supervisor) -> str:
    """Say in one line how the daemons are."""
    names: dict[str, list[str]] = {}
    for daemon in supervisor.daemons.values():
        state = "ready" if daemon.ready else "idle" if describe.is_idle(daemon) else daemon.state.public
        names.setdefault(state, []).append(daemon.name)
    parts = [f"ready: {len(names.pop('ready', []))}"]
    for state, of_state in sorted(names.items()):
        more = f" and {len(of_state) - NAMED} more" if len(of_state) > NAMED else ""
        parts.append(f"{state}: {', '.join(of_state[:NAMED])}{more}")
    return "; ".join(parts)


def _has_outcome(supervisor: Supervisor, daemon: SupervisedDaemon) -> bool:
    """Return whether the start of a daemon is over, with success or without."""
    definition = daemon.definition
    if daemon.state is State.STOPPED and daemon.situation.detail is None and not definition.is_template:
        return not definition.enabled or definition.start != "always"  # its first start is still to come
    return supervisor.is_settled(daemon)


def _address(text: str) -> str | bytes:
    """Return the address of a socket from its name: a path, or an abstract name after an ``@``.

    Raises:
        ValueError: it is neither.
    """
    if text.startswith("/"):
        return text
    if text.startswith("@") and len(text) > 1:
        return b"\0" + os.fsencode(text[1:])
    raise ValueError("neither a path nor an abstract socket")
