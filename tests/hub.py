"""A Hugging Face Hub on this machine, as far as its client asks when it fetches a model: one repository, and faults.

usage: python hub.py DIRECTORY REPOSITORY [FAULT]; it prints its port.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves the files of `directory` as `repository`. `fault` makes it refuse: gated, status=NNN."""

    def __init__(self, directory: Path, repository: str, fault: str = "") -> None:
        self.directory = directory
        self.repository = repository
        self.fault = fault
        self.asked: list[str] = []

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Its URL, while it answers."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                hub.answer(self)

            def do_GET(self) -> None:
                hub.answer(self)

            def log_message(self, *arguments: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()
                thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        path = request.path.partition("?")[0]
        self.asked.append(f"{request.command} {path}")
        if self.fault == "gated":
            _send(request, 403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        elif self.fault.startswith("status="):
            _send(request, int(self.fault.partition("=")[2]), b"{}", {})
        elif path.startswith(f"/api/models/{self.repository}"):
            _send(request, 200, self._described(tree="/tree/" in path), {})
        elif path.startswith(f"/{self.repository}/resolve/"):
            file = self.directory / path.rpartition("/")[2]
            content = file.read_bytes()
            etag = hashlib.sha256(content).hexdigest()
            _send(request, 200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"})
        else:
            _send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})

    def _described(self, *, tree: bool) -> bytes:
        sizes = {path.name: path.stat().st_size for path in sorted(self.directory.iterdir()) if path.is_file()}
        if tree:
            files = [{"type": "file", "path": name, "size": size, "oid": COMMIT} for name, size in sizes.items()]
            return json.dumps(files).encode()
        siblings = [{"rfilename": name, "size": size, "blobId": COMMIT} for name, size in sizes.items()]
        described = {"id": self.repository, "modelId": self.repository, "sha": COMMIT, "private": False, "tags": []}
        return json.dumps({**described, "downloads": 0, "likes": 0, "siblings": siblings}).encode()


def _send(request: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str]) -> None:
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(content)))
    for name, value in headers.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command == "GET":
        request.wfile.write(content)


if __name__ == "__main__":
    with Hub(Path(sys.argv[1]), sys.argv[2], *sys.argv[3:]).serving() as url:
        print(url, flush=True)
        threading.Event().wait()
