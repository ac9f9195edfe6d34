"""Why something could not be asked, in a few plain words."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator

REFUSED = "connection refused"
CUT = "the connection was cut"
LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.ENOSPC})
"""The process that asks, or its machine, has run out of something: that says nothing of the daemon. So does
EADDRNOTAVAIL: connect(2) has no local port left to connect from. But a refusal by another address of the host outweighs
it, for a machine without IPv6 gives it for each ::1."""
LACKING_SQLITE = frozenset({5, 6, 7, 13, 14})
"""SQLITE_BUSY, _LOCKED, _NOMEM, _FULL and _CANTOPEN, https://sqlite.org/rescode.html: SQLite could not look into a
database that is there. It gives no errno, not even where no descriptor is left. As numbers, since `sqlite3` need not be
loaded to ask over HTTP."""
_NUMBERS = re.compile(r"\[Errno (\d+)\]")
_CALL_FAILED = "Connect call failed"
"""asyncio's words, which name the address and leave out what is wrong: sock_connect, asyncio/selector_events.py."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that led to it."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from error.exceptions
        error = error.__cause__ or error.__context__


def is_refused(error: BaseException) -> bool:
    """Whether an address of the host refused the connection."""
    # Where several addresses failed in different ways, asyncio keeps their errors as text only.
    return any(isinstance(found, ConnectionRefusedError) for found in causes(error)) or (
        f"[Errno {errno.ECONNREFUSED}]" in str(error)
    )


def reason(error: BaseException, silent: str | None = None) -> str:
    """What went wrong, without the name of an exception, an errno or a path.

    Args:
        silent: what is said of an error that has no text; by default its type.
    """
    if is_refused(error):
        return REFUSED
    found = list(causes(error))
    for cause in found:
        if isinstance(cause, socket.gaierror):
            return f"no such host ({cause.strerror})"
    if isinstance(error, OSError) and error.strerror:
        return _words(error)
    text = str(error)
    # Neither asyncio nor httpx says what is wrong with a host of several addresses.
    if numbers := _NUMBERS.findall(text):
        return os.strerror(int(numbers[0]))
    if text == "All connection attempts failed":
        text = next((_words(cause) for cause in found if isinstance(cause, OSError) and cause.strerror), text)
    return text or silent or type(error).__name__


def lacking(error: BaseException | None) -> str | None:
    """What the process that asks, or its machine, lacks, where that is behind the error; else None."""
    found = list(causes(error))
    refused = any(isinstance(cause, ConnectionRefusedError) for cause in found)
    wanted = LACKING if refused else LACKING | {errno.EADDRNOTAVAIL}
    for cause in found:
        if getattr(cause, "sqlite_errorcode", 0) & 0xFF in LACKING_SQLITE:
            return str(cause)
        # A resolver's errors have numbers of their own.
        if isinstance(cause, OSError) and not isinstance(cause, socket.gaierror) and cause.errno in wanted:
            return cause.strerror
    return None


def _words(error: OSError) -> str:
    text = str(error.strerror)
    return os.strerror(error.errno) if error.errno is not None and text.startswith(_CALL_FAILED) else text
