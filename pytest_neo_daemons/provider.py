"""Provides the daemons of a session to tests, and repairs what tests do to them.

Tests share a daemon or get their own instance (`isolation`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from neo_daemons.definitions import Definition

from . import definitions
from .handles import Daemon, Daemons, begin
from .isolation import Isolation
from .names import definition_fixture_name, fixture_name, shared_fixture_name
from .once import Once
from .seeds import Seed, stated
from .selection import Selection
from .sessions import Session
from .unavailable import suppress_unavailable
from .watch import WATCH, Watcher
from .workers import run_id

if TYPE_CHECKING:
    from .seeding import Prepared, Seeding

PARALLEL = "other workers may be using it; use a daemon of your own: new_daemon({name!r})"


class Provider:
    """Gives daemons to the tests of one process.

    Args:
        session: where they run.
        selection: which daemons the tests use.
        watcher: is notified when a test begins to use a daemon.
        worker: the name of the process; part of the names of isolated daemons.
        parallel: other processes use the shared daemons at the same time, so tests must not disturb them.
        export_env: set the environment variables that a daemon's clients need, from when it is ready until `close`.
        ready: called with each shared daemon when it is ready for the first time.
        once: runs what happens once in a run.
        make_seeding: called when a daemon is to start on a clone of a seed.
    """

    def __init__(
        self,
        session: Session,
        selection: Selection,
        watcher: Watcher,
        *,
        worker: str,
        parallel: bool,
        export_env: bool,
        ready: Callable[[Daemon], None],
        once: Once,
        make_seeding: Callable[[], Seeding],
    ) -> None:
        self.session = session
        self._make_seeding = make_seeding
        self._seeding: Seeding | None = None
        self._once = once
        self._selection = selection
        self._watcher = watcher
        self._parallel = parallel
        self._export_env = export_env
        self._ready = ready
        self.isolation = Isolation(session, worker)
        """The isolated daemons of the current test."""
        self.handles: dict[str, Daemon] = {}
        """Shared daemon → its handle, once a test has requested it."""
        self._touched: set[str] = set()
        """Shared daemons whose handles the current test has accessed, however it got them."""
        self._unavailable: set[str] = set()
        """Daemons that were not available to the current test."""
        self._fixtures: dict[str, tuple[pytest.FixtureDef[Any], Any]] = {}
        """Fixture of a daemon → its definition and the latest request for it."""
        self._exported: dict[str, str | None] = {}
        """The previous values of the environment variables."""

    # For fixtures

    def daemons(self, request: pytest.FixtureRequest) -> Daemons:
        """Return all daemons, for the fixture ``neo_daemons``."""

        def get(name: str) -> Daemon:
            # Only pytest knows which definition of the fixture applies.
            made: Daemon = self.handles.get(name) or request.getfixturevalue(shared_fixture_name(name))
            return made

        run = run_id(request.config)
        if run is not None and not self.session.ours:  # nothing is written into the directory of a `serve`
            shared: Path = request.getfixturevalue("tmp_path_factory").getbasetemp().parent
            self._once.directory = shared / "neo-daemons-once" / run
        return Daemons(self.session.names, get, self.session.state_dir.path, self._once)

    def definition_for(self, name: str, request: pytest.FixtureRequest) -> Definition | None:
        """Return the definition that a fixture states for a daemon; None if the session's definition applies."""
        fixture = fixture_name(name)
        if fixture is None:
            return None
        if name in self.session.deployed.unreachable:
            return None  # `obtain` says why
        if self.session.refusal(name) is None:
            self._unavailable.add(name)
            definitions.read(self.session, name)  # unlike this, the fixture would fail for the rest of the run
            self._unavailable.discard(name)
        elif not self._selection.is_overridden(name, request.session.items):
            return None
        stated: Definition | None = request.getfixturevalue(definition_fixture_name(fixture))
        return stated

    def obtain(self, name: str, definition: Definition | None) -> Daemon:
        """Return the shared daemon of that name when it is ready, after changing it to `definition`, if given.

        The test fails, without a traceback, if the daemon is not available.
        """
        definitions.check_stated(definition, name)
        if definition is not None and definition != self.session.definition(name):
            self._change(name, definition)
        handle = self.handles.get(name)
        if handle is None:
            self._watcher.note_use()
            handle = Daemon(self.session, name, functools.partial(self._refusal, name), self._export, self._touch)
            self._unavailable.add(name)
            begin(handle)
            self._watcher.note_start(name)
            self._unavailable.discard(name)
            self.handles[name] = handle
            self._ready(handle)
        return handle

    def obtain_on(self, seed: Seed | None, name: str, definition: Definition | None) -> Daemon:
        """Return the shared daemon of that name like `obtain`, started on a clone of a seed."""
        if seed is None:
            return self.obtain(name, definition)
        prepared = self._prepared(seed, definition)
        daemon = self.obtain(name, prepared.shared())
        prepared.check_shared(daemon)
        return daemon

    def isolate(
        self, name: str, definition: Definition | None, handle: Daemon | None = None, seed: Seed | None = None
    ) -> Daemon:
        """Start a new instance of the shared daemon of that name for the current test, on a clone of `seed`, and point
        `handle` to it.

        The test fails, without a traceback, if the instance is not available.
        """
        definitions.check_stated(definition, name)
        self._watcher.note_use()
        prepared = self._prepared(seed, definition) if seed is not None else None
        fill = prepared.clone if prepared is not None else None
        daemon = self.isolation.begin(handle or self.isolation.promise(name), definition, fill)
        self._watcher.logs[daemon.name] = daemon.log_path
        self._watcher.note_start(daemon.name)
        if prepared is not None:
            prepared.check(daemon)
        return daemon

    def _prepared(self, seed: Seed, definition: Definition | None) -> Prepared:
        if self._seeding is None:
            self._seeding = self._make_seeding()
        return self._seeding.prepared(seed, definition)

    def is_isolated(self, daemon: Daemon) -> bool:
        """Return whether the daemon belongs to one test, with which it ends."""
        return any(handle is daemon for handle in self.isolation.handles)

    def _change(self, name: str, definition: Definition) -> None:
        why = self.session.refusal(name)
        if why is not None:
            pytest.fail(f"cannot change the definition of {name}: {why}", pytrace=False)
        definitions.define(self.session, definition)

    # For handles

    def _refusal(self, name: str) -> str | None:
        why = self.session.refusal(name)
        if why is not None:
            return why
        return PARALLEL.format(name=name) if self._parallel else None

    def _export(self, daemon: Daemon) -> None:
        if self._export_env:
            for variable, value in daemon.env.items():
                self._exported.setdefault(variable, os.environ.get(variable))
                os.environ[variable] = value

    def _touch(self, name: str) -> None:
        """Note that the current test accesses the handle of a shared daemon, which may have moved to another port."""
        if name in self._touched:
            return
        self._touched.add(name)
        self._watcher.note_use()
        handle = self.handles.get(name)
        if handle is not None and self._watcher.has_news(name):
            with suppress_unavailable():
                if handle.see(self.session.client.status().daemon(name)):
                    self._watcher.seen_ready(name)

    # From test to test

    def begin_test(self, item: pytest.Item) -> None:
        """Wait until the daemons that a test uses are ready, if an earlier test has used them already."""
        for handle in self.isolation.handles:
            self._watcher.logs.pop(handle.name, None)
        self.isolation.handles.clear()
        self._touched.clear()
        self._watcher.begin_test(item)
        used = self._selection.used_by(item)
        if not used and "neo_daemons" not in getattr(item, "fixturenames", ()):
            return
        self._watcher.journal.read()
        for name in used:
            if name in self.handles and self._watcher.has_news(name):
                # A daemon that died between two tests must not make the second one fail.
                begin(self.handles[name])
                self._watcher.seen_ready(name)
        if not hasattr(item, "fixturenames"):
            for name in self._selection.marked(item):
                self.obtain(name, None)
        self._watcher.note_use()

    def set_up(self, name: str, fixture: pytest.FixtureDef[Any], request: Any) -> None:
        """Note that pytest sets up a fixture of a daemon. Start an isolated daemon if the test has a handle for one
        instead of the fixture."""
        self._fixtures[fixture.argname] = (fixture, request)
        promised = getattr(request, "param", None)
        if isinstance(promised, Daemon):
            self.isolate(name, self.definition_for(name, request), promised, stated(name, request))

    def concerning(self, item: pytest.Item) -> frozenset[str]:
        """Return the daemons that may affect the outcome of a test."""
        if "neo_daemons" in getattr(item, "fixturenames", ()):
            return frozenset({*self.session.names, *self.isolation.names})
        return frozenset({*self._selection.used_by(item), *self._touched, *self.isolation.names})

    def repair(self, item: pytest.Item) -> None:
        """Repair the daemons before the fixtures of a test are torn down: both these and the next test need them."""
        for handle in self.isolation.handles:
            with suppress_unavailable():
                handle.unpause()  # it ends with the test and needs no further repair
        self._repair_shared()
        watch = item.stash.get(WATCH, None)
        if watch is None:
            return
        for name in {incident.daemon for incident in watch.incidents()}:
            used = name in self._touched or name in self._selection.used_by(item)
            if used and name in self.handles:
                # Lets the report say when the daemon was back and where it is now.
                with suppress_unavailable():
                    self.handles[name].wait_ready()

    def end_test(self) -> None:
        """Clean up after the fixtures of a test were torn down."""
        self._retry_unavailable()
        self.isolation.end()
        self._repair_shared()  # again, because a fixture may have injected a fault, too

    def _repair_shared(self) -> None:
        for handle in self.handles.values():
            if handle.is_hurt:
                with suppress_unavailable():
                    handle.repair()

    def _retry_unavailable(self) -> None:
        """Make pytest request a daemon again that was not available: the supervisor decides whether to retry."""
        for name in self._unavailable:
            for fixture in (fixture_name(name), shared_fixture_name(name)):
                if fixture in self._fixtures:
                    made, request = self._fixtures.pop(fixture)
                    made.finish(request)
        self._unavailable.clear()

    def close(self) -> None:
        """Release the seeds, and restore the environment variables."""
        if self._seeding is not None:
            self._seeding.close()
        for variable, value in self._exported.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value


PROVIDER = pytest.StashKey[Provider]()


def provider_of(request: pytest.FixtureRequest) -> Provider:
    """Return the provider of this run, which exists whenever a test runs."""
    return request.config.stash[PROVIDER]
