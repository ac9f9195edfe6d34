"""Nothing that a daemon, or whoever is on its port, answers harms the program that looks."""

from __future__ import annotations

import gzip
import http.server
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neo_daemons.health import ChromaObserver, HttpObserver, MlxObserver, ProcessObserver, TcpObserver, check_all
from neo_daemons.state_dir import StateDir
from tests.harness import Child, free_port, until
from tests.strays import descriptors

from .answers import MLX, Handler, Server, routes, says
from .fake_bridge import Bridge


@pytest.mark.parametrize(
    "body", [b"[" * 60_000, b'{"a":' * 60_000, b"1" * 5_000, b'{"nanosecond heartbeat": true}', b"NaN", b"\x00"]
)
def test_no_answer_breaks_a_look(serve: Callable[[Handler], Server], body: bytes) -> None:
    server = serve(says(200, body))
    for observer in (ChromaObserver(server.url), MlxObserver(server.url), HttpObserver(server.url, name="api")):
        assert observer.check().status in ("healthy", "unhealthy"), body
    server = serve(routes(**MLX | {"completions": says(200, body)}))
    for _ in range(3):
        assert MlxObserver(server.url).check().status == "unhealthy"
    assert server.requests.count("POST /v1/chat/completions") == 1, "and it is not asked at every look for that"


def test_an_answer_is_not_unpacked(serve: Callable[[Handler], Server]) -> None:
    packed = gzip.compress(gzip.compress(bytes(50_000_000)))
    server = serve(says(200, packed, **{"Content-Encoding": "gzip, gzip"}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen = HttpObserver(server.url, name="api").check()
    assert (seen.status, "compressed" in seen.reasons[0]) == ("unhealthy", True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000, "kilobytes"


def test_cookies_of_one_daemon_are_not_told_another(serve: Callable[[Handler], Server]) -> None:
    cookies: list[str | None] = []

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        cookies.append(request.headers["Cookie"])
        says(200, **{"Set-Cookie": "session=secret; Path=/"})(request)

    for _ in range(3):
        assert HttpObserver(serve(answer).url, name="api").is_up()
    assert cookies == [None] * 3


def test_a_secret_is_not_shown_by_whoever_repeats_it(serve: Callable[[Handler], Server]) -> None:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        says(500, str(request.headers).encode())(request)

    url = serve(answer).url
    seen = HttpObserver(url, name="api", path="/p?token=swordfish", headers={"Authorization": "Bearer hunter2"}).check()
    assert "Authorization: ***" in seen.reasons[0]
    assert "hunter2" not in str(seen.as_dict())
    assert "swordfish" not in str(seen.as_dict())
    with pytest.raises(ValueError, match="header Authorization: cannot be sent") as refused:
        HttpObserver(url, name="api", headers={"Authorization": "Bearer hunter2\n"})
    assert "hunter2" not in str(refused.value)
    for bad in ("http://me:hunter2@h:0", "http://me:hun/hunter2@h:80", "http://me:hunter2@h/?q"):
        with pytest.raises(ValueError, match="is not a URL") as refused:
            ChromaObserver(bad)
        assert "hunter2" not in str(refused.value)


def test_text_from_outside_fits_into_json(tmp_path: Path) -> None:
    port = free_port()
    program = (
        f"import http.server as h; h.HTTPServer(('127.0.0.1', {port}), h.SimpleHTTPRequestHandler).serve_forever()"
    )
    command: list[str | bytes] = [sys.executable, "-c", program, b"\xff\x1b[31m"]
    with Child(command, stderr=subprocess.DEVNULL, cwd=tmp_path) as process:
        try:
            observer = ChromaObserver(f"http://127.0.0.1:{port}")
            seen = until(lambda: seen if (seen := observer.check()).pid else None, "it to listen")
            report = check_all([observer])
            assert "listens there" in report.text()
            json.loads(report.json())
            assert seen.reasons[0].isprintable()
        finally:
            process.kill()


def test_a_failing_look_is_unknown_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    observer = TcpObserver(port=1, name="db")

    async def fails(*_: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(observer, "_examine", fails)
    seen = observer.check()
    assert seen.status == "unknown"
    assert "ZeroDivisionError: a fault of ours" in seen.reasons[0]


@pytest.mark.parametrize("host", ["x" * 70, "a\0b", "ä" * 80])
def test_a_host_that_cannot_be_is_no_crash(host: str) -> None:
    assert TcpObserver(host, 80, name="db").check().status in ("unhealthy", "unknown")


def test_a_directory_in_place_of_a_record_leaks_nothing(tmp_path: Path, wake: Bridge) -> None:
    state = StateDir(tmp_path)
    state.create()
    state.daemon_record("api").mkdir()
    observer = ProcessObserver("api", tmp_path)
    (wake.directory / "wake-daemon.pid").unlink()
    (wake.directory / "wake-daemon.pid").mkdir()
    seen = observer.check(), wake.observer.check()
    assert [one.status for one in seen] == ["unknown", "unknown"], seen
    before = len(descriptors(os.getpid()))
    for _ in range(20):
        observer.check()
        wake.observer.check()
    until(lambda: len(descriptors(os.getpid())) == before, f"the {before} descriptors of before")
