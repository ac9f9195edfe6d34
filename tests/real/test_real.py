"""The three real daemons under the real `serve`: what the project is for.

They run once for the module, in the zero-configuration project that a new user has, with a restart policy that lets a
test kill a daemon ten times in a row.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_neo_daemons import BridgeGraph
from tests.harness import Project, end_marked, is_alive, until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("real"), pytest.mark.timeout(540)]

NAMES = ("chroma", "bridge", "mlx")
PORT = {"chroma": {"port": "auto"}, "mlx": {"port": "auto"}}
"""Any free port: on a developer's machine the usual ones are in use."""
STEADY = {"stable_s": 0.0}
"""Forget every failure at once: ten kills in a row are no reason to wait or to park."""
PROVISIONING_S = 500.0
DELIVERY_S = 60.0


def configuration() -> dict[str, dict[str, Any]]:
    return {name: {"restart": STEADY, **PORT.get(name, {})} for name in NAMES}


def wait_ready(project: Project, timeout_s: float = PROVISIONING_S) -> dict[str, Any]:
    """The three, when they are ready; the first time they have to be provisioned."""
    deadline = time.monotonic() + timeout_s
    while True:
        daemons = {daemon.name: daemon for daemon in project.client.status().daemons}
        if all(daemons[name].ready for name in NAMES):
            return daemons
        bad = [d for d in daemons.values() if d.state in ("parked", "unavailable")]
        assert not bad, [(one.name, one.state, one.detail) for one in bad]
        assert time.monotonic() < deadline, daemons
        time.sleep(0.05)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("real"))
    project.configure(**configuration())
    project.serve()
    wait_ready(project)
    yield project
    left = project.close()
    end_marked(str(project.root))
    assert not left


class Chroma:
    """A client on a collection of its own."""

    def __init__(self, project: Project) -> None:
        import chromadb

        daemon = project.daemon("chroma")
        self._client = chromadb.HttpClient(host="127.0.0.1", port=daemon.ports["main"])
        self._collection = self._client.get_or_create_collection("kept", embedding_function=None)

    def put(self, *keys: str) -> None:
        self._collection.upsert(ids=list(keys), embeddings=[[float(len(key)), 1.0, 2.0] for key in keys])

    def contents(self) -> set[str]:
        return set(self._collection.get(include=[])["ids"])

    def nearest(self, vector: list[float]) -> str:
        found = self._collection.query(query_embeddings=[vector], n_results=1)
        return str(found["ids"][0][0])


def complete(project: Project) -> str:
    import openai

    base_url = project.daemon("mlx").env["OPENAI_BASE_URL"]
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=60) as client:
        answer = client.chat.completions.create(
            model="default_model", messages=[{"role": "user", "content": "hello"}], max_tokens=8
        )
    return str(answer.choices[0].message.content)


def deliver(project: Project) -> str:
    """Subscribe an agent, send it a message, and return the line by which the bridge says that it delivered."""
    graph = BridgeGraph(project.daemon("bridge").env)
    agent = graph.subscribe()
    graph.send(agent, "now", subject="wake up")
    return graph.await_delivery(agent, timeout_s=DELIVERY_S)[0]


def test_the_three_do_their_work(real: Project) -> None:
    chroma = Chroma(real)
    chroma.put("a", "bb", "cccccc")
    assert chroma.nearest([6.0, 1.0, 2.0]) == "cccccc"
    assert complete(real)
    assert deliver(real)
    note = real.daemon("mlx").note
    assert note is not None
    assert "tiny model" in note


@pytest.mark.parametrize("name", NAMES)
def test_a_daemon_killed_ten_times_is_back_each_time(real: Project, name: str) -> None:
    wait_ready(real)
    acknowledged = set()
    exits_before = [event for event, _ in real.events(name)].count("exit")
    for number in range(10):
        before = real.daemon(name)
        if name == "chroma":
            acknowledged.add(f"kill-{number}")
            Chroma(real).put(f"kill-{number}")
        assert before.pid is not None
        os.kill(before.pid, signal.SIGKILL)
        after = real.back(name, before.pid)
        assert after.ports == before.ports, real.events(name)
        assert after.last_exit is not None
        assert after.last_exit.signal == "SIGKILL"
    assert [event for event, _ in real.events(name)].count("exit") == exits_before + 10
    assert "killed by SIGKILL" in real.run("why", name).stdout
    if name == "chroma":
        assert acknowledged <= Chroma(real).contents()
    elif name == "mlx":
        assert complete(real)
    else:
        assert deliver(real)


def test_survivors_are_adopted_and_taken_over_and_watched_as_before(real: Project) -> None:
    before = {name: daemon.pid for name, daemon in wait_ready(real).items()}
    Chroma(real).put("between")
    real.kill_supervisor()
    assert all(is_alive(pid) for pid in before.values() if pid)
    real.serve()
    adopted = wait_ready(real)
    assert {name: daemon.pid for name, daemon in adopted.items()} == before
    assert all(daemon.adopted for daemon in adopted.values())
    real.serve("--takeover")
    assert {name: daemon.pid for name, daemon in wait_ready(real).items()} == before
    for name in NAMES:
        pid = before[name]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        real.back(name, pid)
    assert "between" in Chroma(real).contents()
    assert complete(real)
    assert deliver(real)


def test_a_change_of_one_leaves_the_others_alone(real: Project) -> None:
    before = {name: daemon.pid for name, daemon in wait_ready(real).items()}
    changed = configuration()
    changed["chroma"]["env"] = {"CHANGED": "1"}
    real.configure(**changed)
    planned = real.run("reload", "--dry-run").stdout
    assert [line.split(":")[0].split() for line in planned.splitlines()] == [
        ["replace", "chroma"],
        ["keep", "bridge"],
        ["keep", "mlx"],
    ]
    assert {name: daemon.pid for name, daemon in wait_ready(real).items()} == before
    assert real.run("reload").stdout == planned
    real.back("chroma", before["chroma"])
    after = {name: daemon.pid for name, daemon in wait_ready(real).items()}
    assert [name for name in NAMES if after[name] != before[name]] == ["chroma"]


def test_a_bridge_with_a_garbled_pid_file_of_its_own_starts(real: Project) -> None:
    """Left alone it would end with 1 for ever, and take the process that has its old pid for its predecessor."""
    directory = Path(real.daemon("bridge").env["NEO_AI_DAEMON_DIR"])
    pid = real.daemon("bridge").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    (directory / "wake-daemon.pid").write_text("not a pid")
    os.kill(pid, signal.SIGKILL)
    real.back("bridge", pid)
    assert real.daemon("bridge").last_exit is not None


def test_a_stop_leaves_nothing_and_keeps_the_data_and_the_next_start_provisions_nothing(real: Project) -> None:
    Chroma(real).put("kept over a stop")
    before = wait_ready(real)
    real.stop()
    for daemon in before.values():
        assert daemon.pid is not None
        assert not is_alive(daemon.pid)
        for port in daemon.ports.values():
            socket.create_server(("127.0.0.1", port)).close()
    assert real.left() == []
    assert not [path for path in real.root.rglob("*") if path.is_socket()]
    real.serve()
    wait_ready(real)
    assert "kept over a stop" in Chroma(real).contents()
    assert "making" not in real.output()
    assert "installing" not in real.output()


def test_a_stranger_on_chromas_fixed_port_and_two_chromas_on_one_directory(real: Project, project: Project) -> None:
    chroma = wait_ready(real)["chroma"]
    project.configure(chroma={"port": chroma.ports["main"]})
    project.serve()
    parked = project.reaches("chroma", "parked")
    assert parked.detail is not None
    assert f"port {chroma.ports['main']} is held by pid {chroma.pid}" in parked.detail
    project.configure(chroma={"data_dir": chroma.data_dir})
    assert project.run("reload").returncode == 0
    until(lambda: "data directory" in str(project.daemon("chroma").detail), "the refusal")
    assert str(real.state.path) in str(project.daemon("chroma").detail)
    assert real.daemon("chroma").pid == chroma.pid
    assert real.daemon("chroma").ready
