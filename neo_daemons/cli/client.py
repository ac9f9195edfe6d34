"""The commands that talk to a running supervisor."""

from __future__ import annotations

import argparse

import msgspec

from neo_daemons.config.locate import find_state_dir
from neo_daemons.control.client import REMADE_S, Client, ControlError, SupervisorEnded, Unreachable
from neo_daemons.state_dir import StateDir
from neo_daemons.status import DaemonStatus, JournalEntry, Status

from . import display
from .codes import DONE, FAILED
from .explain import explain
from .selection import MARK, names_of
from .streams import complain

DOWN = ("idle", "stopped", "stopping")


def run(options: argparse.Namespace) -> int:
    """Run one of these commands and return its exit code."""
    state = find_state_dir(options.state_dir, file=options.config)
    client = Client(state, patience_s=REMADE_S)
    match options.command:
        case "status":
            return _status(client, options)
        case "events":
            return _events(client, state, options)
        case "why":
            return _why(client, options)
        case "reload":
            return _reload(client, options)
        case order:
            return _order(client, order, options)


def _status(client: Client, options: argparse.Namespace) -> int:
    if options.format is not None:
        if options.check or options.watch:
            options.parser.error("--format cannot be combined with --check or --watch")
        print(client.metrics(), end="")
        return DONE
    if options.watch:
        from .watch import watch

        return watch(client, options)
    status = client.status()
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(status), indent=2).decode())
        return _checked(status) if options.check else DONE
    own = status.supervisor
    print(f"supervisor pid {own.pid}, version {own.version}, state in {own.state_dir}")
    if own.warning:
        complain(display.clean(own.warning), FAILED)
    display.show_table(status)
    return _checked(status) if options.check else DONE


def _checked(status: Status) -> int:
    """Return the exit code of ``status --check``: whether every enabled daemon is ready, or idle, which starts when
    it is needed."""
    missing = [f"{daemon.name} ({display.state(daemon)})" for daemon in status.daemons if _is_missing(daemon)]
    return complain(f"not ready: {', '.join(missing)}", FAILED) if missing else DONE


def _is_missing(daemon: DaemonStatus) -> bool:
    return daemon.enabled and not daemon.ready and daemon.state != "idle"


def _order(client: Client, order: str, options: argparse.Namespace) -> int:
    code, ended = DONE, []
    starts = order in ("start", "restart")
    for name in _names(client, options.names):
        try:
            down = {d.name for d in client.status().daemons if d.state in DOWN} if starts else set()
            daemon = client.order(name, order, wait_s=options.wait)  # type: ignore[arg-type]
        except Unreachable:
            raise
        except ControlError as error:
            code = complain(str(error), FAILED)
            continue
        print(display.line(daemon), flush=True)
        if down.intersection(daemon.requires):
            for other in client.status().daemons:
                if other.name in down.intersection(daemon.requires) and other.state not in DOWN:
                    print(f"note: also started {other.name}, which {name} requires ({display.state(other)})")
        if options.wait and starts and not daemon.ready:
            code = FAILED
        if order in ("stop", "hold"):
            ended.append(daemon.name)
    if ended:
        running = [daemon for daemon in client.status().daemons if daemon.pid is not None]
        for name in ended:
            needing = [daemon.name for daemon in running if name in daemon.requires and daemon.name not in ended]
            if needing:
                which, verb = ("requires", "is") if len(needing) == 1 else ("require", "are")
                print(f"note: {', '.join(needing)}, which {which} {name}, {verb} still running")
    return code


def _names(client: Client, words: list[str]) -> list[str]:
    """Return the names of the daemons that words mean, without the external ones of a group, which take no orders.
    Without groups, the supervisor is not asked."""
    if not any(word.startswith(MARK) for word in words):
        return words
    daemons = {daemon.name: daemon for daemon in client.status().daemons}
    names = names_of(daemons.values(), words)
    return [name for name in names if name in words or daemons[name].state != "external"]


def _events(client: Client, state: StateDir, options: argparse.Namespace) -> int:
    def show(entry: JournalEntry) -> None:
        text = msgspec.json.encode(entry).decode() if options.json else display.entry(entry)
        print(text, flush=options.follow)

    try:
        entries = client.follow_events(options.lines) if options.follow else client.events(options.lines)
        for entry in entries:
            show(entry)
    except Unreachable as error:
        if options.follow and isinstance(error, SupervisorEnded):
            return DONE
        from neo_daemons.supervision import journal

        if options.follow or not state.journal.is_file():
            raise
        for entry in journal.read(state.journal)[0][-options.lines :] if options.lines else ():
            show(entry)
    return DONE


def _reload(client: Client, options: argparse.Namespace) -> int:
    try:
        changes = client.reload(dry_run=options.dry_run)
    except Unreachable:
        raise
    except ControlError as error:
        complain(str(error), FAILED)
        return complain("nothing was changed; the supervisor keeps its configuration", FAILED)
    for change in changes:
        print(f"{change.action:8} {change.name}: {change.reason}")
    return DONE


def _why(client: Client, options: argparse.Namespace) -> int:
    found = client.why(options.name)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        for line in explain(found):
            print(display.clean(line))
    return DONE
