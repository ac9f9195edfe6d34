"""Asks other programs questions before a session begins: runs commands at the same time, each to its end."""

from __future__ import annotations

import asyncio
import re
import signal
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

from neo_daemons.supervision.platform import ExitStatus, Platform, Process, SpawnSpec, current_platform

from .surroundings import environment

ADVICE = re.compile(r"Run '.* --help'|See '.* --help'")
ENDS_S = 5.0
"""How long a killed program may take to be gone."""


class Answer(Struct, frozen=True):
    """What a program said."""

    succeeded: bool
    line: str
    """The last line of its output, without the advice to read its help. If there is none: how it ended."""
    missing: bool = False
    """Whether the program could not be started."""


def ask(commands: Sequence[Sequence[str]], environ: Mapping[str, str], cwd: Path, timeout_s: float) -> list[Answer]:
    """Run commands at the same time and return their answers. Those that take longer than `timeout_s` are killed."""
    return asyncio.run(_ask(commands, environment(environ), cwd, timeout_s))


async def _ask(commands: Sequence[Sequence[str]], env: Mapping[str, str], cwd: Path, timeout_s: float) -> list[Answer]:
    platform = current_platform()
    return list(await asyncio.gather(*(_answer(platform, command, env, cwd, timeout_s) for command in commands)))


async def _answer(
    platform: Platform, command: Sequence[str], env: Mapping[str, str], cwd: Path, timeout_s: float
) -> Answer:
    ended: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
    with ExitStack() as closing:
        output = closing.enter_context(tempfile.TemporaryFile())
        try:
            process = platform.spawn(SpawnSpec(command, env, str(cwd), output.fileno()))
        except OSError as error:
            return Answer(succeeded=False, line=str(error.strerror or error), missing=True)
        closing.callback(process.close)
        process.watch(ended.set_result)
        await asyncio.wait([ended], timeout=timeout_s)
        if not ended.done():
            await _kill(process, ended)
            return Answer(succeeded=False, line=f"no answer in {timeout_s:g} s")
        status = ended.result()
        output.seek(0)
        lines = [line.strip() for line in output.read().decode("utf-8", "replace").splitlines()]
        said = [line for line in lines if line and not ADVICE.match(line)]
        return Answer(succeeded=status.clean, line=said[-1] if said else str(status))


async def _kill(process: Process, ended: asyncio.Future[ExitStatus]) -> None:
    process.signal_group(signal.SIGKILL)
    await asyncio.wait([ended], timeout=ENDS_S)
