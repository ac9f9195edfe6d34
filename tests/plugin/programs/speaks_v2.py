"""A small program that speaks as much of chroma's API v2 as a client needs to begin: PORT [TOKEN]."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BASE = "/api/v2"
TENANT = f"{BASE}/tenants/default_tenant"
DATABASES = {"default_database"}


class Handler(BaseHTTPRequestHandler):
    """Answers."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == f"{BASE}/heartbeat" or path == BASE:
            self.say({"nanosecond heartbeat": 1})
        elif path == f"{BASE}/auth/identity":
            self.say({"user_id": "", "tenant": "default_tenant", "databases": ["*"]})
        elif path == f"{BASE}/version":
            self.say("9.9.9")
        elif path == f"{BASE}/pre-flight-checks":
            self.say({"max_batch_size": 10})
        elif path == TENANT:
            self.say({"name": "default_tenant"})
        elif path.startswith(f"{TENANT}/databases/") and path.rpartition("/")[2] in DATABASES:
            self.say({"id": "0" * 8 + "-0000-0000-0000-" + "0" * 12, "name": path.rpartition("/")[2], "tenant": "t"})
        else:
            self.say({"error": "NotFoundError", "message": f"nothing at {path}"}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "broken" in sys.argv:
            self.say({"error": "InternalError", "message": "the disk is full"}, 500)
        elif self.path == f"{TENANT}/databases" and "no-databases" not in sys.argv:
            DATABASES.add(body["name"])
            self.say({})
        else:
            self.say({"error": "NotFoundError", "message": "no such thing"}, 404)

    def do_DELETE(self) -> None:
        DATABASES.discard(self.path.rpartition("/")[2])
        self.say({})

    def say(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
