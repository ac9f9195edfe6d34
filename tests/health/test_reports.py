"""Several daemons in one report, and the lifecycle services of old, which own nothing."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from neo_daemons.health import (
    ChromaObserver,
    DatabaseLifecycleService,
    HealthReport,
    HttpObserver,
    InferenceLifecycleService,
    MlxObserver,
    Observer,
    acheck_all,
    check_all,
)
from tests.harness import PATIENCE_S, free_port

from .answers import CHROMA, MLX, Handler, Server, routes, says


@pytest.mark.long
def test_the_worst_of_a_set_is_its_status(serve: Callable[[Handler], Server], hung: str) -> None:
    healthy = HttpObserver(serve(says(200)).url, name="good")
    degraded = ChromaObserver(serve(routes(**CHROMA | {"collections_count": says(404)})).url, name="half")
    unknown = MlxObserver(
        serve(routes(**MLX | {"completions": lambda request: request.rfile.read()})).url, name="busy", timeout_s=1.0
    )
    unhealthy = HttpObserver(serve(says(503, b"no")).url, name="bad")
    sets: tuple[tuple[list[Observer[Any]], str, int, str], ...] = (
        ([healthy], "healthy", 200, "pass"),
        ([healthy, degraded], "degraded", 200, "warn"),
        ([degraded, healthy, unknown], "unknown", 503, "fail"),
        ([unhealthy, unknown, degraded, healthy], "unhealthy", 503, "fail"),
        ([], "healthy", 200, "pass"),
    )
    for observers, status, code, word in sets:
        seen = check_all(observers)
        assert seen.status == status
        assert asyncio.run(acheck_all(observers)).status == status
        http_status, body = seen.healthz()
        assert (http_status, body["status"], set(body["checks"])) == (code, word, {one.name for one in observers})
        json.dumps(body)
        assert [line.partition(":")[0] for line in seen.text().splitlines()] == [one.name for one in observers]
        assert [one["status"] for one in json.loads(seen.json())["daemons"]] == [one.status for one in seen.daemons]
    assert isinstance(seen, HealthReport)
    assert check_all([unhealthy]).daemon("bad").details.http_status == 503


def test_two_of_one_name_are_both_reported() -> None:
    observers = [ChromaObserver(f"http://127.0.0.1:{free_port()}") for _ in range(2)]
    assert len(check_all(observers).healthz()[1]["checks"]["chroma"]) == 2


def test_the_services_of_old_look_and_own_nothing(serve: Callable[[Handler], Server]) -> None:
    answers = dict[str, Handler]()
    server = serve(lambda request: routes(**answers)(request))
    database = DatabaseLifecycleService(ChromaObserver(server.url))
    inference = InferenceLifecycleService(MlxObserver(server.url))
    assert database.start_database()["status"] == "offline"
    assert "-m neo_daemons up" in database.manage_database("start", wait_s=0.1)["detail"]
    assert inference.start_inference_server()["status"] == "offline"
    assert not database.is_db_running()
    assert not database.wait_for_heartbeat(0.1)
    assert database.get_database_status()["running"] is False
    answers |= CHROMA | MLX
    assert database.wait_for_heartbeat(PATIENCE_S)
    assert database.is_db_running()
    for started in (
        database.start_database(),
        database.manage_database("start"),
        inference.start_inference_server(),
        inference.manage_inference("start"),
    ):
        assert (started["status"], started["pid"], started["managed"]) == ("already_running", os.getpid(), None)
    for stopped in (
        database.stop_database(),
        database.manage_database("stop"),
        inference.stop_inference_server(),
        inference.manage_inference("stop"),
    ):
        assert stopped["status"] == "not_owned"
        assert "does not own the daemon" in stopped["detail"]
    for status in (database.get_database_status(), inference.get_status()):
        assert (status["running"], status["status"], status["pid"]) == (True, "healthy", os.getpid())
    assert "unknown action 'purge'" in database.manage_database("purge")["error"]
    nobody = DatabaseLifecycleService(ChromaObserver(f"http://127.0.0.1:{free_port()}"))
    assert nobody.stop_database()["status"] == "not_running"
