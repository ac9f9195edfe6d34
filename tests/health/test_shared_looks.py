"""A look is shared by all who ask, ends in time, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import http.server
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from neo_daemons.health import ChromaObserver, HttpObserver, NotReady, Observation
from neo_daemons.health.background import Background, background
from tests.harness import PATIENCE_S, PROGRAMS, Child, until
from tests.strays import descriptors

from .answers import COMPLETION, MLX, Handler, Server, routes, says


def test_a_thousand_callers_cost_one_request(serve: Callable[[Handler], Server]) -> None:
    go = threading.Event()

    def held(request: http.server.BaseHTTPRequestHandler) -> None:
        go.wait(PATIENCE_S)
        says(200)(request)

    server = serve(held)
    observer = HttpObserver(server.url, name="api", timeout_s=PATIENCE_S)

    async def waiting() -> int:
        return sum(task.get_coro().__name__ == "_answer" for task in asyncio.all_tasks())  # type: ignore[union-attr]

    async def many(count: int) -> list[Observation[Any]]:
        asked = [asyncio.ensure_future(observer.acheck()) for _ in range(count)]
        await asyncio.to_thread(until, everybody_waits, "all callers to wait")
        asked[0].cancel()  # whoever was first may leave: the look is everybody's
        await asyncio.to_thread(until, lambda: asked[0].cancelled(), "one to leave")
        left.append(count)
        await asyncio.to_thread(until, lambda: len(left) == 2, "one of each loop to leave")
        go.set()
        return list(await asyncio.gather(*asked[1:]))

    left: list[int] = []

    def everybody_waits() -> bool:
        return bool(left) or background().submit(waiting()).result() == 1000 + 100 + 18

    with ThreadPoolExecutor(20) as pool:  # other threads, and another event loop
        others = [pool.submit(observer.check) for _ in range(18)]
        loop = pool.submit(lambda: asyncio.run(many(100)))
        seen = asyncio.run(many(1000)) + loop.result() + [other.result() for other in others]
    assert len(seen) == 999 + 99 + 18
    assert {(one.status, one.observed_at) for one in seen} == {("healthy", seen[0].observed_at)}
    assert server.requests == ["GET /"]


def test_a_hung_daemon_costs_no_more_than_the_timeout(hung: str) -> None:
    for observer in (HttpObserver(hung, name="api", timeout_s=0.2), ChromaObserver(hung, timeout_s=0.2)):
        before = time.monotonic()
        seen = observer.check(PATIENCE_S)  # the observer's own limit ends the look
        assert time.monotonic() - before < PATIENCE_S / 4
        assert seen.status == "unhealthy"
        assert "no answer within 0.2 s" in seen.reasons[0]
    patient = HttpObserver(hung, name="api", timeout_s=PATIENCE_S)
    before = time.monotonic()
    seen = patient.check(timeout_s=0.1)
    assert time.monotonic() - before < PATIENCE_S / 4
    assert (seen.status, seen.ready) == ("unknown", False), "a look that is in flight says nothing of the daemon"
    assert "did not finish within 0.1 s" in seen.reasons[0]
    assert asyncio.run(patient.acheck(timeout_s=0.1)).status == "unknown"


def test_a_server_that_never_stops_talking_costs_no_more_either(serve: Callable[[Handler], Server]) -> None:
    ended = threading.Event()

    def trickle(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not ended.wait(0.01):
            request.wfile.write(b"x")

    def flood(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not ended.is_set():
            request.wfile.write(b"x" * 65_536)

    try:
        assert (
            "no answer within"
            in HttpObserver(serve(trickle).url, name="api", timeout_s=0.2).check(PATIENCE_S).reasons[0]
        )
        assert HttpObserver(serve(flood).url, name="api", timeout_s=PATIENCE_S).check().status == "healthy"
    finally:
        ended.set()


@pytest.mark.long
def test_thousands_of_looks_at_a_hung_daemon_leave_nothing(hung: str) -> None:
    observers: list[Any] = [HttpObserver(hung, name=f"api{number}", timeout_s=0.1) for number in range(99)]
    observers.append(ChromaObserver(hung, timeout_s=0.1))

    async def tasks() -> int:
        return len(asyncio.all_tasks())

    def count() -> tuple[int, int, int]:
        running = background().submit(tasks()).result()
        return len(descriptors(os.getpid())), threading.active_count(), running

    async def rounds(number: int) -> set[str]:
        seen = set()
        for _ in range(number):
            seen |= {one.status for one in await asyncio.gather(*(observer.acheck() for observer in observers))}
        return seen

    until(lambda: count()[2] == 1, "the looks of other tests to end")
    before = count()
    assert asyncio.run(rounds(20)) <= {"unhealthy", "unknown"}
    until(lambda: count() == before, f"the same descriptors, threads and tasks as before: {before}, now {count()}")


def test_only_a_healthy_result_is_used_again_and_tells_its_age(serve: Callable[[Handler], Server]) -> None:
    status = [503]
    server = serve(lambda request: says(status[0])(request))
    observer = HttpObserver(server.url, name="api", reuse_s=PATIENCE_S)
    assert [observer.check().status for _ in range(3)] == ["unhealthy"] * 3
    assert len(server.requests) == 3
    status[0] = 200
    first = observer.check()
    assert (first.status, first.age_s) == ("healthy", 0.0)
    until(lambda: time.time() > first.observed_at + 0.1, "some time to pass")
    again = observer.check()
    assert again.observed_at == first.observed_at
    assert again.age_s >= 0.1
    assert re.search(r"seen \d+\.\d", str(again))
    assert len(server.requests) == 4
    status[0] = 503
    with pytest.raises(NotReady):
        observer.wait_until_ready(0.0)


@pytest.mark.parametrize("timeout_s", [float("inf"), 1e12, -1.0, 0.0])
def test_any_time_can_be_given(serve: Callable[[Handler], Server], timeout_s: float) -> None:
    observer = HttpObserver(serve(says(200)).url, name="api")
    assert observer.check(timeout_s).status == ("healthy" if timeout_s > 0 else "unknown")
    if timeout_s > 0:
        assert observer.wait_until_ready(timeout_s).ready
    with pytest.raises(ValueError, match="nan"):
        observer.check(float("nan"))
    for bad in (float("nan"), float("inf"), -1.0):
        with pytest.raises(ValueError, match="expected seconds"):
            HttpObserver("http://127.0.0.1:1", name="api", timeout_s=bad)


def test_a_forked_process_looks_for_itself(serve: Callable[[Handler], Server]) -> None:
    server = serve(says(200))
    program = f"""
import os
from neo_daemons.health import HttpObserver
observer = HttpObserver({server.url!r}, name="api")
assert observer.is_up()
child = os.fork()
if not child:
    os._exit(0 if observer.is_up() else 1)
assert os.waitpid(child, 0)[1] == 0
assert observer.is_up()
"""
    command = [sys.executable, "-Wignore::DeprecationWarning", "-c", program]
    subprocess.run(command, check=True, timeout=PATIENCE_S)
    assert len(server.requests) == 3


def test_a_process_that_was_forked_in_the_middle_of_a_look_looks_for_itself(
    serve: Callable[[Handler], Server],
) -> None:
    go = threading.Event()

    def late(request: http.server.BaseHTTPRequestHandler) -> None:
        go.wait(PATIENCE_S)
        COMPLETION(request)

    server = serve(routes(**MLX | {"completions": late}))
    command = [sys.executable, "-Wignore::DeprecationWarning", str(PROGRAMS / "forked_look.py"), server.url]
    with Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert {process.stdout.readline(), process.stdout.readline()} == {"forked\n", "born\n"}
        go.set()
        process.communicate("\n\n", timeout=PATIENCE_S)
        assert process.returncode == 0


def test_importing_costs_nothing_and_the_end_of_a_process_is_silent(hung: str) -> None:
    program = f"""
import sys, threading
import neo_daemons.health
heavy = {{"asyncio", "httpx", "msgspec", "sqlite3", "psutil", "subprocess"}} & set(sys.modules)
assert not heavy, heavy
observer = neo_daemons.health.HttpObserver({hung!r}, name="api", timeout_s=60)
assert "httpx" not in sys.modules
assert observer.check(0.1).status == "unknown"
threads = [thread.name for thread in threading.enumerate()]
assert threads == ["MainThread", "neo-daemons-health"], threads
"""
    command = [sys.executable, "-Werror", "-Xfaulthandler", "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_end_of_a_process_in_the_first_step_of_a_look_is_silent() -> None:
    """A task that was cancelled before its first step had Python complain of what it never awaited."""

    async def look() -> None:
        closing = asyncio.ensure_future(owner._close())  # its first step comes before the one of what is begun below
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, PATIENCE_S)
        finally:
            assert not closing.done(), "whoever closes waits for the end of what it cancels"

    owner = Background()
    with pytest.raises(CancelledError):
        owner.submit(look()).result(PATIENCE_S)
    owner.close()
    gc.collect()
