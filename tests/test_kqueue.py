"""What kqueue does not tell, or tells in another way. That it tells is tested in test_platform.py.

The kernel is the shim of it; the rest is real.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, BinaryIO

import pytest
from msgspec.structs import replace

from neo_daemons.supervision.platform import ExitStatus, Process, SpawnSpec, kqueue, spawning
from neo_daemons.supervision.platform.kqueue import Exits, KqueuePlatform

from . import kqueue_shim
from .harness import Child, is_alive, until


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> KqueuePlatform:
    kqueue_shim.install(lambda name, value: monkeypatch.setattr(select, name, value, raising=False))
    return KqueuePlatform()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def spawn(platform: KqueuePlatform, *command: str) -> Process:
    with open(os.devnull, "wb") as output:
        return platform.spawn(SpawnSpec(command, dict(os.environ), "/", output.fileno()))


def adopt(platform: KqueuePlatform, pid: int) -> Process:
    identity = platform._identify(pid)
    assert identity is not None
    process = platform.open(pid, identity)
    assert process is not None
    return process


def end_of(process: Process) -> Awaitable[ExitStatus]:
    """Watch a process; its end."""
    ended: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
    process.watch(ended.set_result)
    assert not ended.done(), "the caller has not yet stored what it watches"
    return ended


def test_the_end_of_a_process_before_it_is_watched_is_told(platform: KqueuePlatform) -> None:
    async def work() -> None:
        with Child(["sleep", "600"]) as theirs:
            own, adopted = spawn(platform, "sh", "-c", "exit 3"), adopt(platform, theirs.pid)
            await asyncio.to_thread(until, lambda: not is_alive(own.pid), "the end of the child")
            theirs.kill()
            theirs.wait()
            assert await end_of(own) == ExitStatus(code=3)
            assert await end_of(adopted) == ExitStatus()
            own.close()
            adopted.close()

    run(work())


def test_a_status_that_is_not_told_is_fetched_once_the_child_can_be_waited_for(
    platform: KqueuePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XNU tells it to those only who may signal the process, and tells of an exit before waitpid(2) does."""
    asked: list[int] = []
    ended = spawning.ended

    def not_yet(popen: subprocess.Popen[bytes]) -> ExitStatus | None:
        asked.append(popen.pid)
        return ended(popen) if len(asked) > 3 else None

    async def work() -> None:
        process = spawn(platform, "sleep", "600")
        seen = end_of(process)
        process.signal(signal.SIGKILL)
        assert await seen == ExitStatus(signal="SIGKILL")
        process.close()

    monkeypatch.setattr(kqueue_shim, "_may_signal", lambda pidfd: False)
    monkeypatch.setattr(spawning, "ended", not_yet)
    run(work())
    assert len(asked) == 4


def test_a_number_that_has_passed_on_is_noticed(platform: KqueuePlatform) -> None:
    """It was opened, ended, and its number was given to another process before it was watched."""

    async def work() -> None:
        with Child(["sleep", "600"]) as other:
            process = adopt(platform, other.pid)
            process.identity = replace(process.identity, start_time=process.identity.start_time - 1)
            assert await end_of(process) == ExitStatus()
            assert not process.signal(signal.SIGKILL)
            process.close()
            assert other.poll() is None
            other.kill()

    run(work())


def test_a_group_can_be_signalled_until_its_dead_leader_is_closed(platform: KqueuePlatform) -> None:
    """Reaped, it would leave its number, and so that of the group, to others."""

    read, write = os.pipe()

    async def work(output: BinaryIO) -> None:
        leader = platform.spawn(SpawnSpec(("sh", "-c", "sleep 600 & echo $!; exit 3"), dict(os.environ), "/", write))
        os.close(write)
        member = int(await asyncio.to_thread(output.readline))
        assert await end_of(leader) == ExitStatus(code=3)
        assert not leader.is_alive()
        assert is_alive(member)
        assert leader.signal_group(signal.SIGKILL)
        assert await asyncio.to_thread(output.read) == b"", "the member has ended"
        leader.close()
        assert not leader.signal_group(signal.SIGKILL)

    with open(read, "rb") as output:
        run(work(output))


def test_without_a_descriptor_for_the_queue_the_process_is_polled(
    platform: KqueuePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def work() -> None:
        process = spawn(platform, "sh", "-c", "exit 3")
        assert await end_of(process) == ExitStatus(code=3)
        process.close()

    monkeypatch.setattr(select, "kqueue", refused)
    run(work())


def test_all_who_watch_a_process_are_told_but_those_who_have_closed_it(platform: KqueuePlatform) -> None:
    async def work() -> None:
        with Child(["sleep", "600"]) as theirs:
            first, second, third = (adopt(platform, theirs.pid) for _ in range(3))
            ends = end_of(first), end_of(second)
            told: list[ExitStatus] = []
            third.watch(told.append)
            third.close()
            theirs.kill()
            assert [await end for end in ends] == [ExitStatus(signal="SIGKILL")] * 2
            assert told == []
            first.close()
            second.close()

    run(work())


def test_one_queue_serves_all_processes_of_a_loop(platform: KqueuePlatform) -> None:
    async def work() -> None:
        before = len(os.listdir("/proc/self/fd"))
        with Child(["sleep", "600"]) as theirs:
            process = adopt(platform, theirs.pid)
            end = end_of(process)
            loop = asyncio.get_running_loop()
            assert platform._exits_of(loop) is platform._exits_of(loop)
            theirs.kill()
            await end
            process.close()
        assert len(os.listdir("/proc/self/fd")) == before + 1, "the queue"

    for _ in range(2):
        run(work())


@pytest.mark.parametrize("code", [0, 3])
def test_the_status_is_taken_from_the_event_where_it_is_always_told(
    platform: KqueuePlatform, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """As on FreeBSD, by its manual."""

    async def work() -> None:
        with Child([sys.executable, "-IS", "-c", f"input(); raise SystemExit({code})"], stdin=-1) as theirs:
            process = adopt(platform, theirs.pid)
            end = end_of(process)
            assert theirs.stdin is not None
            theirs.stdin.write(b"\n")
            theirs.stdin.close()
            assert await end == ExitStatus(code=code)
            process.close()

    for module in (kqueue, kqueue_shim):
        monkeypatch.setattr(module, "ALWAYS_TELLS", True)
    run(work())


def test_what_is_told_no_more_is_not_asked_for_either(platform: KqueuePlatform) -> None:
    async def work() -> None:
        with Child(["sleep", "600"]) as theirs:
            exits = Exits(asyncio.get_running_loop())
            tells: list[Callable[[ExitStatus | None], None]] = [lambda status: None, lambda status: None]
            for tell in tells:
                exits.add(theirs.pid, tell)
            for tell in (*tells, tells[0]):
                exits.drop(theirs.pid, tell)
            with pytest.raises(FileNotFoundError):
                exits._change(theirs.pid, kqueue_shim.KQ_EV_DELETE)
            theirs.kill()

    run(work())
