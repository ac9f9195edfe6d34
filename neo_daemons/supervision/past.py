"""What is known about the past runs of a daemon."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from neo_daemons.definitions import Stop
from neo_daemons.status import Exit

from .platform import ExitStatus
from .policy import History
from .situation import Situation


class Span(NamedTuple):
    """The part of the log that a run has written."""

    pid: int | None
    """None if no process was spawned: then provisioning wrote this part."""
    start: int
    end: int


@dataclass(kw_only=True)
class Past:
    """What is known about the past runs of a daemon."""

    history: History = field(default_factory=History)
    """The failures that still count."""
    last_exit: Exit | None = None
    ended: Span | None = None
    """The part of the log that the latest past run, or failed start, wrote."""
    failed_starts: int = 0
    """Consecutive runs that ended before they were ready."""
    has_been_ready: bool = False
    """Whether any run, including the current one, was ever ready."""
    lost_its_port: bool = False
    """Whether another process held one of its ports when the latest run exited by itself."""
    ready_after_s: float | None = None
    """Seconds from the latest spawn by this supervisor until ready."""

    def forget(self) -> None:
        """Reset the failures, on an operator's order."""
        self.history.forget()
        self.failed_starts = 0

    def exited(self, pid: int, status: ExitStatus, text: str) -> None:
        """Remember how a process exited."""
        self.last_exit = Exit(code=status.code, signal=status.signal, at=time.time(), pid=pid, text=text)

    def stopped(self, situation: Situation, stop: Stop) -> str | None:
        """Return why a daemon that was being stopped is down: at whose request, not how its process exited."""
        why, last = situation.detail, self.last_exit
        killed = last is not None and last.at >= situation.since and last.signal == "SIGKILL" != stop.signal
        return f"{why}; it did not exit in time and was killed" if why and killed else why

    def learned(self, pid: int, status: ExitStatus) -> bool:
        """Remember how the process of the latest run exited, when the kernel reports it late. Returns False if that is
        already known or concerns another process."""
        last = self.last_exit
        if last is None or last.pid != pid or last.code is not None or last.signal is not None:
            return False
        self.last_exit = Exit(code=status.code, signal=status.signal, at=last.at, pid=pid, text=str(status))
        return True
