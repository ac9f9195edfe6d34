"""Counts visits, in the cache."""

import os
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit

CACHE = urlsplit(os.environ["REDIS_URL"])


def ask(command: str) -> str:
    """Send a command to the cache, and return the line that it answers."""
    with socket.create_connection((CACHE.hostname, CACHE.port), 5) as cache:
        cache.sendall(f"{command}\r\n".encode())
        return cache.makefile().readline().strip()


class Handler(BaseHTTPRequestHandler):
    """The requests."""

    def do_GET(self) -> None:
        """Count a visit, unless it is a question whether all is well."""
        text = ask("PING") if self.path == "/healthz" else ask("INCR visits").lstrip(":")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())


HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
