"""What the runs of a daemon that are over have left to know."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from neo_daemons.status import Exit

from .platform import ExitStatus
from .policy import History


class Span(NamedTuple):
    """What a run has written to the log."""

    pid: int | None
    """None: no process came of it, and this is what provisioning wrote."""
    start: int
    end: int


@dataclass(kw_only=True)
class Past:
    """What the runs of a daemon that are over have left to know."""

    history: History = field(default_factory=History)
    """The failures that still count."""
    last_exit: Exit | None = None
    ended: Span | None = None
    """What the latest run, or start, that is over wrote to the log."""
    failed_starts: int = 0
    """Runs in a row that have ended before they were ready."""
    has_been_ready: bool = False
    """Any run has been ready, the present one included."""
    lost_its_port: bool = False
    """When the latest run ended unprompted, somebody else had one of its ports."""
    ready_after_s: float | None = None
    """From the latest spawn by this supervisor to being ready."""

    def forget(self) -> None:
        """Start anew, by an operator's word: what failed before says nothing of what comes."""
        self.history.forget()
        self.failed_starts = 0

    def exited(self, pid: int, status: ExitStatus, text: str) -> None:
        """Keep how a process has ended."""
        self.last_exit = Exit(code=status.code, signal=status.signal, at=time.time(), pid=pid, text=text)

    def learned(self, pid: int, status: ExitStatus) -> bool:
        """Keep how the process of the latest run ended, which the kernel has told only after its exit; False if that
        is known, or of another process."""
        last = self.last_exit
        if last is None or last.pid != pid or last.code is not None or last.signal is not None:
            return False
        self.last_exit = Exit(code=status.code, signal=status.signal, at=last.at, pid=pid, text=str(status))
        return True
