"""A supervisor that is started before it is known whether and for what it is needed. It imports its modules meanwhile.

It gets the order to begin, with the environment for its daemons, through a pipe. Without one it exits when the process
that started it closes the pipe or exits.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
from collections.abc import Mapping

from neo_daemons import interpreter
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.platform import Platform, Process, SpawnSpec, current_platform
from neo_daemons.unpatched import Unpatched

from .places import new, open_output

END = b"\0"
"""What the order ends with: an empty variable."""
CHUNK = 1 << 16
ENDED_S = 1.0
POLL_S = 0.001
MODULES = (
    "neo_daemons.catalog.chroma",
    "neo_daemons.catalog.bridge",
    "neo_daemons.control.address",
    "neo_daemons.control.server",
    "httpx",
    "anyio._backends._asyncio",
)
"""What a supervisor imports later, as a rule, in the order in which it needs them."""


class Standby:
    """Such a supervisor, in the process that started it.

    Args:
        state_dir: where it will work. Nothing needs to exist there yet.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, state_dir: StateDir, platform: Platform) -> None:
        self.state_dir = state_dir
        reader, self._writer = os.pipe()
        try:
            command = interpreter.command("neo_daemons.ephemeral", str(state_dir.path), str(reader))
            output = os.open(os.devnull, os.O_WRONLY)
            try:
                self._process = platform.spawn(SpawnSpec(command, os.environ, "/", output, [reader]))
            finally:
                os.close(output)
        except BaseException:
            self._close_pipe()
            raise
        finally:
            os.close(reader)
        # The child of a fork must not keep it waiting.
        os.register_at_fork(after_in_child=self._close_pipe)

    def begin(self, env: Mapping[str, str]) -> Process | None:
        """Order it to begin, and return its process; None if it has died, or belongs to the parent of
        this process. Its state directory must exist by now."""
        if self._writer < 0:
            self._process.close()
            return None
        order = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in env.items()) + END
        try:
            with open(self._writer, "wb", closefd=False) as file:
                file.write(order)
        except OSError:
            self._process.close()
            return None
        finally:
            self._close_pipe()
        return self._process

    def close(self) -> None:
        """End it, unless it has begun."""
        if not self._close_pipe():
            return
        self._process.signal(signal.SIGKILL)  # it has nothing to lose
        deadline = Unpatched.monotonic() + ENDED_S
        while self._process.is_alive() and Unpatched.monotonic() < deadline:
            Unpatched.sleep(POLL_S)
        self._process.close()

    def _close_pipe(self) -> bool:
        writer, self._writer = self._writer, -1
        if writer >= 0:
            os.close(writer)
        return writer >= 0


def stand_by() -> Standby:
    """Start a supervisor for a session to come.

    Raises:
        OSError, StateDirError: it cannot be started.
    """
    return Standby(new(), current_platform())


def await_order(pipe: int, state_dir: StateDir) -> bool:
    """In the supervisor: import modules until there is an order, and take up the state directory and the environment.
    Return False if there will be no order."""
    for module in MODULES:
        if select.select([pipe], [], [], 0)[0]:
            break
        with contextlib.suppress(ImportError):  # it is reported when it is needed
            importlib.import_module(module)
    order = b""
    while not order.endswith(b"\0" + END):
        piece = os.read(pipe, CHUNK)
        if not piece:
            return False
        order += piece
    os.close(pipe)
    variables = dict(variable.split(b"=", 1) for variable in order.split(b"\0") if variable)
    os.environb.clear()
    os.environb.update(variables)
    os.chdir(state_dir.path)
    output = open_output(state_dir)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    return True
