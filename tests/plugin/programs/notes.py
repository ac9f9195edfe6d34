"""The program of docs/migrating.md: keeps texts in files, by HTTP."""

import argparse
import http.server
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--data", type=Path, required=True)
options = parser.parse_args()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers requests for texts."""

    def do_GET(self) -> None:
        """Send a text; /health is always there."""
        path = options.data / self.path.strip("/")
        if self.path != "/health" and not path.is_file():
            self.send_error(404)
            return
        self._send(b"" if self.path == "/health" else path.read_bytes())

    def do_PUT(self) -> None:
        """Keep a text."""
        (options.data / self.path.strip("/")).write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(b"")

    def _send(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


http.server.ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()
