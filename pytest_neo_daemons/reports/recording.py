"""Records the tests of a run: the processes that run tests add to pytest's reports, and the controller collects."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import pytest
from msgspec import Struct

from .. import workers
from ..events import Event, take_events
from ..guard import HookFailures, guarded, note
from ..log_slices import MAX_SLICE_LINES
from ..provider import Provider
from ..watch import WATCH, Watcher

ATTRIBUTE = "neo_daemons_record"
"""The attribute of a report that carries what this module adds. pytest-xdist sends it to the controller."""
MAX_TEXT = 20_000
"""Characters of the report of one failure."""
MAX_TEXTS = 5_000_000
"""Characters of all of them."""
MAX_EVENTS = 100
"""Events of one test."""


@guarded
class Recorder:
    """Adds to each report in which process the test ran, what it used, and what happened meanwhile. Register it after
    `IncidentHooks`, whose slices it records."""

    def __init__(
        self, config: pytest.Config, provider: Provider, watcher: Watcher, hook_failures: HookFailures
    ) -> None:
        self.hook_failures = hook_failures
        self._worker = workers.worker_id(config) or workers.MAIN
        self._provider = provider
        self._watcher = watcher

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        try:
            self._record(item, report)
        except BaseException as error:
            note(self, "pytest_runtest_makereport", error, (item,))
        return report

    def _record(self, item: pytest.Item, report: pytest.TestReport) -> None:
        record: dict[str, Any] = {"worker": self._worker}
        setattr(report, ATTRIBUTE, record)
        watch = item.stash.get(WATCH, None)
        events = [*take_events(item)]
        if watch is not None and report.failed:
            record["slices"] = [[found.daemon, found.text(MAX_SLICE_LINES)] for found in watch.latest]
        if watch is not None and report.when == "teardown":
            names = self._provider.concerning(item)
            logs = {name: self._watcher.logs[name] for name in names if name in self._watcher.logs}
            record["daemons"] = sorted(names)
            record["spans"] = {name: list(span) for name, span in watch.spans(logs).items()}
            happened = [incident for incident in watch.incidents() if incident.daemon in names]
            events += [Event(incident.at, "died", str(incident)) for incident in happened]
        record["events"] = [[event.at, event.kind, event.text[:MAX_TEXT]] for event in events[:MAX_EVENTS]]


class Phase(Struct):
    """Setup, call or teardown of a test. Times are seconds since the epoch."""

    when: str
    start: float
    stop: float


class TestRecord(Struct, kw_only=True):
    """One run of one test."""

    nodeid: str
    worker: str
    outcome: str = "passed"
    """passed, failed, error (of a fixture), skipped, xfailed, xpassed, rerun, crashed or unfinished."""
    phases: list[Phase] = []
    daemons: list[str] = []
    spans: dict[str, list[int]] = {}
    """Daemon → the bytes of its log that were written meanwhile."""
    slices: list[list[str]] = []
    """Daemon and text: the ends of its logs in the reports of failures."""
    events: list[list[Any]] = []
    """Time, kind and text."""
    texts: list[str] = []
    """The reports of failures, and why it was skipped."""


class RunRecord:
    """Collects the reports of a run, in the controller."""

    def __init__(self) -> None:
        self.start = time.time()
        self.tests: list[TestRecord] = []
        self._open: dict[tuple[str, str], TestRecord] = {}
        """Test and worker → a run that has not been torn down yet."""
        self._room = MAX_TEXTS

    def take(self, report: pytest.TestReport) -> None:
        """Add a report."""
        record: dict[str, Any] = getattr(report, ATTRIBUTE, {})
        worker = record.get("worker") or self._node(report)
        test = self._open.get((report.nodeid, worker))
        if test is None:
            test = TestRecord(nodeid=report.nodeid, worker=worker)
            self._open[report.nodeid, worker] = test
            self.tests.append(test)
        self._judge(test, report)
        now = time.time()
        start, stop = getattr(report, "start", 0.0) or now, getattr(report, "stop", 0.0) or now
        when = report.when if report.when in ("setup", "call", "teardown") else "crash"
        test.phases.append(Phase(when, start, max(start, stop)))
        test.daemons = record.get("daemons", test.daemons)
        test.spans = record.get("spans", test.spans)
        test.slices += record.get("slices", [])
        test.events += record.get("events", [])
        if when in ("teardown", "crash"):
            del self._open[report.nodeid, worker]

    def take_collection(self, report: pytest.CollectReport) -> None:
        """Add a module or directory that could not be collected. Each xdist worker reports it."""
        nodeid = report.nodeid or "collection"
        if not any(test.nodeid == nodeid for test in self.tests):
            test = TestRecord(nodeid=nodeid, worker=workers.MAIN, outcome="error")
            test.phases.append(Phase("collection", time.time(), time.time()))
            self._add_text(test, report.longreprtext)
            self.tests.append(test)

    def conclude(self) -> None:
        """Note which tests have not ended."""
        for test in self._open.values():
            if test.outcome == "passed":
                test.outcome = "unfinished"

    @staticmethod
    def _node(report: pytest.TestReport) -> str:
        gateway = getattr(getattr(report, "node", None), "gateway", None)
        return str(getattr(gateway, "id", workers.MAIN))

    def _judge(self, test: TestRecord, report: pytest.TestReport) -> None:
        expected = hasattr(report, "wasxfail")
        outcome = str(report.outcome)
        if outcome == "failed" and report.when not in ("setup", "call", "teardown"):
            outcome = "crashed"
        elif outcome == "failed" and report.when != "call":
            outcome = "error"
        elif expected and outcome in ("passed", "skipped"):
            outcome = "xpassed" if outcome == "passed" else "xfailed"
        worse = outcome == "error" and test.outcome not in ("failed", "crashed")
        if test.outcome == "passed" or worse or outcome in ("failed", "crashed"):
            test.outcome = outcome
        if report.passed or not report.longrepr:
            return
        self._add_text(test, str(report.longrepr[-1]) if isinstance(report.longrepr, tuple) else report.longreprtext)

    def _add_text(self, test: TestRecord, text: str) -> None:
        if len(text) > MAX_TEXT:
            text = f"{text[:MAX_TEXT]}\n… {len(text) - MAX_TEXT} more characters"
        if len(text) <= self._room:
            self._room -= len(text)
            test.texts.append(text)
