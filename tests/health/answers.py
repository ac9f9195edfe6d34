"""An HTTP server of a test's own, and what it can answer."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable
from typing import Any

from neo_daemons.health import Observer
from tests.harness import until

Handler = Callable[[http.server.BaseHTTPRequestHandler], None]


class Server:
    """An HTTP server of the test's own: what it answers is the fault that is looked for."""

    def __init__(self, answer: Handler) -> None:
        self.requests: list[str] = []
        owner = self

        class Answering(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.requests.append(f"{self.command} {self.path}")
                with contextlib.suppress(ConnectionError):
                    answer(self)

            do_POST = do_GET  # noqa: N815
            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def says(status: int, body: Any = b"", **headers: str) -> Handler:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for key, value in headers.items():
            request.send_header(key, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    return answer


def routes(**answers: Handler) -> Handler:
    """By the last part of the path."""

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        answers.get(request.path.rpartition("/")[2], says(404))(request)

    return answer


def sees(observer: Observer[Any], status: str) -> Any:
    """The first look that comes to this: a short one may have no time for it, beside whatever load."""

    def look() -> Any:
        seen = observer.check()
        return seen if seen.status == status else None

    return until(look, f"a look that says {status}")


CHROMA = {
    "heartbeat": says(200, {"nanosecond heartbeat": 7}),
    "version": says(200, "1.0.0"),
    "collections_count": says(200, 3),
}
COMPLETION = says(200, {"model": "m", "choices": [{}]})
MLX = {"health": says(200, {"status": "ok"}), "completions": COMPLETION}
