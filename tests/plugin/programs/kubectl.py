"""A kubectl for tests that knows `port-forward` only, and forwards to ports of this machine.

Its cluster is the directory FAKE_CLUSTER. `cluster.json` there holds `services`: namespace → service → port → port on
this machine; and perhaps `ignores_term` and `unreachable`. SIGUSR1 makes it lose its connection.
Each start appends its pid and the time to the file `starts`. When the file `hang-PID` appears, that process
goes on to accept connections, and forwards nothing more.
"""

# mypy: ignore-errors

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path

CLUSTER = Path(os.environ["FAKE_CLUSTER"])
CURRENT = "default"
HANG = CLUSTER / f"hang-{os.getpid()}"


def fail(text: str) -> None:
    os.write(2, f"{text}\n".encode())
    os._exit(1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="kubectl", allow_abbrev=False)
    command = parser.add_subparsers(dest="command", required=True).add_parser("port-forward", allow_abbrev=False)
    command.add_argument("--address", required=True, choices=["127.0.0.1"])
    command.add_argument("--namespace", default=CURRENT)
    command.add_argument("target", type=lambda text: re.fullmatch(r"service/([a-z0-9-]+)", text)[1])
    command.add_argument("pairs", nargs="+", type=lambda text: re.fullmatch(r"(\d+):(\d+)", text).groups())
    return parser.parse_args()


def pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            while HANG.exists():
                time.sleep(60)
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def forward(listener: socket.socket, local: str, port: int) -> None:
    kept = []
    while True:
        near = listener.accept()[0]
        print(f"Handling connection for {local}", flush=True)
        if HANG.exists():
            kept.append(near)
            continue
        try:
            far = socket.create_connection(("127.0.0.1", port))
        except OSError:
            fail("error: lost connection to pod")
        for ends in ((near, far), (far, near)):
            threading.Thread(target=pump, args=ends, daemon=True).start()


def main() -> None:
    arguments = parse()
    with (CLUSTER / "starts").open("a") as starts:
        starts.write(f"{os.getpid()} {time.time()}\n")
    settings = json.loads((CLUSTER / "cluster.json").read_text())
    if settings.get("unreachable"):
        fail("The connection to the server localhost:8080 was refused - did you specify the right host or port?")
    signal.signal(signal.SIGUSR1, lambda *_: fail("error: lost connection to pod"))
    if settings.get("ignores_term"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ports = settings["services"].get(arguments.namespace, {}).get(arguments.target)
    if ports is None:
        fail(f'Error from server (NotFound): services "{arguments.target}" not found')
    for local, remote in arguments.pairs:
        if remote not in ports:
            fail(f"error: Service {arguments.target} does not have a service port {remote}")
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", int(local)))
        except OSError:
            fail(f"Unable to listen on port {local}: Listeners failed to create with the following errors: []")
        listener.listen(128)
        print(f"Forwarding from 127.0.0.1:{local} -> {remote}", flush=True)
        threading.Thread(target=forward, args=(listener, local, ports[remote]), daemon=True).start()
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
