"""Threads beside those of a program that is not ours."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

OWN_FAULTS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT})
"""Signals that a thread causes by itself."""


def start(work: Callable[[], object], name: str) -> threading.Thread:
    """Run `work` in a daemon thread that handles no signals, and return the thread.

    A signal that is sent to a process interrupts only one of its threads. Python raises KeyboardInterrupt in the main
    thread, but does not wake it: if another thread took the signal, Ctrl-C during a long sleep is lost.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    # A thread begins with what its creator blocks.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - OWN_FAULTS)
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return thread


def take_all_signals() -> None:
    """Handle every signal in this thread, whatever the program that started us blocked. Only for processes of our own:
    the processes that they start inherit it."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
