"""Runs a function once for all workers of a run.

The worker that runs it holds a kernel lock in the directory of the session, which its death frees: then another worker
runs it. The lock needs no supervisor, so one that is killed and replaced meanwhile changes nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from msgspec import Struct

from neo_daemons.files import read_regular, write_whole
from neo_daemons.unpatched import Unpatched

T = TypeVar("T")
DIRECTORY = "once"
MAX_BYTES = 1 << 30


class OnceFailed(Exception):
    """A function that runs once for all workers has failed; ``str()`` says where and why."""


class Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a function returned, or how it ended otherwise."""

    result: bytes = b""
    """Encoded."""
    error: str | None = None
    skipped: str | None = None
    """The reason, if the function skipped the test."""


class Once:
    """Runs functions once for all workers.

    Args:
        directory: shared by the workers of this run, and by nothing else; None for a run without workers.
        worker: the name of this process, for messages.
    """

    def __init__(self, directory: Path | None, worker: str) -> None:
        self.directory = directory
        self._worker = worker
        self._known: dict[str, Outcome] = {}
        self._running: set[str] = set()
        self._lock = threading.RLock()

    def __call__(self, name: str, function: Callable[[], T], *, type: type[T] | Any = Any) -> T:  # noqa: A002
        """Return what the function of this name returned, in whichever worker it ran. If the worker that runs it dies,
        another one runs it.

        Args:
            name: identifies the function in the run.
            function: is called without arguments. What it returns is encoded by msgspec: numbers, strings, bytes,
                lists, dicts, dates, structs, dataclasses.
            type: decode the result as this type; by default dataclasses arrive as dicts, and tuples as lists.

        Raises:
            OnceFailed: it failed in another worker, or its result cannot be encoded or decoded. In the worker in which
                it failed, its own error is raised.
        """
        with self._lock:
            if name in self._running:
                raise OnceFailed(f"once({name!r}) is called by its own function; use another name for the inner call")
            outcome = self._known.get(name)
            if outcome is None:
                with self._turn(name) as path:
                    outcome = self._read(path) or self._run(name, function, path)
                self._known[name] = outcome
        if outcome.skipped is not None:
            pytest.skip(outcome.skipped)
        if outcome.error is not None:
            raise OnceFailed(f"once({name!r}) {outcome.error}")
        try:
            result: T = msgspec.msgpack.decode(outcome.result, type=type)
        except msgspec.ValidationError as error:
            raise OnceFailed(f"once({name!r}): its result is not a {type}: {error}") from None
        return result

    @contextlib.contextmanager
    def _turn(self, name: str) -> Iterator[Path | None]:
        """Wait for the lock of a name. Yield the file of its outcome; None without workers."""
        if self.directory is None:
            yield None
            return
        if not self.directory.is_dir():
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for other in self.directory.parent.iterdir():  # of an earlier run that has kept its session warm
                if other != self.directory:
                    shutil.rmtree(other, ignore_errors=True)
        import hashlib  # it loads OpenSSL, which most runs do not need

        path = self.directory / hashlib.sha256(name.encode()).hexdigest()[:32]
        lock = Unpatched.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield path
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # a process that the function has forked may have the descriptor, too
            Unpatched.close(lock)

    @staticmethod
    def _read(path: Path | None) -> Outcome | None:
        with contextlib.suppress(FileNotFoundError):
            return msgspec.msgpack.decode(read_regular(path, MAX_BYTES), type=Outcome) if path is not None else None
        return None

    def _run(self, name: str, function: Callable[[], Any], path: Path | None) -> Outcome:
        self._running.add(name)
        try:
            outcome = self._call(name, function)
        except pytest.skip.Exception as skip:
            self._keep(name, Outcome(skipped=str(skip.msg)), path)
            raise
        except (Exception, pytest.fail.Exception) as error:  # any other: the process ends, and another one has a try
            reason = f"failed in {self._worker}: {type(error).__name__}: {error}"
            self._keep(name, Outcome(error=reason), path)
            raise
        finally:
            self._running.discard(name)
        self._keep(name, outcome, path)
        return outcome

    @staticmethod
    def _call(name: str, function: Callable[[], Any]) -> Outcome:
        result = function()
        try:
            return Outcome(result=msgspec.msgpack.encode(result))
        except (TypeError, ValueError, OverflowError) as error:
            raise OnceFailed(
                f"once({name!r}): its result cannot be sent to other workers: {error}; return numbers, strings, bytes, "
                "lists, dicts, dates, structs or dataclasses"
            ) from None

    def _keep(self, name: str, outcome: Outcome, path: Path | None) -> None:
        self._known[name] = outcome
        if path is not None:
            write_whole(path, msgspec.msgpack.encode(outcome))
