"""Adds a job for each POST, and says how many are done."""

import os
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    """The requests."""

    def do_GET(self) -> None:
        """Answer with the number of jobs that are done."""
        with sqlite3.connect(os.environ["QUEUE"]) as queue:
            (done,) = queue.execute("SELECT count(*) FROM jobs WHERE done").fetchone()
        self._answer(200, str(done))

    def do_POST(self) -> None:
        """Add a job."""
        with sqlite3.connect(os.environ["QUEUE"]) as queue:
            queue.execute("INSERT INTO jobs DEFAULT VALUES")
        self._answer(201, "")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())


HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
