"""A daemon for tests: it starts in milliseconds and misbehaves on request.

usage: python -IS toy.py [--port N] [--host H] [BEHAVIOUR …]

Behaviours: exit=CODE (at once); ignore-term; status=CODE (of its answers); mute (accepts and never answers);
fork (double-forks, the first process exits 0); scrub (the forked one loses its environment's mark);
linger (the one between them takes its time to exit);
titled (overwrites its arguments and environment by a title, as redis, nginx and PostgreSQL do);
child (has a child in its own session); stubborn-child (one that ignores SIGTERM); quiet (no port);
write=TEXT (to its log, at its start); flood=LINES; eat=MEGABYTES; pidfile=PATH; fail-if=PATH (exits 7 if it exists).
"""

import os
import signal
import socket
import sys
import time


def main() -> None:
    options = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    if "write" in options:
        print(options["write"], flush=True)
    if "fail-if" in options and os.path.exists(options["fail-if"]):
        sys.exit(7)
    if "exit" in options:
        sys.exit(int(options["exit"]))
    if "fork" in options:
        if os.fork():
            os._exit(0)
        os.setsid()
        if os.fork():
            time.sleep(0.3 if "linger" in options else 0)
            os._exit(0)
        if "scrub" in options:
            arguments = [argument for argument in sys.argv if argument not in ("fork", "scrub")]
            os.execve(sys.executable, [sys.executable, "-IS", *arguments], {})
    if "ignore-term" in options:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if ("child" in options or "stubborn-child" in options) and os.fork() == 0:
        os.setsid()
        if "stubborn-child" in options:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            signal.pause()
    if "pidfile" in options:
        with open(options["pidfile"], "a") as file:
            print(os.getpid(), file=file)
    if "titled" in options:
        set_title(b"toy: at work")
    hoard = bytearray(int(options.get("eat", 0)) * 1_000_000)
    hoard[::4096] = b"x" * len(hoard[::4096])
    for number in range(int(options.get("flood", 0))):
        os.write(1, b"line %09d\n" % number)
        if number % 1000 == 999:
            time.sleep(0.005)
    if "quiet" in options:
        print("quiet and ready", flush=True)
        while True:
            signal.pause()
    serve(options)


def set_title(title: bytes) -> None:
    import ctypes

    with open("/proc/self/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[48])  # proc(5): arg_start, env_end
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, title, len(title))


def serve(options: dict[str, str]) -> None:
    listener = socket.create_server((options.get("host", "127.0.0.1"), int(options["port"])))
    status = options.get("status", "200").encode()
    kept = []
    while True:
        connection, _ = listener.accept()
        if "mute" in options:
            kept.append(connection)
            continue
        with connection:
            connection.settimeout(5)
            try:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 %s X\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok" % status)
            except OSError:
                pass


if __name__ == "__main__":
    main()
