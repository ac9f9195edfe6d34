"""Databases of a chroma that tests share: one for each test, module or run, which nothing else uses."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from neo_daemons.unpatched import Unpatched

from . import clients
from .sessions import suppress_unavailable

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .handles import Daemon

PATH = f"/api/v2/tenants/{clients.TENANT}/databases"
REMOVAL_S = 5.0
REMOVAL_TRIES = 20
"""chroma reports that its database is locked when several databases are removed at once."""


class ChromaDatabase:
    """A database of a chroma. It is dropped at the end of a ``with`` block, or of the run.

    Args:
        daemon: the chroma.
        name: the name of the database, which exists.
    """

    tenant = clients.TENANT
    """The tenant that it belongs to."""

    def __init__(self, daemon: Daemon, name: str) -> None:
        self.daemon = daemon
        self.name = name
        self._clients: list[Any] = []

    def __repr__(self) -> str:
        return f"<ChromaDatabase {self.name} of {self.daemon.name}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.drop()

    def client(self) -> Any:
        """Return a new `chromadb.HttpClient` for it. `drop` closes it."""
        client = clients.make_chroma(self.daemon.host, self.daemon.port, self.name, secure=self._is_secure)
        self._clients.append(client)
        return client

    async def async_client(self) -> Any:
        """Return a new client of `chromadb.AsyncHttpClient` for it, for the running event loop."""
        return await clients.make_async_chroma(self.daemon.host, self.daemon.port, self.name, secure=self._is_secure)

    @property
    def _is_secure(self) -> bool:
        return clients.is_secure(self.daemon.url)

    def close(self) -> None:
        """Close its clients."""
        while self._clients:
            getattr(self._clients.pop(), "close", lambda: None)()  # chromadb has it since 1.5

    def drop(self) -> None:
        """Close its clients and remove it. A failure is ignored: names of databases are never used again."""
        import httpx
        from tenacity import RetryError, Retrying, stop_after_attempt, stop_after_delay

        self.close()
        with suppress_unavailable(), contextlib.suppress(RetryError):
            self.daemon.wait_ready()  # a test may have killed it
            with clients.make_http(self.daemon.url) as admin:
                # The attempts are limited as well, because a test may have frozen the clock.
                for attempt in Retrying(
                    stop=stop_after_delay(REMOVAL_S) | stop_after_attempt(REMOVAL_TRIES),
                    wait=lambda _: Unpatched.urandom(1)[0] / 512,
                    sleep=Unpatched.sleep,
                ):
                    with attempt:
                        answer = admin.delete(f"{PATH}/{self.name}")
                        if answer.status_code != httpx.codes.NOT_FOUND:  # the test has removed it
                            answer.raise_for_status()


def create(daemon: Daemon, prefix: str = "test") -> ChromaDatabase:
    """Create a database with a name that nothing else uses. The test fails, without a traceback, if the server cannot
    do that."""
    name = f"{prefix}-{Unpatched.urandom(16).hex()}"
    # Not by chromadb's AdminClient: each of its clients holds its own file descriptors.
    with clients.make_http(daemon.url) as admin:
        answer = admin.post(PATH, json={"name": name})
    if not answer.is_success:
        pytest.fail(
            f"{daemon.name} cannot create a database: POST {PATH} of {daemon.url} was answered with status "
            f"{answer.status_code}: {' '.join(answer.text.split()):.200}; tests need a server with API v2 of chroma",
            pytrace=False,
        )
    return ChromaDatabase(daemon, name)


class ChromaDatabases:
    """Creates databases in the shared chroma, and drops those that are left at the end of the run.

    Args:
        daemon: the shared chroma.
        ends_with_test: whether a daemon belongs to one test, with which its data ends.
    """

    def __init__(self, daemon: Daemon, ends_with_test: Callable[[Daemon], bool]) -> None:
        self._daemon = daemon
        self._ends_with_test = ends_with_test
        self._created: list[ChromaDatabase] = []

    def __call__(self, prefix: str = "test", daemon: Daemon | None = None) -> ChromaDatabase:
        """Create a database.

        Args:
            prefix: how its name begins; the rest is random.
            daemon: the chroma, if it is not the shared one: an instance of ``new_daemon``.
        """
        database = create(daemon or self._daemon, prefix)
        if not self._ends_with_test(database.daemon):
            self._created.append(database)
        return database

    def close(self) -> None:
        """Drop all databases."""
        for database in self._created:
            database.drop()


def require_chromadb(fixture: str) -> None:
    """Fail the test, without a traceback, if the client of chroma is not installed."""
    if importlib.util.find_spec("chromadb") is None:
        pytest.fail(f"{fixture} requires the chromadb package; fix: pip install chromadb", pytrace=False)
