"""What a command costs: wall time, CPU time and, where the machine can count them, instructions."""

from __future__ import annotations

import functools
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

EVENT = "instructions:u"


class Cost(NamedTuple):
    """Of one process, and of those of its descendants that were waited for."""

    wall_s: float
    cpu_s: float
    """User and system together."""
    instructions: float | None = None
    """In user mode; None: not counted."""


def spend(command: Sequence[str], directory: Path, *, count: bool = False) -> Cost:
    """Run a command to its end.

    Args:
        count: count instructions, by perf, where the machine can.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    with tempfile.NamedTemporaryFile("r") as counted:
        counting = count and counts_instructions()
        prefix = ["perf", "stat", "-x,", "-e", EVENT, "-o", counted.name, "--"] if counting else []
        began = time.perf_counter()
        process = subprocess.Popen(
            [*prefix, *command], cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        return Cost(took, usage.ru_utime + usage.ru_stime, instructions(counted.read()) if counting else None)


def instructions(told: str) -> float | None:
    """What `perf stat -x,` wrote about instructions; None if the machine cannot count them."""
    for line in told.splitlines():
        count, *rest = line.split(",")
        if any(EVENT in word for word in rest) and count.isdigit():
            return float(count)
    return None


@functools.cache
def counts_instructions() -> bool:
    """Whether there is a perf, and a processor that tells it; few virtual machines have one."""
    if shutil.which("perf") is None:
        return False
    tried = subprocess.run(
        ["perf", "stat", "-x,", "-e", EVENT, "true"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return tried.returncode == 0 and instructions(tried.stderr) is not None


def cpu_ms(costs: Sequence[Cost], pace: Sequence[Cost]) -> list[float]:
    """Milliseconds of CPU time of each of `costs`.

    Where instructions were counted they are converted at the median pace of `pace`: they scatter far less than times.
    """
    if all(cost.instructions is not None for cost in (*costs, *pace)):
        per_s = statistics.median((cost.instructions or 0) / cost.cpu_s for cost in pace)
        return [1e3 * (cost.instructions or 0) / per_s for cost in costs]
    return [1e3 * cost.cpu_s for cost in costs]
