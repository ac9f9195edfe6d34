"""Messages about unexpected errors, which are bugs in neo-daemons."""

from __future__ import annotations

import os
import traceback

VARIABLE = "NEO_DAEMONS_TRACEBACK"


def describe(error: BaseException) -> str:
    """Return one line about an unexpected error: what it is, and where to report it. With ``NEO_DAEMONS_TRACEBACK`` set
    to anything but 0, its traceback comes before that line."""
    said = " ".join(str(error).split())
    what = f"internal error: {type(error).__name__}{f': {said:.300}' if said else ''}"
    report = "this is a bug in neo-daemons; please report it in the issue tracker of its repository, with"
    if os.environ.get(VARIABLE, "0") in ("", "0"):
        return f"{what}; {report} the traceback that {VARIABLE}=1 shows"
    return f"{details(error)}{what}; {report} this traceback"


def details(error: BaseException) -> str:
    """Return the traceback of an error, in several lines."""
    return "".join(traceback.format_exception(error))
