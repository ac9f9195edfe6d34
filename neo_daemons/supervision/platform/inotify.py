"""Linux: learn of the next change of a file from inotify(7), without looking at the file until then.

The libraries for this find the C library with ``ctypes.util.find_library``, which runs a compiler or ``ldconfig``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

IN_MODIFY, IN_ATTRIB, IN_DELETE_SELF, IN_MOVE_SELF = 0x002, 0x004, 0x400, 0x800
IN_ONESHOT = 0x80000000
"""include/uapi/linux/inotify.h."""
CHANGES = IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF
"""What is written, truncated, unlinked (which changes the number of links), or moved."""
EVENT = struct.Struct("iIII")
"""``struct inotify_event``: watch, mask, cookie, and the length of the name that follows, 0 for a watched file."""
READ_BYTES = 4096


class Inotify:
    """See `contract.FileChanges`.

    Raises:
        OSError: the user has too many of them (``fs.inotify.max_user_instances``), or the system has none.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._call("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._read)

    def _call(self, function: str, *arguments: object) -> int:
        result: int = getattr(self._libc, function)(*arguments)
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

    def report_next(self, path: Path, on_change: Callable[[], None]) -> bool:
        try:
            mask = ctypes.c_uint32(CHANGES | IN_ONESHOT)
            watch = self._call("inotify_add_watch", self._descriptor, os.fsencode(path), mask)
        except OSError:  # the file is missing, or the user has too many watches
            return False
        self._callbacks[watch] = on_change
        return True

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._descriptor, READ_BYTES):
                at = 0
                while at < len(data):
                    watch, _, _, name_bytes = EVENT.unpack_from(data, at)
                    at += EVENT.size + name_bytes
                    on_change = self._callbacks.pop(watch, None)  # the kernel also reports the end of the watch
                    if on_change is not None:
                        on_change()

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
