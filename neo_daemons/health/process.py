"""Checks a daemon of which only the process can be seen."""

from __future__ import annotations

from pathlib import Path

from neo_daemons import processes

from .observation import Details
from .observer import TIMEOUT_S, Draft, Observer
from .record import Verification


class ProcessObserver(Observer[Details]):
    """Checks whether the recorded process is running. Without a port, nothing else can be checked from outside.

    Args:
        name: the name of the daemon.
        state_dir: the state directory of its supervisor.
    """

    details = Details

    def __init__(self, name: str, state_dir: Path | str, *, timeout_s: float = TIMEOUT_S, reuse_s: float = 0.0) -> None:
        super().__init__(name, state_dir, timeout_s, reuse_s)

    async def _examine(self, draft: Draft, verification: Verification | None) -> None:
        assert verification is not None
        if verification.status in ("damaged", "unproven"):
            draft.fault(str(verification.fault), "unknown")
        elif verification.pid is None:
            draft.fault(str(verification.fault))
        elif processes.is_stopped(verification.pid):
            draft.fault(f"pid {verification.pid} is stopped by a signal")
