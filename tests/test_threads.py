"""Signals are for the main thread of a program, whatever our threads do meanwhile."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from pathlib import Path

from neo_daemons import threads
from neo_daemons.health import TcpObserver

from .harness import PATIENCE_S, Project, is_alive, toy, until

BLOCKING = (
    "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, {15}); os.execvp(sys.argv[1], sys.argv[1:])"
)


def blocked(task: Path) -> bool:
    """Whether a thread of /proc blocks SIGINT."""
    mask = re.search(r"^SigBlk:\s*(\w+)$", (task / "status").read_text(), re.MULTILINE)
    assert mask is not None
    return bool(int(mask[1], 16) >> signal.SIGINT - 1 & 1)


def test_a_thread_leaves_signals_to_the_others() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    masks = []
    threads.start(lambda: masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "ours").join()
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGALRM} <= masks[0]
    assert signal.SIGSEGV not in masks[0], "faulthandler reports it in the thread that caused it"
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_the_threads_of_observers_leave_signals_to_the_program() -> None:
    TcpObserver(port=9, name="nobody").check()
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("neo-daemons")]
    assert ours
    for thread in ours:
        assert blocked(Path(f"/proc/self/task/{thread.native_id}")), thread.name


def test_serve_and_its_daemons_take_signals_that_their_parent_blocked(project: Project) -> None:
    project.configure(api={**toy(), "stop": {"grace_s": 600.0}})
    supervisor = project.serve(prefix=(sys.executable, "-c", BLOCKING))
    pid = project.reaches("api", "ready").pid
    os.kill(supervisor.pid, signal.SIGTERM)
    assert supervisor.wait(PATIENCE_S) == 0
    until(lambda: pid is not None and not is_alive(pid), "the end of the daemon")
