"""Making what a daemon needs before it can run, once for all supervisors of this user.

A provision is made in ``TARGET.partial`` and renamed when it is complete. Only the holder of ``TARGET.lock`` works on
it; a finished step leaves a stamp and is not done again after a kill.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from neo_daemons.definitions import Provision, Step

from .platform import ExitStatus, Platform, Process, SpawnSpec

LOCK_POLL_S = 0.2


class ProvisionFailed(Exception):
    """A step did not succeed; ``str()`` names it, its end, and where its output is."""


class Runner:
    """Runs the commands that come before a daemon's own, in its environment and with its mark."""

    def __init__(
        self,
        platform: Platform,
        env: Mapping[str, str],
        output: Callable[[], int],
        log_path: Path,
        progress: Callable[[str], None],
    ) -> None:
        self._platform = platform
        self._env = env
        self._output = output
        self._log_path = log_path
        self._progress = progress

    async def provide(self, provision: Provision) -> None:
        """Make `provision` unless it is there.

        Raises:
            ProvisionFailed: a step failed. What was done before it is kept for the next try.
            OSError: a file could not be written.
        """
        target = Path(provision.target)
        if target.is_dir():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        # The steps inherit it: should we be killed, one that goes on keeps everybody else away.
        while (lock := self._platform.lock(target.with_name(f"{target.name}.lock"))) is None:
            self._progress(f"waiting: another process is making {target.name}")
            await asyncio.sleep(LOCK_POLL_S)
        try:
            if not target.is_dir():
                await self._make(provision, target, lock.fileno())
        finally:
            lock.release()

    async def _make(self, provision: Provision, target: Path, lock: int) -> None:
        partial = target.with_name(f"{target.name}.partial")
        partial.mkdir(exist_ok=True)
        for name, content in provision.files.items():
            (partial / name).write_text(content)
        for number, step in enumerate(provision.steps, start=1):
            stamp = partial / f".step-{number}-done"
            if not stamp.exists():
                await self.run(step, partial, inherit=(lock,))
                stamp.touch()
        os.replace(partial, target)

    async def run(self, step: Step, cwd: Path, inherit: Sequence[int] = ()) -> None:
        """Run one command to its end, unless what it creates is there.

        Raises:
            ProvisionFailed: it did not exit with 0.
        """
        if step.creates is not None and Path(step.creates).exists():
            return
        self._progress(step.title)
        ended: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        output = self._output()
        try:
            process = self._platform.spawn(
                SpawnSpec(step.command, {**self._env, **step.env}, str(cwd), output, inherit)
            )
        except OSError as error:
            raise ProvisionFailed(f"{step.title}: cannot run {step.command[0]}: {error.strerror}") from None
        finally:
            os.close(output)
        process.watch(lambda status: None if ended.done() else ended.set_result(status))
        try:
            status = await asyncio.shield(ended)
        finally:
            await _end(process, ended)
        if not status.clean:
            raise ProvisionFailed(f"{step.title}: {status}; its output is in {self._log_path}")


async def _end(process: Process, ended: asyncio.Future[ExitStatus]) -> None:
    process.signal_group(9)
    if not ended.done():
        await asyncio.wait([ended], timeout=5)
    process.close()
