"""What a supervisor sends for as long as somebody listens: events, and the output of daemons."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")
Opened = Callable[[socket.socket], None]


class Stream(Iterator[T]):
    """Yields what a supervisor sends, as it comes. Ends when the supervisor exits, or when it is given up.

    Args:
        begin: returns the items, and calls its argument with the connection on which they come.
    """

    def __init__(self, begin: Callable[[Opened], Iterator[T]]) -> None:
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._given_up = False
        self._items = begin(self._opened)

    def __next__(self) -> T:
        try:
            return next(self._items)
        except Exception:
            if self._given_up:
                raise StopIteration from None
            raise

    def give_up(self) -> None:
        """End it. Any thread may call this; who waits for the next item then learns that there is none."""
        with self._lock:
            self._given_up = True
            self._shut()

    def _opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._connection = connection
            if self._given_up:
                self._shut()

    def _shut(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
