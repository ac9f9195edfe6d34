"""Reports the daemons of a run in its header and its summary."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any

import pytest

from neo_daemons.control.client import Client
from neo_daemons.status import DaemonStatus
from neo_daemons.urls import redacted

from . import workers
from .choose import Choice
from .dependencies import describe, not_up, with_needs
from .guard import HookFailures, guarded
from .incidents import JournalReader
from .reporting import PROPERTY, TITLE
from .sessions import OwnSession, Session
from .unavailable import suppress_unavailable

WARM = "kept warm by an earlier run"
OLD_CODE = (
    "{} may run old code, as nothing in its definition names files to `watch`: run without --neo-daemons-keep to start "
    "the current code"
)


@guarded
class Summary:
    """Collects the lines of the summary in each process; the controller prints them."""

    def __init__(
        self, config: pytest.Config, choice: Choice, journal: JournalReader | None, hook_failures: HookFailures
    ) -> None:
        self.hook_failures = hook_failures
        self._config = config
        self._is_worker = workers.worker_id(config) is not None
        self._names = choice.names
        self._session = choice.session
        self._journal = journal
        self._remarks = [choice.remark] if choice.remark is not None else []
        self._tests_hit: dict[str, list[str]] = {}
        """Incident → the tests during which it occurred."""
        self._final: list[DaemonStatus] | None = None
        """The daemons at the end of the run; None before."""
        self.at_end: Callable[[list[DaemonStatus]], None] | None = None
        """Called with the daemons at the end of the run, which may end after it."""

    def remark(self, line: str) -> None:
        """Add a line to the summary, unless it has it already."""
        if line not in self._remarks:
            self._remarks.append(line)

    def pytest_report_header(self) -> str | None:
        if self._session is None:
            return None
        names = ", ".join(self._names)
        if not self._session.ours:
            down = "".join(f"; {line}" for line in not_up(self._names, self._session.client.status()))
            return f"neo-daemons: {names}, attached to the supervisor of {self._session.state_dir.path}{down}"
        if self._session.deployed.engine:
            return f"neo-daemons: {names}, run by {self._session.deployed.engine}"
        remark = _warmth(self._session) if isinstance(self._session, OwnSession) else None
        return f"neo-daemons: {names}, started on demand{f'; {remark}' if remark else ''}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not self._is_worker:
            for key, value in report.user_properties:
                if key == PROPERTY:
                    tests = self._tests_hit.setdefault(str(value).rpartition("; ")[0], [])
                    if report.nodeid not in tests:
                        tests.append(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        for line in workers.received_remarks(node):
            self.remark(line)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, Any, Any]:
        result = yield
        # Session fixtures have been torn down and the workers have exited, but the summary has not been printed yet.
        workers.send_remarks(self._config, [*self._remarks, *self.hook_failures.lines()])
        self.conclude()
        return result

    def conclude(self) -> None:
        """Read what the summary says of the daemons, which may end from now on."""
        if self._journal is not None:
            self._journal.read()
        if self._session is not None and not self._is_worker and self._final is None:
            self._final = []
            with suppress_unavailable():
                self._final = list(self._session.ask(Client.status).daemons)
            if self.at_end is not None:
                with self.hook_failures.noting("the report of the run"):
                    self.at_end(self._final)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        lines = self.lines()
        if lines:
            terminalreporter.section(TITLE)
            for line in lines:
                terminalreporter.write_line(line)

    def lines(self) -> list[str]:
        """Return the lines."""
        return [*self._lines(), *self._remarks, *self.hook_failures.lines()]

    def _lines(self) -> Iterable[str]:
        journal, session = self._journal, self._session
        if journal is None or session is None:
            return
        yield from self._daemons(journal, session)
        for incident in journal.incidents:
            if not incident.asked_for:
                during = ", ".join(self._tests_hit.get(incident.beginning, ())) or "no test"
                yield f"{incident}; during {during}"
        if isinstance(session, OwnSession):
            if session.replaced:
                times = _times(session.replaced)
                yield f"the supervisor was killed and replaced {times}; the new one adopted its daemons"
            for change in session.changes:
                yield f"{change.name}, kept warm by an earlier run, was updated: {change.reason}"
        yield from (f"reaped: {what}" for what in journal.reaped)
        yield from (f"{what}: {detail}" for what, detail in journal.faults.items())

    def _daemons(self, journal: JournalReader, session: Session) -> Iterable[str]:
        """Yield a line for each daemon that was used, then one for each unused daemon that these need."""
        shown, daemons = [], self._final or []
        for daemon in daemons:
            starts = journal.starts.get(daemon.name, 0)
            if daemon.name in self._names and (starts or daemon.ready):
                shown.append(daemon.name)
                yield _line(daemon, starts, session)
        final = {daemon.name: daemon for daemon in daemons}
        needs = {name: (*daemon.requires, *daemon.after) for name, daemon in final.items()}
        for name, needed_by in with_needs(shown, needs).items():
            if name in final and name not in shown:
                yield describe(final[name], needed_by)


def _warmth(session: OwnSession) -> str | None:
    """Return what the header says of daemons that an earlier run kept warm; None if there were none."""
    if session.not_reused is not None:
        return f"those kept warm by an earlier run were not used: {session.not_reused}"
    if not session.reused:
        return None
    return f"{WARM}; {OLD_CODE.format(', '.join(session.unwatched))}" if session.unwatched else WARM


def _line(daemon: DaemonStatus, starts: int, session: Session) -> str:
    parts = [daemon.name, redacted(daemon.url or "no port")]
    if daemon.name in session.deployed:
        parts += [session.deployed.places[daemon.name], f"of {session.deployed.engine}"]
        if daemon.name in session.deployed.tunnels and starts > 1:
            parts.append(f"tunnel restarted {_times(starts - 1)}")
        if not daemon.ready:
            parts.append(f"{daemon.state}: {daemon.detail}")
        return "  ".join(parts)
    parts.append(f"pid {daemon.pid}" if daemon.pid is not None else daemon.state)
    if not daemon.ready and daemon.state not in ("idle", "stopped", "external"):
        parts.append(f"{daemon.state}: {daemon.detail}")
    if daemon.state == "external":
        parts.append("observed only")
    elif not session.ours:
        parts.append("attached")
    elif not starts:
        parts.append("reused")
    elif daemon.ready_after_s is not None:
        parts.append(f"ready after {daemon.ready_after_s:.2f} s")
    if starts > 1:
        parts.append(f"restarted {_times(starts - 1)}")
    if daemon.note:
        parts.append(daemon.note)
    return "  ".join(parts)


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")
