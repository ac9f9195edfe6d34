"""The fixtures, made for the daemons of one run."""

from __future__ import annotations

import contextlib
import importlib.util
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest

from neo_daemons.bridge_files import DAEMON_DIR_VARIABLE, DATABASE_VARIABLE
from neo_daemons.control.client import ControlError
from neo_daemons.unpatched import Unpatched

from . import clients
from .bridge_graph import BridgeGraph
from .handles import NOT_OURS, Daemon, Daemons
from .plugin import BUILTINS, fixture_name, shared_fixture_name
from .sessions import Unavailable

if TYPE_CHECKING:
    from neo_daemons.definitions import Definition

    from .activation import Active

DATABASES = f"/api/v2/tenants/{clients.TENANT}/databases"
REMOVAL_S = 5.0
REMOVAL_TRIES = 20
"""chroma answers that its database is locked when several are removed at once."""


def _active(request: pytest.FixtureRequest) -> Active:
    active: Any = request.config.pluginmanager.get_plugin("neo_daemons_active")
    return cast("Active", active)


def of_daemons(active: Active) -> types.ModuleType:
    """A plugin with the fixtures that are called like the daemons of this run."""
    made = types.ModuleType("pytest_neo_daemons.of_daemons")
    for daemon in active.names:
        setattr(made, shared_fixture_name(daemon), _shared(daemon, active))
        name = fixture_name(daemon)
        if name is not None:
            for wanted in (name, f"{name}_definition"):
                if hasattr(made, wanted):
                    raise pytest.UsageError(
                        f"neo-daemons: two daemons would have the fixture {wanted}; rename {daemon!r} or the other"
                    )
            setattr(made, name, _daemon(name, daemon, active))
            setattr(made, f"{name}_definition", _definition(name, daemon, active))
    for daemon in BUILTINS:
        if daemon not in active.names:
            setattr(made, daemon, _missing(daemon, active.names))
    return made


def _daemon(name: str, daemon: str, active: Active) -> Any:
    @pytest.fixture(name=name, scope="session")
    def fixture(request: pytest.FixtureRequest) -> Daemon:
        """A daemon, ready for use; see `pytest_neo_daemons.Daemon`."""
        return active.obtain(daemon, defined(daemon, active, request))

    return fixture


def _shared(daemon: str, active: Active) -> Any:
    @pytest.fixture(name=shared_fixture_name(daemon), scope="session")
    def fixture(request: pytest.FixtureRequest) -> Daemon:
        """The daemon that tests share, for markers and ``neo_daemons["NAME"]``."""
        return active.obtain(daemon, defined(daemon, active, request))

    return fixture


def defined(daemon: str, active: Active, request: pytest.FixtureRequest) -> Definition | None:
    """What a daemon is to be, where a fixture says so; None if nobody but the session says so."""
    name = fixture_name(daemon)
    if name is None or not (active.session.ours or active.is_overridden(daemon, request.session.items)):
        return None
    definition: Definition | None = request.getfixturevalue(f"{name}_definition")
    return definition


def _definition(name: str, daemon: str, active: Active) -> Any:
    @pytest.fixture(name=f"{name}_definition", scope="session")
    def fixture() -> Definition | None:
        """The definition of a daemon. Override it to change that, for all tests that use the daemon."""
        if not active.session.ours:
            pytest.fail(f"cannot change the definition of {daemon}: {NOT_OURS}", pytrace=False)
        return active.session.definition(daemon)

    return fixture


def _missing(daemon: str, names: tuple[str, ...]) -> Any:
    @pytest.fixture(name=daemon, scope="session")
    def fixture() -> None:
        """A built-in daemon that this project does not have."""
        pytest.fail(_unknown(daemon, names), pytrace=False)

    return fixture


def _unknown(name: str, names: tuple[str, ...]) -> str:
    return f"no daemon {name!r} is configured here; configured: {', '.join(names) or 'none'}"


@pytest.fixture(scope="session")
def neo_daemons(request: pytest.FixtureRequest) -> Daemons:
    """All daemons by name; one is started when it is asked for."""
    return _active(request).daemons(request)


@pytest.fixture
def new_daemon(request: pytest.FixtureRequest) -> Callable[[str], Daemon]:
    """Makes a daemon of this test's own, like the shared one of that name: ``new_daemon("chroma")``. It ends with the
    test."""
    active = _active(request)

    def new(name: str) -> Daemon:
        if name not in active.names:
            pytest.fail(f"new_daemon({name!r}): {_unknown(name, active.names)}", pytrace=False)
        definition = defined(name, active, request)
        return active.isolate(name, definition or active.session.definition(name))

    return new


@pytest.fixture
def chroma_client(request: pytest.FixtureRequest, chroma: object) -> Iterator[Any]:
    """A `chromadb` client on a database of this test's own, which is removed afterwards."""
    daemon = _behind(chroma, "chroma", request)
    if importlib.util.find_spec("chromadb") is None:
        pytest.fail("chroma_client needs chromadb: pip install chromadb; chroma alone does not", pytrace=False)

    import httpx

    database = f"test-{Unpatched.urandom(16).hex()}"
    # By hand: each client of chromadb, an AdminClient too, has descriptors of its own.
    with clients.make_http(daemon.url) as admin:
        admin.post(DATABASES, json={"name": database}).raise_for_status()
    client = clients.make_chroma(daemon.host, daemon.port, database, secure=clients.is_secure(daemon.url))
    yield client
    getattr(client, "close", lambda: None)()  # chromadb has it since 1.5
    if not _active(request).is_isolated(daemon):
        from tenacity import RetryError, Retrying, stop_after_attempt, stop_after_delay

        # No test fails because of what could not be cleaned up after it: names are never used twice.
        with contextlib.suppress(RetryError, Unavailable, ControlError):
            daemon.wait_ready()  # a test may have killed it
            with clients.make_http(daemon.url) as admin:
                # The attempts are counted, too: a test may have stopped the clock.
                for attempt in Retrying(
                    stop=stop_after_delay(REMOVAL_S) | stop_after_attempt(REMOVAL_TRIES),
                    wait=lambda _: Unpatched.urandom(1)[0] / 512,
                    sleep=Unpatched.sleep,
                ):
                    with attempt:
                        answer = admin.delete(f"{DATABASES}/{database}")
                        if answer.status_code != httpx.codes.NOT_FOUND:  # the test has removed it
                            answer.raise_for_status()


@pytest.fixture
def mlx_client(request: pytest.FixtureRequest, mlx: object) -> Iterator[Any]:
    """An `openai` client of the mlx server; without the openai package an `httpx` one with the same base URL."""
    daemon = _behind(mlx, "mlx", request)
    with clients.make_openai(daemon.env.get("OPENAI_BASE_URL", f"{daemon.url}/v1")) as client:
        yield client


def _behind(made: object, name: str, request: pytest.FixtureRequest) -> Daemon:
    """The daemon that a client is for: the one that the fixture of its name gives; the shared one where a project has
    something else under that name."""
    if isinstance(made, Daemon):
        return made
    active = _active(request)
    if name not in active.names:
        pytest.fail(_unknown(name, active.names), pytrace=False)
    daemon: Daemon = request.getfixturevalue(shared_fixture_name(name))
    return daemon


@pytest.fixture
def bridge_graph(request: pytest.FixtureRequest, bridge: object) -> Iterator[BridgeGraph]:
    """The bridge's graph database, to subscribe, send and await deliveries."""
    daemon = _behind(bridge, "bridge", request)
    missing = [variable for variable in (DATABASE_VARIABLE, DAEMON_DIR_VARIABLE) if variable not in daemon.env]
    if missing:
        pytest.fail(
            f"bridge_graph needs the files of the bridge, and this one does not export {' and '.join(missing)}: "
            "it cannot be used with a bridge that is given by its URL; give it exports, or run one here",
            pytrace=False,
        )
    graph = BridgeGraph(daemon.env)
    yield graph
    graph.close()
