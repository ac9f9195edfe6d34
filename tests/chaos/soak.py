"""The soak from its start to its report."""

from __future__ import annotations

import dataclasses
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from neo_daemons.supervision import journal
from pytest_neo_daemons import BridgeGraph

from . import audit, faults
from .load import ChatLoad, ChromaLoad, Ledger, Load, WakeLoad, chroma_contents
from .stage import PATIENCE_S, PROVISIONING_S, Stage, wait_for
from .watch import PROGRAMS, Footprint, Watch, processes, trees

PAUSE_S = (0.1, 1.2)
"""From one fault to the next."""
PROGRESS_S = 30.0
DELIVERY_S = 90.0
STEADY = (0.4, 0.5, 0.75)
"""Shares of the time: the supervisor is left alone from the first to the third, and measured at the second, when it has
warmed up, and at the third."""
SETTLED_S = 2.0
STILL_S = 3.0
"""So long all is to stay as it is, when nothing strikes."""


@dataclasses.dataclass
class Report:
    """What a soak found, and the counts that tell how hard it looked."""

    seed: int
    minutes: float
    broken: list[str] = dataclasses.field(default_factory=list)
    faults: Counter[str] = dataclasses.field(default_factory=Counter)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """As data."""
        return {**dataclasses.asdict(self), "faults": dict(self.faults)}

    def text(self) -> str:
        """For people."""
        lines = [f"seed {self.seed}, {self.minutes:.1f} minutes of chaos, {self.faults.total()} faults:"]
        lines.append("  " + ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items())))
        lines += [f"{name}: {count}" for name, count in self.counts.items()]
        lines.append(f"BROKEN: {len(self.broken)}" if self.broken else "every check held")
        return "\n".join([*lines, *(f"  {fault}" for fault in self.broken)])


class Soak:
    """One soak.

    Args:
        root: an empty directory, for everything.
        minutes: how long the chaos lasts, without start and audit.
        seed: of what strikes whom.
        without: faults that are left out.
    """

    def __init__(self, root: Path, minutes: float, seed: int, without: frozenset[str] = frozenset()) -> None:
        self._rng = random.Random(seed)
        self._seconds = minutes * 60
        self._without = without
        self._root = root
        self._stage = Stage(root, self._rng)
        self._watch = Watch(self._stage.state)
        self._writes = Ledger(root / "writes")
        self._wakes = Ledger(root / "wakes")
        self._loads: list[Load] = []
        self._wake_load: WakeLoad | None = None
        self._report = Report(seed, minutes)
        self._broken = self._stage.broken

    def run(self) -> Report:
        """All of it."""
        try:
            self._begin()
            self._chaos()
            self._end()
        except Exception as error:
            self._broken.append(f"the soak ended early: {type(error).__name__}: {error}")
        finally:
            self._close()
        self._report.faults = self._stage.counts
        self._report.broken = self._broken + self._watch.broken
        return self._report

    def _begin(self) -> None:
        stage = self._stage
        stage.start()
        stage.calm(PROVISIONING_S)
        wakes = WakeLoad(stage.state, BridgeGraph(stage.daemons()["bridge"].env), self._wakes)
        wakes.warm_up(DELIVERY_S)
        self._wake_load = wakes
        self._loads = [ChromaLoad(stage.state, self._writes), ChatLoad(stage.state), wakes]
        for load in self._loads:
            load.start()
        self._watch.start()

    # The chaos

    def _chaos(self) -> None:
        first, warm, last = (share * self._seconds for share in STEADY)
        self._strike(first, supervisor_lives=False)
        self._strike(warm - first, supervisor_lives=True)
        before = self._measure()
        self._strike(last - warm, supervisor_lives=True)
        wait_for(lambda: not audit.leaked_descriptors(before, self._measure()), "the end of a leak of descriptors",
                 PATIENCE_S / 4, lambda: str(audit.leaked_descriptors(before, self._measure())))  # fmt: skip
        after = self._measure()
        self._broken += audit.growth(before, after)
        self._report.counts["supervisor grown by (bytes)"] = after.uss_bytes - before.uss_bytes
        self._report.counts["supervisor's descriptors"] = after.descriptors.total()
        self._strike(self._seconds - last, supervisor_lives=False)

    def _strike(self, seconds: float, *, supervisor_lives: bool) -> None:
        stage, rng = self._stage, self._rng
        deadline = time.monotonic() + seconds
        told = time.monotonic()
        while time.monotonic() < deadline:
            stage.check_supervisor()
            stage.catch_up()
            name = faults.choose(rng, self._without, supervisor_lives=supervisor_lives)
            if faults.ALL[name].strike(stage) is not False:
                stage.counts[name] += 1
            stage.daemons()
            if time.monotonic() - told > PROGRESS_S:
                told = time.monotonic()
                print(self._progress(), flush=True)
            time.sleep(rng.uniform(*PAUSE_S))

    def _measure(self) -> Footprint:
        """The supervisor's, when nothing is going on that takes descriptors."""
        self._stage.calm()
        time.sleep(SETTLED_S)
        assert self._stage.supervisor is not None
        return Footprint.of(self._stage.supervisor.pid)

    def _progress(self) -> str:
        done = ", ".join(f"{load.name}: {load.acknowledged} (failed {load.failed})" for load in self._loads)
        return f"{self._stage.counts.total()} faults, {self._stage.lives} supervisors, {done}, {self._faults()} broken"

    def _faults(self) -> int:
        return len(self._broken) + len(self._watch.broken)

    # The audit

    def _end(self) -> None:
        stage = self._stage
        stage.calm()
        for load in self._loads:
            load.stop()
        for load in self._loads:
            load.join(PATIENCE_S)
            if load.is_alive() or load.fault:
                self._broken.append(f"{load.name} hangs or has failed: {load.fault}")
        self._still()
        wakes = self._await_wakes()
        self._down()
        documents = [(str(id_), str(document)) for batch in self._writes.entries() for id_, document in batch]
        stage.start()
        contents = chroma_contents(stage.calm()["chroma"].ports["main"])
        lost = audit.lost_writes(documents, contents)
        self._watch.stop()
        left = self._down()
        strangers = stage.bystander.signals()
        events, ran = audit.journal_counts(stage.state)
        self._broken += [
            *audit.shorten(lost),
            *audit.shorten(wakes.lost),
            *audit.shorten(wakes.repeated),
            *audit.shorten(audit.bad_journal_lines(stage.state)),
            *(f"the supervisor had an {name}, {events[name]} times" for name in ("internal-error",) if events[name]),
            *(f"the bystander got {name}" for name in strangers),
        ]
        self._report.counts |= {
            "supervisor lives": stage.lives,
            "daemon processes": len(ran),
            "daemon restarts": max(len(ran) - len(PROGRAMS), 0),
            "journal entries": events.total() - events["filler"],
            "writes acknowledged": len(documents),
            "writes lost": len(lost),
            "completions": self._loads[1].acknowledged,
            "wake messages acknowledged": len(self._wakes.entries()),
            "wake messages lost": len(wakes.lost),
            "wake messages in the bridge's own gap": wakes.gap,
            "wake messages delivered twice": len(wakes.repeated),
            "requests that failed": sum(load.failed for load in self._loads),
            "samples": self._watch.samples,
            "two trees at once": len(self._watch.broken),
            "orphans": left,
            "strangers signalled": len(strangers),
        }

    def _still(self) -> None:
        """Exactly one tree of each daemon, and when nothing strikes, it stays."""
        seen = []
        for pause_s in (STILL_S, 0.0):
            found = processes(self._stage.state)
            seen.append(trees(found))
            for one in found:
                one.process.close()
            time.sleep(pause_s)
        self._broken += [f"{name} has {len(tokens)} trees" for name, tokens in seen[0].items() if len(tokens) != 1]
        if seen[0] != seen[1]:
            self._broken.append(f"a daemon was restarted though nothing struck: {seen}")
        for name in {name for each in seen for name, tokens in each.items() if tokens != seen[0][name]}:
            entries, _ = journal.read(self._stage.state.journal)
            last = [f"{e.at:.1f} {e.event} {e.cause or ''} {e.detail or ''}" for e in entries if e.daemon == name][-8:]
            self._broken.append(f"what {name} went through last: {'; '.join(last)}")

    def _await_wakes(self) -> audit.Wakes:
        assert self._wake_load is not None
        load = self._wake_load
        ledger = [(str(message), str(subject)) for message, subject in self._wakes.entries()]
        deadline = time.monotonic() + DELIVERY_S
        while True:
            wakes = audit.judge_wakes(ledger, load.log_ids(), load.log())
            if not wakes.lost or time.monotonic() > deadline:
                return wakes
            time.sleep(1.0)

    def _down(self) -> int:
        """Stop everything, and look for what is left; how many processes are."""
        stage = self._stage
        stage.stop()
        orphans = audit.orphans(stage.state.path)
        self._broken += orphans
        self._broken += audit.held_locks(stage.state.path)
        self._broken += audit.leaked_files(stage.state.path, self._watch.sockets)
        self._broken += audit.taken_ports(stage.ports)
        return len(orphans)

    def _close(self) -> None:
        for load in self._loads:
            load.stop()
        if self._watch.is_alive():
            self._watch.stop()
        self._stage.close()
        for load in self._loads:
            load.join(PATIENCE_S)
        self._writes.close()
        self._wakes.close()
