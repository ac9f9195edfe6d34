"""Reports incidents of daemons in the reports of failing tests and to the hooks of a project."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping

import pytest

from neo_daemons.status import Status

from . import reporting
from .config_files import configuration_above, file_daemons, stated_configuration
from .dependencies import needs, not_up, with_needs
from .guard import HookFailures, guarded, note
from .incidents import Incident
from .log_slices import Slice
from .provider import Provider
from .selection import Selection
from .unavailable import not_available, suppress_unavailable
from .watch import WATCH, Watch, Watcher

WIDER = (
    "a test marked isolated=True gets its own daemon instead of the shared one, so it cannot use a fixture of a wider "
    'scope that depends on the shared daemon; remove the mark and call new_daemon("NAME") in the test'
)


@guarded
class IncidentHooks:
    """Explains test failures, in the processes that run tests.

    Args:
        log_lines: how many lines of each log a failure report shows; 0: none.
    """

    def __init__(
        self,
        config: pytest.Config,
        provider: Provider,
        selection: Selection,
        watcher: Watcher,
        hook_failures: HookFailures,
        log_lines: int,
    ) -> None:
        self.hook_failures = hook_failures
        self._config = config
        self._log_lines = log_lines
        self._provider = provider
        self._selection = selection
        self._watcher = watcher
        self._announced: dict[str, bool] = {}
        """Incident → whether its end has been announced too."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed or WATCH in item.stash:  # most tests pass, and use no daemon
            try:
                self._complete(item, report)
            except BaseException as error:
                note(self, "pytest_runtest_makereport", error, (item,))
        return report

    def _complete(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Add what happened to daemons."""
        if report.failed and report.when == "setup":
            self._explain(item, report)
        watch = item.stash.get(WATCH, None)
        if watch is None:
            return
        status = None
        concerning = self._provider.concerning(item)
        if report.failed and concerning:
            # The test may be faster than the supervisor, which writes earlier events to the journal before it answers.
            with suppress_unavailable():
                status = self._provider.session.client.status()
        incidents = watch.incidents()
        if not incidents and not report.failed:
            return
        built_on = with_needs(concerning, self._needs(status))
        incidents = [incident for incident in incidents if incident.daemon in built_on]
        if incidents:
            reporting.set_properties(item, report, incidents)
            self._announce(incidents, item.nodeid)
        if report.failed:
            for incident in incidents:
                if not watch.is_news(incident.beginning):
                    continue
                culprit = "tunnel" if incident.is_tunnel else "daemon"
                blame = "" if incident.asked_for else f"\nThe {culprit}, not the test, may have caused this failure."
                reporting.add_section(report, reporting.TITLE, f"{incident}{blame}")
            if status is not None:
                self._add_what_is_down(concerning, report, status, watch)
            logs = {name: self._watcher.logs[name] for name in built_on if name in self._watcher.logs}
            self._add_slices(report, watch.take_slices(logs))

    def _add_slices(self, report: pytest.TestReport, slices: Iterable[Slice]) -> None:
        """Add what daemons logged, except those whose failure to start the report already explains by their logs."""
        told = str(report.longrepr)
        for found in slices:
            text = found.text(self._log_lines)
            if text and not_available(found.daemon) not in told:
                reporting.add_section(report, f"log of {found.daemon} during this test", text)

    def _needs(self, status: Status | None) -> Mapping[str, Iterable[str]]:
        """Map each daemon to those that it requires or starts after."""
        if status is not None:
            return needs(status)
        found: dict[str, Iterable[str]] = {}
        with suppress_unavailable():
            for name in self._provider.session.names:
                definition = self._provider.session.definition(name)
                if definition is not None:
                    found[name] = (*definition.requires, *definition.after)
        return found

    def _announce(self, incidents: Iterable[Incident], test: str) -> None:
        hook = self._config.hook
        for incident in incidents:
            if incident.beginning not in self._announced:
                self._announced[incident.beginning] = False
                with self.hook_failures.noting("pytest_neo_daemons_died", test):
                    hook.pytest_neo_daemons_died(config=self._config, incident=incident)
            if incident.back_after_s is not None and not self._announced[incident.beginning]:
                self._announced[incident.beginning] = True
                with self.hook_failures.noting("pytest_neo_daemons_restarted", test):
                    hook.pytest_neo_daemons_restarted(config=self._config, incident=incident)

    def _add_what_is_down(
        self, concerning: frozenset[str], report: pytest.TestReport, status: Status, watch: Watch
    ) -> None:
        """Add which daemons that a failing test depends on are not up. Only those that it was given count, because
        others may not have been started yet."""
        given = {*self._provider.handles, *self._provider.isolation.names}
        lines = not_up([name for name in concerning if name in given], status)
        told = str(report.longrepr)
        names = self._provider.session.names
        lines = [line for line in lines if not any(not_available(name) in told for name in names)]
        lines = [line for line in lines if watch.is_news(line)]
        if lines:
            reporting.add_section(report, reporting.TITLE, "\n".join(lines))

    def _explain(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Explain what pytest's own message about an unusable fixture leaves open."""
        told = str(report.longrepr)
        if "ScopeMismatch" in told and any(self._selection.isolated_for(item)):
            reporting.add_section(report, reporting.TITLE, WIDER)
        if "' not found" in told:
            self._name_the_configuration(item, report)

    def _name_the_configuration(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """If a fixture is missing, name a configuration near the test that this run does not use."""
        root = self._config.rootpath
        path = configuration_above(item.path, root)
        stated = stated_configuration(self._config)
        if path is None or path == stated:
            return
        used = stated or f"neo-daemons.toml or [tool.neo_daemons] from {root} upwards"
        near = path.relative_to(root)
        names = ", ".join(file_daemons(path) or ()) or "none"
        reporting.add_section(
            report,
            reporting.TITLE,
            f"{near} defines {names}, but this run uses {used} (one configuration per run).\n"
            f"fix: run pytest in {near.parent}, or with --neo-daemons-config {near}",
        )
