"""A server that begins with a banner and logs each request. Usage: talkative.py PORT"""

# mypy: ignore-errors

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")


print(f"\n~~~ welcome to pid {os.getpid()} ~~~\n\n    (\\_/)\n    (o.o)\n\nlistening on {sys.argv[1]}", flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
