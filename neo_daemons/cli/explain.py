"""Why a daemon is in its state, as lines for people."""

from __future__ import annotations

import time

from neo_daemons.status import Explanation

from . import display


def explain(found: Explanation) -> list[str]:
    """Return the lines that explain a state. They may contain control characters."""
    daemon = found.daemon
    lines = [f"{daemon.name}: {display.state(daemon)} since {_clock(found.since)}"]
    if daemon.detail:
        lines.append(f"  detail: {daemon.detail}")
    if daemon.remedy:
        lines.append(f"  fix: {daemon.remedy}")
    if daemon.note:
        lines.append(f"  note: {daemon.note}")
    lines += [f"  needed by: {display.holder(one)}, since {_clock(one.since)}" for one in daemon.holders]
    if daemon.idle_stop_at is not None:
        lines.append(f"  stops for being idle: {_clock(daemon.idle_stop_at)}, unless it is needed before")
    if daemon.state == "idle":
        lines.append("  starts when it is needed, by `mcp connect` or a lease; a shared one also by `exec` or `start`")
    if found.next_try_s is not None:
        lines.append(f"  next try in {found.next_try_s:.1f} s")
    if found.failures:
        lines.append(f"  consecutive failures: {found.failures}; first cause: {found.first_cause}")
    if daemon.last_exit is not None:
        lines.append(f"  last exit: pid {daemon.last_exit.pid}, {daemon.last_exit.text}, {_clock(daemon.last_exit.at)}")
    lines += [f"  port {port} is held by {holder}" for port, holder in found.port_holders.items()]
    writer = f" (from pid {found.log_pid}, which has exited)" if found.log_pid is not None else ""
    for title, items in (
        ("probes", found.probes),
        ("events", [display.entry(event) for event in found.events]),
        (f"last lines of {daemon.log_path}{writer}", found.log_tail or ("(the log is empty)",)),
    ):
        lines += [f"  {title}:", *(f"    {item}" for item in items)] if items else []
    return lines


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
