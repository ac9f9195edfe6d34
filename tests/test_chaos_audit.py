"""Each check of the chaos soak's audit can fail: it is shown the fault that it is there for."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from neo_daemons.records import Directory
from neo_daemons.supervision.platform import MARK_VARIABLE, Mark, current_platform
from neo_daemons.supervision.slot import DATA_LOCK

from .chaos import audit
from .chaos.bystander import Bystander
from .chaos.watch import Footprint, twins
from .harness import TOY, Project, toy, until

STARTED = "[PID:{pid}] [INFO] Started. Tail-syncing from GraphLog ID: {at}"


def test_a_lost_and_a_changed_write_are_noticed() -> None:
    ledger = [("a", "1"), ("b", "2"), ("c", "3")]
    assert audit.lost_writes(ledger, {"a": "1", "b": "2", "c": "3", "more": "4"}) == []
    assert audit.lost_writes(ledger, {"a": "1", "c": "0"}) == [
        "acknowledged write lost: b holds None, written '2'",
        "acknowledged write lost: c holds '0', written '3'",
    ]


def test_a_wake_message_that_was_lost_or_came_twice_is_noticed() -> None:
    ledger = [(f"m{number}", f"subject-{number}-") for number in (1, 2, 3)]
    at = {"m1": 10, "m2": 20, "m3": 30}
    log = [STARTED.format(pid=1, at=0), "to A: subject-1-", "to A: subject-2-", "to A: subject-3-"]
    assert audit.judge_wakes(ledger, at, log) == ([], [], 0)
    assert audit.judge_wakes(ledger, at, [log[0], log[1], log[3]]).lost == [
        "wake message lost: m2, entry 20 of the log"
    ]
    assert audit.judge_wakes(ledger, at, [*log, log[1]]).repeated == ["wake message delivered 2 times: subject-1-"]


def test_only_what_a_killed_bridge_had_taken_is_excused() -> None:
    ledger = [("m1", "subject-1-"), ("m2", "subject-2-"), ("m3", "subject-3-")]
    at = {"m1": 10, "m2": 20, "m3": 30}
    log = [STARTED.format(pid=1, at=0), "subject-1-", STARTED.format(pid=2, at=25)]
    wakes = audit.judge_wakes(ledger, at, log)
    assert wakes.gap == 1
    assert wakes.lost == ["wake message lost: m3, entry 30 of the log"]


@pytest.mark.parametrize("line", [b'{"at": 1.0, "event"', b"\xff\xfe", b"[]", b'{"event": "running"}', b""])
def test_a_bad_journal_line_is_noticed(project: Project, line: bytes) -> None:
    state = project.state
    state.path.mkdir(parents=True)
    good = b'{"at":1.0,"event":"running","daemon":"api","pid":7}\n'
    state.journal.write_bytes(good)
    assert audit.bad_journal_lines(state) == []
    state.journal.write_bytes(good + line + b"\n" + good)
    assert len(audit.bad_journal_lines(state)) == 1
    assert audit.journal_counts(state) == (Counter(running=2), {("api", 7)})
    state.journal.write_bytes(good[:-1])
    assert audit.bad_journal_lines(state) == ["journal.jsonl ends within a line"]


def test_an_orphan_and_a_second_tree_are_noticed(project: Project) -> None:
    state = project.state
    state.path.mkdir(parents=True)
    here = Directory.of(state.path)
    assert here is not None
    started = []
    try:
        for token in ("1" * 32, "2" * 32):
            mark = Mark(token, "worker", here)
            env = {**os.environ, MARK_VARIABLE: str(mark)}
            child = subprocess.Popen([*TOY, "quiet"], env=env, stdout=subprocess.PIPE)
            started.append(child)
            until(lambda: len(audit.orphans(state.path)) == len(started), "the mark")
            assert len(twins(state)) == len(started) - 1
    finally:
        for child in started:
            child.kill()
            child.communicate()
    assert audit.orphans(state.path) == []


def test_a_lock_a_file_a_socket_and_a_port_that_are_left_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "daemons").mkdir()
    lock = current_platform().lock(tmp_path / "daemons" / "api.lock")
    assert lock is not None
    assert audit.held_locks(tmp_path) == ["still locked: daemons/api.lock"]
    lock.release()
    assert audit.held_locks(tmp_path) == []
    assert audit.leaked_files(tmp_path) == []
    (tmp_path / "supervisor.json").touch()
    left = tmp_path / "control.sock"
    left.touch()
    assert audit.leaked_files(tmp_path, [left]) == [
        f"socket left: {left}",
        "file left in the state directory: control.sock",
        "file left in the state directory: supervisor.json",
    ]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert len(audit.taken_ports([port])) == 1
    assert audit.taken_ports([port]) == []


def test_a_leak_of_the_supervisor_is_noticed() -> None:
    calm = Footprint(20_000_000, Counter({"socket": 2}))
    assert audit.leaked_descriptors(calm, calm) == audit.growth(calm, calm) == []
    grown = Footprint(20_000_000 + audit.GROWTH_BYTES + 1, Counter({"socket": 3}))
    assert audit.leaked_descriptors(calm, grown) == ["the supervisor's descriptors: 1 more of socket"]
    assert len(audit.growth(calm, grown)) == 1


@pytest.mark.long
def test_the_lock_of_an_adopted_daemons_data_is_no_leak_and_two_of_it_are(project: Project) -> None:
    """The soak took it for one, where no daemon had been restarted before it measured: beside a load."""
    project.configure(api=toy(data_dir="data"))
    project.serve()
    project.reaches("api", "ready")
    project.kill_supervisor()
    supervisor = project.serve()
    lock = str(project.root / "data" / DATA_LOCK)
    adopted = project.reaches("api", "ready")
    before = Footprint.of(supervisor.pid)
    assert before.descriptors[lock] == 0, "the daemon alone holds it"
    old = adopted.pid
    for _ in range(3):
        os.kill(old or 0, signal.SIGKILL)
        old = project.back("api", old).pid
        until(lambda: not audit.leaked_descriptors(before, Footprint.of(supervisor.pid)), "no leak")
        assert Footprint.of(supervisor.pid).descriptors[lock] == 1
    twice = Footprint(0, before.descriptors + Counter({lock: 2}))
    assert audit.leaked_descriptors(before, twice) == [f"the supervisor's descriptors: 2 more of {lock}"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGCONT, signal.SIGSTOP, signal.SIGKILL])
def test_any_signal_to_the_bystander_is_noticed(tmp_path: Path, signum: signal.Signals) -> None:
    bystander = Bystander(tmp_path / "signals")
    try:
        assert bystander.signals() == []
        os.kill(bystander.pid, signum)
        until(bystander.signals, "the signal")
        expected = "ended with -9" if signum == signal.SIGKILL else signum.name
        until(lambda: bystander.signals() == [expected], expected)
    finally:
        bystander.close()
