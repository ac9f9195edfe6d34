"""One test for each race or fault that was found by attack; each failed before its fix."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from neo_daemons.control.address import socket_path
from neo_daemons.control.client import ControlError
from neo_daemons.definitions import Definition, ExecProbe, FileProbe, Launch, Log, LogProbe, Provision, Step, Stop
from neo_daemons.files import write_struct
from neo_daemons.records import DaemonRecord, DamagedRecord, Directory, Intentions, read
from neo_daemons.state_dir import StateDir
from neo_daemons.status import Cause
from neo_daemons.supervision import watching
from neo_daemons.supervision.logs import DaemonLog
from neo_daemons.supervision.machine import Event, State
from neo_daemons.supervision.platform import MARK_VARIABLE, Mark, current_platform
from neo_daemons.supervision.probes import Prober, Target
from neo_daemons.supervision.provision import Runner
from neo_daemons.supervision.supervisor import Supervisor

from .harness import PATIENCE_S, PROGRAMS, TOY, Child, Project, toy, until

SLOW = {"grace_s": 3000.0}
"""A process that runs until the test stops it."""


def stopping_during_a_reload(project: Project) -> tuple[subprocess.Popen[str], int, int]:
    """A supervisor that has been asked to stop while a reload waits for the daemon a, and the pids of a and b."""
    project.configure(a=toy("ignore-term", stop=SLOW), b=toy("ignore-term", stop=SLOW))
    supervisor = project.serve()
    a, b = (project.reaches(name, "ready").pid or 0 for name in ("a", "b"))
    project.configure(a=toy("ignore-term", stop=SLOW, env={"X": "1"}), b=toy("ignore-term", stop=SLOW))
    supervisor.send_signal(signal.SIGHUP)
    project.reaches("a", "stopping")
    supervisor.send_signal(signal.SIGTERM)

    def stops() -> bool:
        try:
            return not project.client.order("b", "start")
        except ControlError as error:
            return "the supervisor is stopping" in str(error)

    until(stops, "the shutdown to begin")
    return supervisor, a, b


@pytest.mark.long
def test_a_reload_that_meets_a_shutdown_starts_nothing(project: Project) -> None:
    supervisor, *pids = stopping_during_a_reload(project)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert supervisor.wait(PATIENCE_S) == 0
    assert project.left() == []
    assert list(project.state.daemons.glob("*.json")) == []


def test_a_daemon_that_dies_while_a_shutdown_waits_for_a_reload_is_not_restarted(project: Project) -> None:
    supervisor, a, b = stopping_during_a_reload(project)
    os.kill(b, signal.SIGKILL)
    project.reaches("b", "parked")
    os.kill(a, signal.SIGKILL)
    assert supervisor.wait(PATIENCE_S) == 0
    assert project.left() == []


@pytest.mark.long
def test_a_start_ordered_while_a_reload_stops_the_daemon_does_not_hang_it(project: Project) -> None:
    project.configure(a=toy("ignore-term", stop=SLOW))
    project.serve()
    first = project.reaches("a", "ready")
    project.configure(a=toy(env={"X": "1"}))
    with Child(
        [sys.executable, "-m", "neo_daemons", "reload"], cwd=project.root, env=project.env, stdout=subprocess.DEVNULL
    ) as reload:
        project.reaches("a", "stopping")
        project.client.order("a", "start")
        os.kill(first.pid or 0, signal.SIGKILL)
        assert reload.wait(PATIENCE_S) == 0
    assert project.back("a", first.pid).ready
    assert project.run("reload").stdout.startswith("keep     a")


@pytest.mark.long
def test_orders_given_while_orphans_are_stopped_are_obeyed_and_the_rest_starts(project: Project) -> None:
    project.configure(old=toy("ignore-term", stop=SLOW))
    project.serve()
    old = project.reaches("old", "ready").pid
    project.kill_supervisor()
    project.configure(a=toy(), b=toy(), c=toy())
    project.serve()
    project.client.order("a", "hold")
    project.client.order("b", "stop")
    os.kill(old or 0, signal.SIGKILL)
    project.reaches("c", "ready")
    assert project.daemon("a").state == "held"
    assert project.daemon("b").state == "stopped"


def test_an_unkillable_orphan_keeps_no_daemon_down(project: Project) -> None:
    project.state.create()
    project.state.daemon_lock("old").mkdir()
    project.state.daemon_record("old").write_text("{}")
    project.configure(api=toy())
    project.serve()
    project.reaches("api", "ready")
    assert "orphan-not-ended" in [event for event, _ in project.events()]


@pytest.mark.parametrize(
    "text",
    ["t:api:/state", f"{'0' * 32}:../../escape:/state", f"{'0' * 32}:api:relative", f"{'0' * 32}:a/b:/s", "", ":::"],
)
def test_a_forged_mark_is_not_parsed(text: str) -> None:
    assert Mark.parse(text) is None
    assert Mark.parse(f"{'0' * 32}:api:1f.2a:/state:with:colons") == Mark(
        "0" * 32, "api", Directory("/state:with:colons", 0x1F, 0x2A)
    )


def test_a_process_with_a_forged_mark_and_its_files_are_left_alone(project: Project) -> None:
    project.state.create()
    victim = project.root / "escape.json"
    victim.write_text("mine")
    env = {**os.environ, MARK_VARIABLE: f"{'0' * 32}:../../escape:{project.state.path}"}
    with Child(["sleep", "600"], env=env) as stranger:
        project.configure(api=toy())
        project.serve()
        project.reaches("api", "ready")
        assert stranger.poll() is None
        assert victim.read_text() == "mine"
        stranger.kill()


def test_a_chain_that_forks_faster_than_we_check_is_stopped_with_its_daemon(project: Project) -> None:
    project.configure(
        chain={
            "command": [sys.executable, "-IS", str(PROGRAMS / "chain.py")],
            "ready": {"type": "log", "pattern": "ready"},
            "stop": {"grace_s": 0.5},
        }
    )
    project.serve()
    project.reaches("chain", "ready")
    assert project.run("stop", "chain").returncode == 0
    lock = current_platform().lock(project.state.daemon_lock("chain"))
    assert lock is not None, "something of it still lives"
    lock.release()


@pytest.mark.long
def test_an_unread_stdout_does_not_block_the_supervisor(project: Project) -> None:
    fast = {"base_s": 0.001, "ceiling_s": 0.001, "jitter": 0.0, "limit": 100_000}
    project.configure(noisy=toy("exit=1", "write=" + "x" * 150, restart=fast), api=toy())
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    command = [sys.executable, "-m", "neo_daemons", "serve"]
    with (
        open(reading, "rb"),
        open(writing, "wb") as output,
        Child(command, cwd=project.root, env=project.env, stdout=output) as supervisor,
    ):
        output.close()

        def written() -> bool:
            with contextlib.suppress(ControlError):  # it may not listen yet
                return project.daemon("noisy").restarts > 40
            return False

        # 4 KB fill the pipe; each line is of 200 bytes or more.
        until(written, "40 lines")
        first = project.reaches("api", "ready")
        os.kill(first.pid or 0, signal.SIGKILL)
        project.back("api", first.pid)
        supervisor.terminate()
        assert supervisor.wait(PATIENCE_S) == 0


def test_only_one_process_creates_a_provision_even_after_a_kill(tmp_path: Path) -> None:
    """The step of a killed supervisor continues, and no other begins before it has exited."""
    target, log, gate = tmp_path / "thing", tmp_path / "log", tmp_path / "gate"
    script = f"echo start >> {log}; while [ ! -e {gate} ]; do sleep 0.02; done; echo end >> {log}"
    provision = Provision(target=str(target), steps=(Step(title="making", command=("sh", "-c", script)),))
    platform = current_platform()

    def runner(progress: list[str]) -> Runner:
        return Runner(platform, dict(os.environ), lambda: os.open(os.devnull, os.O_WRONLY), log, progress.append)

    async def work() -> None:
        killed = f"""
import asyncio, os
from pathlib import Path
from neo_daemons.definitions import Provision, Step
from neo_daemons.supervision.platform import current_platform
from neo_daemons.supervision.provision import Runner
provision = Provision(target={str(target)!r}, steps=(Step(title="making", command=("sh", "-c", {script!r})),))
output = lambda: os.open(os.devnull, os.O_WRONLY)
asyncio.run(Runner(current_platform(), dict(os.environ), output, Path("log"), print).provide(provision))
"""
        first = await asyncio.create_subprocess_exec(sys.executable, "-c", killed)
        await asyncio.to_thread(until, log.exists, "the first maker")
        first.kill()
        await first.wait()
        said: list[str] = []
        second = asyncio.ensure_future(runner(said).provide(provision))
        await asyncio.to_thread(until, lambda: said, "the second maker to wait")
        assert said[0] == "waiting for another process that is creating thing"
        assert log.read_text() == "start\n"
        gate.touch()
        await second

    asyncio.run(work())
    assert log.read_text() == "start\nend\nstart\nend\n"
    assert target.is_dir()


def test_clients_that_hang_up_on_a_wait_leave_nothing_waiting(project: Project) -> None:
    project.configure(web=toy(requires=["store"]), store=toy(ready={"type": "exec", "command": ["false"]}))
    project.serve()
    address = str(socket_path(project.state.path))
    body = b'{"wait_s": 86400}'
    request = b"POST /v1/daemons/web/restart HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    for _ in range(6):
        with contextlib.ExitStack() as connections:
            for _ in range(100):
                connection = connections.enter_context(socket.socket(socket.AF_UNIX))
                connection.connect(address)
                connection.sendall(request)

    def answers() -> bool:
        with contextlib.suppress(ControlError):  # it may have to notice the last of them first
            return project.daemon("web").state == "starting"
        return False

    until(answers, "an answer")


def test_a_record_with_an_impossible_port_is_damaged(tmp_path: Path) -> None:
    record = DaemonRecord(
        name="api",
        token="0" * 32,
        fingerprint="f",
        command=("x",),
        ports={"main": 99999},
        url=None,
        data_dir=None,
        log_path="",
        spawned_at=0,
        log_offset=0,
    )
    write_struct(tmp_path / "api.json", record)
    with pytest.raises(DamagedRecord, match="65535"):
        read(tmp_path / "api.json", DaemonRecord)


def test_a_pipe_in_place_of_a_record_or_a_probed_file_blocks_nothing(project: Project) -> None:
    project.state.create()
    os.mkfifo(project.state.daemon_record("api"))
    os.mkfifo(project.root / "position")
    database = project.root / "log.sqlite"
    sqlite3.connect(database).close()
    pipe = str(project.root / "position")
    probes = [
        {"type": "file", "path": pipe, "database": str(database), "query": "SELECT 1"},
        {"type": "file", "path": str(database), "database": pipe, "query": "SELECT 1"},
    ]
    project.configure(api=toy(), odd=toy(ready=probes[0]), odder=toy(ready=probes[1]))
    project.serve()
    project.reaches("api", "ready")
    for name in ("odd", "odder"):
        until(lambda name=name: "not a regular file" in str(project.daemon(name).detail), "its answer")  # type: ignore[misc]
        assert project.daemon(name).state == "running"


def test_an_endless_query_ends_with_its_probe_and_blocks_nothing(tmp_path: Path) -> None:
    database = tmp_path / "log.sqlite"
    sqlite3.connect(database).close()
    probe = FileProbe(
        path=str(tmp_path / "position"),
        database=str(database),
        query="WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n FROM t) SELECT count(*) FROM t",
        timeout_s=0.5,
    )

    async def work() -> None:
        log = DaemonLog(tmp_path / "api.log", Log())
        target = Target("127.0.0.1", {}, {}, "/", log, 0, {})
        check = asyncio.create_task(Prober(current_platform()).check(probe, target))
        await asyncio.sleep(0.01)  # somebody else's turn
        assert not check.done()
        result = await check
        assert not result.ok
        assert "no answer in 0.5 s" in result.detail or "interrupted" in result.detail

    asyncio.run(work())  # which waits for the thread


def one(root: Path, **changes: object) -> tuple[Supervisor, Definition]:
    definition = Definition(
        name="api",
        command=(*TOY, "quiet"),
        cwd=str(root),
        ready=(LogProbe(pattern="quiet and ready"),),
        **changes,  # type: ignore[arg-type]
    )
    supervisor = Supervisor(
        [definition], state_dir=StateDir(root / "state"), resolve=lambda definition: Launch(command=definition.command)
    )
    return supervisor, definition


def test_nothing_is_started_after_a_supervisor_has_detached(tmp_path: Path) -> None:
    async def work() -> None:
        supervisor, _ = one(tmp_path)
        await supervisor.start()
        api = supervisor.daemon("api")
        await api.wait_for(lambda daemon: daemon.ready)
        api.condemn(Cause.PROBE, "a test")  # its end is under way, and a restart would follow at once
        await supervisor.stop(detach=True)
        supervisor.release()
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert api.run is None
        assert not supervisor.state_dir.daemon_record("api").exists()

    asyncio.run(work())


def test_nobody_waits_for_the_measurement_of_a_daemon_whose_exit_has_not_had_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        supervisor, _ = one(tmp_path)
        await supervisor.start()
        api = supervisor.daemon("api")
        await api.wait_for(lambda daemon: daemon.ready)
        run, turns = api.run, supervisor.context.turns
        assert run is not None
        assert math.isinf(run.meter.age_s()), "it was never measured, so who asks waits for that"
        call, noticed = turns.call, asyncio.Event()
        held: list[Callable[[], None]] = []

        def hold(work: Callable[[], None]) -> None:
            held.append(work)
            noticed.set()

        monkeypatch.setattr(turns, "call", hold)
        os.kill(run.process.pid, signal.SIGKILL)
        await asyncio.wait_for(noticed.wait(), PATIENCE_S)
        assert not run.has_exited
        assert not math.isinf(run.meter.age_s())
        monkeypatch.undo()
        for work in held:
            call(work)
        await supervisor.stop()
        supervisor.release()

    asyncio.run(work())


def test_daemons_are_starting_while_orphans_are_stopped(tmp_path: Path) -> None:
    """Their state was `stopped`: `up` succeeded with nothing started, and `serve --require` gave up."""

    async def work() -> None:
        first, definition = one(tmp_path, stop=Stop(grace_s=600.0))
        first._definitions = (msgspec.structs.replace(definition, command=(*TOY, "ignore-term", "quiet")),)
        await first.start()
        await first.daemon("api").wait_for(lambda daemon: daemon.ready)
        await first.stop(detach=True)
        first.release()
        second, definition = one(tmp_path)
        old = msgspec.structs.replace(definition, enabled=False, stop=Stop(grace_s=600.0))
        second._definitions = (old, msgspec.structs.replace(definition, name="web"))
        await second.start()
        web = second.daemon("web")
        assert web.state is State.STARTING
        await web.wait_for(lambda daemon: daemon.situation.detail is not None)
        assert web.situation.detail == "waiting until api, no longer configured, has stopped"
        assert second.state_dir.daemon_record("api").exists()
        second.hurry()
        await web.wait_for(lambda daemon: daemon.ready)
        assert not second.state_dir.daemon_record("api").exists()
        await second.stop()
        second.release()

    asyncio.run(work())


def test_an_adopted_daemon_that_is_still_booting_keeps_the_rest_of_its_grace_period(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A takeover killed a daemon that was still loading its model."""
    monkeypatch.setattr(watching, "ADOPTED_GRACE_S", 0.0)
    loaded = tmp_path / "loaded"
    ready = (ExecProbe(command=("test", "-e", str(loaded))),)

    async def work() -> None:
        first, definition = one(tmp_path)
        first._definitions = second_definitions = (msgspec.structs.replace(definition, ready=ready),)
        await first.start()
        await first.daemon("api").wait_for(lambda daemon: bool(daemon.watcher.results))
        main = first.daemon("api").run
        await first.stop(detach=True)
        first.release()
        second, _ = one(tmp_path)
        second._definitions = second_definitions
        await second.start()
        api = second.daemon("api")
        await api.wait_for(lambda daemon: bool(daemon.watcher.results))
        loaded.touch()
        await api.wait_for(lambda daemon: daemon.ready)
        assert main is not None
        assert api.run is not None
        assert (api.run.process.pid, api.run.adopted) == (main.process.pid, True)
        await second.stop()
        second.release()

    asyncio.run(work())


def test_watching_resumes_after_an_internal_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        supervisor, _ = one(tmp_path)
        await supervisor.start()
        api = supervisor.daemon("api")
        await api.wait_for(lambda daemon: daemon.ready)
        assert api.run is not None
        first = api.run.process.pid

        def broken() -> list[int]:
            raise OSError(24, "Too many open files", "/proc")

        with monkeypatch.context() as patch:
            patch.setattr(supervisor.platform, "pids", broken)
            os.kill(first, signal.SIGKILL)
            async for entry in supervisor.journal.follow(50):
                if entry.event == "internal-error":
                    break
            assert not api.ready
        assert await api.wait_for(
            lambda daemon: daemon.ready and daemon.run is not None and daemon.run.process.pid != first, 30
        )
        await supervisor.stop()
        supervisor.release()
        assert api.state is State.STOPPED

    asyncio.run(work())


PTRACE_SEIZE = 0x4206


def test_a_tracer_that_holds_a_dead_daemon_delays_no_other_daemon(project: Project) -> None:
    project.configure(traced=toy("quiet"), other=toy())
    project.serve()
    pid = project.reaches("traced", "ready").pid
    other = project.reaches("other", "ready")
    assert pid is not None
    assert other.pid is not None
    script = (
        "import ctypes, os, sys, time\n"
        f"assert ctypes.CDLL(None, use_errno=True).ptrace({PTRACE_SEIZE}, int(sys.argv[1]), None, None) == 0\n"
        "print('tracing', flush=True); time.sleep(600)"
    )
    with Child([sys.executable, "-c", script, str(pid)], stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == "tracing\n", "this system lets nobody trace"
        os.kill(pid, signal.SIGKILL)
        os.kill(other.pid, signal.SIGKILL)
        project.back("other", other.pid)
        tracer.kill()
    project.back("traced", pid)


def test_a_daemon_that_forked_without_a_supervisor_is_adopted(project: Project) -> None:
    """The record names the launcher, which has exited; the daemon that it left serves the port."""
    project.configure(api=toy("fork"))
    project.serve()
    pid = project.reaches("api", "ready").pid
    project.kill_supervisor()
    with Child(["true"]) as launcher:
        pass
    path = project.state.daemon_record("api")
    record = read(path, DaemonRecord)
    assert record is not None
    write_struct(path, msgspec.structs.replace(record, pid=launcher.pid))
    project.serve()
    after = project.reaches("api", "ready")
    assert (after.pid, after.adopted) == (pid, True), project.events("api")
    again = read(path, DaemonRecord)
    assert again is not None
    assert again.pid == pid


def test_a_hold_that_could_not_be_written_is_written_as_soon_as_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True

    def write(*args: Any, **options: Any) -> None:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_struct(*args, **options)

    async def live() -> None:
        nonlocal full
        supervisor = Supervisor(
            [Definition(name="api", command=("true",), enabled=False)],
            state_dir=StateDir(tmp_path / "state"),
            resolve=lambda definition: Launch(command=definition.command),
        )
        await supervisor.start()
        try:
            monkeypatch.setattr("neo_daemons.supervision.intentions.write_struct", write)
            supervisor.order("api", Event.HOLD)
            assert "holds will be lost at exit" in str(supervisor.status().supervisor.warning)
            full = False
            for _ in range(1000):
                if supervisor.state_dir.intentions.exists():
                    break
                await asyncio.sleep(0.01)
            assert supervisor.status().supervisor.warning is None
            found = read(supervisor.state_dir.intentions, Intentions)
            assert found is not None
            assert found.held == ("api",)
        finally:
            await supervisor.stop()
            supervisor.release()

    asyncio.run(live())
