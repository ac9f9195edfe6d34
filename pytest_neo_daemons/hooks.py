"""Implements pytest's hooks when the plugin is enabled, by calling the parts that do the work."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from neo_daemons.control.client import ControlError
from neo_daemons.interpreter import installed_modules
from neo_daemons.state_dir import StateDirError

from . import asynchronous, fixtures, workers
from .choose import choose
from .guard import HookFailures, guarded, note
from .handles import Daemon
from .incident_hooks import IncidentHooks
from .incidents import JournalReader
from .names import FIXTURES_OF_DAEMONS, MARKER, fixture_name, shared_fixture_name
from .once import DIRECTORY, Once
from .provider import PROVIDER, Provider
from .reports.options import resolve_reports
from .selection import Selection, parameters
from .sessions import OwnSession, Session
from .settings import Options, resolve
from .summary import Summary
from .unavailable import Unavailable
from .watch import Watcher

if TYPE_CHECKING:
    from .progress import Progress
    from .seeding import Seeding


def activate(config: pytest.Config) -> Session | None:
    """Enable the plugin. Return the session of this process with the daemons; None if no tests will run.

    Raises:
        pytest.UsageError: an option or the configuration cannot be used.
    """
    from neo_daemons.config.errors import ConfigError

    options = resolve(config)
    is_worker = workers.worker_id(config) is not None
    reports = resolve_reports(config, writes=not is_worker)
    try:
        choice = choose(config, options)
    except (ConfigError, StateDirError, ControlError) as error:
        raise pytest.UsageError(f"neo-daemons: {error}") from None
    except OSError as error:
        raise pytest.UsageError(f"neo-daemons: cannot use {error.filename or 'a file'}: {error.strerror}") from None
    hook_failures, register = HookFailures(), config.pluginmanager.register
    session = choice.session
    if session is not None:
        session.skips_missing = options.skip_missing
    journal: JournalReader | None = None
    if session is not None:
        journal = JournalReader(session.state_dir.journal, choice.journal_from, session.deployed.tunnels)
    selection = Selection(choice.names, config)
    # Each hook is in only one of these, except `pytest_sessionfinish`, where the one registered last runs first.
    summary = Summary(config, choice, journal, hook_failures)
    register(summary, "neo_daemons_summary")
    register(CollectionHooks(selection, hook_failures), "neo_daemons_collection")
    if session is not None and journal is not None:
        watcher = Watcher(session, journal)
        provider = _provider(config, options, session, selection, watcher, hook_failures, summary)
        config.stash[PROVIDER] = provider
        register(
            IncidentHooks(config, provider, selection, watcher, hook_failures, reports.log_lines),
            "neo_daemons_incidents",
        )
        if reports.keeps:
            from .reports.recording import Recorder

            register(Recorder(config, provider, watcher, hook_failures), "neo_daemons_recorder")
        if reports.wants_any and not is_worker:
            from .reports.hooks import ReportHooks

            register(ReportHooks(config, reports, session, journal, summary, hook_failures), "neo_daemons_reports")
        register(RunHooks(config, provider, selection, journal, summary, hook_failures), "neo_daemons_run")
    # Last, because it may raise: `RunHooks` then closes the session.
    register(fixtures, "neo_daemons_fixtures")
    register(asynchronous.fixtures(config), "neo_daemons_async_fixtures")
    register(fixtures.of_daemons(choice.names), FIXTURES_OF_DAEMONS)
    return session


def _provider(
    config: pytest.Config,
    options: Options,
    session: Session,
    selection: Selection,
    watcher: Watcher,
    hook_failures: HookFailures,
    summary: Summary,
) -> Provider:
    def announce(daemon: Daemon) -> None:
        with hook_failures.noting("pytest_neo_daemons_ready"):
            config.hook.pytest_neo_daemons_ready(config=config, daemon=daemon)

    worker = workers.worker_id(config) or workers.MAIN
    run = workers.run_id(config)
    once = Once(session.state_dir.path / DIRECTORY / run if run is not None and session.ours else None, worker)

    def make_seeding() -> Seeding:
        with installed_modules():  # here: most runs do not need it
            from neo_daemons.seeds.store import Limits

            from .seeding import Seeding
        return Seeding(session, once, worker, Limits(*options.seeds), summary.remark)

    return Provider(
        session,
        selection,
        watcher,
        once=once,
        make_seeding=make_seeding,
        worker=worker,
        parallel=workers.is_one_of_several(config),
        export_env=options.export_env,
        ready=announce,
    )


@guarded
class CollectionHooks:
    """Makes pytest set up the fixtures that markers request."""

    def __init__(self, selection: Selection, hook_failures: HookFailures) -> None:
        self.hook_failures = hook_failures
        self._selection = selection

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        provider = metafunc.config.stash.get(PROVIDER, None)
        for name in self._selection.isolated_for(metafunc.definition):
            fixture = fixture_name(name)
            if fixture is None or fixture not in metafunc.fixturenames:
                pytest.fail(
                    f"{metafunc.definition.nodeid}: {MARKER}({name!r}, isolated=True) requires the test to use the "
                    f"fixture {fixture or name!r}",
                    pytrace=False,
                )
            # Replaces the fixture for this test alone, the way pytest itself overrides one.
            own = provider.isolation.promise(name) if provider is not None else None
            metafunc.parametrize(fixture, [own], ids=[pytest.HIDDEN_PARAM])

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Make pytest set up the fixtures of marked daemons: their definition may be overridden near the test."""
        for item in items:
            names = getattr(item, "fixturenames", None)
            if names is not None:
                # A new list for each item: other parameters of the test may have other marks.
                marked = map(shared_fixture_name, self._selection.marked(item))
                setattr(item, "fixturenames", [*marked, *names])  # noqa: B010


@guarded
class RunHooks:
    """Provides daemons to tests from the beginning of a run to its end, in the processes that run tests."""

    def __init__(
        self,
        config: pytest.Config,
        provider: Provider,
        selection: Selection,
        journal: JournalReader,
        summary: Summary,
        hook_failures: HookFailures,
    ) -> None:
        self.hook_failures = hook_failures
        self._config = config
        self._summary = summary
        self._session = provider.session
        self._provider = provider
        self._selection = selection
        self._journal = journal
        self._progress: Progress | None = None
        self._nodes: set[Any] = set()
        """The workers that have not ended."""

    # The run

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        session = workers.SharedSession(
            machine=workers.machine(),
            state_dir=str(self._session.state_dir.path),
            names=self._session.names,
            attached=not self._session.ours,
            journal_from=self._journal.start,
            external=self._session.external,
            deployed=self._session.deployed,
        )
        workers.send_session(node, session)
        self._nodes.add(node)

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Let the daemons stop while pytest-xdist waits for the processes of its workers, which are done with them."""
        self._nodes.discard(node)
        last = not self._nodes and error is None and workers.has_finished(node)  # one that was killed may be replaced
        if last and isinstance(self._session, OwnSession):
            self._summary.conclude()
            self._session.leave()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        if workers.worker_id(self._config) is None:
            from .progress import Progress  # here: workers need none

            self._progress = Progress(self._config, self._session.client)
        if isinstance(self._session, OwnSession) and self._session.reused:
            try:
                self._session.need_supervisor()  # before any worker uses it, because it may have to change for this run
            except (Unavailable, ControlError) as error:
                raise pytest.UsageError(f"neo-daemons: {error}") from None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Start all daemons that the selected tests use while the first tests are set up."""
        if self._session.ours:
            with contextlib.suppress(Unavailable, ControlError):  # the tests that need them report it
                self._session.begin(tuple(self._selection.to_be_started(session.items)))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, Any, Any]:
        result = yield
        if self._progress is not None:
            self._progress.close()
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self) -> None:
        with contextlib.ExitStack() as closing:  # close each of them, even if closing another fails
            closing.callback(self._session.close)
            closing.callback(self._journal.close)
            if self._progress is not None:
                closing.callback(self._progress.close)
            self._provider.close()

    # A test

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        for name in self._selection.isolated_for(item):
            if not isinstance(parameters(item).get(fixture_name(name)), Daemon):
                pytest.fail(
                    f"{MARKER}({name!r}, isolated=True) works on test functions and classes only: "
                    "it has no effect in pytest.param(…, marks=…) or on unittest.TestCase",
                    pytrace=False,
                )
        self._provider.begin_test(item)

    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any], request: Any) -> None:
        name = self._selection.daemon_of(fixturedef.argname)
        if name is not None:
            self._provider.set_up(name, fixturedef, request)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        hook = "pytest_runtest_teardown"
        try:
            self._provider.repair(item)
        except BaseException as error:
            note(self, hook, error, (item,))
        try:
            return (yield)
        finally:
            try:
                self._provider.end_test()
            except BaseException as error:
                note(self, hook, error, (item,))
