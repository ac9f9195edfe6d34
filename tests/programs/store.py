"""A daemon with data: each POST adds a record, which a graceful stop writes to its directory.

usage: python -IS store.py PORT DIRECTORY [forgetful] [stubborn]
"""

# mypy: ignore-errors

import http.server
import json
import os
import signal
import sys

port, directory = int(sys.argv[1]), sys.argv[2]
path = os.path.join(directory, "records.json")
records = []
if os.path.exists(path) and "forgetful" not in sys.argv:
    with open(path) as file:
        records = json.load(file)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(records).encode())

    def do_POST(self):
        records.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.do_GET()

    def log_message(self, *arguments):
        pass


def stop(signum, frame):
    with open(path, "w") as file:
        json.dump(records, file)
    os._exit(0)


signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else stop)
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
