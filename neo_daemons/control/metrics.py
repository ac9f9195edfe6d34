"""The metrics of a supervisor and its daemons: what it already knows, as families of OpenMetrics.

Names and units follow https://prometheus.io/docs/practices/naming/. The only labels are the name of a daemon, the cause
of an exit and a state, so that the number of series is bounded by the number of daemons.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from neo_daemons.supervision.daemon import SupervisedDaemon
from neo_daemons.supervision.describe import IDLE, is_idle
from neo_daemons.supervision.machine import State
from neo_daemons.supervision.supervisor import Supervisor

from .exposition import Exposition, Family, Kind, Row, load
from .store_sizes import StoreSizes

STATES = (*dict.fromkeys(state.public for state in State), IDLE)
if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector

DAEMON = ("daemon",)


class Metrics:
    """Answers scrapes.

    Args:
        supervisor: the supervisor whose metrics they are.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._exposition = Exposition()
        self._stores = StoreSizes()
        self._process: Collector | None = None
        self._started: dict[str, tuple[int, float]] = {}
        """Daemon → pid of its run, and when that began. Computed once: the age is not read from the wall clock."""

    async def text(self) -> bytes:
        """Return all metrics as OpenMetrics text.

        Raises:
            ImportError: prometheus_client is not installed.
        """
        await asyncio.to_thread(load)
        await self._supervisor.measurements.bring_up_to_date()
        directories = {name: daemon.definition.data_dir for name, daemon in self._supervisor.daemons.items()}
        await self._stores.bring_up_to_date(directories)
        return await self._exposition.render(self._families(), self._own())

    def _families(self) -> list[Family]:
        """Return all families, of one moment."""
        daemons = list(self._supervisor.daemons.values())
        self._note_starts(daemons)
        return [*self._of_supervisor(), *self._gauges(daemons), *self._counters(daemons)]

    def _of_supervisor(self) -> Iterator[Family]:
        own = self._supervisor.own_status()
        build = (("platform", own.platform), ("version", own.version))
        yield Family(Kind.INFO, "neo_daemons_build", "The version of neo-daemons.", (), [Row((), build)])
        for name, text, value, unit in (
            ("start_time", "When the supervisor started, since the epoch.", own.started_at, "seconds"),
            ("stopping", "1 while the supervisor is shutting down.", float(own.stopping), ""),
            ("warning", "1 while the supervisor has a problem that it survives.", float(own.warning is not None), ""),
        ):
            yield Family(Kind.GAUGE, f"neo_daemons_supervisor_{name}", text, (), [Row((), value)], unit)

    def _note_starts(self, daemons: list[SupervisedDaemon]) -> None:
        """Note when the runs began."""
        now, started = time.time(), {}
        for daemon in daemons:
            if (run := daemon.run) is not None:
                pid, at = self._started.get(daemon.name, (None, 0.0))
                started[daemon.name] = (run.process.pid, at if pid == run.process.pid else round(now - run.age_s, 3))
        self._started = started

    def _start_of(self, daemon: SupervisedDaemon) -> float | None:
        return self._started[daemon.name][1] if daemon.name in self._started else None

    def _gauges(self, daemons: list[SupervisedDaemon]) -> Iterator[Family]:
        now = time.monotonic()

        def memory(daemon: SupervisedDaemon) -> int | None:
            reading = daemon.run.meter.reading(now) if daemon.run is not None else None
            return reading.rss_bytes if reading is not None else None

        states = [Row((one.name,), IDLE if is_idle(one) else one.state.public) for one in daemons]
        text = "The state of the daemon."
        yield Family(Kind.STATES, "neo_daemons_daemon_state", text, DAEMON, states, states=STATES)
        gauges: tuple[tuple[str, str, str, Callable[[SupervisedDaemon], float | None]], ...] = (
            ("ready", "", "1 if the daemon is usable, according to its last probe.", lambda one: one.ready),
            ("enabled", "", "1 if the supervisor is to start it.", lambda one: one.definition.enabled),
            ("held", "", "1 if a user has put it on hold.", lambda one: one.held),
            ("start_time", "seconds", "When its process started, since the epoch.", self._start_of),
            ("ready_after", "seconds", "From its latest spawn until ready.", lambda one: one.past.ready_after_s),
            ("resident_memory", "bytes", "Memory of its whole process tree.", memory),
            ("log", "bytes", "The current file of its log, when last looked at.", lambda one: one.slot.log.known_size),
            ("store", "bytes", "Its data directory on disk, if known.", lambda one: self._stores.size(one.name)),
        )
        for name, unit, text, value in gauges:
            rows = [Row((one.name,), found) for one in daemons if (found := value(one)) is not None]
            yield Family(Kind.GAUGE, f"neo_daemons_daemon_{name}", text, DAEMON, rows, unit)

    def _counters(self, daemons: list[SupervisedDaemon]) -> Iterator[Family]:
        cpu = [
            Row((one.name,), round(one.run.meter.cpu_s, 2), self._start_of(one))
            for one in daemons
            if one.run is not None
        ]
        tallies = [(one.name, one.slot.tally) for one in daemons]
        restarts = [Row((name,), tally.restarts, tally.since) for name, tally in tallies]
        exits = [
            Row((name, str(cause)), count, tally.since)
            for name, tally in tallies
            for cause, count in tally.exits.items()
        ]
        probed = [(one.name, one.slot.tally) for one in daemons if one.definition.ready or one.definition.live]
        failures = [Row((name,), tally.probe_failures, tally.since) for name, tally in probed]
        probes = [Row((name,), (tally.probes, round(tally.probe_s, 6))) for name, tally in probed]
        for kind, name, unit, text, labels, rows in (
            (Kind.COUNTER, "cpu", "seconds", "CPU time of the processes of its run.", DAEMON, cpu),
            (Kind.COUNTER, "restarts", "", "How often the supervisor has restarted it.", DAEMON, restarts),
            (Kind.COUNTER, "exits", "", "Exits of its main process.", (*DAEMON, "cause"), exits),
            (Kind.COUNTER, "probe_failures", "", "Failed rounds of its probes since it was up.", DAEMON, failures),
            (Kind.SUMMARY, "probe_duration", "seconds", "How long a round of its probes took.", DAEMON, probes),
        ):
            yield Family(kind, f"neo_daemons_daemon_{name}", text, labels, rows, unit)

    def _own(self) -> Iterable[Metric]:
        """Return the figures of this process, under the usual names of such figures. Only Linux has them."""
        if self._process is None:
            from prometheus_client import ProcessCollector

            self._process = ProcessCollector(registry=None)
        return self._process.collect()
