"""Raises the fence around a run: what tests are refused fails them, and the summary tells of it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from neo_daemons import processes
from neo_daemons.unpatched import Unpatched

from .. import reporting
from ..events import note_event
from .embedded import guard
from .equipment import Equipment
from .known import Known, own_ports
from .sampler import Sampler
from .wall import Owner, Wall

if TYPE_CHECKING:
    from ..sessions import Session

NAME = "neo_daemons_fence"
PROPERTY = "neo_daemons_fence"
"""The property of a report with what was refused, and the key of what a worker sends at its end."""
TITLE = "neo-daemons fence"
LOOK_S = 0.02
"""The registry is looked at between two tests, but not more often than this."""
STARTING = "a plugin or conftest.py, while pytest was starting,"
BETWEEN = "the test run, outside of any test,"


class Fence:
    """Keeps the tests of this process, and the processes that they start, away from production.

    It stands from `begin` to `end`.
    """

    def __init__(self, config: pytest.Config, allowed: Iterable[str], *, is_on: bool) -> None:
        self._config = config
        self._pid = Unpatched.getpid()
        """The process that makes reports."""
        self._known = Known(config.rootpath, [*allowed], is_on=is_on)
        for url in _external(config):
            self._known.allow_url(url)
        self._wall = Wall(self._tell, self._subject, self._confirm, self._about_to_spawn)
        self._equipment = Equipment()
        self._sampler = Sampler(lambda: self._wall.plan, self._tell_connection)
        self._own: Path | None = None
        """The state directory of the run's own session."""
        self._phase = STARTING
        self._new: list[str] = []
        """What was refused and not reported yet."""
        self._told: dict[str, None] = {}
        """What was refused, for the summary."""
        self._late: list[str] = []
        """What was refused that no report tells."""
        self._runs_tests = False
        self._faults: dict[str, None] = {}
        self._next_look = 0.0
        self._made: object = None
        """The latest report that this process has made."""
        self._elsewhere: set[str] = set()
        """What the reports of forked processes say was refused."""

    def begin(self) -> None:
        """Fence what is registered now."""
        self._look()

    def join(self, session: Session | None) -> None:
        """Let the daemons of the run's session through."""
        for url in session.external if session is not None else ():
            self._known.allow_url(url)
        if session is not None and session.ours:
            self._own = session.state_dir.path
        elif session is not None:
            self._known.allow(session.state_dir.path)

    def _look(self) -> None:
        """Look whether the registry has changed."""
        self._next_look = Unpatched.monotonic() + LOOK_S
        if self._known.has_changed():
            self._wall.stand(self._known.plan())
            if self._wall.plan.zones:
                guard(self._wall)
            self._equip()

    def _equip(self) -> None:
        """Put the processes that tests start behind the fence. Not those of pytest-xdist, which raise their own."""
        plan = self._wall.plan
        if self._runs_tests and (plan.ports or plan.zones or self._equipment.is_on):
            try:
                self._equipment.equip(plan)
            except OSError as error:
                self._faults[f"processes that tests start are not fenced: {error}"] = None

    # What the wall asks

    def _subject(self) -> str:
        test, _, phase = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")
        who = self._phase
        if test:
            who = test if phase == "call)" else f"{test} ({phase}"
        return who if Unpatched.getpid() == self._pid else f"{who}: its process {Unpatched.getpid()}"

    def _confirm(self, number: int, owner: Owner) -> bool:
        """Return whether a fenced daemon is really what would be reached."""
        if not self._known.still_has(number, owner):
            return False
        with contextlib.suppress(OSError, ValueError):
            if processes.listens(Unpatched.getpid(), "127.0.0.1", number):
                return False  # a server of the test's own
        return self._own is None or number not in own_ports(self._own)

    def _about_to_spawn(self) -> None:
        if self._wall.plan.ports:
            self._sampler.wake()

    def _tell(self, text: str) -> None:
        if Unpatched.getpid() == self._pid:
            self._new.append(text)
        else:
            self._equipment.add(text)

    def _tell_connection(self, pid: int, command: str, number: int) -> None:
        for port in self._wall.plan.ports.get(number, ()):
            if self._confirm(number, port.owner):
                whose = "native code in its process" if pid == self._pid else "its process"
                self._tell(
                    f"{self._subject()}: {whose} {pid} ({command}) was connected to port {number}, which is "
                    f"{port.owner.what}. It could not be refused, and may have changed data. {port.owner.remedy}"
                )
                return

    def _take_new(self) -> list[str]:
        """Return what was refused since the last call."""
        if self._equipment.is_on:
            self._new += self._equipment.hits()
        if not self._new:
            return []
        new, self._new = [*dict.fromkeys(text for text in self._new if text not in self._elsewhere)], []
        self._told.update(dict.fromkeys(new))
        return new

    # Tests

    def _become_reporter(self) -> None:
        """Report in the child of a fork, which runs this test, what this test is refused."""
        self._pid = Unpatched.getpid()
        self._sampler = Sampler(lambda: self._wall.plan, self._tell_connection)
        self._equipment.hits()  # they are of tests before
        self._new.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        if Unpatched.getpid() != self._pid:
            self._become_reporter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report is not self._made:
            properties = getattr(report, "user_properties", ())  # not all plugins make whole reports
            texts = [str(value) for key, value in properties if key == PROPERTY]
            self._told.update(dict.fromkeys(texts))
            self._elsewhere.update(texts)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Generator[None, Any, pytest.TestReport]:
        new = self._take_new()
        for text in new:
            note_event(item, "fenced", text)
        report: pytest.TestReport = yield
        self._made = report
        if call.when == "teardown" and Unpatched.monotonic() > self._next_look:
            self._look()
        if new:
            properties = [(PROPERTY, text) for text in new]
            item.user_properties += properties
            report.user_properties = [*report.user_properties, *properties]
            if hasattr(report, "wasxfail"):
                del report.wasxfail
            _fail(report, new)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Any, pytest.CollectReport]:
        if not self._runs_tests:
            self._runs_tests = True
            self._equip()
        before, self._phase = self._phase, f"the collection of {collector.nodeid or 'the tests'}"
        report: pytest.CollectReport = yield
        self._phase = before
        new = self._take_new()
        if new:
            _fail(report, new)
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if self._wall.plan.zones:
            self._known.found_tests({str(item.path.parent) for item in session.items})
            self._look()

    # The run

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        self._late += self._take_new()  # of conftest files that have kept silent
        self._phase = BETWEEN

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """This is the controller of pytest-xdist: its workers look at what the tests start."""
        self._sampler.close()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        late, remarks = getattr(node, "workeroutput", {}).get(PROPERTY, ((), ()))
        self._late += late
        self._told.update(dict.fromkeys(late))
        self._faults.update(dict.fromkeys(remarks))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        result = yield
        self._late += self._take_new()
        workeroutput: dict[str, Any] | None = getattr(self._config, "workeroutput", None)
        if workeroutput is not None:
            workeroutput[PROPERTY] = [*self._late], [*self._faults, *self._known.remarks]
        if self._late and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        lines = dict.fromkeys([*self._told, *self._faults, *self._known.remarks])
        if lines:
            terminalreporter.section(TITLE)
            for line in lines:
                terminalreporter.write_line(line)

    def end(self) -> None:
        """Take the fence down."""
        self._sampler.close()
        self._wall.fall()
        self._equipment.close()


def _external(config: pytest.Config) -> list[str]:
    """Return the URLs of external daemons that are stated for this run. Pytest may not have parsed all of its arguments
    yet."""
    stated = getattr(config.known_args_namespace, "neo_daemons_url", None)
    return [text.partition("=")[2] for text in stated or config.getini("neo_daemons_url")]


def _fail(report: Any, texts: list[str]) -> None:
    """Make a report fail, unless it has failed by what was refused."""
    if report.outcome != "failed":
        report.outcome, report.longrepr = "failed", "\n".join(texts)
        return
    said = str(report.longrepr)
    more = [text for text in texts if text not in said]
    if more:
        reporting.add_section(report, TITLE, "\n".join(more))


def allowed(config: pytest.Config, directory: Path) -> list[str]:
    """Return the setting: names of daemons, and absolute state directories.

    Raises:
        pytest.UsageError: it has something else.
    """
    found = []
    for text in config.getini("neo_daemons_fence_allow"):
        if "/" in text or text.startswith((".", "~")):
            found.append(str(directory / Path(text).expanduser()))
        elif re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", text):
            found.append(text)
        else:
            raise pytest.UsageError(
                f"neo_daemons_fence_allow = {text}: expected the name of a daemon, or the path of a state directory"
            )
    return found
