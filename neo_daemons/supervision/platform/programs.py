"""Explain why a program cannot be run: the system's error names the script even if its interpreter is missing.

This reads files and runs nothing. What we may not look at, such as a directory on ``PATH``, counts as missing.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from neo_daemons.paths import holds

FIRST_LINE = 256
"""Linux reads this many bytes of a script's first line: BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h."""
ELF = b"\x7fELF"
LACKING = {
    errno.EMFILE: "the supervisor has reached its limit; raise it (ulimit -n) and start the supervisor again",
    errno.ENFILE: "the machine has reached its limit (fs.file-max)",
    errno.EAGAIN: "a limit of processes is reached, of the user (ulimit -u) or of the container (pids.max)",
    errno.ENOMEM: "the machine has no memory for another process",
}
"""What is not the program's fault."""


def find(program: str, env: Mapping[str, str], cwd: str) -> str | None:
    """Find a command's program: its own path, or the first executable on ``PATH``, else the first file there. None if
    there is none."""
    if "/" in program:
        path = os.path.join(cwd, program)
        return path if os.path.lexists(path) else None
    directories = env.get("PATH", os.defpath).split(os.pathsep)
    paths = [os.path.join(cwd, directory, program) for directory in directories]
    found = [path for path in paths if holds(Path(path).is_file)]
    return next((path for path in found if os.access(path, os.X_OK)), found[0] if found else None)


def fault(command: Sequence[str], env: Mapping[str, str], cwd: str) -> str | None:
    """Say why `command` cannot be run; None if no reason is found."""
    program = command[0]
    if not holds(Path(cwd).is_dir):
        return f"its working directory {cwd} does not exist"
    path = find(program, env, cwd)
    if path is None and "/" in program:
        return f"{os.path.join(cwd, program)} does not exist"
    if path is None:
        return f"{program} was not found on the daemon's PATH; install it, or use its full path in the command"
    if not holds(Path(path).exists):
        return f"{path} is a link to {os.path.realpath(path)}, which does not exist"
    if holds(Path(path).is_dir):
        return f"{path} is a directory, not a program"
    if not os.access(path, os.X_OK):
        return f"{path} is not executable; fix: chmod +x {path}"
    return script_fault(path, env, cwd)


def script_fault(path: str, env: Mapping[str, str], cwd: str) -> str | None:
    """Say what is wrong with the interpreter of a script; None if nothing is, or the file is not a script."""
    line = _head(path).partition(b"\n")[0]
    if not line.startswith(b"#!"):
        return None
    text = os.fsdecode(line[2:])
    if text.endswith("\r"):
        return f"{path}: its first line ends in a carriage return; save it with Unix line endings"
    words = text.split()
    if not words:
        return None
    remedy = "install it, or correct the script's first line"
    interpreter = os.path.join(cwd, words[0])
    if not holds(Path(interpreter).exists):
        return f"{path}: its interpreter {words[0]} does not exist; {remedy}"
    if holds(Path(interpreter).is_dir) or not os.access(interpreter, os.X_OK):
        return f"{path}: its interpreter {words[0]} is not executable; {remedy}"
    if os.path.basename(words[0]) == "env":
        wanted = next((word for word in words[1:] if word != "-S"), None)
        # Other options, and assignments, are left to env.
        if wanted is not None and re.fullmatch(r"[^-=][^=]*", wanted) and find(wanted, env, cwd) is None:
            return f"{path}: its interpreter {wanted} is not on its PATH; {remedy}"
    return None


def explain(error: OSError, command: Sequence[str], env: Mapping[str, str], cwd: str) -> str:
    """Explain in one self-contained line why the system refused to run `command`."""
    if error.errno in LACKING:
        return f"{os.strerror(error.errno)}: {LACKING[error.errno]}"
    seen = fault(command, env, cwd)
    if seen is not None:
        return seen
    path = find(command[0], env, cwd) or command[0]
    head = _head(path)
    match error.errno:
        case errno.ENOENT if head.startswith(ELF):
            return f"{path} is built for another system: its loader does not exist"
        case errno.ENOEXEC if head.startswith(ELF):
            return f"{path} is built for another CPU architecture"
        case errno.ENOEXEC if not head:
            return f"{path} is empty"
        case errno.ENOEXEC:
            return f"{path} has no interpreter line; start it with e.g. #!/bin/sh"
        case errno.E2BIG:
            return f"{command[0]}: its arguments and environment are too long for this system"
    return f"{path}: {error.strerror}"


def _head(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # a program need not be readable to be run
        return b""
    try:
        return os.read(descriptor, FIRST_LINE)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
