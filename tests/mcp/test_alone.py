"""`share = false`: each client of ``mcp connect`` has a supervised process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from neo_daemons.control.client import Client, ControlError
from neo_daemons.status import DaemonStatus
from neo_daemons.supervision import instances
from neo_daemons.supervision.presence import Presence, presence
from tests.harness import PATIENCE_S, PROGRAMS, TOY, Project, is_alive, kill, until

from .agents import BEFORE, CURRENT, agent, answer, notes

pytestmark = pytest.mark.long

CAT = {"command": ["cat"], "share": False}
ALONE = {"command": [sys.executable, str(PROGRAMS / "mcp_alone.py")], "share": False}
AGENTS = 8
SCRIPT = "import sys, os; "


def python(script: str) -> dict[str, Any]:
    """The table of a program that speaks stdio."""
    return {"command": [sys.executable, "-ISc", script], "share": False, "stop": {"grace_s": 2.0}}


def shim(project: Project, name: str = "cat", **streams: Any) -> subprocess.Popen[bytes]:
    """A shim whose agent is the test."""
    command = [sys.executable, "-m", "neo_daemons", "mcp", "connect", name]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen(command, cwd=project.root, env=project.env, bufsize=0, **streams)


def says(process: subprocess.Popen[bytes], text: bytes) -> None:
    """Send a line, and get it back."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(text + b"\n")
    assert process.stdout.readline() == text + b"\n"


def of(project: Project, template: str = "cat") -> dict[str, DaemonStatus]:
    """The instances of a template, by name."""
    return {one.name: one for one in project.client.status().daemons if one.name.startswith(f"{template}-")}


def gone(project: Project, template: str = "cat") -> None:
    """Wait until no instance of a template is left, nor anything of one."""
    until(lambda: not of(project, template), "the end of all instances")
    assert project.left() == []
    assert {path.suffix for path in project.state.daemons.glob(f"{template}-*")} <= {".lock"}


@pytest.fixture
def served(project: Project) -> Project:
    """A project whose daemon `cat` has a process for each client."""
    project.configure(cat=CAT)
    project.serve()
    return project


@pytest.mark.parametrize("mode", [CURRENT, pytest.param(BEFORE, marks=pytest.mark.matrix)])  # only bytes pass
def test_each_agent_has_a_server_of_its_own(project: Project, mode: str) -> None:
    project.configure(alone=ALONE)
    project.serve()

    async def use() -> None:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(agent(project, "connect", "alone", mode=mode)) for _ in range(3)]
            pids = [await answer(one, "whoami") for one in clients]
            assert len(set(pids)) == 3
            assert sorted(pids) == sorted(one.pid for one in of(project, "alone").values() if one.pid is not None)
            for number, one in enumerate(clients):
                for count in range(number + 1):
                    assert await answer(one, "counted") == count + 1
            big = "ü" * 1_000_000
            assert await answer(clients[0], "echo", text=big) == big

    asyncio.run(use())
    gone(project, "alone")


def test_bytes_of_any_kind_pass_both_ways(served: Project) -> None:
    sent = os.urandom(1_000_000) * 40 + b"\r\n\0\n"
    with shim(served) as one:
        assert one.stdin is not None
        writing = threading.Thread(target=lambda: (one.stdin.write(sent), one.stdin.close()))  # type: ignore[union-attr]
        assert one.stdout is not None
        writing.start()
        received = one.stdout.read()
        writing.join()
        assert hashlib.sha256(received).digest() == hashlib.sha256(sent).digest()
        assert one.wait(PATIENCE_S) == 0
    gone(served)


def test_killed_shims_take_their_processes_with_them_and_no_others(served: Project) -> None:
    # These ignore the end of their input, so that only the supervisor can end them.
    served.configure(cat=python("import time\nfor line in open(0): print(line, end='', flush=True)\ntime.sleep(600)"))
    served.client.reload()
    with contextlib.ExitStack() as stack:
        shims = [stack.enter_context(shim(served)) for _ in range(AGENTS)]
        for one in shims:
            stack.callback(one.kill)
        for number, one in enumerate(shims):
            says(one, str(number).encode())
        assert len({one.pid for one in of(served).values()}) == len(served.left()) == AGENTS
        for one in shims[1:]:
            one.kill()
        until(lambda: len(of(served)) == 1, "the end of the others")
        says(shims[0], b"still here")
        assert len(served.left()) == 1
        shims[0].kill()
    gone(served)


def test_a_shim_that_is_killed_while_it_begins_leaves_nothing(served: Project) -> None:
    for delay_s in (0.0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4):
        with shim(served) as one:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.wait(delay_s)
            one.kill()
    gone(served)


def test_instances_outlive_their_supervisor_and_are_adopted(served: Project) -> None:
    with shim(served) as one, shim(served) as other:
        says(one, b"1")
        says(other, b"2")
        pids = {name: status.pid for name, status in of(served).items()}
        served.kill_supervisor()
        says(one, b"without a supervisor")
        served.serve()
        until(lambda: all(found.holders for found in of(served).values()), "the leases")
        assert {name: status.pid for name, status in of(served).items()} == pids
        says(one, b"3")
        other.kill()
        until(lambda: len(of(served)) == 1, "the end of the other")
        says(one, b"4")
        one.kill()
    gone(served)


def test_an_instance_whose_shim_died_with_the_supervisor_is_ended_by_the_next(served: Project) -> None:
    served.configure(cat=python("import time; print('on', flush=True); time.sleep(600)"))
    served.client.reload()
    with shim(served) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == b"on\n"
        served.kill_supervisor()
        one.kill()
    assert len(served.left()) == 1
    served.serve()
    assert list(of(served)) == ["cat-1"]
    gone(served)


@pytest.mark.parametrize("orderly", [False, True])
def test_a_server_that_ended_with_the_supervisor_comes_back_for_its_client(project: Project, orderly: bool) -> None:
    project.configure(notes=notes(share=False))
    project.serve()

    async def use() -> None:
        async with agent(project, "connect", "notes") as client:
            pid = await answer(client, "whoami")
            if orderly:
                await asyncio.to_thread(project.stop)
            else:
                project.kill_supervisor()
                kill(pid)
            await asyncio.to_thread(project.serve)
            assert await answer(client, "whoami") == (await asyncio.to_thread(project.back, "notes-1", pid)).pid

    asyncio.run(use())
    gone(project, "notes")


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        (SCRIPT + "sys.stderr.write('no more\\n'); os._exit(3)", 3, "exit code 3; last line: no more"),
        (SCRIPT + "os.kill(os.getpid(), 9)", 128 + signal.SIGKILL, "killed by SIGKILL"),
        (SCRIPT + "sys.exit(0)", 0, ""),
    ],
)
def test_the_shim_ends_like_the_server_and_says_why(project: Project, script: str, code: int, said: str) -> None:
    project.configure(cat=python(script))
    project.serve()
    with shim(project) as one:
        output, errors = one.communicate(timeout=PATIENCE_S)
        assert (output, one.returncode) == (b"", code)
        assert said in errors.decode()
        assert bool(said) == bool(errors)
    gone(project)


def test_a_server_that_closes_what_it_does_not_know_goes_on(project: Project) -> None:
    project.configure(
        cat=python(
            SCRIPT + "import time; os.closerange(3, 100); time.sleep(3); print(input(), flush=True); sys.exit(4)"
        )
    )
    project.serve()
    with shim(project) as one:
        says(one, b"1")
        assert one.wait(PATIENCE_S) == 4
    gone(project)


def test_a_killed_server_ends_its_agents_connection_only(project: Project) -> None:
    project.configure(alone=ALONE)
    project.serve()

    async def use() -> None:
        async with agent(project, "connect", "alone") as one, agent(project, "connect", "alone") as other:
            pid = await answer(one, "whoami")
            kill(await answer(other, "whoami"))
            with pytest.raises(Exception, match=r"(?i)closed"):
                await answer(other, "whoami")
            assert await answer(one, "whoami") == pid

    asyncio.run(use())
    assert "alone-2 has ended: killed by SIGKILL" in (project.root / "agent.err").read_text()
    gone(project, "alone")


def test_a_program_that_is_missing_is_named(project: Project) -> None:
    project.configure(cat={"command": ["no-such-program-here"], "share": False})
    project.serve()
    with shim(project) as one:
        _, errors = one.communicate(timeout=PATIENCE_S)
        assert one.returncode == 127
        assert "cannot run no-such-program-here: No such file or directory" in errors.decode()
    gone(project)


def test_a_slow_reader_holds_up_its_own_server_and_fills_nothing(project: Project) -> None:
    script = SCRIPT + "n = 0\nwhile True:\n n += os.write(1, b'x' * 65536); open('written', 'w').write(str(n))"
    project.configure(cat=python(script))
    project.serve()
    with shim(project) as one:
        written = project.root / "written"
        amounts: list[int] = []

        def stalls() -> bool:
            if written.exists() and (text := written.read_text()):
                amounts.append(int(text))
            return len(amounts) > 50 and amounts[-50] == amounts[-1]

        until(stalls, "a full pipe")
        assert amounts[-1] <= 200_000
        rss_pages = int(Path(f"/proc/{one.pid}/statm").read_text().split()[1])
        assert rss_pages * os.sysconf("SC_PAGE_SIZE") < 60_000_000
        one.kill()
    gone(project)


def test_an_agent_that_closes_everything_ends_a_server_that_ignores_it(project: Project) -> None:
    project.configure(cat=python("import time; print('on', flush=True); time.sleep(600)"))
    project.serve()
    with shim(project) as one:
        assert one.stdin is not None
        assert one.stdout is not None
        assert one.stdout.readline() == b"on\n"
        one.stdin.close()
        one.stdout.close()
        assert one.wait(PATIENCE_S) == 0
    gone(project)


def test_a_server_that_writes_to_nobody_dies_of_it(project: Project) -> None:
    project.configure(cat={"command": ["yes"], "share": False})
    project.serve()
    with shim(project) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == b"y\n"
        one.stdout.close()
        assert one.wait(PATIENCE_S) == 128 + signal.SIGPIPE
    gone(project)


def test_a_killed_agent_leaves_neither_shim_nor_server(served: Project) -> None:
    script = (
        "import subprocess as s, sys, time\n"
        "one = s.Popen([sys.executable, '-m', 'neo_daemons', 'mcp', 'connect', 'cat'], stdin=-1, stdout=-1)\n"
        "one.stdin.write(b'x\\n'); one.stdin.flush(); one.stdout.readline()\n"
        "print(one.pid, flush=True); time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=served.root, env=served.env, stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    until(lambda: not is_alive(pid), "the end of the shim")
    gone(served)


@pytest.mark.parametrize("script", ["raise SystemExit(3)", "import time; time.sleep(600)"])
def test_an_instance_ends_with_its_client_also_while_recycling_is_inhibited(project: Project, script: str) -> None:
    project.configure(cat=python(script))
    project.serve()
    with project.client.lease("test", inhibit="*"):
        with shim(project) as one:
            until(lambda: project.state.daemon_log("cat-1").exists(), "the start")
            one.kill()
        gone(project)


def test_the_template_itself_never_runs(served: Project) -> None:
    status = served.daemon("cat")
    assert (status.state, status.detail, status.pid) == ("idle", "one process for each client", None)
    for order in ("start", "restart"):
        with pytest.raises(ControlError, match="`neo-daemons mcp connect cat` starts"):
            served.client.order("cat", order)
    with pytest.raises(ControlError, match="share = false"), served.client.lease("test", needs=["cat"]):
        pass
    assert served.client.need("cat").failure == "one process for each client"
    assert served.left() == []


def test_commands_for_all_daemons_leave_the_template_out(project: Project) -> None:
    project.configure(cat=CAT, base={"command": ["sleep", "600"]})
    assert project.run("exec", "--", "true").returncode == 0
    refused = project.run("serve", "--require", "cat")
    assert "--require cat: it has one process for each client" in refused.stderr
    refused = project.run("exec", "--with", "cat", "--", "true")
    assert "`neo-daemons mcp connect cat` starts" in refused.stderr
    project.serve()
    project.reaches("base", "ready")
    assert project.run("status", "--check").returncode == 0
    assert "cat" not in project.run("health").stdout


def test_a_held_template_takes_no_more_clients(served: Project) -> None:
    with shim(served) as one:
        says(one, b"1")
        served.client.order("cat", "hold")
        with pytest.raises(ControlError, match="cat is held"), served.client.lease("test", needs=["cat"], own=True):
            pass
        says(one, b"2")
        one.kill()
    gone(served)


def test_more_clients_than_the_limit_are_refused(served: Project) -> None:
    with contextlib.ExitStack() as stack:
        leases = [
            stack.enter_context(Client(served.state).lease(str(number), needs=["cat"], own=True))
            for number in range(instances.MAX_INSTANCES)
        ]
        assert {lease.needs for lease in leases} == {(f"cat-{number + 1}",) for number in range(len(leases))}
        with pytest.raises(ControlError, match=f"{instances.MAX_INSTANCES} clients"):
            stack.enter_context(served.client.lease("one more", needs=["cat"], own=True))
    gone(served)


def test_a_reload_leaves_instances_as_they_are_until_their_daemon_is_gone(served: Project) -> None:
    with shim(served) as one, shim(served, stderr=subprocess.PIPE) as other:
        says(one, b"1")
        pid = of(served)["cat-1"].pid
        served.configure(cat={**CAT, "env": {"NEW": "1"}})
        served.client.reload()
        assert of(served)["cat-1"].pid == pid
        says(one, b"2")
        says(other, b"3")
        served.configure(other=CAT)
        served.client.reload()
        for ended in (one, other):
            _, errors = ended.communicate(timeout=PATIENCE_S)
            # What the supervisor has removed before the shim could ask has no exit code.
            assert ended.returncode == 128 + signal.SIGTERM or b"no longer knows it" in errors
    gone(served)


def test_an_instance_that_comes_during_a_reload_stays(served: Project) -> None:
    slow = {"command": [*TOY, "quiet", "ignore-term"], "ready": {"type": "log", "pattern": "quiet and ready"}}
    served.configure(cat=CAT, slow={**slow, "stop": {"grace_s": 1.5}})
    served.client.reload()
    served.reaches("slow", "ready")
    served.configure(cat=CAT)
    reloading = threading.Thread(target=served.client.reload)
    reloading.start()
    served.reaches("slow", "stopping")
    with served.client.lease("test", needs=["cat"], own=True):
        assert served.daemon("slow").state == "stopping"
        reloading.join()
        assert list(of(served)) == ["cat-1"]
    gone(served)


def test_a_server_with_a_port_has_one_for_each_client(project: Project) -> None:
    project.configure(notes=notes(share=False))
    project.serve()

    async def use() -> None:
        async with agent(project, "connect", "notes") as one, agent(project, "connect", "notes") as other:
            pid = await answer(one, "whoami")
            assert await answer(other, "whoami") != pid
            assert len({status.url for status in of(project, "notes").values()}) == 2
            kill(pid)  # it is restarted by its rule, and its client goes on
            await asyncio.to_thread(project.back, "notes-1", pid)
            assert await answer(one, "echo", text="x") == "x"

    asyncio.run(use())
    gone(project, "notes")


def test_what_an_instance_requires_runs_as_long_as_it(project: Project) -> None:
    table = {"command": [*TOY, "quiet"], "ready": {"type": "log", "pattern": "quiet and ready"}}
    project.configure(base={**table, "start": "on-demand", "idle_stop_s": 0.0}, cat={**CAT, "requires": ["base"]})
    project.serve()
    with shim(project) as one:
        says(one, b"1")
        assert project.daemon("base").ready
        one.kill()
    until(lambda: project.daemon("base").state == "idle", "the end of what it required")
    gone(project)


def test_without_a_supervisor_there_is_one_as_long_as_there_are_clients(project: Project) -> None:
    project.configure(cat=CAT)
    with shim(project) as one:
        says(one, b"1")
        assert list(of(project)) == ["cat-1"]
        assert one.stdin is not None
        one.stdin.close()
        assert one.wait(PATIENCE_S) == 0
    until(lambda: not project.left() and presence(project.state) is not Presence.RUNNING, "the end of everything")


def test_a_path_that_is_too_long_for_a_socket_works(project: Project) -> None:
    project.configure(cat=CAT)
    deep = project.root / ("d" * 100) / "state"
    project.env["NEO_DAEMONS_STATE_DIR"] = str(deep)
    with shim(project) as one:
        says(one, b"1")
        assert one.stdin is not None
        one.stdin.close()
        assert one.wait(PATIENCE_S) == 0
    until(lambda: not project.left(), "the end of everything")
