"""Run a command in the foreground, for a user, in our place."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
SIGNALLED = 128
"""A shell's exit code for a command that was killed by a signal is this plus the signal's number."""


def run(command: Sequence[str], env: Mapping[str, str], *, quiet: bool = False) -> int:
    """Run a command with our terminal and standard streams, and return its exit code as a shell would. With `quiet`,
    only the exit code matters: it reads and writes nothing.

    It is in our process group, so what the terminal sends (Ctrl-C, Ctrl-Z) reaches it without us; signals that are sent
    to this process alone are passed on. Other threads must block them, as those of `threads.start` do.

    Raises:
        OSError: it cannot be started.
    """
    stream = subprocess.DEVNULL if quiet else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    try:
        process = subprocess.Popen(
            command,
            env=env,
            stdin=stream,
            stdout=stream,
            stderr=stream,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, before),
        )
        while process.poll() is None:
            signum, sender = _next_signal()
            if signum in PASSED_ON and sender is not None:
                process.send_signal(signum)
        code = process.returncode
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return code if code >= 0 else SIGNALLED - code


def _next_signal() -> tuple[int, int | None]:
    """Wait for a signal. Return its number, and the process that sent it, or None for the kernel or the terminal."""
    if not hasattr(signal, "sigwaitinfo"):  # macOS: the terminal sends to the whole group in the foreground
        signum = signal.sigwait({*PASSED_ON, signal.SIGCHLD})
        return signum, None if signum in (signal.SIGINT, signal.SIGQUIT) and os.isatty(0) else 0
    found = signal.sigwaitinfo({*PASSED_ON, signal.SIGCHLD})
    return found.si_signo, found.si_pid if found.si_code <= 0 else None  # SI_USER is 0, SI_KERNEL is above
