"""Databases of a chroma that tests share: one for each test, module or run, which nothing else uses."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from neo_daemons.unpatched import Unpatched

from . import clients
from .unavailable import suppress_unavailable

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .handles import Daemon

PATH = f"/api/v2/tenants/{clients.TENANT}/databases"
NOT_IN_NAMES = r"[^A-Za-z0-9._-]+"
"""What chroma does not accept in the name of a database."""
MAX_PREFIX = 400
"""A name has at most 512 characters."""
NO_SUCH_API = frozenset({404, 405, 410, 501})
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
        self._dropped = False

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
        """Return a new client of `chromadb.AsyncHttpClient` for it, for the running event loop. Nothing closes it:
        chromadb keeps one connection pool for each event loop, which all such clients share."""
        return await clients.make_async_chroma(self.daemon.host, self.daemon.port, self.name, secure=self._is_secure)

    @property
    def _is_secure(self) -> bool:
        return clients.is_secure(self.daemon.url)

    def close(self) -> None:
        """Close its synchronous clients."""
        while self._clients:
            getattr(self._clients.pop(), "close", lambda: None)()  # chromadb has it since 1.5

    def drop(self) -> None:
        """Close its synchronous clients and remove it, unless that is done. A failure is ignored: names of databases
        are never used again."""
        import httpx
        from tenacity import RetryError, Retrying, stop_after_attempt, stop_after_delay

        self.close()
        if self._dropped:
            return
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
                        self._dropped = True


def create(daemon: Daemon, prefix: str = "test") -> ChromaDatabase:
    """Create a database with a name that nothing else uses. The test fails, without a traceback, if the server cannot
    do that.

    Args:
        prefix: how its name begins, e.g. the name of a test; what chroma does not accept is replaced by ``-``.
    """
    start = re.sub(NOT_IN_NAMES, "-", prefix).strip("._-")[:MAX_PREFIX] or "test"
    name = f"{start}-{Unpatched.urandom(16).hex()}"
    # Not by chromadb's AdminClient: each of its clients holds its own file descriptors.
    with clients.make_http(daemon.url) as admin:
        answer = admin.post(PATH, json={"name": name})
    if not answer.is_success:
        hint = "; tests need a server with API v2 of chroma" if answer.status_code in NO_SUCH_API else ""
        pytest.fail(
            f"{daemon.name} cannot create a database: POST {PATH} of {daemon.url} was answered with status "
            f"{answer.status_code}: {' '.join(answer.text.split()):.200}{hint}",
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
            prefix: how its name begins; the rest is random. Other characters than letters without accents, digits,
                ``.``, ``_`` and ``-`` are replaced.
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
