"""Lines of standard input, and standard output, without blocking the event loop and within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
from collections.abc import Callable

from neo_daemons import threads

MAX_LINE_BYTES = 64_000_000
QUEUED = 64
"""Messages that wait for a client that does not read; then whoever has the next one waits."""


class Lines:
    """The lines of a descriptor, read by a thread that is at most one line ahead."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        threads.start(self._read, "neo-daemons-stdin")

    async def next(self) -> bytes | None:
        """Return the next line without its end; None at the end of the input."""
        return await self._queue.get()

    def _read(self) -> None:
        try:
            with os.fdopen(self._descriptor, "rb", closefd=False) as file:
                while line := file.readline(MAX_LINE_BYTES):
                    if not line.endswith(b"\n") and len(line) >= MAX_LINE_BYTES:
                        break
                    self._put(line.rstrip(b"\r\n"))
        except OSError:
            pass  # the client is gone
        self._put(None)

    def _put(self, line: bytes | None) -> None:
        try:
            asyncio.run_coroutine_threadsafe(self._queue.put(line), self._loop).result()
        except (RuntimeError, asyncio.CancelledError):
            raise SystemExit from None  # the loop is closed


class Output:
    """Writes lines to a descriptor in a thread, which may be blocked by a client that does not read."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(QUEUED)
        self._drained = asyncio.Event()
        self.broken = asyncio.Event()
        """Set when the client has closed its end."""
        threads.start(self._write, "neo-daemons-stdout")

    async def put(self, line: bytes) -> None:
        """Write a line, without its end; wait while too many are waiting."""
        await self._room.acquire()
        self._queue.put(line)

    async def drain(self, wait_s: float) -> None:
        """Wait until everything is written, at most `wait_s` seconds. Nothing can be written afterwards."""
        self._queue.put(None)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), wait_s)

    def _write(self) -> None:
        broken = False
        while (line := self._queue.get()) is not None:
            try:
                rest = memoryview(line + b"\n")
                while rest and not broken:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError:
                broken = True
                self._tell(self.broken.set)
            self._tell(self._room.release)
        self._tell(self._drained.set)

    def _tell(self, what: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:
            raise SystemExit from None  # the loop is closed
