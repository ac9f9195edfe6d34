"""Checks chroma's heartbeat and its store: the heartbeat alone stays green when the store is deleted."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from neo_daemons import processes
from neo_daemons.checks.files import is_there
from neo_daemons.urls import host_and_port

from .http import HttpDaemonObserver
from .observation import Details
from .observer import TIMEOUT_S, Draft
from .record import Verification

API = "/api/v2"
DATABASE_FILE = "chroma.sqlite3"
"""A file in its data directory."""


class ChromaDetails(Details, frozen=True, kw_only=True):
    """Details of a chroma server."""

    version: str | None = None
    """The version that it reports."""
    heartbeat_ns: int | None = None
    """Its clock, in nanoseconds since the epoch."""
    store: Literal["readable", "unreadable", "deleted"] | None = None
    """`deleted`: its files are gone. It still serves data from the files that it has open; writes fail or are lost."""
    collections: int | None = None
    """The number of collections in the database."""
    collection: str | None = None
    """The collection that the observer was given."""
    collection_exists: bool | None = None
    collection_count: int | None = None
    """The number of records in it."""

    @property
    def summary(self) -> tuple[str, ...]:
        collections = f"{self.collections} collection{'' if self.collections == 1 else 's'}"
        if self.collection is None:
            return (f"chroma {self.version}", collections)
        there = f"{self.collection_count} records" if self.collection_exists else "does not exist"
        return (f"chroma {self.version}", collections, f"{self.collection}: {there}")


class ChromaObserver(HttpDaemonObserver[ChromaDetails]):
    """Checks a chroma server.

    Args:
        url: the URL of the server, e.g. ``http://127.0.0.1:8000``; by default, the one in the PID record.
        state_dir: the state directory of its supervisor; by default, without a URL, the project's, as the command
            line finds it.
        name: the name of the daemon.
        data_dir: its data directory on this machine; by default, the recorded one. Without any, a deleted store is
            detected if the server runs on this machine as the same user.
        collection: also report whether this collection exists, and its number of records.
        tenant, database: the database with the collection, in which the store is tested.
        headers: sent with every request, never shown; for servers that require credentials.
        timeout_s: the time limit of one check.
        reuse_s: for how long a healthy result may be reused; the observation contains its age.

    Raises:
        ValueError: an argument is invalid.
    """

    details = ChromaDetails
    kind = "chroma"

    def __init__(
        self,
        url: str | None = None,
        *,
        state_dir: Path | str | None = None,
        name: str = "chroma",
        data_dir: Path | str | None = None,
        collection: str | None = None,
        tenant: str = "default_tenant",
        database: str = "default_database",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
        reuse_s: float = 0.0,
    ) -> None:
        super().__init__(url, name, state_dir, headers, timeout_s, reuse_s)
        self._data_dir = Path(data_dir) if data_dir is not None else None
        self._collection = collection
        quoted = (urllib.parse.quote(part, safe="") for part in (tenant, database))
        self._database = API + "/tenants/{}/databases/{}".format(*quoted)

    async def _converse(self, draft: Draft, verification: Verification | None, url: str) -> None:
        path = f"{API}/heartbeat"
        answer = await self._ask(draft, url, path)
        if answer is None:
            return
        content = answer.json()
        beat = content.get("nanosecond heartbeat") if isinstance(content, dict) else None
        if answer.status != 200 or not isinstance(beat, int):
            self._refuse(draft, url, path, answer)
            return
        draft.details["heartbeat_ns"] = beat
        draft.on_timeout = "degraded"
        self._listener.seek(draft, *host_and_port(url))
        self._look_for_files(draft, verification)
        version, _ = await asyncio.gather(self._version(draft, url), self._read_store(draft, url))
        draft.details["version"] = version
        if self._collection is not None and draft.details["store"] != "unreadable":
            await self._read_collection(draft, url, self._collection)

    async def _version(self, draft: Draft, url: str) -> str | None:
        answer = await self._ask(draft, url, f"{API}/version", what="its version")
        content = answer.json() if answer is not None and answer.status == 200 else None
        return content if isinstance(content, str) else None

    def _look_for_files(self, draft: Draft, verification: Verification | None) -> None:
        """Search for its files, by name and among those that the server has open."""
        record = verification.living if verification is not None else None
        recorded = record.data_dir if record is not None else None
        directory = self._data_dir or (Path(recorded) if recorded is not None else None)
        pid = draft.listener or (verification.pid if verification is not None else None)
        gone = processes.deleted_file(pid, DATABASE_FILE) if pid else None
        if gone is not None:
            self._deleted(draft, gone)
        elif directory is not None:
            with contextlib.suppress(OSError):  # an unreadable directory proves nothing
                if not is_there(directory / DATABASE_FILE):
                    self._deleted(draft, str(directory / DATABASE_FILE))

    @staticmethod
    def _deleted(draft: Draft, path: str) -> None:
        draft.details["store"] = "deleted"
        draft.fault(f"its store {path} was deleted while it runs; the data it still serves is lost when it exits")

    async def _read_store(self, draft: Draft, url: str) -> None:
        path = f"{self._database}/collections_count"
        answer = await self._ask(draft, url, path, what="its store")
        content = answer.json() if answer is not None and answer.status == 200 else None
        if isinstance(content, int):
            draft.details["collections"] = content
            draft.details.setdefault("store", "readable")
            return
        draft.details.setdefault("store", "unreadable")
        if answer is None or draft.details["store"] == "deleted":
            return
        if answer.status == 404:
            draft.fault(f"it does not have this database: {answer}{answer.quoted}", "degraded")
        else:
            draft.fault(f"its store cannot be read: {answer}{answer.quoted}")

    async def _read_collection(self, draft: Draft, url: str, collection: str) -> None:
        draft.details["collection"] = collection
        path = f"{self._database}/collections/{urllib.parse.quote(collection, safe='')}"
        what = f"collection {collection!r}"
        answer = await self._ask(draft, url, path, what=what)
        if answer is None:
            return
        content = answer.json()
        if answer.status == 200 and isinstance(content, dict) and isinstance(content.get("id"), str):
            draft.details["collection_exists"] = True
            path = f"{self._database}/collections/{urllib.parse.quote(content['id'], safe='')}/count"
            answer = await self._ask(draft, url, path, what=what)
            if answer is None:
                return
            count = answer.json()
            if answer.status == 200 and isinstance(count, int):
                draft.details["collection_count"] = count
                return
        elif answer.status == 404:
            draft.details["collection_exists"] = False
            return
        elif answer.is_cut:
            draft.details["collection_exists"] = True
            draft.fault(f"{what}: its description is too large to read", "unknown")
            return
        draft.fault(f"{what} cannot be read: {answer}{answer.quoted}", "degraded")
