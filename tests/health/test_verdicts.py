"""An observer judges what answers, and shows no credentials."""

from __future__ import annotations

import errno
import http.server
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neo_daemons.health import (
    BridgeObserver,
    ChromaObserver,
    HttpObserver,
    MlxObserver,
    ProcessObserver,
    TcpObserver,
    Unhealthy,
    check_all,
)
from tests.harness import free_port

from .answers import Handler, Server, says


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (says(200), "healthy", ""),
        (says(204), "healthy", ""),
        (says(503, b"loading the model"), "unhealthy", "503 Service Unavailable.*loading the model"),
        (says(500), "unhealthy", "500 Internal Server Error"),
        (says(404, b"no such page"), "unhealthy", "wrong service.*404 Not Found.*no such page.*listens there"),
        (says(301, Location="http://elsewhere.invalid/"), "unhealthy", "wrong service.*301"),
        (says(401), "unhealthy", "requires credentials"),
        (lambda request: request.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n"), "unhealthy", "does not speak HTTP"),
        (lambda request: None, "unhealthy", "does not speak HTTP|cut"),
    ],
)
def test_an_answer_is_judged(serve: Callable[[Handler], Server], answer: Handler, status: str, reason: str) -> None:
    server = serve(answer)
    seen = HttpObserver(server.url, name="api").check()
    assert (seen.status, seen.ready) == (status, status == "healthy"), seen
    assert re.search(reason, "; ".join(seen.reasons)), seen
    assert seen.url == server.url
    assert seen.latency_ms is not None
    assert (seen.pid, seen.managed, seen.record) == (os.getpid(), None, None), "who listens is seen"


def test_status_and_body_can_be_named(serve: Callable[[Handler], Server]) -> None:
    server = serve(says(418, b"short and stout"))
    good = HttpObserver(server.url, name="pot", path="/tea", status=[418], body="st[o]ut").check()
    assert (good.status, good.details.http_status) == ("healthy", 418)
    bad = HttpObserver(server.url, name="pot", status=[418], body="coffee").check()
    assert bad.status == "unhealthy"
    assert "'coffee' is not in the answer" in bad.reasons[0]
    assert server.requests == ["GET /tea", "GET /"]


def test_nobody_is_there() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for observer in (
        HttpObserver(url, name="api"),
        ChromaObserver(url),
        MlxObserver(url),
        TcpObserver(port=int(url.rpartition(":")[2]), name="db"),
    ):
        seen = observer.check()
        assert (seen.status, seen.ready, seen.pid) == ("unhealthy", False, None)
        assert "connection refused" in seen.reasons[0]
        assert str(seen).count(url) == (1 if seen.url else 0), "said twice"
    seen = HttpObserver("http://no-such-host.invalid:1", name="api").check()
    assert seen.status == "unhealthy", seen


def test_credentials_are_used_and_never_shown(serve: Callable[[Handler], Server]) -> None:
    given: list[tuple[str | None, str | None]] = []

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        given.append((request.headers["Authorization"], request.headers["X-Token"]))
        says(503)(request)

    server = serve(answer)
    observer = HttpObserver(server.url.replace("//", "//user:hunter2@"), name="api", headers={"X-Token": "swordfish"})
    seen = observer.check()
    assert given == [("Basic dXNlcjpodW50ZXIy", "swordfish")]
    with pytest.raises(Unhealthy) as refused:
        observer.ensure_healthy()
    for text in (repr(observer), repr(seen), str(seen), str(refused.value), check_all([observer]).json()):
        assert "hunter2" not in text
        assert "swordfish" not in text


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://127.0.0.1/", "http://127.0.0.1:70000", "http://[::1"])
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    for make in (ChromaObserver, MlxObserver, lambda url: HttpObserver(url, name="api")):
        with pytest.raises(ValueError, match="is not a URL; use e"):
            make(url)


def test_arguments_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="timeout_s=0"):
        ChromaObserver("http://127.0.0.1:1", timeout_s=0)
    with pytest.raises(ValueError, match="both daemon_dir and database"):
        BridgeObserver(tmp_path)
    with pytest.raises(ValueError, match="pass a port"):
        TcpObserver(name="db")


@pytest.mark.parametrize("name", ["", "../../x", "a\0b", "\udcff", "A", "a" * 64])
def test_what_is_no_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a valid daemon name"):
        ProcessObserver(name, tmp_path)


def test_what_the_looking_process_lacks_condemns_no_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("asyncio.selector_events.BaseSelectorEventLoop.sock_connect", fail)
    for observer in (HttpObserver("http://127.0.0.1:1", name="api"), TcpObserver(port=1, name="api")):
        seen = observer.check()
        assert (seen.status, seen.ready) == ("unknown", False)
        assert seen.reasons[0].endswith(": Too many open files (in the observing process)"), seen


def test_a_host_that_cannot_be_reached_is_not_called_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise OSError(errno.EHOSTUNREACH, "Connect call failed ('192.0.2.1', 1)")

    monkeypatch.setattr("asyncio.selector_events.BaseSelectorEventLoop.sock_connect", fail)
    for observer in (HttpObserver("http://192.0.2.1:1", name="api"), TcpObserver("192.0.2.1", 1, name="api")):
        seen = observer.check()
        assert seen.status == "unhealthy"
        assert seen.reasons[0].endswith(f": {os.strerror(errno.EHOSTUNREACH)}"), seen
