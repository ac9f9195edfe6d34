"""Runs the checks of all observers of a process in one thread, with one event loop and shared HTTP clients.

Callers from any thread or event loop can wait for one check. Each waits as long as it likes, and a caller that gives up
or is cancelled does not end the check for the others.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import inspect
import logging
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from neo_daemons import threads
from neo_daemons.checks import http

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
THREAD = "neo-daemons-health"
CLOSE_POLL_S = 0.01
CLOSE_TIMEOUT_S = 5.0
"""Closing takes milliseconds. A task that is still running after this ends with the process, and Python warns."""


def in_thread(work: Callable[[], T]) -> concurrent.futures.Future[T]:
    """Run `work` in a daemon thread. Unlike an executor's threads, it does not delay the end of the process."""
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threads.start(run, f"{THREAD}-read")
    return future


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that resolves names without an executor, whose threads would delay the end of the process."""

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        return await asyncio.wrap_future(
            in_thread(lambda: socket.getaddrinfo(host, port, family, type, proto, flags)), loop=self
        )


class SharedClient:
    """An HTTP client, and the number of requests that use it now."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.users = 0
        self.retired = False


def _make_client(*, secure: bool) -> httpx.AsyncClient:
    # httpx logs every request at INFO: a program that logs would get three lines for each check.
    logging.getLogger("httpx").addFilter(_is_not_observers)
    # Loading the certificates takes longer than everything else, and most daemons do not use TLS.
    return http.make_client(ssl.create_default_context() if secure else False)


def _is_not_observers(entry: logging.LogRecord) -> bool:
    return entry.threadName != THREAD


class Background:
    """The thread, its loop, and the clients."""

    def __init__(self) -> None:
        self._loop = _Loop()
        self.memory: dict[Any, Any] = {}
        """What the observers of this process remember together. A forked process starts with an empty one."""
        self._thread = threads.start(self._loop.run_forever, THREAD)
        self._clients: dict[bool, SharedClient] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine in the thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    @contextlib.asynccontextmanager
    async def client(self, *, secure: bool) -> AsyncIterator[httpx.AsyncClient]:
        """Lend the HTTP client for ``https`` or ``http``. Only for use in the loop's thread."""
        if secure not in self._clients:
            self._clients[secure] = SharedClient(_make_client(secure=secure))
        shared = self._clients[secure]
        shared.users += 1
        try:
            yield shared.client
        except asyncio.CancelledError:
            # httpcore keeps a connection whose request was cancelled while it connected. Closing the client closes it.
            shared.retired = True
            if self._clients.get(secure) is shared:
                del self._clients[secure]
            raise
        finally:
            shared.users -= 1
            if shared.retired and not shared.users:
                closing = self._loop.create_task(shared.client.aclose())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    def close(self) -> None:
        """End the thread."""
        with contextlib.suppress(TimeoutError, RuntimeError):
            self.submit(self._close()).result(CLOSE_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_TIMEOUT_S)
        if not self._thread.is_alive():
            self._loop.close()

    async def _close(self) -> None:
        cancelled: set[asyncio.Task[Any]] = set()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks - cancelled:
                # Only tasks that have begun: one that is cancelled before its first step may hold a coroutine that
                # it never awaits, and Python warns about that.
                work: Any = task.get_coro()
                if inspect.getcoroutinestate(work) != inspect.CORO_CREATED:
                    task.cancel()
                    cancelled.add(task)
            await asyncio.wait(tasks, timeout=CLOSE_POLL_S)
        await asyncio.gather(*cancelled, return_exceptions=True)  # nobody else retrieves how they ended
        for shared in self._clients.values():
            await shared.client.aclose()


_lock = threading.Lock()
_current: Background | None = None
_abandoned: list[Background] = []
"""Left over from the parent of this forked process, which owns their threads and closes their descriptors."""


def background() -> Background:
    """Return the background thread of this process. The first call starts it."""
    global _current
    with _lock:
        if _current is None:
            _current = Background()
        return _current


def close() -> None:
    """End the thread. The next check starts another."""
    global _current
    with _lock:
        leaving, _current = _current, None
    if leaving is not None:
        leaving.close()


def _forget() -> None:
    global _lock, _current
    _lock = threading.Lock()
    if _current is not None:
        _abandoned.append(_current)
        _current = None


atexit.register(close)
os.register_at_fork(after_in_child=_forget)
