"""chroma is judged by its store and not by its heartbeat alone."""

from __future__ import annotations

import errno
import http.server
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neo_daemons.health import ChromaObserver
from tests.harness import PATIENCE_S

from .answers import CHROMA, Handler, Server, routes, says, sees


def test_chroma_is_judged_by_its_store(serve: Callable[[Handler], Server]) -> None:
    seen = ChromaObserver(serve(routes(**CHROMA)).url).check()
    assert (seen.status, seen.details.store, seen.details.collections) == ("healthy", "readable", 3)
    assert (seen.details.version, seen.details.heartbeat_ns) == ("1.0.0", 7)
    for broken, status, reason in (
        ({"collections_count": says(500, b"disk I/O error")}, "unhealthy", "store cannot be read: 500.*disk I/O"),
        ({"collections_count": says(404, b"no database")}, "degraded", "does not have this database"),
        ({"heartbeat": says(410)}, "unhealthy", "wrong service: it is not chroma .410 Gone"),
        ({"heartbeat": says(200, {"status": "ok"})}, "unhealthy", "wrong service"),
        ({"heartbeat": says(200, b"\xff\xfe")}, "unhealthy", "wrong service"),
        ({"heartbeat": says(200, [])}, "unhealthy", "wrong service"),
    ):
        seen = ChromaObserver(serve(routes(**CHROMA | broken)).url).check()
        assert seen.status == status, seen
        assert re.search(reason, "; ".join(seen.reasons)), seen


def test_a_store_that_does_not_answer_in_time_is_not_a_dead_server(serve: Callable[[Handler], Server]) -> None:
    ended = threading.Event()

    def silent(request: http.server.BaseHTTPRequestHandler) -> None:
        ended.wait(PATIENCE_S)

    server = serve(routes(**CHROMA | {"collections_count": silent}))
    try:
        seen = sees(ChromaObserver(server.url, timeout_s=0.2), "degraded")
        assert seen.details.heartbeat_ns == 7
        assert re.search("no answer within 0.2 s", seen.reasons[0])
    finally:
        ended.set()


def test_chroma_is_asked_for_a_collection_by_its_name_only(serve: Callable[[Handler], Server]) -> None:
    name = "a b/../c?d"
    server = serve(routes(**CHROMA | {"a%20b%2F..%2Fc%3Fd": says(200, {"id": "some-id"}), "count": says(200, 12)}))
    seen = ChromaObserver(server.url, collection=name).check()
    assert (seen.details.collection_exists, seen.details.collection_count) == (True, 12), seen
    assert any(request.endswith("/collections/some-id/count") for request in server.requests)
    seen = ChromaObserver(server.url, collection="other").check()
    assert (seen.status, seen.details.collection_exists, seen.details.collection_count) == ("healthy", False, None)


def test_a_data_directory_that_is_gone_is_seen(serve: Callable[[Handler], Server], tmp_path: Path) -> None:
    server = serve(routes(**CHROMA))
    observer = ChromaObserver(server.url, data_dir=tmp_path)
    assert observer.check().details.store == "deleted"
    store = tmp_path / "chroma.sqlite3"
    store.touch()
    assert observer.check().details.store == "readable"
    with store.open():  # what the listening process, this one, has open
        store.unlink()
        store.touch()
        seen = observer.check()
        assert (seen.status, seen.details.store) == ("unhealthy", "deleted"), "replaced, and so not its own"


def test_a_large_collection_is_no_broken_one(serve: Callable[[Handler], Server]) -> None:
    described = {"id": "some-id", "metadata": {"text": "x" * 200_000}}
    server = serve(routes(**CHROMA | {"big": says(200, described), "count": says(200, 1)}))
    assert ChromaObserver(server.url, collection="big").check().details.collection_count == 1


def test_a_data_directory_that_cannot_be_seen_is_not_taken_for_gone(
    serve: Callable[[Handler], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(path: Path) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "lstat", hidden)
    seen = ChromaObserver(serve(routes(**CHROMA)).url, data_dir=tmp_path).check()
    assert (seen.status, seen.details.store) == ("healthy", "readable")
