"""Stands in for ollama, which is not to be had here: what the recipe uses of it, as its documentation says.

``serve`` answers at OLLAMA_HOST and keeps models in OLLAMA_MODELS; ``pull NAME`` asks it to fetch one.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

MODELS: list[str] = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found: object = {"version": "0.0.0"} if self.path == "/api/version" else {"models": MODELS}
        self.answer(found)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        MODELS.append(asked["model"])
        self.answer({"status": "success"})

    def answer(self, found: object) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())


host = os.environ["OLLAMA_HOST"].removeprefix("http://")
if sys.argv[1:] == ["serve"]:
    name, _, port = host.rpartition(":")
    HTTPServer((name, int(port)), Handler).serve_forever()
elif sys.argv[1] == "pull":
    body = json.dumps({"model": sys.argv[2]}).encode()
    urllib.request.urlopen(f"http://{host}/api/pull", body, timeout=30).close()
else:
    sys.exit(f"unknown command: {sys.argv[1:]}")
