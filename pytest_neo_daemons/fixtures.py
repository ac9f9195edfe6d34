"""The fixtures, made for the daemons of one run."""

from __future__ import annotations

import contextlib
import importlib.util
import types
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest

from neo_daemons.control.client import ControlError

from .bridge_graph import DATABASE_VARIABLE, DIRECTORY_VARIABLE, BridgeGraph
from .handles import NOT_OURS, Daemon, Daemons
from .plugin import BUILTINS, fixture_name, shared_fixture_name
from .sessions import Unavailable

if TYPE_CHECKING:
    from neo_daemons.definitions import Definition

    from .activation import Active

TENANT = "default_tenant"
"""chroma's own."""
DATABASES = f"/api/v2/tenants/{TENANT}/databases"
TIMEOUT_S = 120.0
REMOVAL_S = 5.0
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
        known = ", ".join(names) or "none"
        pytest.fail(f"no daemon {daemon!r} is configured here; configured: {known}", pytrace=False)

    return fixture


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
            known = ", ".join(active.names) or "none"
            pytest.fail(f"new_daemon({name!r}): no such daemon; configured: {known}", pytrace=False)
        definition = defined(name, active, request)
        return active.isolate(name, definition or active.session.definition(name))

    return new


@pytest.fixture
def chroma_client(request: pytest.FixtureRequest, chroma: Daemon) -> Iterator[Any]:
    """A `chromadb` client on a database of this test's own, which is removed afterwards."""
    try:
        import chromadb
        from chromadb.config import Settings
    except ImportError:
        pytest.fail("chroma_client needs chromadb: pip install chromadb; chroma alone does not", pytrace=False)

    import httpx

    database = f"test-{uuid.uuid4().hex}"
    # By hand: each client of chromadb, an AdminClient too, has descriptors of its own. A TLS context costs 18 ms.
    secure = chroma.url.startswith("https:")
    with httpx.Client(timeout=TIMEOUT_S, verify=secure) as admin:
        admin.post(f"{chroma.url.rstrip('/')}{DATABASES}", json={"name": database}).raise_for_status()
    settings = Settings(anonymized_telemetry=False)
    if hasattr(settings, "chroma_http_max_keepalive_connections"):
        settings.chroma_http_max_keepalive_connections = 0  # chromadb's close() leaves idle connections open
    client = chromadb.HttpClient(
        host=chroma.host,
        port=chroma.port,
        ssl=secure,
        settings=settings,
        tenant=TENANT,
        database=database,
    )
    yield client
    getattr(client, "close", lambda: None)()  # chromadb has it since 1.5
    if not _active(request).is_isolated(chroma):
        from tenacity import RetryError, Retrying, stop_after_delay, wait_random_exponential

        # No test fails because of what could not be cleaned up after it: names are never used twice.
        with (
            contextlib.suppress(RetryError, Unavailable, ControlError),
            httpx.Client(timeout=TIMEOUT_S, verify=secure) as admin,
        ):
            chroma.wait_ready()  # a test may have killed it
            for attempt in Retrying(stop=stop_after_delay(REMOVAL_S), wait=wait_random_exponential(0.02, max=0.5)):
                with attempt:
                    answer = admin.delete(f"{chroma.url.rstrip('/')}{DATABASES}/{database}")
                    if answer.status_code != httpx.codes.NOT_FOUND:  # the test has removed it
                        answer.raise_for_status()


@pytest.fixture
def mlx_client(mlx: Daemon) -> Iterator[Any]:
    """An `openai` client of the mlx server; without the openai package an `httpx` one with the same base URL."""
    base_url = mlx.env.get("OPENAI_BASE_URL", f"{mlx.url}/v1")
    if importlib.util.find_spec("openai") is not None:
        import openai

        with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=TIMEOUT_S) as client:
            yield client
    else:
        import httpx

        with httpx.Client(base_url=base_url, timeout=TIMEOUT_S, trust_env=False) as plain:
            yield plain


@pytest.fixture
def bridge_graph(bridge: Daemon) -> Iterator[BridgeGraph]:
    """The bridge's graph database, to subscribe, send and await deliveries."""
    missing = [variable for variable in (DATABASE_VARIABLE, DIRECTORY_VARIABLE) if variable not in bridge.env]
    if missing:
        pytest.fail(
            f"bridge_graph needs the files of the bridge, and this one does not export {' and '.join(missing)}: "
            "it cannot be used with a bridge that is given by its URL; give it exports, or run one here",
            pytrace=False,
        )
    graph = BridgeGraph(bridge.env)
    yield graph
    graph.close()
