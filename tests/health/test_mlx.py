"""mlx is judged by its model, which is asked rarely, and never twice at once."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable

from neo_daemons.health import MlxObserver
from tests.harness import PATIENCE_S

from .answers import COMPLETION, MLX, Handler, Server, routes, says, sees


def test_the_model_is_asked_rarely_and_once_by_all(serve: Callable[[Handler], Server]) -> None:
    server = serve(routes(**MLX))
    for _ in range(20):
        seen = MlxObserver(server.url).check()
        assert (seen.status, seen.details.answers, seen.details.model) == ("healthy", True, "m")
    assert server.requests.count("POST /v1/chat/completions") == 1
    assert server.requests.count("GET /health") == 20
    seen = MlxObserver(serve(routes(**MLX)).url, answer_every_s=None).check()
    assert (seen.status, seen.details.answers) == ("healthy", None)


def test_a_model_that_has_not_answered_yet_is_unknown_and_not_dead(serve: Callable[[Handler], Server]) -> None:
    answer = threading.Event()

    def late(request: http.server.BaseHTTPRequestHandler) -> None:
        answer.wait(PATIENCE_S)
        COMPLETION(request)

    server = serve(routes(**MLX | {"completions": late}))
    observer = MlxObserver(server.url, timeout_s=0.2)
    for _ in range(3):
        seen = sees(observer, "unknown")
        assert (seen.ready, seen.details.answers) == (False, None), seen
        assert seen.details.asking_for_s is not None
    assert server.requests.count("POST /v1/chat/completions") == 1, "one question at a time"
    answer.set()
    assert observer.wait_until_ready(PATIENCE_S).details.answers is True


def test_a_model_that_errs_is_unhealthy_and_one_that_is_back_is_asked_again(
    serve: Callable[[Handler], Server],
) -> None:
    answers = {**MLX, "completions": says(500, b"out of memory")}
    server = serve(lambda request: routes(**answers)(request))
    observer = MlxObserver(server.url)
    seen = observer.check()
    assert (seen.status, seen.details.answers) == ("unhealthy", False)
    assert "out of memory" in seen.reasons[0]
    answers["health"] = says(503, {"status": "loading"})
    assert "503 Service Unavailable" in observer.check().reasons[0]
    answers |= MLX
    assert observer.check().status == "healthy", "asked anew as soon as it is back"


def test_an_answer_to_one_who_has_credentials_is_none_to_others(serve: Callable[[Handler], Server]) -> None:
    def ask(request: http.server.BaseHTTPRequestHandler) -> None:
        (COMPLETION if request.headers["Authorization"] == "Bearer good" else says(401))(request)

    server = serve(routes(**MLX | {"completions": ask}))
    without, with_them = MlxObserver(server.url), MlxObserver(server.url, headers={"Authorization": "Bearer good"})
    for _ in range(2):
        assert with_them.check().status == "healthy"
        assert without.check().status == "unhealthy"


def test_a_server_that_falters_is_not_asked_twice_at_once(serve: Callable[[Handler], Server]) -> None:
    answers, go = dict(MLX), threading.Event()

    def late(request: http.server.BaseHTTPRequestHandler) -> None:
        go.wait(PATIENCE_S)
        COMPLETION(request)

    answers["completions"] = late
    server = serve(lambda request: routes(**answers)(request))
    observer = MlxObserver(server.url, timeout_s=0.2)
    try:
        for _ in range(3):
            sees(observer, "unknown")
            answers["health"] = says(503)
            sees(observer, "unhealthy")
            answers["health"] = MLX["health"]
        assert server.requests.count("POST /v1/chat/completions") == 1
    finally:
        go.set()
