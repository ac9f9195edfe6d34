"""Files that earlier versions wrote are read, and those of a later version are refused, with nothing lost.

`tests/formats` has the state directory of each earlier format, as it was while its supervisor ran: with a daemon that
is ready, one with data, one on hold, and one that is done where there was such a thing. Where it could be had, the file
of a warm session, an entry of the registry and a snapshot are there as well.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from neo_daemons import records, registry
from neo_daemons.control.client import Client, ControlError
from neo_daemons.ephemeral import session
from neo_daemons.records import DaemonRecord, Directory, DoneRecord, Identity, Intentions, NewerRecord, SupervisorRecord
from neo_daemons.seeds import archive
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision import journal

from .harness import Project, is_alive

FORMATS = Path(__file__).with_name("formats")
ALL = sorted(path.name for path in FORMATS.iterdir())
NEWEST = ALL[-1]


def keys(path: Path) -> set[str]:
    return {*json.loads(path.read_text())}


@pytest.mark.parametrize("name", ALL)
def test_records_of_an_earlier_format_are_read(name: str) -> None:
    state = StateDir(FORMATS / name / "state")
    supervisor = records.read(state.record, SupervisorRecord)
    assert supervisor is not None
    assert (supervisor.version, supervisor.directory is None) == ("0.1.0", name == "1-unplaced")
    for daemon in ("web", "store"):
        record = records.read(state.daemon_record(daemon), DaemonRecord)
        assert record is not None
        assert (record.name, record.pid is not None, record.identity is not None) == (daemon, True, True)
    assert records.read(state.intentions, Intentions) == Intentions(held=("kept",))
    done = records.read(state.done_record("once"), DoneRecord)
    assert (done is not None) == (name >= "4-done")


@pytest.mark.parametrize("name", ALL)
def test_journals_of_an_earlier_format_are_read(name: str) -> None:
    entries, damaged = journal.read(FORMATS / name / "state/journal.jsonl")
    assert damaged == 0
    assert {"supervisor-started", "ready", "hold", "exit"} <= {entry.event for entry in entries}


def test_what_else_was_written_is_read(tmp_path: Path) -> None:
    for directory, is_read in (("1-unplaced", False), ("4-done", True)):
        shutil.copy(FORMATS / directory / "session.json", tmp_path)
        found = session.read(StateDir(tmp_path))
        # One that is not read is ended, and another one started: see `warm` of docs/pytest.md.
        assert (found is not None) == is_read, directory
    entry = msgspec.json.decode((FORMATS / "4-done/registry.json").read_bytes(), type=registry.Entry)
    assert [daemon.name for daemon in entry.daemons] == ["web", "store", "kept", "once"]


def test_a_snapshot_of_an_earlier_version_is_restored(tmp_path: Path) -> None:
    target = tmp_path / "data"
    manifest = archive.unpack(FORMATS / "4-done/snapshot.tar.gz", target)
    assert ([*manifest.files], (target / "file").read_text()) == (["file"], "hello\n")


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("supervisor.json", SupervisorRecord),
        ("intentions.json", Intentions),
        ("daemons/web.json", DaemonRecord),
        ("daemons/once.done", DoneRecord),
    ],
)
def test_the_newest_format_is_that_of_this_version(file: str, kind: type[Any]) -> None:
    """Else it has changed: put what was written before into a directory of its own in `tests/formats`."""
    assert keys(FORMATS / NEWEST / "state" / file) == {field.encode_name for field in msgspec.structs.fields(kind)}
    assert keys(FORMATS / NEWEST / "session.json") == {
        f.encode_name for f in msgspec.structs.fields(session.SessionRecord)
    }


def place(name: str, state: Path) -> None:
    """Put a state directory of an earlier format where a supervisor will find it, as if it had been written there."""
    shutil.copytree(FORMATS / name / "state", state, dirs_exist_ok=True)
    here = Directory.of(state)
    for path in (state / "supervisor.json", *(state / "daemons").iterdir()):
        content = json.loads(path.read_text())
        if "directory" in content:
            path.write_text(json.dumps(content | {"directory": msgspec.to_builtins(here)}))


@pytest.mark.long
@pytest.mark.parametrize("name", ALL)
def test_a_supervisor_begins_where_one_of_an_earlier_format_has_ended(project: Project, name: str) -> None:
    sleep = {"command": ["sleep", "1000"]}
    project.configure(web=sleep, store=sleep, kept=sleep)
    place(name, project.state.path)
    project.serve()
    project.reaches("web", "ready")
    project.reaches("store", "ready")
    project.reaches("kept", "held")
    events = [event for event, _ in project.events()]
    assert events.count("supervisor-started") == 2
    assert not {"record-damaged", "journal-damaged", "internal-error", "record-foreign"} & {*events}


def raise_formats(state: StateDir, to: int) -> None:
    for path in (state.record, state.intentions, *state.daemons.glob("*.json")):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": to, "of the future": []}))


@pytest.mark.long
def test_a_later_format_is_refused_and_its_daemons_are_left_alone(project: Project) -> None:
    project.configure(web={"command": ["sleep", "1000"]}, kept={"command": ["sleep", "1000"]})
    project.serve()
    pid = project.reaches("web", "ready").pid
    project.client.order("kept", "hold")
    project.kill_supervisor()
    raise_formats(project.state, 2)
    before = {path: path.read_bytes() for path in project.state.path.rglob("*.json")}
    refused = project.run("serve")
    said = "a later version of neo-daemons wrote it (format 2; this one reads 1): use that version"
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1
    assert f"{project.state.record}: {said}, or choose another --state-dir; nothing was changed" in refused.stderr
    assert {path: path.read_bytes() for path in project.state.path.rglob("*.json")} == before
    assert is_alive(pid or 0)
    assert said in project.run("status").stderr
    assert said in project.run("doctor").stdout
    raise_formats(project.state, 1)  # the later version, again
    project.serve()
    adopted = project.reaches("web", "ready")
    assert (adopted.pid, adopted.adopted, project.daemon("kept").held) == (pid, True, True)


@pytest.mark.parametrize("kind", [SupervisorRecord, Intentions, DaemonRecord, DoneRecord])
def test_a_record_of_a_later_version_is_named_even_if_nothing_else_of_it_is_known(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text('{"format": 7, "name": {"changed": "altogether"}, "held": 1}')
    with pytest.raises(NewerRecord, match="a later version of neo-daemons wrote it"):
        records.read(path, kind)


def test_a_client_says_that_a_running_supervisor_is_of_a_later_version(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.create()
    state.record.write_text('{"format": 2}')
    with pytest.raises(ControlError, match=r"a later version of neo-daemons wrote it \(format 2; this one reads 1\)"):
        Client(state).status()


def test_a_record_that_names_no_directory_is_said_to_be_of_an_early_version(project: Project) -> None:
    state = project.state
    state.create()
    shutil.copy(FORMATS / "1-unplaced/state/supervisor.json", state.record)
    with pytest.raises(ControlError, match=r"is of a version before 0\.1\.0"):
        project.client.status()


def test_the_identity_of_an_earlier_format_still_counts() -> None:
    found = Identity(boot_id="a", start_time=1.0, inode=5)
    assert Identity(boot_id="a", start_time=1.0).matches(found)
