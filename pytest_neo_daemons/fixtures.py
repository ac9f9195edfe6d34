"""Creates the fixtures for the daemons of one run."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from neo_daemons.definitions import Definition
from neo_daemons.interpreter import installed_modules

from . import definitions, seeds
from .handles import Daemon, Daemons
from .names import BUILTINS, definition_fixture_name, fixture_name, seed_fixture_name, shared_fixture_name
from .provider import provider_of
from .seeds import Seed

if TYPE_CHECKING:
    from .bridge_graph import BridgeGraph
    from .databases import ChromaDatabases


def of_daemons(names: tuple[str, ...]) -> types.ModuleType:
    """Return a plugin with the fixtures that are named after the daemons of this run.

    Raises:
        pytest.UsageError: two daemons would have the same fixture.
    """
    made = types.ModuleType("pytest_neo_daemons.of_daemons")
    for daemon in names:
        setattr(made, shared_fixture_name(daemon), _shared(daemon))
        name = fixture_name(daemon)
        if name is not None:
            for wanted in (name, definition_fixture_name(name), seed_fixture_name(name)):
                if hasattr(made, wanted):
                    raise pytest.UsageError(
                        f"neo-daemons: the fixture {wanted} would belong to two daemons; rename {daemon!r} or the other"
                    )
            setattr(made, name, _daemon(name, daemon))
            setattr(made, definition_fixture_name(name), _definition(name, daemon))
            setattr(made, seed_fixture_name(name), _seed(name))
    for daemon in BUILTINS:
        if daemon not in names:
            setattr(made, daemon, _missing(daemon, names))
    return made


def _daemon(name: str, daemon: str) -> Any:
    @pytest.fixture(name=name, scope="session")
    def fixture(request: pytest.FixtureRequest) -> Daemon:
        """Return the daemon, ready for use; see `pytest_neo_daemons.Daemon`."""
        return _obtained(daemon, request)

    return fixture


def _shared(daemon: str) -> Any:
    @pytest.fixture(name=shared_fixture_name(daemon), scope="session")
    def fixture(request: pytest.FixtureRequest) -> Daemon:
        """Return the shared daemon, for markers and ``neo_daemons["NAME"]``."""
        return _obtained(daemon, request)

    return fixture


def _obtained(daemon: str, request: pytest.FixtureRequest) -> Daemon:
    provider, seed = provider_of(request), seeds.stated(daemon, request)
    return provider.obtain_on(seed, daemon, provider.definition_for(daemon, request))


def _definition(name: str, daemon: str) -> Any:
    @pytest.fixture(name=definition_fixture_name(name), scope="session")
    def fixture(request: pytest.FixtureRequest) -> Definition | None:
        """Return the daemon's definition. Override this fixture to change the daemon for all tests that use it."""
        session = provider_of(request).session
        why = session.refusal(daemon)
        if why is not None:
            pytest.fail(f"cannot change the definition of {daemon}: {why}", pytrace=False)
        return definitions.read(session, daemon)

    return fixture


def _seed(name: str) -> Any:
    @pytest.fixture(name=seed_fixture_name(name), scope="session")
    def fixture() -> Seed | None:
        """Return the seed on which the daemon starts; None: without data. Override this fixture to change that."""
        return None

    return fixture


def _missing(daemon: str, names: tuple[str, ...]) -> Any:
    @pytest.fixture(name=daemon, scope="session")
    def fixture() -> None:
        """Fail: this project does not have the built-in daemon."""
        pytest.fail(_unknown(daemon, names), pytrace=False)

    return fixture


def _unknown(name: str, names: tuple[str, ...]) -> str:
    return f"unknown daemon {name!r}; configured daemons: {', '.join(names) or 'none'}"


@pytest.fixture(scope="session")
def neo_daemons(request: pytest.FixtureRequest) -> Daemons:
    """Return all daemons by name; looking one up starts it."""
    return provider_of(request).daemons(request)


@pytest.fixture
def new_daemon(request: pytest.FixtureRequest) -> Callable[..., Daemon]:
    """Return a function that starts a new instance of a daemon for this test alone: ``new_daemon("chroma")``, or
    ``new_daemon("chroma", seed=docs)``. The instance is removed after the test."""
    provider = provider_of(request)

    def new(name: str, *, seed: Any = seeds.FROM_FIXTURE) -> Daemon:
        names = provider.session.names
        if name not in names:
            pytest.fail(f"new_daemon({name!r}): {_unknown(name, names)}", pytrace=False)
        if seed is seeds.FROM_FIXTURE:
            seed = seeds.stated(name, request)
        seeds.check_seed(seed, f"new_daemon({name!r}, seed=…) got")
        stated = provider.definition_for(name, request)
        return provider.isolate(name, stated or definitions.read(provider.session, name), seed=seed)

    return new


@pytest.fixture
def chroma_client(request: pytest.FixtureRequest, chroma: object) -> Iterator[Any]:
    """Return a `chromadb` client for a new database, which is removed after the test."""
    daemon = behind(chroma, "chroma", request)
    with installed_modules():
        from . import databases
    databases.require_chromadb("chroma_client")
    database = databases.create(daemon)
    try:
        yield database.client()
    finally:
        database.close()
        if not provider_of(request).is_isolated(daemon):
            database.drop()


@pytest.fixture(scope="session")
def chroma_database(request: pytest.FixtureRequest, chroma: object) -> Iterator[ChromaDatabases]:
    """Return a function that creates a database in the shared chroma: ``chroma_database("books")``. What is left of
    them is dropped at the end of the run. See `pytest_neo_daemons.ChromaDatabase`."""
    with installed_modules():
        from .databases import ChromaDatabases
    made = ChromaDatabases(behind(chroma, "chroma", request), provider_of(request).is_isolated)
    yield made
    made.close()


@pytest.fixture
def mlx_client(request: pytest.FixtureRequest, mlx: object) -> Iterator[Any]:
    """Return an `openai` client for the mlx server; without the openai package, an `httpx` client with its base URL."""
    daemon = behind(mlx, "mlx", request)
    with installed_modules():
        from . import clients
    with clients.make_openai(daemon.env.get("OPENAI_BASE_URL", f"{daemon.url}/v1")) as client:
        yield client


def behind(made: object, name: str, request: pytest.FixtureRequest) -> Daemon:
    """Return the daemon that a client connects to: what the fixture `name` returned, or the shared daemon if a project
    has overridden that fixture with something else."""
    if isinstance(made, Daemon):
        return made
    names = provider_of(request).session.names
    if name not in names:
        pytest.fail(_unknown(name, names), pytrace=False)
    daemon: Daemon = request.getfixturevalue(shared_fixture_name(name))
    return daemon


@pytest.fixture
def bridge_graph(request: pytest.FixtureRequest, bridge: object) -> Iterator[BridgeGraph]:
    """Return the bridge's graph database, to subscribe, send and await deliveries."""
    from neo_daemons.bridge_files import DAEMON_DIR_VARIABLE, DATABASE_VARIABLE

    daemon = behind(bridge, "bridge", request)
    missing = [variable for variable in (DATABASE_VARIABLE, DAEMON_DIR_VARIABLE) if variable not in daemon.env]
    if missing:
        pytest.fail(
            f"bridge_graph needs the bridge's files, but this bridge does not export {' and '.join(missing)}; "
            "an external bridge must set exports",
            pytrace=False,
        )
    with installed_modules():
        from .bridge_graph import BridgeGraph
    graph = BridgeGraph(daemon.env)
    yield graph
    graph.close()
