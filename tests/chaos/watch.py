"""What is looked at all the time: how many process trees each daemon has, and how the supervisor grows."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from neo_daemons import procfs, records
from neo_daemons.records import DamagedRecord, SupervisorRecord
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.platform import Mark, Process, current_platform

PROGRAMS = {
    "chroma": "/chroma",
    "mlx": "/mlx_lm.server",
    "bridge": "/wake/daemon.mjs",
    "worker": "/toy.py",
    "client": "/toy.py",
}
"""What an argument of the daemon's own processes ends with. What the supervisor runs for a daemon (to make its
database, say) is none of them."""
SAMPLE_S = 0.1


class Seen(NamedTuple):
    """A living process of a daemon, held by a handle that its number cannot be given away under."""

    process: Process
    mark: Mark


def processes(state: StateDir, name: str | None = None) -> list[Seen]:
    """Those with the mark of the state directory, of one daemon or of all. The caller closes them."""
    own = str(state.path)
    found = current_platform().marked(lambda mark: mark.state_dir == own and name in (None, mark.name))
    return [Seen(process, mark) for process, mark in found]


def trees(found: list[Seen]) -> dict[str, set[str]]:
    """The runs of each daemon, by their tokens, of which a process lives now."""
    result: dict[str, set[str]] = {name: set() for name in PROGRAMS}
    for process, mark in found:
        ending = PROGRAMS.get(mark.name)
        if ending is None or not any(part.endswith(ending) for part in procfs.command(process.pid)):
            continue
        if process.is_alive():
            result[mark.name].add(mark.token)
    return result


def twins(state: StateDir) -> list[str]:
    """Daemons that have two process trees at this moment."""
    found = processes(state)
    try:
        if all(len(tokens) < 2 for tokens in trees(found).values()):
            return []
        # The first look takes a while: one may have ended, and its successor have begun, within it. All that is held
        # now was seen by then, so what lives at the second look lives at the same time.
        return [
            f"{name}: {len(tokens)} trees at once: "
            + ", ".join(f"pid {s.process.pid} of {s.mark.token[:8]}" for s in found if s.mark.name == name)
            for name, tokens in trees(found).items()
            if len(tokens) > 1
        ]
    finally:
        for seen in found:
            seen.process.close()


class Footprint(NamedTuple):
    """What a process takes of the machine."""

    uss_bytes: int
    """Memory of its own alone."""
    descriptors: Counter[str]
    """What they refer to, without what tells one from another of its kind."""

    @classmethod
    def of(cls, pid: int) -> Footprint:
        """Raises OSError: it is gone."""
        uss = 0
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(("Private_Clean:", "Private_Dirty:", "Private_Hugetlb:")):
                uss += int(line.split()[1]) * 1024
        return cls(uss, Counter(link.partition(":[")[0] for link in procfs.open_files(pid)))


class Watch(threading.Thread):
    """Samples until it is stopped."""

    def __init__(self, state: StateDir) -> None:
        super().__init__(name="watch", daemon=True)
        self._state = state
        self._stop_asked = threading.Event()
        self.samples = 0
        self.slowest_s = 0.0
        self.broken: list[str] = []
        self.sockets: set[Path] = set()
        """Where the supervisors were reached."""
        self.supervisors: set[int] = set()

    def run(self) -> None:
        while not self._stop_asked.wait(SAMPLE_S):
            began = time.monotonic()
            try:
                self.sample()
            except Exception as error:
                # A watch that has gone blind must not pass for one that has seen nothing wrong.
                self.broken.append(f"the watch failed: {error!r}")
                return
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def sample(self) -> None:
        found = twins(self._state)
        if found and found != self.broken[-len(found) :]:
            self.broken += found
        with contextlib.suppress(DamagedRecord, OSError):
            record = records.read(self._state.record, SupervisorRecord)
            if record is not None and record.socket:
                self.sockets.add(Path(record.socket))
                self.supervisors.add(record.pid)
        self.samples += 1

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()


def resume(state: StateDir) -> None:
    """Let whatever of a state directory was stopped go on."""
    for process, _ in processes(state):
        if process.is_stopped():
            process.signal(signal.SIGCONT)
        process.close()
