"""Become a program that speaks over standard input and output, for a client that comes later.

``python stdio_host.py SOCKET COMMAND…`` listens, takes the standard input and output of the first client, and replaces
itself by the command. So the two talk to each other directly, and the process stays the one that the supervisor knows.
The connection stays open as long as a process of the command has it: its end tells the client.

It is run as a file by an interpreter without site packages, so it may import nothing but the standard library.
"""

import contextlib
import os
import signal
import socket
import sys

NOT_FOUND = 127
"""A shell's exit code for a command that cannot be run."""


def main(path: str, command: list[str]) -> int:
    """Wait for the client, and run the command. Returns an exit code if that fails."""
    connection = accept(path)
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 2)
    if len(descriptors) != 2:
        return _complain("the client ended before it had begun", 1)
    for own, given in enumerate(descriptors):
        os.dup2(given, own)
        os.close(given)
    connection.set_inheritable(True)
    for signum in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and the command would inherit that
        signal.signal(signum, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the configured command
    except OSError as error:
        return _complain(f"cannot run {command[0]}: {error.strerror}", NOT_FOUND)


def accept(path: str) -> socket.socket:
    """Return the connection of the first client."""
    directory, name = os.path.split(path)
    here = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        os.chdir(directory)  # the whole path may be too long for an address
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)  # of a run that was killed; pathlib is slow to import
            listener.bind(name)
            listener.listen(1)
            os.fchdir(here)
            connection, _ = listener.accept()
        finally:
            os.fchdir(here)
            os.close(here)
    with contextlib.suppress(OSError):
        os.unlink(path)
    return connection


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"neo-daemons: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
