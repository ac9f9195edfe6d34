"""The platform contract, for pidfds and for psutil, and a supervisor on each."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

from neo_daemons.definitions import Account, Definition, Launch, LogProbe
from neo_daemons.records import Directory, Identity
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.machine import Event, State
from neo_daemons.supervision.platform import (
    MARK_VARIABLE,
    ExitStatus,
    Mark,
    NotOurs,
    Platform,
    Process,
    SpawnSpec,
    pidfd,
    programs,
    spawning,
)
from neo_daemons.supervision.platform.darwin import DarwinPlatform
from neo_daemons.supervision.platform.kqueue import KqueuePlatform
from neo_daemons.supervision.platform.linux import LinuxPlatform
from neo_daemons.supervision.platform.posix import PosixPlatform
from neo_daemons.supervision.supervisor import Supervisor

from . import kqueue_shim
from .harness import PATIENCE_S, TOY, Child, free_port, is_alive, until
from .macos import libsystem


def without_pidfds() -> Platform:
    return LinuxPlatform(pidfds=False)


MADE = {
    "linux": LinuxPlatform,
    "without-pidfds": without_pidfds,
    "darwin": DarwinPlatform,
    "kqueue": KqueuePlatform,
    "posix": PosixPlatform,
}


@pytest.fixture(params=MADE)
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Platform:
    if request.param in ("darwin", "kqueue"):
        kqueue_shim.install(lambda name, value: monkeypatch.setattr(select, name, value, raising=False))
    if request.param == "darwin":
        libsystem.stand_in(monkeypatch)
    made: Platform = MADE[request.param]()
    return made


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(bounded())


def spawn(platform: Platform, *command: str, **env: str) -> Process:
    with open(os.devnull, "wb") as output:
        return platform.spawn(SpawnSpec(command, {**os.environ, **env}, "/", output.fileno()))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM])
def test_a_process_does_not_inherit_that_we_ignore_a_signal(platform: Platform, signum: signal.Signals) -> None:
    """Under ``nohup``, or in the background of a script, its stop signal still works."""

    async def work() -> None:
        process = spawn(platform, "sleep", "600")
        process.signal(signum)
        assert await end_of(process) == ExitStatus(signal=signum.name)
        process.close()
        assert signal.getsignal(signum) is signal.SIG_IGN, "we go on ignoring it"

    before = signal.signal(signum, signal.SIG_IGN)
    try:
        run(work())
    finally:
        signal.signal(signum, before)


async def end_of(process: Process) -> ExitStatus:
    ended: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
    process.watch(ended.set_result)
    return await ended


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise SystemExit(0)", ExitStatus(code=0)),
        ("raise SystemExit(7)", ExitStatus(code=7)),
        ("import os; os.kill(os.getpid(), 9)", ExitStatus(signal="SIGKILL")),
        ("import os; os.kill(os.getpid(), 40)", ExitStatus(signal="signal 40")),
    ],
)
def test_the_exit_status_of_a_child_is_reported(platform: Platform, code: str, status: ExitStatus) -> None:
    async def work() -> None:
        process = spawn(platform, sys.executable, "-IS", "-c", code)
        assert await end_of(process) == status
        assert not process.is_alive()
        assert not process.signal(signal.SIGTERM)
        process.close()

    run(work())


def test_many_exits_are_spread_over_turns_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a thousand daemons at once kept the supervisor from answering for 50 ms."""
    monkeypatch.setattr(pidfd, "EXITS_PER_TURN", 3)

    async def work() -> None:
        platform, exits, turn = LinuxPlatform(), [], 0
        processes = [spawn(platform, "true") for _ in range(8)]
        until(lambda: True if not any(process.is_alive() for process in processes) else None, "all to exit")
        for process in processes:
            process.watch(lambda status: exits.append((turn, status)))
        while len(exits) < len(processes):
            await asyncio.sleep(0)
            turn += 1
        assert {status for _, status in exits} == {ExitStatus(code=0)}
        assert sorted(Counter(turn for turn, _ in exits).values()) == [2, 3, 3]
        for process in processes:
            process.close()

    run(work())


def test_the_end_of_a_process_that_is_not_a_child_is_seen(platform: Platform) -> None:
    async def work(theirs: subprocess.Popen[bytes]) -> None:
        process = adopt(platform, theirs.pid)
        seen = asyncio.ensure_future(end_of(process))
        await asyncio.sleep(0)
        assert process.signal(signal.SIGTERM)
        await asyncio.to_thread(theirs.wait)
        assert await seen in (ExitStatus(signal="SIGTERM"), ExitStatus())
        process.close()

    with Child(["sleep", "600"]) as theirs:
        run(work(theirs))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise SystemExit(7)", ExitStatus(code=7)),
        ("import os; os.kill(os.getpid(), 9)", ExitStatus(signal="SIGKILL")),
        ("raise SystemExit(0)", ExitStatus(code=0)),
    ],
)
def test_an_exit_status_is_known_before_the_parent_has_reaped_the_process(code: str, status: ExitStatus) -> None:
    async def work(theirs: subprocess.Popen[bytes]) -> None:
        assert theirs.stdin is not None
        process = adopt(LinuxPlatform(), theirs.pid)
        seen = asyncio.ensure_future(end_of(process))
        await asyncio.sleep(0)
        theirs.stdin.close()
        assert await seen == status
        process.close()

    with Child([sys.executable, "-IS", "-c", f"import sys; sys.stdin.read(); {code}"], stdin=-1) as theirs:
        run(work(theirs))


def test_the_end_of_an_adopted_process_is_seen_without_a_free_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def stat(pid: int) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def work(theirs: subprocess.Popen[bytes]) -> None:
        process = adopt(LinuxPlatform(), theirs.pid)
        monkeypatch.setattr("neo_daemons.procfs.stat", stat)
        seen = asyncio.ensure_future(end_of(process))
        await asyncio.sleep(0)
        theirs.kill()
        assert await seen == ExitStatus()
        process.close()

    with Child(["sleep", "600"]) as theirs:
        run(work(theirs))


def adopt(platform: Platform, pid: int) -> Process:
    """Open a process by its identity, as from a record."""
    claimed = platform._claim(pid, lambda: True)  # type: ignore[attr-defined]
    assert claimed is not None
    process = platform.open(pid, claimed.identity)
    claimed.close()
    assert process is not None
    return process


def test_a_pid_with_another_identity_is_not_ours_and_a_dead_one_is_nobodys(platform: Platform) -> None:
    with Child(["sleep", "600"]) as theirs:
        own = platform.own_identity()
        with pytest.raises(NotOurs, match=f"pid {theirs.pid} is another process now"):
            platform.open(theirs.pid, own)
        theirs.kill()
    assert platform.open(theirs.pid, own) is None


def test_a_group_is_signalled_as_a_whole(platform: Platform) -> None:
    async def work() -> None:
        script = "sleep 600 & echo $! > {path}; wait"
        path = Path(f"/dev/shm/neo-daemons-group-{os.getpid()}")
        try:
            process = spawn(platform, "sh", "-c", script.format(path=path))
            ended = asyncio.ensure_future(end_of(process))

            def written() -> str | None:
                return path.read_text().strip() if path.exists() else None

            child = int(await asyncio.to_thread(until, written, "the child"))
            assert process.signal_group(signal.SIGTERM)
            assert (await ended).signal == "SIGTERM"
            await asyncio.to_thread(until, lambda: not is_alive(child), "the end of the child")
            process.close()
        finally:
            path.unlink(missing_ok=True)

    run(work())


def test_a_mark_leads_to_its_processes_and_to_no_others(platform: Platform) -> None:
    token = uuid.uuid4().hex  # this test runs for each platform at the same time
    mark = Mark(token, "api", Directory("/nowhere/at all:with colons", 1, 2))
    env = {**os.environ, MARK_VARIABLE: str(mark)}
    sleep = [
        sys.executable,
        "-IS",
        "-c",
        "import time; time.sleep(600)",
    ]  # macOS hides the environment of its own sleep
    with Child(sleep, env=env) as ours, Child(["sleep", "600"]) as other:
        try:
            found = platform.marked(lambda found: found.token == mark.token)
            assert [(process.pid, seen) for process, seen in found] == [(ours.pid, mark)]
            assert platform.mark_of(ours.pid) == mark
            assert platform.mark_of(other.pid) is None
            for process, _ in found:
                process.close()
        finally:
            ours.kill()
            other.kill()


def test_a_lock_is_held_by_whoever_inherited_it_after_we_let_go(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = platform.lock(path, "who holds it\n")
    assert lock is not None
    assert platform.lock(path) is None
    assert path.read_text() == "who holds it\n"
    with open(os.devnull, "wb") as output:
        spec = SpawnSpec(["sleep", "600"], dict(os.environ), "/", output.fileno(), [lock.fileno()])
        process = platform.spawn(spec)
    lock.release()
    assert platform.lock(path) is None
    holders = platform.lock_holders(path)
    assert [holder.pid for holder in holders or ()] == [process.pid]
    for holder in holders or ():
        holder.close()

    async def work() -> None:
        process.signal(signal.SIGKILL)
        await end_of(process)

    run(work())
    process.close()
    again = platform.lock(path)
    assert again is not None
    again.release()


def test_a_process_that_has_the_file_open_without_its_lock_is_no_lock_holder(tmp_path: Path) -> None:
    platform = LinuxPlatform()
    path = tmp_path / "lock"
    path.touch()
    with path.open() as held, Child(["sleep", "600"], pass_fds=[held.fileno()]) as reader:
        assert platform.lock_holders(path) == []
        reader.kill()


CHURN = """
import os, sys
os.dup2(int(sys.argv[1]), 200)
os.close(int(sys.argv[1]))
print("at it", flush=True)
while True:
    for descriptor in [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]:
        os.close(descriptor)
"""


def test_a_lock_holder_is_found_whatever_it_opens_and_closes_meanwhile(tmp_path: Path) -> None:
    """A descriptor closed during the search ended the search, and the lock holder was missed."""
    platform = LinuxPlatform()
    path = tmp_path / "lock"
    lock = platform.lock(path)
    assert lock is not None
    command = [sys.executable, "-IS", "-c", CHURN, str(lock.fileno())]
    with Child(command, pass_fds=[lock.fileno()], stdout=subprocess.PIPE, text=True) as holder:
        lock.release()
        assert holder.stdout is not None
        assert holder.stdout.readline() == "at it\n"
        for _ in range(20):
            found = platform.lock_holders(path) or []
            for process in found:
                process.close()
            assert [process.pid for process in found] == [holder.pid]
        holder.kill()


def test_a_lock_that_is_a_link_is_refused(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        platform.lock(tmp_path / "lock", "ours")
    assert (tmp_path / "precious").read_text() == "mine"


def test_ports_and_their_holders(platform: Platform) -> None:
    port = free_port()
    assert platform.port_is_free("127.0.0.1", port)
    assert platform.port_holder(port) is None
    with socket.create_server(("", port)):
        assert not platform.port_is_free("127.0.0.1", port)
        holder = platform.port_holder(port)
        assert holder is not None
        assert holder.pid == os.getpid()
    assert platform.port_is_free("127.0.0.1", platform.free_port("127.0.0.1"))


LISTEN = (
    "import socket, sys\n"
    "listener = socket.create_server((sys.argv[1], int(sys.argv[2])))\n"
    "print('listening', flush=True)\n"
    "listener.accept()"
)


def test_the_holder_of_a_port_is_found_by_address(platform: Platform) -> None:
    """A stranger on the same port of another address was mistaken for the process that answers."""
    port = free_port()
    command = (sys.executable, "-IS", "-c", LISTEN)

    def listening(host: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([*command, host, str(port)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        return process

    with contextlib.ExitStack() as ends:

        def begin(host: str) -> int:
            process = ends.enter_context(listening(host))
            ends.callback(process.kill)
            return process.pid

        def holder(host: str | None) -> int | None:
            found = platform.port_holder(port, host)
            return found.pid if found is not None else None

        exact = begin("127.0.0.2")
        assert [holder(host) for host in ("127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", None)] == [
            None,
            exact,
            exact,
            None,
            exact,
        ]
        other = begin("127.0.0.1")
        assert [holder(host) for host in ("127.0.0.1", "127.0.0.2", "localhost")] == [other, exact, other]


def test_a_process_is_seen_to_listen() -> None:
    platform, port = LinuxPlatform(), free_port()
    command = (sys.executable, "-IS", "-c", LISTEN, "127.0.0.2", str(port))
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener,
        subprocess.Popen(("sleep", "100")) as other,
    ):
        try:
            assert listener.stdout is not None
            assert listener.stdout.readline() == "listening\n"
            assert platform.listens(listener.pid, port, "127.0.0.2")
            assert not platform.listens(os.getpid(), port, "127.0.0.2"), "its child does"
            assert not platform.listens(other.pid, port, "127.0.0.2")
            assert not platform.listens(listener.pid, port, "127.0.0.1"), "another address"
            assert not platform.listens(listener.pid, port, "no.such.host.invalid")
        finally:
            listener.kill()
            other.kill()
    assert not platform.listens(listener.pid, port, "127.0.0.2"), "it is gone"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_listener_on_every_address_holds_the_port_of_each(platform: Platform, host: str) -> None:
    port = free_port()
    dual = host == "::"
    if dual and not socket.has_dualstack_ipv6():
        pytest.skip("no socket takes both kinds of address here")
    family = socket.AF_INET6 if dual else socket.AF_INET
    with socket.create_server((host, port), family=family, dualstack_ipv6=dual):
        for address in ("127.0.0.1", "127.0.0.2", "0.0.0.0", *(["::1"] if dual else [])):
            found = platform.port_holder(port, address)
            assert found is not None
            assert found.pid == os.getpid()


def test_the_age_of_a_process_follows_from_its_identity(platform: Platform) -> None:
    age_s = platform.age_s(platform.own_identity())
    assert age_s == pytest.approx(time.time() - psutil.Process().create_time(), abs=1.5)


def test_linux_tells_how_many_processes_it_killed_for_want_of_memory() -> None:
    def told() -> int:
        return int(dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())["oom_kill"])

    before, count, after = told(), LinuxPlatform().oom_kills(), told()
    assert count is not None
    assert before <= count <= after


def test_usage_counts_the_whole_tree(platform: Platform) -> None:
    with Child([*TOY, "quiet", "eat=50", "child"], stdout=subprocess.DEVNULL) as toy:
        try:

            def both() -> bool:
                usage = platform.usage([toy.pid]).get(toy.pid)
                alone = psutil.Process(toy.pid).memory_info().rss
                return usage is not None and usage.rss_bytes > alone + 1_000_000 > 50_000_000

            until(both, "the toy and its child")
            assert platform.usage([2**22 + 1]) == {}
        finally:
            for child in subprocess.run(
                ["ps", "-o", "pid=", "--ppid", str(toy.pid)], capture_output=True, text=True, check=False
            ).stdout.split():
                os.kill(int(child), signal.SIGKILL)
            toy.kill()


def test_identities_differ_where_pids_do_not() -> None:
    platform = LinuxPlatform()
    own = platform.own_identity()
    assert own.inode is not None, "this kernel has no pidfs: identity rests on start times"
    assert own.matches(own)
    for other in (
        Identity(boot_id="another", start_time=own.start_time, inode=own.inode),
        Identity(boot_id=own.boot_id, start_time=own.start_time, inode=own.inode + 1),
        Identity(boot_id=own.boot_id, start_time=own.start_time + 1),
    ):
        assert not own.matches(other)


def supervised(
    platform: Platform, root: Path, work: Callable[[Supervisor], Coroutine[Any, Any, None]], *, detach: bool = False
) -> None:
    definition = Definition(
        name="api", command=(*TOY, "quiet"), cwd=str(root), ready=(LogProbe(pattern="quiet and ready"),)
    )

    async def live() -> None:
        supervisor = Supervisor(
            [definition],
            state_dir=StateDir(root / "state"),
            resolve=lambda definition: Launch(command=definition.command),
            platform=platform,
        )
        await supervisor.start()
        try:
            await work(supervisor)
        finally:
            await supervisor.stop(detach=detach)
            supervisor.release()

    run(live())


def test_a_supervisor_works_alike_on_each_platform(platform: Platform, tmp_path: Path) -> None:
    pids = []

    async def crash(supervisor: Supervisor) -> None:
        api = supervisor.daemon("api")
        await api.wait_for(lambda daemon: daemon.ready)
        assert api.run is not None
        first = api.run.process.pid
        os.kill(first, signal.SIGKILL)
        await api.wait_for(lambda daemon: daemon.ready and daemon.run is not None and daemon.run.process.pid != first)
        assert api.past.last_exit is not None
        assert api.past.last_exit.signal == "SIGKILL"
        pids.append(api.run.process.pid)

    async def adopt_and_stop(supervisor: Supervisor) -> None:
        api = supervisor.daemon("api")
        await api.wait_for(lambda daemon: daemon.ready)
        assert api.run is not None
        assert api.run.adopted
        pids.append(api.run.process.pid)
        supervisor.order("api", Event.STOP)
        await api.wait_for(lambda daemon: daemon.state is State.STOPPED)

    supervised(platform, tmp_path, crash, detach=True)
    assert is_alive(pids[0])
    supervised(platform, tmp_path, adopt_and_stop)
    assert pids[0] == pids[1]
    assert not is_alive(pids[0])


def test_a_directory_on_path_that_we_may_not_enter_counts_as_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell that su starts has the PATH of its caller."""
    is_file = Path.is_file

    def closed(path: Path) -> bool:
        if str(path).startswith("/closed/"):
            raise PermissionError(13, "Permission denied")
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", closed)
    assert programs.find("sh", {"PATH": "/closed:/bin"}, "/") == "/bin/sh"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a program as another user")
def test_a_process_has_the_user_and_all_groups_of_its_account(tmp_path: Path) -> None:
    account = Account(name="x", uid=54321, gid=54322, groups=(54322, 54323), home="/")
    with (tmp_path / "output").open("wb") as output:
        command = ("sh", "-c", "id -u; id -g; id -G")
        spawning.spawn(SpawnSpec(command, dict(os.environ), "/", output.fileno(), (), account)).wait(PATIENCE_S)
    assert (tmp_path / "output").read_text().splitlines() == ["54321", "54322", "54322 54323"]
