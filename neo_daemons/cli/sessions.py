"""``sessions``: the test sessions that are kept warm."""

from __future__ import annotations

import argparse

import msgspec

from neo_daemons.ephemeral.warm import WarmSession, end, warm_sessions

from . import display
from .codes import DONE, FAILED
from .streams import complain


def sessions(options: argparse.Namespace) -> int:
    """List the test sessions that are kept warm, or end them."""
    found = list(warm_sessions())
    unknown = sorted({*options.names} - {session.name for session in found})
    if options.names:
        found = [session for session in found if session.name in options.names]
    if options.end:
        code = DONE
        for session in found:
            why = end(session)
            if why is not None:
                code = complain(f"{session.name}: not ended: {why}", FAILED)
            else:
                print(f"ended {session.name} ({display.clean(session.project or 'unknown project')})", flush=True)
    else:
        code = DONE
        _show(found, as_json=options.json)
    if unknown:
        return complain(f"no warm session {', '.join(unknown)}; see `neo-daemons sessions`", FAILED)
    if not found and not options.json:
        print("no session is kept warm")
    return code


def _show(found: list[WarmSession], *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    for session in found:
        print(f"{session.name}  {display.clean(session.project or 'unknown project')}")
        kept = "kept" if session.keep_s is None else f"kept for {display.duration(session.keep_s)} after a run"
        parts = [
            "in use by a run" if session.in_use else kept,
            f"age {display.duration(session.age_s)}",
            display.size(session.bytes),
            f"daemons: {', '.join(session.daemons) or 'none'}",
        ]
        print(f"  {', '.join(parts)}")
        if session.replaced is not None:
            print(display.clean(f"  started because an earlier one could not be used: {session.replaced}"))
