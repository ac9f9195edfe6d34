"""Stands in for qdrant, which is not to be had here: what the recipe uses of it, as its documentation says."""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

POINTS = Path(os.environ["QDRANT__STORAGE__STORAGE_PATH"]) / "points"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = POINTS.read_bytes() if self.path == "/points" else b"all shards are ready"
        self.send_response(200 if self.path in ("/readyz", "/livez", "/points") else 404)
        self.end_headers()
        self.wfile.write(found)

    def do_POST(self) -> None:
        POINTS.write_bytes(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()


POINTS.parent.mkdir(parents=True, exist_ok=True)
Path(os.environ["QDRANT_INIT_FILE_PATH"]).touch()
HTTPServer(
    (os.environ["QDRANT__SERVICE__HOST"], int(os.environ["QDRANT__SERVICE__HTTP_PORT"])), Handler
).serve_forever()
