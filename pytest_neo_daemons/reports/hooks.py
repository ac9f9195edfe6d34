"""Writes what a run reports beyond pytest's own output, in the process that prints the summary."""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import time
from collections.abc import Generator, Iterator
from typing import Any

import msgspec
import pytest

from neo_daemons.files import write_whole
from neo_daemons.status import DaemonStatus
from neo_daemons.version import VERSION

from ..guard import HookFailures, guarded
from ..incidents import JournalReader
from ..options import ARTIFACTS, REPORT
from ..sessions import Session
from ..summary import Summary
from . import step_summary
from .options import STEP_SUMMARY, ReportOptions
from .recording import RunRecord
from .remains import Reader, Remains

OUTCOMES: dict[int, str] = {
    pytest.ExitCode.OK: "passed",
    pytest.ExitCode.TESTS_FAILED: "failed",
    pytest.ExitCode.INTERRUPTED: "interrupted",
    pytest.ExitCode.INTERNAL_ERROR: "internal error",
    pytest.ExitCode.USAGE_ERROR: "usage error",
    pytest.ExitCode.NO_TESTS_COLLECTED: "no tests",
}
GREEN: frozenset[int] = frozenset({pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED})


@guarded
class ReportHooks:
    """Collects the reports of the tests, and writes the page, the artifacts and the step summary when the run ends."""

    def __init__(
        self,
        config: pytest.Config,
        options: ReportOptions,
        session: Session,
        journal: JournalReader,
        summary: Summary,
        hook_failures: HookFailures,
    ) -> None:
        self.hook_failures = hook_failures
        self._config = config
        self._options = options
        self._journal = journal
        self._summary = summary
        self._run = RunRecord()
        self._reader = Reader(session, journal.start)
        self._daemons: list[DaemonStatus] = []
        self._remains: Remains | None = None
        summary.at_end = self._take

    def _take(self, daemons: list[DaemonStatus]) -> None:
        """Read what the daemons have written, while it is still there."""
        self._daemons = daemons
        if self._options.keeps:
            self._remains = self._reader.read(daemons)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._options.keeps:
            self._run.take(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if self._options.keeps and report.failed:
            self._run.take_collection(report)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        result = yield
        exitstatus = session.exitstatus  # other plugins may have changed it
        self._summary.conclude()
        self._run.conclude()
        outcome = OUTCOMES.get(int(exitstatus), "ended")
        if self._options.keeps:
            self._write(outcome, green=exitstatus in GREEN)
        if self._options.step_summary is not None:
            incidents = [incident for incident in self._journal.incidents if not incident.asked_for]
            text = step_summary.markdown(outcome, self._daemons, self._journal.starts, incidents)
            if text:
                with self._remarking(STEP_SUMMARY, self._options.step_summary):
                    step_summary.append(self._options.step_summary, text)
        return result

    def _write(self, outcome: str, *, green: bool) -> None:
        page, directory = self._options.page, self._options.artifacts if not green else None
        if page is None and directory is None:
            return
        from .page import render
        from .page_data import Facts, build
        from .redaction import Redactor

        redactor = Redactor([os.environ, *self._variables()])
        facts = Facts(
            title=self._config.rootpath.name,
            command=shlex.join(["pytest", *map(str, self._config.invocation_params.args)]),
            versions=f"pytest {pytest.__version__}, Python {platform.python_version()}, neo-daemons {VERSION}",
            outcome=outcome,
            end=time.time(),
            remarks=[*self._summary.lines()],
        )
        text = render(build(facts, self._run, self._remains, redactor))
        if page is not None:
            with self._remarking(REPORT, page):
                page.parent.mkdir(parents=True, exist_ok=True)
                write_whole(page, text.encode())
                self._summary.remark(f"page of this run: {page}")
        if directory is not None:
            from . import artifacts

            with self._remarking(ARTIFACTS, directory):
                artifacts.write(directory, self._remains, text, redactor)
                self._summary.remark(f"logs and other artifacts of this run: {directory}")

    def _variables(self) -> list[dict[str, str]]:
        """Return the environments and request headers in which the definitions may keep secrets."""
        found: list[dict[str, str]] = []
        for definition in self._remains.definitions if self._remains is not None else ():
            found += [definition.env, definition.exports, definition.options]
            for probe in (*definition.ready, *definition.live):
                found.append(dict(msgspec.to_builtins(probe).get("headers", {})))
        return found

    @contextlib.contextmanager
    def _remarking(self, what: str, path: object) -> Iterator[None]:
        """Say in the summary that a file could not be written; the run has its result all the same."""
        try:
            yield
        except OSError as error:
            self._summary.remark(f"{what} {path}: cannot be written: {error.strerror or error}")
