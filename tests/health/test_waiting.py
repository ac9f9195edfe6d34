"""Waits see what somebody else starts, changes are seen as they happen, and nothing is started."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from neo_daemons.health import ChromaObserver, HttpObserver, NotReady, Unhealthy
from tests.harness import PATIENCE_S, Project, free_port, toy


def test_a_wait_sees_a_daemon_that_somebody_else_starts(project: Project) -> None:
    project.configure(api=toy())
    observer = HttpObserver(name="api", state_dir=project.state.path)
    with ThreadPoolExecutor(2) as pool:
        waits = [
            pool.submit(observer.wait_until_ready, PATIENCE_S),
            pool.submit(lambda: asyncio.run(observer.await_until_ready(PATIENCE_S))),
        ]
        project.serve()
        for wait in waits:
            assert wait.result().pid == project.daemon("api").pid


def test_a_wait_in_vain_ends_in_time_says_why_and_starts_nothing(project: Project) -> None:
    project.configure(api=toy())
    observer = HttpObserver(name="api", state_dir=project.state.path)
    before = time.monotonic()
    with pytest.raises(
        NotReady, match=r"api is unhealthy: there is no PID record .*: the daemon was not started. Start it: "
    ):
        observer.wait_until_ready(0.3)
    assert 0.3 <= time.monotonic() - before < PATIENCE_S / 4
    assert not project.state.path.exists()


@pytest.mark.long
def test_the_command_of_the_error_is_the_one_that_mends_it(project: Project) -> None:
    project.configure(api=toy(live={"type": "http", "interval_s": 60.0}))
    observer = HttpObserver(name="api", state_dir=project.state.path)

    def mend() -> None:
        with pytest.raises(Unhealthy) as refused:
            observer.ensure_healthy()
        command = re.search(r"(?:cd (\S+) && )?\S+ -m neo_daemons (\S+(?: \S+ --state-dir \S+)?)$", str(refused.value))
        assert command is not None, refused.value
        done = project.run(*command[2].split())
        assert done.returncode == 0, done
        assert observer.ensure_healthy().status == "healthy"

    mend()  # nothing runs: up
    project.client.order("api", "stop", wait_s=PATIENCE_S)
    mend()  # a supervisor does: start
    pid = project.daemon("api").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    mend()  # it hangs: restart
    assert project.run("down").returncode == 0
    with pytest.raises(Unhealthy, match="Its operator must fix it"):
        HttpObserver(f"http://127.0.0.1:{free_port()}", name="api").ensure_healthy()


def test_changes_are_seen_as_they_happen_and_nothing_is_started(supervised: Project) -> None:
    observer = HttpObserver(name="api", state_dir=supervised.state.path)
    first = supervised.daemon("api").pid
    assert first is not None

    async def changes() -> list[tuple[str, bool | None, int | None]]:
        seen: list[tuple[str, bool | None, int | None]] = []
        async for change in observer.watch(interval_s=0.01):
            seen.append((change.after.status, change.after.managed, change.after.pid))
            match len(seen):
                case 1:
                    assert change.before is None
                    await asyncio.to_thread(supervised.kill_supervisor)
                case 2:
                    assert change.before is not None
                    assert change.before.managed is True
                    os.kill(first, signal.SIGKILL)
            if change.after.status == "unhealthy":
                break
        return seen

    seen = asyncio.run(asyncio.wait_for(changes(), PATIENCE_S))
    assert seen[0] == ("healthy", True, first)
    assert seen[1] == ("healthy", False, first)
    assert seen[-1][0] == "unhealthy"
    assert supervised.left() == []
    supervised.serve()
    assert observer.wait_until_ready(PATIENCE_S).pid not in (None, first)


def test_errors_can_be_sent_to_another_process() -> None:
    with pytest.raises(Unhealthy) as refused:
        ChromaObserver(f"http://127.0.0.1:{free_port()}").ensure_healthy()
    again = pickle.loads(pickle.dumps(refused.value))
    assert (str(again), again.observation) == (str(refused.value), refused.value.observation)
