"""Create what a daemon needs before it can run, once for all supervisors of this user.

A provision is created in ``TARGET.partial``, tested, and renamed when it works. Only the holder of the lock
``TARGET.lock`` works on it. A finished step leaves a stamp and is not repeated after a kill. A provision may break
later (another Node.js, a cleaner of old files): it is tested again when there is reason to doubt it, and recreated if
it fails. It stays in place until its replacement works.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import math
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from neo_daemons.definitions import Provision, Step

from .platform import ExitStatus, Lock, Platform, Process, SpawnSpec

LOCK_POLL_S = 0.2
PROGRESS_S = 1.0
"""Time between two checks of the progress that a step reports."""
TRIED = ".tried"
"""This file in the directory of a provision says that its trial succeeded, and that no start has failed since."""
STAMP = ".step-{}-done"
MAX_OUTPUT = 100_000
"""Bytes of a step's output in which the reason for its failure is searched."""
MAX_REASON = 300
UNWRITABLE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class ProvisionFailed(Exception):
    """A provision could not be created, or does not work; ``str()`` says why, and where the output is."""


class StepFailed(ProvisionFailed):
    """A command has finished and reported a failure."""


class _DoesNotWork(StepFailed):
    """The created provision does not work."""


class Runner:
    """Run the commands that must finish before a daemon starts, in its environment and with its mark.

    Args:
        output: opens the log that the commands write to.
        cwd: the daemon's working directory.
        tried: targets that this supervisor knows to work.
    """

    def __init__(
        self,
        platform: Platform,
        env: Mapping[str, str],
        output: Callable[[], int],
        log_path: Path,
        progress: Callable[[str], None],
        *,
        cwd: str = "/",
        tried: set[str] | None = None,
    ) -> None:
        self._platform = platform
        self._env = env
        self._cwd = cwd
        self._output = output
        self._log_path = log_path
        self._progress = progress
        self._tried = tried if tried is not None else set()

    async def provide(self, provision: Provision) -> None:
        """Create `provision` unless it exists and works.

        Raises:
            ProvisionFailed: a step or the trial failed. Finished steps are kept for the next try.
            OSError: a file could not be written.
        """
        target = Path(provision.target)
        if self._is_trusted(provision):
            return
        lock = await self._lock(target)
        try:
            if self._is_trusted(provision):  # by now
                return
            fault = await self.fault(provision)
            if fault is None:
                self._trust(provision)
                return
            if lock is None:
                raise ProvisionFailed(
                    f"{target} {fault} and cannot be recreated because it is not writable; "
                    "ask its owner to remove it, or set NEO_DAEMONS_CACHE_DIR to a directory of your own"
                )
            await self._make(provision, target, lock.fileno())
            self._trust(provision)
        except OSError as error:
            remedy = "free space there, or set NEO_DAEMONS_CACHE_DIR to another directory"
            raise ProvisionFailed(f"cannot create {target}: {_why(error)}; {remedy}") from None
        finally:
            if lock is not None:
                lock.release()

    def _is_trusted(self, provision: Provision) -> bool:
        target = Path(provision.target)
        if not all((target / name).exists() for name in (".", *provision.holds)):
            return False
        if provision.target in self._tried:
            return True
        return (target / TRIED).exists() and not provision.always_tried

    def _trust(self, provision: Provision) -> None:
        self._tried.add(provision.target)
        with contextlib.suppress(OSError):  # it belongs to another user: then each supervisor tests it
            (Path(provision.target) / TRIED).touch()

    async def _lock(self, target: Path) -> Lock | None:
        """Take the lock of a target; None if its directory exists and is not writable."""
        path = target.with_name(f"{target.name}.lock")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # The steps inherit it: if we are killed, a step that goes on still keeps others out.
            while (lock := self._platform.lock(path)) is None:
                self._progress(f"waiting for another process that is creating {target.name}")
                await asyncio.sleep(LOCK_POLL_S)
        except OSError as error:
            if error.errno in UNWRITABLE and target.is_dir():
                return None
            remedy = "set NEO_DAEMONS_CACHE_DIR to a writable directory"
            raise ProvisionFailed(f"cannot create {target}: {_why(error)}; {remedy}") from None
        return lock

    async def fault(self, provision: Provision) -> str | None:
        """Say what is wrong with an existing provision; None if it works.

        Raises:
            ProvisionFailed: it could not be tested.
        """
        target = Path(provision.target)
        if not target.is_dir():
            return "does not exist"
        missing = [name for name in provision.holds if not (target / name).exists()]
        if missing:
            return f"lacks {missing[0]}"
        try:
            await self._try(provision, target)
        except StepFailed as error:
            return f"does not work ({error})"
        return None

    async def _try(self, provision: Provision, directory: Path) -> None:
        trial = provision.trial
        if trial is not None:
            trial = msgspec.structs.replace(trial, command=(*trial.command, str(directory)))
            await self._run(trial, Path(self._cwd), ())

    async def _make(self, provision: Provision, target: Path, lock: int) -> None:
        for broken in target.parent.glob(
            f"{target.name}.broken-*"
        ):  # left by a supervisor that was killed while removing it
            await asyncio.to_thread(_remove, broken)
        partial = target.with_name(f"{target.name}.partial")
        resumed = any(partial.glob(STAMP.format("*")))
        try:
            await self._make_in(partial, provision, lock)
        except _DoesNotWork:
            # The finished steps have created something that does not work, so they are repeated.
            await asyncio.to_thread(_remove, _put_aside(partial))
            if not resumed:
                raise
            await self._make_in(partial, provision, lock)
        aside = _put_aside(target)
        os.replace(partial, target)
        await asyncio.to_thread(_remove, aside)

    async def _make_in(self, partial: Path, provision: Provision, lock: int) -> None:
        partial.mkdir(exist_ok=True)
        for name, content in provision.files.items():
            (partial / name).write_text(content)
        for number, step in enumerate(provision.steps, start=1):
            stamp = partial / STAMP.format(number)
            if not stamp.exists():
                try:
                    await self._run(step, partial, (lock,))
                except ProvisionFailed:
                    with contextlib.suppress(OSError):
                        partial.rmdir()  # if it is empty: a failed step leaves only what the next try goes on with
                    raise
                stamp.touch()
        missing = [name for name in provision.holds if not (partial / name).exists()]
        if missing:
            raise _DoesNotWork(f"{provision.steps[-1].title}: it did not create {missing[0]}")
        try:
            await self._try(provision, partial)
        except StepFailed as error:
            raise _DoesNotWork(str(error)) from None

    async def run(self, step: Step, cwd: Path) -> None:
        """Run one command until it exits, unless what it creates exists.

        Raises:
            ProvisionFailed: it did not exit with 0.
        """
        if step.creates is None or not Path(step.creates).exists():
            await self._run(step, cwd, ())

    async def _run(self, step: Step, cwd: Path, inherit: Sequence[int]) -> None:
        self._progress(step.title)
        ended: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        try:
            output = self._output()
        except OSError as error:
            raise ProvisionFailed(f"{step.title}: its output cannot be written: {_why(error)}") from None
        try:
            start = os.fstat(output).st_size
            process = self._platform.spawn(
                SpawnSpec(step.command, {**self._env, **step.env}, str(cwd), output, inherit)
            )
        except OSError as error:
            raise ProvisionFailed(f"{step.title}: {error.strerror or error}") from None
        finally:
            os.close(output)
        process.watch(lambda status: None if ended.done() else ended.set_result(status))
        deadline = time.monotonic() + step.timeout_s if step.timeout_s is not None else math.inf
        try:
            while not ended.done() and (left_s := deadline - time.monotonic()) > 0:
                wait_s = min(left_s, PROGRESS_S if step.shows_progress else math.inf)
                await asyncio.wait([ended], timeout=wait_s if wait_s < math.inf else None)
                if step.shows_progress and (lines := self._written(start)):
                    self._progress(f"{step.title}: {lines[-1]}")
            status = ended.result() if ended.done() else None
        finally:
            await _end(process, ended)
        where = f"its output is in {self._log_path}"
        if status is None:
            raise ProvisionFailed(f"{step.title}: not finished after {step.timeout_s:g} s; {where}")
        if status.code is None:
            raise ProvisionFailed(f"{step.title}: {status}; {where}")
        if not status.clean:
            raise StepFailed(f"{step.title}: {_reason(step, self._written(start)) or status}; {where}")

    def _written(self, start: int) -> list[str]:
        """Return the latest non-empty lines of the log from `start` on."""
        try:
            with self._log_path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(start if start <= size else 0, size - MAX_OUTPUT))
                text = file.read(MAX_OUTPUT).decode("utf-8", "replace")
        except OSError:
            return []
        return [line.strip() for line in text.splitlines() if line.strip()]


def _reason(step: Step, lines: list[str]) -> str | None:
    found = (match[1] for pattern in step.telling for line in lines if (match := re.search(pattern, line)))
    reason = next(found, lines[-1] if lines else None)
    return reason if reason is None or len(reason) <= MAX_REASON else f"{reason[:MAX_REASON]}…"


def _why(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return f"{reason}: {error.filename}" if error.filename is not None else reason


def try_now(provision: Provision, platform: Platform, env: Mapping[str, str], cwd: str) -> str | None:
    """Say what is wrong with an existing provision; None if it works. Changes nothing; for use outside a supervisor."""
    import tempfile  # supervisors do without

    log = None
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
            log = Path(directory) / "log"
            output = functools.partial(os.open, log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            runner = Runner(platform, env, output, log, lambda title: None, cwd=cwd)
            fault = asyncio.run(runner.fault(provision))
    except OSError as error:
        fault = f"could not be tried: {_why(error)}"
    except ProvisionFailed as error:
        fault = f"could not be tried: {error}"
    return fault if fault is None else fault.replace(f"; its output is in {log}", "")


def doubt_all(provisions: Iterable[Provision], tried: set[str]) -> None:
    """Have these provisions tested again, even if this supervisor has `tried` them."""
    for provision in provisions:
        tried.discard(provision.target)
        doubt(provision)


def doubt(provision: Provision) -> None:
    """Have any supervisor test the provision again before its next start from it."""
    with contextlib.suppress(OSError):
        (Path(provision.target) / TRIED).unlink()


def _put_aside(path: Path) -> Path:
    """Rename whatever is at `path`, if anything, to an unused name. Returns that name."""
    aside = path.with_name(f"{path.name}.broken-{secrets.token_hex(4)}")
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, aside)
    return aside


def _remove(path: Path) -> None:
    """Remove a directory or a file. Programs that have files in it open can still use them."""
    if path.is_dir() and not path.is_symlink():
        import shutil  # it loads three libraries for archives, and few supervisors remove anything

        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


async def _end(process: Process, ended: asyncio.Future[ExitStatus]) -> None:
    process.signal_group(9)
    if not ended.done():
        await asyncio.wait([ended], timeout=5)
    process.close()
