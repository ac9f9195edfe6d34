"""The journal as a contract: event names and causes that programs can rely on, whatever the wording of the details."""

from __future__ import annotations

import ast
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import neo_daemons
from neo_daemons.definitions import ExecProbe, HttpProbe, Port, Restart, TcpProbe
from neo_daemons.status import Cause, EventName, JournalEntry
from neo_daemons.supervision import journal
from neo_daemons.supervision.machine import Event, State
from pytest_neo_daemons.incidents import JournalReader

from .harness import TOY, free_port
from .test_probes import reaches, supervised

SOURCE = Path(neo_daemons.__file__).parent
PAGE = SOURCE.parent / "docs" / "reference" / "events.md"


def documented(heading: str) -> set[str]:
    """Return the names in the first column of the table with this header."""
    table = PAGE.read_text().split(f"| {heading} | meaning |\n|---|---|\n")[1].split("\n\n")[0]
    return {name for line in table.splitlines() for name in re.findall(r"`([a-z-]+)`", line.split("|")[1])}


def test_the_documented_events_and_causes_are_those_of_the_code() -> None:
    assert documented("event") == set(EventName)
    assert documented("cause") == set(Cause)


def test_every_state_that_a_daemon_enters_has_an_event() -> None:
    assert {state.public for state in State if state is not State.EXTERNAL} <= set(EventName)


def test_every_event_is_written_somewhere_and_under_no_other_name() -> None:
    used = {state.public for state in State} | {Event.HOLD.value, Event.RELEASE.value}
    used |= {f"reload-{action}" for action in ("start", "stop", "replace", "apply")}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "EventName":
                used.add(EventName[node.attr].value)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "note":
                assert not isinstance(node.args[0], ast.Constant), f"{path}: {ast.unparse(node)}"
    assert set(EventName) <= used


def test_the_journal_of_another_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(
        '{"at":1.5,"event":"running","daemon":"api","state":"running","pid":7}\n'
        '{"at":2.5,"event":"teleported","daemon":"api","cause":"magic","more":1}\n'
    )
    entries, damaged = journal.read(path)
    assert damaged == 0
    assert [(entry.event, entry.cause) for entry in entries] == [("running", None), ("teleported", "magic")]
    assert msgspec.json.encode(entries[0]) == b'{"at":1.5,"event":"running","daemon":"api","state":"running","pid":7}'


def incidents(path: Path, *entries: JournalEntry) -> JournalReader:
    path.write_bytes(b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries))
    reader = JournalReader(path, 0)
    reader.read()
    return reader


def entry(event: EventName, state: str, cause: Cause | None = None, detail: str | None = None) -> JournalEntry:
    return JournalEntry(at=1.0, event=event, daemon="api", state=state, cause=cause, detail=detail)


@pytest.mark.parametrize("detail", ["stopping", "stop requested by an operator", "adopted", "SIGCONT", None])
def test_the_wording_of_an_entry_does_not_affect_reported_deaths(tmp_path: Path, detail: str | None) -> None:
    path = tmp_path / "journal.jsonl"
    for cause in Cause:
        reader = incidents(path, entry(EventName.STOPPING, "stopping", cause, detail))
        assert len(reader.incidents) == (cause in (Cause.PROBE, Cause.RECYCLED)), cause
        reader = incidents(path, entry(EventName.EXIT, "ready", cause, detail))
        assert len(reader.incidents) == 1
        reader = incidents(path, entry(EventName.RUNNING, "running", cause, detail))
        assert reader.starts.get("api", 0) == (cause is not Cause.ADOPTED)
        died = entry(EventName.EXIT, "ready", Cause.SIGNAL, "killed by SIGKILL")
        reader = incidents(path, entry(EventName.SIGNALLED, "ready", cause, detail), died)
        assert reader.incidents[0].asked_for == (cause is Cause.FAULT)


def test_a_revoked_fault_does_not_excuse_a_later_death(tmp_path: Path) -> None:
    reader = incidents(
        tmp_path / "journal.jsonl",
        entry(EventName.SIGNALLED, "ready", Cause.FAULT),
        entry(EventName.SIGNALLED, "ready", Cause.REPAIR),
        entry(EventName.EXIT, "ready", Cause.EXIT, "exit code 1"),
    )
    assert [incident.asked_for for incident in reader.incidents] == [False]


def test_each_end_of_a_run_has_its_cause(tmp_path: Path) -> None:
    port = free_port()

    async def work(supervisor: Any) -> None:
        api = supervisor.daemon("api")

        async def ready() -> None:
            await reaches(api, lambda daemon: daemon.ready)

        def since(count: int) -> list[tuple[str, str | None]]:
            return [(entry.event, entry.cause) for entry in supervisor.events(1000, "api")][count:]

        await ready()

        async def ends(act: Callable[[], object], *expected: tuple[str, str]) -> None:
            count, old = len(supervisor.events(1000, "api")), api.run
            act()
            await reaches(api, lambda daemon: daemon.ready and daemon.run is not old)
            found = since(count)
            assert [one for one in expected if one not in found] == [], found

        await ends(lambda: api.run.process.signal(9), ("exit", "signal"), ("backoff", "signal"))
        await ends(lambda: supervisor.order("api", Event.RESTART), ("stopping", "operator"), ("exit", "operator"))
        await ends(lambda: api.condemn(Cause.RECYCLED, "stopping"), ("stopping", "recycled"), ("exit", "recycled"))
        (tmp_path / "sick").touch()
        await reaches(api, lambda daemon: daemon.situation.cause is Cause.PROBE and not daemon.ready)
        await reaches(api, lambda daemon: daemon.state is State.BACKOFF)
        (tmp_path / "sick").unlink()
        assert ("stopping", "probe") in since(0)
        await ready()
        supervisor.order("api", Event.STOP)
        await reaches(api, lambda daemon: daemon.state is State.STOPPED)
        assert since(0)[-1] == ("stopped", "operator")
        assert api.situation.cause is Cause.OPERATOR

    script = "import os, sys; print('stopping'); sys.exit(os.path.exists('sick'))"
    supervised(
        tmp_path,
        work,
        command=(*TOY, f"port={port}"),
        ports={"main": Port(fixed=port)},
        ready=(TcpProbe(),),
        live=(ExecProbe(command=(sys.executable, "-IS", "-c", script), interval_s=0.05, failures=1),),
        restart=Restart(base_s=0.2),
    )
    entries, _ = journal.read(tmp_path / "state" / "journal.jsonl")
    reader = incidents(tmp_path / "copy.jsonl", *entries)
    condemned = {incident.what.rpartition(", ")[2] for incident in reader.incidents if "exec" in incident.what}
    assert condemned == {"stopping"}, "a probe's own words hid a death"


def test_a_start_that_fails_and_one_that_is_refused_have_their_causes(tmp_path: Path) -> None:
    async def fails(supervisor: Any) -> None:
        api = supervisor.daemon("api")
        await reaches(api, lambda daemon: daemon.state is State.BACKOFF)
        assert api.situation.cause is Cause.START_FAILED

    async def refused(supervisor: Any) -> None:
        api = supervisor.daemon("api")
        await reaches(api, lambda daemon: daemon.state is State.PARKED)
        assert api.situation.cause is Cause.REFUSED

    supervised(tmp_path, fails, command=("/nowhere/at/all",), restart=Restart(base_s=60))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = Port(fixed=listener.getsockname()[1])
        supervised(tmp_path, refused, command=("sleep", "1000"), ports={"main": port}, ready=(HttpProbe(),))
