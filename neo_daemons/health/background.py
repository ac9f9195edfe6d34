"""The one thread in which all observers of this process look, with an event loop and the HTTP clients that they share.

A look belongs to nobody: callers from any thread or event loop wait for it, each as long as it likes, and none that
gives up or is cancelled takes it from the others.
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

from neo_daemons.checks import http

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
THREAD = "neo-daemons-health"
CLOSE_POLL_S = 0.01
CLOSE_TIMEOUT_S = 5.0
"""It takes milliseconds; what has not ended by then ends with the process, and Python complains of it."""


def in_thread(work: Callable[[], T]) -> concurrent.futures.Future[T]:
    """Have it done by a thread that nobody waits for at the end of the process, unlike those of an executor."""
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=f"{THREAD}-read", daemon=True).start()
    return future


class _Loop(asyncio.SelectorEventLoop):
    """Looks names up without an executor: its threads would keep the process from ending while a server is silent."""

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
    """A client, and how many requests it is at."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.users = 0
        self.retired = False


def _make_client(*, secure: bool) -> httpx.AsyncClient:
    # It tells every request at INFO: in a program that logs, three lines for each look.
    logging.getLogger("httpx").addFilter(_is_not_observers)
    # Building the certificate store takes longer than all else, and most daemons have none.
    return http.make_client(ssl.create_default_context() if secure else False)


def _is_not_observers(entry: logging.LogRecord) -> bool:
    return entry.threadName != THREAD


class Background:
    """The thread, its loop, and the clients."""

    def __init__(self) -> None:
        self._loop = _Loop()
        self.memory: dict[Any, Any] = {}
        """What observers remember together. Of this process: a forked one begins anew."""
        self._thread = threading.Thread(target=self._loop.run_forever, name=THREAD, daemon=True)
        self._thread.start()
        self._clients: dict[bool, SharedClient] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Have it done there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    @contextlib.asynccontextmanager
    async def client(self, *, secure: bool) -> AsyncIterator[httpx.AsyncClient]:
        """The HTTP client for ``https`` or ``http``. To be used in the loop's thread only."""
        if secure not in self._clients:
            self._clients[secure] = SharedClient(_make_client(secure=secure))
        shared = self._clients[secure]
        shared.users += 1
        try:
            yield shared.client
        except asyncio.CancelledError:
            # httpcore keeps a connection whose request was cancelled while it was being made: it goes with its client.
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
                # Only what has begun: within what never did, there may be something that was to be awaited, and Python
                # complains of that.
                work: Any = task.get_coro()
                if inspect.getcoroutinestate(work) != inspect.CORO_CREATED:
                    task.cancel()
                    cancelled.add(task)
            await asyncio.wait(tasks, timeout=CLOSE_POLL_S)
        await asyncio.gather(*cancelled, return_exceptions=True)  # nobody else wants to know how they ended
        for shared in self._clients.values():
            await shared.client.aclose()


_lock = threading.Lock()
_current: Background | None = None
_abandoned: list[Background] = []
"""Of the parent of this forked process: their threads are not here, and their descriptors are the parent's to close."""


def background() -> Background:
    """The one of this process, made when it is first needed."""
    global _current
    with _lock:
        if _current is None:
            _current = Background()
        return _current


def close() -> None:
    """End the thread, until somebody looks again."""
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
