"""Describes in a few plain words why a request failed."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator

REFUSED = "connection refused"
CUT = "the connection was cut"
LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.ENOSPC})
"""The asking process or its machine has run out of a resource, which says nothing about the daemon. EADDRNOTAVAIL means
the same: connect(2) has no local port left. But a refusal by another address of the host outweighs it, because without
IPv6 a machine returns it for each ::1."""
LACKING_SQLITE = frozenset({5, 6, 7, 13, 14})
"""SQLITE_BUSY, _LOCKED, _NOMEM, _FULL and _CANTOPEN, https://sqlite.org/rescode.html: SQLite could not read an existing
database. It provides no errno, not even if no descriptor is left. These are numbers because HTTP requests must not load
`sqlite3`."""
_NUMBERS = re.compile(r"\[Errno (\d+)\]")
_CALL_FAILED = "Connect call failed"
"""asyncio's text, which names the address but not the error: sock_connect, asyncio/selector_events.py."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and those that caused it."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from error.exceptions
        error = error.__cause__ or error.__context__


def is_refused(error: BaseException) -> bool:
    """Return whether an address of the host refused the connection."""
    # If several addresses failed in different ways, asyncio only keeps the text of their errors.
    return any(isinstance(found, ConnectionRefusedError) for found in causes(error)) or (
        f"[Errno {errno.ECONNREFUSED}]" in str(error)
    )


def reason(error: BaseException, silent: str | None = None) -> str:
    """Describe an error without the name of an exception, an errno or a path.

    Args:
        silent: the text for an error that has none; by default, its type.
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
    # Neither asyncio nor httpx reports the error for a host with several addresses.
    if numbers := _NUMBERS.findall(text):
        return os.strerror(int(numbers[0]))
    if text == "All connection attempts failed":
        text = next((_words(cause) for cause in found if isinstance(cause, OSError) and cause.strerror), text)
    return text or silent or type(error).__name__


def lacking(error: BaseException | None) -> str | None:
    """Return which resource the asking process or its machine lacks, if that caused the error; else None."""
    found = list(causes(error))
    refused = any(isinstance(cause, ConnectionRefusedError) for cause in found)
    wanted = LACKING if refused else LACKING | {errno.EADDRNOTAVAIL}
    for cause in found:
        if getattr(cause, "sqlite_errorcode", 0) & 0xFF in LACKING_SQLITE:
            return str(cause)
        # Resolver errors have their own numbers.
        if isinstance(cause, OSError) and not isinstance(cause, socket.gaierror) and cause.errno in wanted:
            return cause.strerror
    return None


def _words(error: OSError) -> str:
    text = str(error.strerror)
    return os.strerror(error.errno) if error.errno is not None and text.startswith(_CALL_FAILED) else text
