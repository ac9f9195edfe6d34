"""Joins an agent to an instance that speaks standard input and output: passes its own to it, and waits for its end.

Nothing is copied: from then on the two talk to each other directly. What remains here is the lease, which ends with
this process, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

from neo_daemons.control.client import ControlError, Unreachable
from neo_daemons.status import DaemonStatus, Explanation

from .keeping import POLL_S, CannotReach, Keeper

CONNECT_S = 30.0
"""How long to try to connect to an instance that has started."""
RETRY_S = 0.01
GONE_S = 2.0
"""How long the instance may go on when nobody reads its output any more, until its supervisor stops it."""
LEARN_S = 2.0
"""How long to ask why the instance has ended: its supervisor may be on its way back."""
SELDOM_S = 1.0
"""The longest pause between two looks at an instance that goes on after its connection has ended."""
SHOWN_LINES = 10
FAILED = 1
SIGNALLED = 128


def join(keeper: Keeper) -> int:
    """Join our standard input and output to the instance, wait for its end, and return its exit code."""
    try:
        connection = _connect(keeper)
    except (CannotReach, OSError) as error:
        return _complain(str(error), FAILED)
    with connection:
        try:
            socket.send_fds(connection, [b"\0"], [0, 1])
        except OSError:
            pass  # it has ended meanwhile
        else:
            if not _wait(connection):
                return 0
    return _tell_end(keeper)


def _connect(keeper: Keeper) -> socket.socket:
    """Return the connection to the instance, which is starting.

    Raises:
        CannotReach: it does not run.
        OSError: it cannot be connected to.
    """
    deadline = time.monotonic() + CONNECT_S
    while True:
        keeper.wait_ready()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        here = Path.cwd()
        path = keeper.socket()
        try:
            os.chdir(path.parent)  # the whole path may be too long for an address
            connection.connect(path.name)
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            if time.monotonic() > deadline:
                raise CannotReach(f"{keeper.name} does not take our standard input and output; see its log") from None
        except OSError:
            connection.close()
            raise
        else:
            return connection
        finally:
            os.chdir(here)
        time.sleep(RETRY_S)


def _wait(connection: socket.socket) -> bool:
    """Wait for the end of the instance. Return False if it goes on although nobody reads its output any more."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    poll.register(1, 0)  # reports the end of the reader
    if any(descriptor == connection.fileno() for descriptor, _ in poll.poll()):
        return True
    poll.unregister(1)
    return bool(poll.poll(GONE_S * 1000))


def _tell_end(keeper: Keeper) -> int:
    """Return the exit code of the instance, and say why it has ended unless that is 0."""
    reader = select.poll()
    reader.register(1, 0)
    learn_by, pause_s = time.monotonic() + LEARN_S, POLL_S
    why = "its supervisor does not say why"
    while time.monotonic() < learn_by:
        try:
            found = keeper.why()
        except Unreachable as error:
            why = str(error)
        except ControlError:
            why = "its supervisor stopped it and no longer knows it"
            break
        else:
            if found.daemon.pid is None and found.daemon.last_exit is not None:
                return _tell(found, found.daemon)
            if found.daemon.pid is not None and not reader.poll(0):
                # It has closed all descriptors that it does not know, as some programs do, and goes on.
                learn_by = time.monotonic() + LEARN_S
                pause_s = min(pause_s * 1.2, SELDOM_S)
        time.sleep(pause_s)
    return _complain(f"{keeper.name} has ended: {why}", FAILED)


def _tell(found: Explanation, daemon: DaemonStatus) -> int:
    ended = daemon.last_exit
    assert ended is not None
    if ended.code == 0:
        return 0
    lines = "".join(f"\n    {line}" for line in found.log_tail[-SHOWN_LINES:])
    text = f"{daemon.name} has ended: {daemon.detail or ended.text}; its log: {daemon.log_path}{lines}"
    if ended.signal is not None:
        return _complain(text, SIGNALLED + signal.Signals[ended.signal].value)
    return _complain(text, ended.code or FAILED)


def _complain(message: str, code: int) -> int:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it
        sys.stderr.write(f"neo-daemons: {message}\n")
        sys.stderr.flush()
    return code
