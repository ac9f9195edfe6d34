"""The plugin, switched on: its session, what it does at each step of a run, and what it reports."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from neo_daemons.control.client import Client, ControlError
from neo_daemons.definitions import Definition
from neo_daemons.state_dir import StateDirError
from neo_daemons.urls import redacted

from . import fixtures, reporting, standing
from .guard import ENDING, Mishaps, guarded
from .handles import NOT_OURS, Daemon, Daemons, begin
from .incidents import Incident, JournalReader
from .isolation import Isolation, define
from .joining import WORKER_KEY, join, wrong_with
from .options import Options, resolve
from .plugin import configuration_above, fixture_name, in_file, shared_fixture_name
from .progress import Progress
from .sessions import OwnSession, Session, Unavailable, machine

if TYPE_CHECKING:
    from neo_daemons.status import DaemonStatus, Status

USES = pytest.StashKey[tuple[str, ...]]()
WATCH = pytest.StashKey[reporting.Watch]()
PARALLEL = "other workers may be using it; have one of the test's own: new_daemon({name!r})"

WARM = (
    "kept warm by an earlier run, and running the code of that time; a run without --neo-daemons-keep starts the "
    "present one"
)
WIDER = (
    "a test that is marked isolated=True has its own daemon in place of the fixture, and a fixture of a wider scope "
    'that is built on the shared one cannot be used beside it; remove the mark, and use new_daemon("NAME") in the test'
)


def activate(config: pytest.Config) -> None:
    """Switch the plugin on.

    Raises:
        pytest.UsageError: an option or the configuration cannot be used.
    """
    from neo_daemons.config.errors import ConfigError

    options = resolve(config)
    try:
        active = Active(config, options, *join(config, options))
    except (ConfigError, StateDirError, ControlError) as error:
        raise pytest.UsageError(f"neo-daemons: {error}") from None
    except OSError as error:
        raise pytest.UsageError(f"neo-daemons: cannot use {error.filename or 'a file'}: {error.strerror}") from None
    config.pluginmanager.register(active, "neo_daemons_active")
    config.pluginmanager.register(fixtures, "neo_daemons_fixtures")
    config.pluginmanager.register(fixtures.of_daemons(active), "neo_daemons_fixtures_of_daemons")


def _check_definition(name: str, definition: Definition | None) -> None:
    wrong = wrong_with(definition, name) if definition is not None else None
    if wrong is not None:
        pytest.fail(f"what the fixture {fixture_name(name)}_definition returns {wrong}", pytrace=False)


@guarded
class Active:
    """What the plugin does in one process of a run."""

    def __init__(
        self,
        config: pytest.Config,
        options: Options,
        session: Session | None,
        names: tuple[str, ...],
        remark: str | None,
    ) -> None:
        self._config = config
        self._options = options
        self._session = session
        self._remarks = [remark] if remark is not None else []
        self.mishaps = Mishaps()
        self.names = names
        self._by_fixture = {fixture_name(name): name for name in names}
        self._by_fixture |= {shared_fixture_name(name): name for name in names}
        self._workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
        self._parallel = self._workerinput is not None and self._workerinput["workercount"] > 1
        self._handles: dict[str, Daemon] = {}
        self._touched: set[str] = set()
        """Shared daemons whose handles the present test has looked at, however it came by them."""
        self._item: pytest.Item | None = None
        """The present test."""
        self._isolation: Isolation | None = None
        self._vain: set[str] = set()
        """Daemons that the present test could not have."""
        self._made: dict[str, tuple[pytest.FixtureDef[Any], Any]] = {}
        """Our fixtures of daemons, and the requests for them."""
        self._logs = {name: session.state.daemon_log(name) for name in names} if session is not None else {}
        self._exported: dict[str, str | None] = {}
        """What the environment had before."""
        self._tests_hit: dict[str, list[str]] = {}
        """Incident → the tests during which it was."""
        self._looked_at: dict[str, int] = {}
        """Where the journal was when each daemon was last seen to be ready."""
        self._told: dict[str, bool] = {}
        """Incident → whether its end has been told too."""
        self._final: list[DaemonStatus] = []
        self._journal: JournalReader | None = None
        self._progress: Progress | None = None
        if session is not None:
            worker = self._workerinput["workerid"] if self._workerinput is not None else "main"
            self._isolation = Isolation(session, worker)
            told = self._workerinput.get(WORKER_KEY) if self._workerinput is not None else None
            known = isinstance(session, OwnSession) and not session.reused
            start = 0 if known else told["journal_from"] if told is not None else None
            self._journal = JournalReader(session.state.journal, start)

    @property
    def session(self) -> Session:
        """The session; there whenever a test runs."""
        assert self._session is not None
        return self._session

    def daemons(self, request: pytest.FixtureRequest) -> Daemons:
        """What the fixture ``neo_daemons`` gives."""

        def get(name: str) -> Daemon:
            # Only pytest knows whose definition of it counts.
            made: Daemon = self._handles.get(name) or request.getfixturevalue(shared_fixture_name(name))
            return made

        return Daemons(self.names, get, self.session.state.path)

    # Daemons for tests

    @property
    def isolation(self) -> Isolation:
        """The daemons of the present test's own; there whenever a test runs."""
        assert self._isolation is not None
        return self._isolation

    def obtain(self, name: str, definition: Definition | None) -> Daemon:
        """The shared daemon of that name."""
        _check_definition(name, definition)
        if definition is not None and definition != self.session.definition(name):
            self._change(name, definition)
        handle = self._handles.get(name)
        if handle is None:
            self._begin_watch()
            handle = Daemon(self.session, name, lambda: self._refusal(name), self._export, self._touch)
            self._vain.add(name)
            begin(handle)
            self._vain.discard(name)
            self._handles[name] = handle
            self._announce("pytest_neo_daemons_ready", daemon=handle)
        return handle

    def _begin_watch(self) -> None:
        """Note where journal and logs are, as soon as the present test uses a daemon: most use none."""
        if self._item is not None and self._journal is not None and WATCH not in self._item.stash:
            self._journal.read()
            self._item.stash[WATCH] = reporting.Watch(self._journal, self._logs)

    def _touch(self, name: str) -> None:
        """The present test looks at the handle of a shared daemon, which may have been restarted on another port."""
        if name in self._touched:
            return
        self._touched.add(name)
        self._begin_watch()
        handle = self._handles.get(name)
        if handle is not None and self._has_news(name):
            with _whatever_comes():
                if handle.see(self.session.client.status().daemon(name)):
                    self._keep_looked_at(name)

    def _has_news(self, name: str) -> bool:
        """Whether anything has happened since a daemon was last seen to be ready."""
        return self._journal is not None and self._looked_at.get(name) != self._journal.position

    def _keep_looked_at(self, name: str) -> None:
        if self._journal is not None:
            self._looked_at[name] = self._journal.position

    def _change(self, name: str, definition: Definition) -> None:
        if not self.session.ours:
            pytest.fail(f"cannot change the definition of {name}: {NOT_OURS}", pytrace=False)
        define(self.session, definition)

    def isolate(self, name: str, definition: Definition | None, handle: Daemon | None = None) -> Daemon:
        """A new daemon, like the shared one of that name, for the present test; `handle` is made to lead to it."""
        _check_definition(name, definition)
        self._begin_watch()
        daemon = self.isolation.begin(handle or self.isolation.promise(name), definition)
        self._logs[daemon.name] = daemon.log_path
        return daemon

    def is_isolated(self, daemon: Daemon) -> bool:
        """Whether it is one test's own, which ends with it."""
        return any(handle is daemon for handle in self.isolation.handles)

    def _refusal(self, name: str) -> str | None:
        if not self.session.ours:
            return NOT_OURS
        return PARALLEL.format(name=name) if self._parallel else None

    def _export(self, daemon: Daemon) -> None:
        if self._options.export_env:
            for variable, value in daemon.env.items():
                self._exported.setdefault(variable, os.environ.get(variable))
                os.environ[variable] = value

    def _used_by(self, item: pytest.Item) -> tuple[str, ...]:
        """The shared daemons that a test uses, as far as its fixtures and markers say."""
        if USES not in item.stash:
            fixtures: Iterable[str] = getattr(item, "fixturenames", ())
            names = [self._by_fixture[name] for name in fixtures if name in self._by_fixture]
            names += self._marked(item)
            isolated: set[str] = set()
            for marker in item.iter_markers("neo_daemons"):
                isolated |= set(marker.args) if marker.kwargs.get("isolated") else set()
            item.stash[USES] = tuple(name for name in dict.fromkeys(names) if name not in isolated)
        return item.stash[USES]

    def is_overridden(self, name: str, items: Iterable[pytest.Item], *, itself: bool = False) -> bool:
        """Whether a project has a definition fixture of its own, or one in the place of the daemon's `itself`: then
        starting the daemon waits for that."""
        attributes = [f"{fixture_name(name)}_definition", *([str(fixture_name(name))] if itself else [])]
        holders: set[Any] = set()
        for item in items:
            holders |= {getattr(item, "module", None), getattr(item, "cls", None)}
        manager = self._config.pluginmanager
        holders |= manager.get_plugins() - {manager.get_plugin("neo_daemons_fixtures_of_daemons")}
        return any(hasattr(holder, attribute) for holder in holders for attribute in attributes)

    # Hooks: the run

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """xdist: tell a worker where the daemons are."""
        if self._session is not None:
            node.workerinput[WORKER_KEY] = {
                "machine": machine(),
                "state_dir": str(self._session.state.path),
                "names": list(self.names),
                "attached": not self._session.ours,
                "journal_from": self._journal.start if self._journal is not None else 0,
            }

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """xdist: hear what a worker has to say."""
        self._remarks += getattr(node, "workeroutput", {}).get(WORKER_KEY, [])

    def pytest_report_header(self) -> str | None:
        if self._session is None:
            return None
        names = ", ".join(self.names)
        if not self._session.ours:
            down = standing.not_up(self.names, self._session.client.status())
            return (
                f"neo-daemons: {names}, of the serve in {self._session.state.path}{''.join(f'; {it}' for it in down)}"
            )
        reused = isinstance(self._session, OwnSession) and self._session.reused
        return f"neo-daemons: {names}, started on demand{f'; {WARM}' if reused else ''}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        if self._session is not None and self._workerinput is None:
            self._progress = Progress(self._config, self._session.client)
        if isinstance(self._session, OwnSession) and self._session.reused:
            try:
                self._session.need_supervisor()  # before any worker uses it: it may have to change for this run
            except (Unavailable, ControlError) as error:
                raise pytest.UsageError(f"neo-daemons: {error}") from None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        for name in self._isolated_for(metafunc.definition):
            fixture = fixture_name(name)
            if fixture is None or fixture not in metafunc.fixturenames:
                pytest.fail(
                    f"{metafunc.definition.nodeid}: neo_daemons({name!r}, isolated=True) on a test that does not "
                    f"use the fixture {fixture or name!r}",
                    pytrace=False,
                )
            # In place of the fixture, for this test alone: pytest's own way to override one.
            own = self._isolation.promise(name) if self._isolation is not None else None
            metafunc.parametrize(fixture, [own], ids=[pytest.HIDDEN_PARAM])

    def _isolated_for(self, node: pytest.Item) -> dict[str, None]:
        """The daemons that a test is to have for itself, in order."""
        names: dict[str, None] = {}
        for marker in node.iter_markers("neo_daemons"):
            self._check_marker(marker)
            if marker.kwargs.get("isolated"):
                names |= dict.fromkeys(marker.args)
        return names

    def _check_marker(self, marker: pytest.Mark) -> None:
        unknown = [name for name in marker.args if name not in self.names]
        if unknown:
            pytest.fail(
                f"@pytest.mark.neo_daemons({unknown[0]!r}): no such daemon; configured: {', '.join(self.names)}",
                pytrace=False,
            )
        if not marker.args or set(marker.kwargs) - {"isolated"}:
            pytest.fail('@pytest.mark.neo_daemons: write ("NAME", …) or ("NAME", …, isolated=True)', pytrace=False)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Have pytest make the fixtures of what is only marked: the definition may be overridden beside the test."""
        for item in items:
            names = getattr(item, "fixturenames", None)
            if names is not None:
                # A list of its own: those of the other parameters may be marked otherwise.
                setattr(item, "fixturenames", [*map(shared_fixture_name, self._marked(item)), *names])  # noqa: B010

    def _marked(self, item: pytest.Item) -> dict[str, None]:
        """The shared daemons that a test's markers name."""
        markers = [marker for marker in item.iter_markers("neo_daemons") if not marker.kwargs.get("isolated")]
        return dict.fromkeys(name for marker in markers for name in marker.args if name in self.names)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Have what the selected tests use started, all at once, while the first of them are set up."""
        if self._session is None or not self._session.ours:
            return
        used: dict[str, None] = {}
        for item in session.items:
            if self._used_by(item) and not _is_left_out(item):
                parameters = _parameters(item)  # may be values, and no fixtures
                used |= dict.fromkeys(name for name in self._used_by(item) if fixture_name(name) not in parameters)
        for name in used:
            if not self.is_overridden(name, session.items, itself=True):
                try:
                    self._session.need(name, 0.0)
                except (Unavailable, ControlError):
                    return  # the tests that need it will say so

    # Hooks: a test

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self._session is None:
            return
        parameters = _parameters(item)
        for name in self._isolated_for(item):
            if not isinstance(parameters.get(fixture_name(name)), Daemon):
                pytest.fail(
                    f"neo_daemons({name!r}, isolated=True) is for test functions and classes: "
                    "it has no effect in pytest.param(…, marks=…) and on unittest.TestCase",
                    pytrace=False,
                )
        for handle in self.isolation.handles:
            self._logs.pop(handle.name, None)
        self.isolation.handles.clear()
        self._touched.clear()
        self._item = item
        if WATCH in item.stash:  # it is run again
            del item.stash[WATCH]
        if not self._concerning(item):
            return
        if self._journal is not None:
            self._journal.read()
        for name in self._used_by(item):
            if name in self._handles and self._has_news(name):
                # A daemon that died between two tests is no reason for the second to fail.
                begin(self._handles[name])
                self._keep_looked_at(name)
        if not hasattr(item, "fixturenames"):
            for name in self._marked(item):
                self.obtain(name, None)
        self._begin_watch()

    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any], request: Any) -> None:
        name = self._by_fixture.get(fixturedef.argname)
        if name is not None:
            self._made[fixturedef.argname] = (fixturedef, request)
            handle = getattr(request, "param", None)
            if isinstance(handle, Daemon):
                self.isolate(name, fixtures.defined(name, self, request), handle)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        if self._session is not None:
            self._repair(item)
        try:
            return (yield)
        finally:
            if self._session is not None:
                self._forget_vain()
                self.isolation.end()
                self._repair_handles()  # once more: a fixture may have used a fault, too

    def _repair_handles(self) -> None:
        for handle in self._handles.values():
            if handle.is_hurt:
                with _whatever_comes():
                    handle.repair()

    def _forget_vain(self) -> None:
        """Have pytest ask again for a daemon that could not be had: the supervisor knows whether that is of use."""
        for name in self._vain:
            for made in (fixture_name(name), shared_fixture_name(name)):
                if made in self._made:
                    fixture, request = self._made.pop(made)
                    fixture.finish(request)
        self._vain.clear()

    def _repair(self, item: pytest.Item) -> None:
        """Before the fixtures are torn down: that may need the daemons, as the next test will."""
        for handle in self.isolation.handles:
            with _whatever_comes():
                handle.unpause()  # it ends with the test: no more is done for it
        self._repair_handles()
        watch = item.stash.get(WATCH, None)
        incidents = watch.incidents() if watch is not None else []
        for name in {incident.daemon for incident in incidents}:
            used = name in self._touched or name in self._used_by(item)
            if used and name in self._handles:
                # So that the report can say, too, after how long it was back, and where it is now.
                with _whatever_comes():
                    self._handles[name].wait_ready()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if self._session is not None and report.failed and report.when == "setup":
            self._explain(item, report)
        watch = item.stash.get(WATCH, None)
        if watch is None:
            return report
        status = None
        if report.failed and self._concerning(item):
            # The test may be quicker than the supervisor: what happened before it was asked is told before it answers.
            with _whatever_comes():
                status = self.session.client.status()
        incidents = watch.incidents()
        if not incidents and not report.failed:
            return report
        concerning = standing.with_needs(self._concerning(item), self._needs(status))
        incidents = [incident for incident in incidents if incident.daemon in concerning]
        if incidents:
            reporting.set_properties(item, report, incidents)
            self._tell(incidents, item.nodeid)
        if report.failed:
            for incident in incidents:
                blame = "" if incident.asked_for else "\nThis failure may be the daemon's, not the test's."
                reporting.add_section(report, "neo-daemons", f"{incident}{blame}")
            self._report_what_is_down(item, report, status)
            for name, text in watch.slices({name: self._logs[name] for name in concerning if name in self._logs}):
                reporting.add_section(report, f"log of {name} during this test", text)
        return report

    def _report_what_is_down(self, item: pytest.Item, report: pytest.TestReport, status: Status | None) -> None:
        """Say which of the daemons that a failing test stands on are not up: of those that it was given, as others
        may not have been started yet."""
        used = [name for name in self._concerning(item) if name in self._handles or name in self.isolation.names]
        lines = standing.not_up(used, status) if status is not None else []
        told = str(report.longrepr)
        lines = [line for line in lines if not any(f"{name} cannot be had" in told for name in self.names)]
        if lines:
            reporting.add_section(report, "neo-daemons", "\n".join(lines))

    def _explain(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """What pytest's own words for a fixture that cannot be used leave open."""
        told = str(report.longrepr)
        if "ScopeMismatch" in told and any(self._isolated_for(item)):
            reporting.add_section(report, "neo-daemons", WIDER)
        if "' not found" in told:
            self._name_the_configuration(item, report)

    def _name_the_configuration(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Where a fixture is missing: the one beside the test, if this run does not use it."""
        path = configuration_above(item.path, self._config.rootpath)
        if path is None or path == self._options.config:
            return
        used = self._options.config or f"neo-daemons.toml or [tool.neo_daemons] from {self._config.rootpath} upwards"
        near = path.relative_to(self._config.rootpath)
        names = ", ".join(in_file(path) or ()) or "none"
        reporting.add_section(
            report,
            "neo-daemons",
            f"{near} configures {names}, and this run does not use it: a run has one configuration, here {used}.\n"
            f"Run pytest in {near.parent}, or with --neo-daemons-config {near}",
        )

    def _concerning(self, item: pytest.Item) -> frozenset[str]:
        """The daemons that may have to do with how a test ends."""
        if "neo_daemons" in getattr(item, "fixturenames", ()):
            return frozenset({*self.names, *self.isolation.names})
        return frozenset({*self._used_by(item), *self._touched, *self.isolation.names})

    def _needs(self, status: Status | None) -> Mapping[str, Iterable[str]]:
        """Daemon → those that it requires or starts after."""
        if status is not None:
            return standing.needs(status)
        definitions = {name: self.session.definition(name) for name in self.names}
        return {
            name: (*definition.requires, *definition.after)
            for name, definition in definitions.items()
            if definition is not None
        }

    def _tell(self, incidents: Iterable[Incident], test: str) -> None:
        for incident in incidents:
            if incident.beginning not in self._told:
                self._told[incident.beginning] = False
                self._announce("pytest_neo_daemons_died", test, incident=incident)
            if incident.back_after_s is not None and not self._told[incident.beginning]:
                self._told[incident.beginning] = True
                self._announce("pytest_neo_daemons_restarted", test, incident=incident)

    def _announce(self, hook: str, test: str | None = None, **arguments: Any) -> None:
        """Call a project's hook. What goes wrong in it is the project's, and the run goes on."""
        try:
            getattr(self._config.hook, hook)(config=self._config, **arguments)
        except ENDING:
            raise
        except BaseException as error:
            self.mishaps.note(hook, error, test)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._workerinput is None:
            for key, value in report.user_properties:
                if key == reporting.PROPERTY:
                    tests = self._tests_hit.setdefault(str(value).rpartition("; ")[0], [])
                    if report.nodeid not in tests:
                        tests.append(report.nodeid)

    # Hooks: the end

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, Any, Any]:
        result = yield
        # The session's fixtures have been torn down, the workers are gone, and the summary is yet to come.
        workeroutput: dict[str, Any] | None = getattr(self._config, "workeroutput", None)
        if workeroutput is not None:
            workeroutput[WORKER_KEY] = [*self._remarks, *self.mishaps.lines()]
        if self._progress is not None:
            self._progress.close()
        if self._journal is not None:
            self._journal.read()
        if self._session is not None and self._workerinput is None:
            with _whatever_comes():
                self._final = list(self._session.ask(Client.status).daemons)
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        lines = [*self._summary(), *self._remarks, *self.mishaps.lines()]
        if lines:
            terminalreporter.section("neo-daemons")
            for line in lines:
                terminalreporter.write_line(line)

    def _summary(self) -> Iterable[str]:
        journal, session = self._journal, self._session
        if journal is None or session is None:
            return
        shown = []
        for daemon in self._final:
            starts = journal.starts.get(daemon.name, 0)
            if daemon.name in self.names and (starts or daemon.ready):
                shown.append(daemon.name)
                yield _describe(daemon, starts, ours=session.ours)
        final = {daemon.name: daemon for daemon in self._final}
        needs = {name: (*daemon.requires, *daemon.after) for name, daemon in final.items()}
        for name, needed_by in standing.with_needs(shown, needs).items():
            if name in final and name not in shown:
                yield standing.describe(final[name], needed_by)
        for incident in journal.incidents:
            if not incident.asked_for:
                during = ", ".join(self._tests_hit.get(incident.beginning, ())) or "no test"
                yield f"{incident}; during {during}"
        if isinstance(session, OwnSession):
            if session.replaced:
                yield f"the supervisor was killed and replaced {_times(session.replaced)}; its daemons were taken over"
            for change in session.changes:
                yield f"{change.name}, kept warm by an earlier run, was changed: {change.reason}"
        yield from (f"reaped: {what}" for what in journal.reaped)
        yield from (f"{what}: {detail}" for what, detail in journal.faults.items())

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self) -> None:
        with contextlib.ExitStack() as closing:  # each of them, whatever becomes of the others
            if self._session is not None:
                closing.callback(self._session.close)
            if self._journal is not None:
                closing.callback(self._journal.close)
            if self._progress is not None:
                closing.callback(self._progress.close)
            for variable, value in self._exported.items():
                if value is None:
                    os.environ.pop(variable, None)
                else:
                    os.environ[variable] = value


def _parameters(item: pytest.Item) -> dict[str | None, Any]:
    parameters: dict[str | None, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return parameters


def _is_left_out(item: pytest.Item) -> bool:
    """Whether a test's marks say, whatever else is so, that it will not run."""
    if any(item.iter_markers("skip")):
        return True
    if any(condition for mark in item.iter_markers("skipif") for condition in mark.args if isinstance(condition, bool)):
        return True
    return any(mark.kwargs.get("run") is False and not mark.args for mark in item.iter_markers("xfail"))


def _describe(daemon: DaemonStatus, starts: int, *, ours: bool) -> str:
    parts = [daemon.name, redacted(daemon.url or "no port")]
    parts.append(f"pid {daemon.pid}" if daemon.pid is not None else daemon.state)
    if not daemon.ready and daemon.state not in ("stopped", "external"):
        parts.append(f"{daemon.state}: {daemon.detail}")
    if daemon.state == "external":
        parts.append("observed only")
    elif not ours:
        parts.append("of a serve")
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
    return "once" if number == 1 else f"{number} times"


def _whatever_comes() -> contextlib.suppress:
    """At the end of a test or run, a daemon that cannot be reached is no error of its own: the next use tells."""
    return contextlib.suppress(Unavailable, ControlError)
