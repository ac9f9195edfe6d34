"""Daemons on demand: started when somebody needs them, stopped when nobody has for a while."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from neo_daemons.control.client import Client
from neo_daemons.definitions import Definition, Launch, LogProbe, Stop
from neo_daemons.state_dir import StateDir
from neo_daemons.status import Holder
from neo_daemons.supervision.machine import Event, Refused, State
from neo_daemons.supervision.supervisor import Supervisor

from .harness import FAST, PATIENCE_S, TOY, Project, is_alive, kill, toy, until

pytestmark = pytest.mark.long

SOON_S = 0.2
"""A short idle time."""
ON_DEMAND = {"start": "on-demand", "idle_stop_s": SOON_S}
HOLD = """
import sys
from pathlib import Path
from neo_daemons.control.client import Client
with Client(Path(sys.argv[1])).lease("holder", needs=sys.argv[2:]) as lease:
    print("held", flush=True)
    lease.wait_until_lost()
"""


def test_a_need_starts_a_daemon_and_what_it_stands_on_and_idleness_stops_both(project: Project) -> None:
    project.configure(web=toy(requires=["store"], **ON_DEMAND), store=toy(**ON_DEMAND), other=toy(**ON_DEMAND))
    project.serve()
    until(lambda: project.daemon("web").state == "idle", "idle")
    client = Client(project.state.path)
    with client.lease("the test", needs=["web"]):
        needed = client.need("web", wait_s=PATIENCE_S)
        assert (needed.daemon.ready, needed.failure) == (True, None)
        web, store = project.daemon("web"), project.daemon("store")
        assert store.ready
        assert [(holder.name, holder.pid) for holder in web.holders] == [("the test", os.getpid())]
        assert [(holder.name, holder.pid) for holder in store.holders] == [("daemon web", web.pid)]
        assert (web.idle_stop_at, store.idle_stop_at) == (None, None)
        table = project.run("status").stdout
        assert f"needed by the test (pid {os.getpid()})" in table
        assert f"needed by daemon web (pid {web.pid})" in table
        assert f"needed by: the test (pid {os.getpid()}), since 20" in project.run("why", "web").stdout
    project.reaches("web", "idle")
    project.reaches("store", "idle")
    assert "starts when it is needed" in project.run("why", "web").stdout
    assert project.daemon("other").state == "idle"
    assert project.daemon("web").detail == f"nobody needed it for {SOON_S:g} s"
    assert not any(is_alive(daemon.pid) for daemon in (web, store) if daemon.pid is not None)
    ends = [e for e in client.events(1000) if e.event == "stopping"]
    assert [(entry.daemon, entry.cause) for entry in ends] == [("web", "idle"), ("store", "idle")]


def test_the_last_of_many_holders_decides_however_they_end(project: Project) -> None:
    project.configure(api=toy(**ON_DEMAND))
    project.serve()
    until(lambda: project.daemon("api").state == "idle", "idle")
    with contextlib.ExitStack() as stack:
        holders = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", HOLD, str(project.state.path), "api"], stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(4)
        ]
        for holder in holders:
            stack.callback(holder.kill)
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
        pid = project.reaches("api", "ready").pid
        assert {holder.pid for holder in project.daemon("api").holders} == {holder.pid for holder in holders}
        for holder in holders[:3]:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
        until(lambda: len(project.daemon("api").holders) == 1, "one holder is left")
        assert project.daemon("api").idle_stop_at is None
        holders[3].kill()
    project.reaches("api", "idle")
    assert pid is not None
    assert not is_alive(pid)


def test_two_hundred_leases_start_one_process(project: Project) -> None:
    project.configure(api=toy(**ON_DEMAND))
    project.serve()
    until(lambda: project.daemon("api").state == "idle", "idle")
    client = Client(project.state.path)
    with contextlib.ExitStack() as stack:
        for number in range(200):
            stack.enter_context(client.lease(f"holder {number}", needs=["api"]))
        assert client.need("api", wait_s=PATIENCE_S).daemon.ready
        assert len(project.daemon("api").holders) == 200
    project.reaches("api", "idle")
    assert len([entry for entry in client.events(1000) if entry.event == "starting"]) == 1


def test_a_daemon_that_dies_under_a_lease_is_restarted(project: Project) -> None:
    project.configure(api=toy(restart=FAST, **ON_DEMAND))
    project.serve()
    client = Client(project.state.path, patience_s=PATIENCE_S)
    with client.lease("the test", needs=["api"]):
        first = project.reaches("api", "ready")
        kill(first.pid)
        until(lambda: project.daemon("api").ready and project.daemon("api").pid != first.pid, "restarted")


def test_a_daemon_that_is_always_on_starts_what_it_requires_and_keeps_it(project: Project) -> None:
    project.configure(web=toy(requires=["store"]), store=toy(**ON_DEMAND))
    project.serve()
    project.reaches("web", "ready")
    store = project.daemon("store")
    assert (store.ready, store.idle_stop_at) == (True, None)
    assert project.run("stop", "web").returncode == 0
    project.reaches("store", "idle")
    assert project.run("start", "web").returncode == 0
    assert project.daemon("store").ready


def test_a_failed_need_says_why_and_a_hold_is_respected(project: Project) -> None:
    project.configure(broken=toy("exit=3", restart=FAST, **ON_DEMAND), api=toy(**ON_DEMAND))
    project.serve()
    client = Client(project.state.path, patience_s=PATIENCE_S)
    needed = client.need("broken", wait_s=PATIENCE_S)
    assert "exit" in (needed.failure or "")
    project.reaches("broken", "idle")
    assert project.run("hold", "api").returncode == 0
    project.reaches("api", "held")
    held = client.need("api", wait_s=PATIENCE_S)
    assert held.failure is not None
    assert held.daemon.state == "held"


def test_a_survivor_on_demand_is_adopted_and_stopped_when_idle(project: Project) -> None:
    project.configure(api=toy(start="on-demand", idle_stop_s=1.0))
    first = project.serve()
    client = Client(project.state.path, patience_s=PATIENCE_S)
    with client.lease("the test", needs=["api"]):
        pid = client.need("api", wait_s=PATIENCE_S).daemon.pid
        kill(first.pid)
    project.serve()
    project.reaches("api", "idle")
    assert [entry.pid for entry in client.events(100, "api") if entry.cause == "adopted"] == [pid]
    assert pid is not None
    assert not is_alive(pid)


def test_one_that_died_with_its_supervisor_is_started_again_until_it_is_idle(project: Project) -> None:
    project.configure(api=toy(start="on-demand", idle_stop_s=0.5), other=toy(**ON_DEMAND))
    first = project.serve()
    with project.client.lease("the test", needs=["api"]):
        pid = project.client.need("api", wait_s=PATIENCE_S).daemon.pid
        kill(first.pid)
        kill(pid)
    project.serve()
    project.reaches("api", "idle")
    # Whether it comes to be ready before it is idle depends on how busy the machine is.
    assert [event for event, _ in project.events("api")].count("starting") == 2
    assert "starting" not in [event for event, _ in project.events("other")]


def test_a_reload_changes_whether_a_daemon_is_on_demand(project: Project) -> None:
    project.configure(api=toy(**ON_DEMAND))
    project.serve()
    until(lambda: project.daemon("api").state == "idle", "idle")
    project.configure(api=toy())
    assert project.run("reload").returncode == 0
    project.reaches("api", "ready")
    project.configure(api=toy(**ON_DEMAND))
    assert project.run("reload").returncode == 0
    project.reaches("api", "idle")


def test_up_does_not_wait_for_idle_daemons_and_starts_required_ones(project: Project) -> None:
    project.configure(api=toy(start="on-demand"), other=toy(start="on-demand"))
    assert project.run("up", "--require", "api").returncode == 0
    assert (project.daemon("api").state, project.daemon("other").state) == ("ready", "idle")
    assert project.daemon("api").idle_stop_at is not None
    project.run("down")


def test_nothing_is_started_while_the_supervisor_stops(tmp_path: Path) -> None:
    async def attempt() -> State:
        definition = Definition(name="api", command=("sleep", "60"), start="on-demand")
        supervisor = Supervisor(
            [definition], state_dir=StateDir(tmp_path / "state"), resolve=lambda one: Launch(command=one.command)
        )
        await supervisor.start()
        try:
            supervisor.stopping = True
            with pytest.raises(Refused, match="stopping"):
                await supervisor.needs.need("api", 0.0)
            supervisor.demand.start(supervisor.daemon("api"))
            return supervisor.daemon("api").state
        finally:
            await supervisor.stop()
            supervisor.release()

    assert asyncio.run(attempt()) is State.STOPPED


@contextlib.asynccontextmanager
async def supervised(tmp_path: Path, *definitions: Definition) -> AsyncIterator[Supervisor]:
    """Supervise daemons in this process."""
    supervisor = Supervisor(
        definitions, state_dir=StateDir(tmp_path / "state"), resolve=lambda one: Launch(command=one.command)
    )
    await supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.hurry()
        await supervisor.stop()
        supervisor.release()


def stubborn(path: Path, name: str, **settings: Any) -> Definition:
    """A daemon that is stopped only after its grace period, because it ignores SIGTERM."""
    ready = (LogProbe(pattern="quiet and ready"),)
    return Definition(
        name=name,
        cwd=str(path),
        command=(*TOY, "quiet", "ignore-term"),
        ready=ready,
        stop=Stop(grace_s=0.5),
        **settings,
    )


HOLDER = Holder(name="the test", pid=None, since=0.0)


def test_a_start_during_its_stop_begins_a_new_idle_time(tmp_path: Path) -> None:
    """It once went on from when the stop had begun."""

    async def live() -> None:
        async with supervised(tmp_path, stubborn(tmp_path, "api", start="on-demand", idle_stop_s=300.0)) as supervisor:
            api, demand = supervisor.daemon("api"), supervisor.demand
            demand.start(api)
            assert await api.wait_for(lambda daemon: daemon.ready, PATIENCE_S)
            assert demand.stop_at("api") is not None
            supervisor.order("api", Event.STOP)
            assert api.state is State.STOPPING
            assert demand.stop_at("api") is None
            before = time.time()
            supervisor.order("api", Event.START)
            assert (demand.stop_at("api") or 0.0) >= before + 300.0

    asyncio.run(live())


def test_a_lease_that_is_taken_during_a_reload_starts_its_daemon(tmp_path: Path) -> None:
    definition = Definition(
        name="api", cwd=str(tmp_path), command=("sleep", "60"), start="on-demand", idle_stop_s=300.0
    )

    async def live() -> None:
        async with supervised(tmp_path, definition) as supervisor:
            reloading = asyncio.create_task(supervisor.reload([msgspec.structs.replace(definition, env={"X": "1"})]))
            while "api" not in supervisor.fleet.changing:
                assert not reloading.done()
                await asyncio.sleep(0)
            supervisor.demand.take(1, HOLDER, ["api"])
            await reloading
            assert await supervisor.daemon("api").wait_for(lambda daemon: daemon.ready, PATIENCE_S)

    asyncio.run(live())


def test_a_need_during_a_reload_is_not_lost_when_its_daemon_has_been_replaced_already(tmp_path: Path) -> None:
    quick = Definition(name="quick", cwd=str(tmp_path), command=("sleep", "60"), start="on-demand", idle_stop_s=300.0)
    slow = stubborn(tmp_path, "slow")

    async def live() -> None:
        async with supervised(tmp_path, quick, slow) as supervisor:
            assert await supervisor.daemon("slow").wait_for(lambda daemon: daemon.ready, PATIENCE_S)
            before = supervisor.daemon("quick")
            new = [msgspec.structs.replace(one, env={"X": "1"}) for one in (quick, slow)]
            reloading = asyncio.create_task(supervisor.reload(new))
            while supervisor.daemon("quick") is before:  # noqa: ASYNC110
                await asyncio.sleep(0)
            assert supervisor.daemon("slow").state is State.STOPPING
            supervisor.demand.take(1, HOLDER, ["quick"])
            await reloading
            assert await supervisor.daemon("quick").wait_for(lambda daemon: daemon.ready, PATIENCE_S)

    asyncio.run(live())


def test_what_is_being_stopped_for_being_idle_is_started_when_a_reload_makes_it_always_on(tmp_path: Path) -> None:
    definition = stubborn(tmp_path, "api", start="on-demand", idle_stop_s=0.0)

    async def live() -> None:
        async with supervised(tmp_path, definition) as supervisor:
            api = supervisor.daemon("api")
            supervisor.demand.take(1, HOLDER, ["api"])
            assert await api.wait_for(lambda daemon: daemon.ready, PATIENCE_S)
            supervisor.demand.give_up(1)
            assert await api.wait_for(lambda daemon: daemon.state is State.STOPPING, PATIENCE_S)
            await supervisor.reload([msgspec.structs.replace(definition, start="always", idle_stop_s=None)])
            assert await supervisor.daemon("api").wait_for(lambda daemon: daemon.ready, PATIENCE_S)

    asyncio.run(live())


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"idle_stop_s": 3}, "only daemons on demand stop when idle"),
        ({"start": "sometimes"}, "start"),
        ({"start": "on-demand", "idle_stop_s": -1}, "idle_stop_s"),
    ],
)
def test_a_wrong_table_is_refused(project: Project, table: dict[str, object], said: str) -> None:
    project.configure(api=toy(**table))
    checked = project.run("serve")
    assert checked.returncode != 0
    assert said in checked.stderr


def test_one_that_is_never_idle_for_too_long(project: Project) -> None:
    (project.root / "neo-daemons.toml").write_text(
        '[daemons.api]\ncommand = ["sleep", "600"]\nstart = "on-demand"\nidle_stop_s = inf\n'
    )
    project.serve()
    project.client.order("api", "start", wait_s=PATIENCE_S)
    daemon = project.daemon("api")
    assert (daemon.ready, daemon.idle_stop_at) == (True, None)
