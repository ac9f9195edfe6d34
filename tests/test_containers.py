"""Supervision in containers, which the tests make themselves: each of them works, or is refused in one true line."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from neo_daemons import procfs
from neo_daemons.supervision.platform import PLATFORM_VARIABLE

from .harness import FAST, PATIENCE_S, PROGRAMS, Project, free_port, in_namespace, toy
from .test_platform_choice import OPEN, SEND_SIGNAL

CODES = """
import signal, sys

signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))
signal.signal(signal.SIGUSR2, lambda *_: sys.exit(3))
print("ready", flush=True)
while True:
    signal.pause()
"""
"""A daemon that ends with the wanted code."""
READ_ONLY = "mount -o remount,bind,ro"
PYTEST = ("-m", "pytest", "--neo-daemons", "-q", "-pno:cacheprovider", "-pno:asyncio", "test_api.py")
WITHOUT_RIGHTS = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")
"""Runs root without capabilities, to whom hidepid=2 hides the processes of others, and of a root that has them."""
WITHOUT_PIDFDS = (sys.executable, str(PROGRAMS / "seccomp_deny.py"), str(errno.EPERM), f"{OPEN},{SEND_SIGNAL}")


def container(script: str) -> tuple[str, ...]:
    """A prefix that runs a command as the first process of a container, after a script. The container ends with it."""
    unshare = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child")
    return (*unshare, "sh", "-ec", f'{script}\nexec "$@"', "sh")


def configure(project: Project) -> None:
    project.configure(api=toy())
    (project.root / "test_api.py").write_text("def test_api(api):\n    assert api.url\n")


def read_only(project: Project) -> str:
    """A script that makes all read-only except the state directory and, at a short path, one for temporary files."""
    temporary = project.root / "tmp"
    for path in (project.state.path, temporary):
        path.mkdir(mode=0o700)
    project.env["TMPDIR"] = "/mnt"
    lines = [f"{temporary} /mnt", *(f"{path} {path}" for path in (project.root, project.state.path))]
    return "\n".join(
        [*(f"mount --rbind {line}" for line in lines), *(f"{READ_ONLY} {path}" for path in (project.root, "/"))]
    )


def inside(project: Project, prefix: tuple[str, ...], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, *command],
        cwd=project.root, env=project.env, text=True, capture_output=True, timeout=2 * PATIENCE_S, check=False,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("prefix", [(), WITHOUT_PIDFDS], ids=["pidfds", "no pidfds"])
def test_daemons_live_in_a_narrow_container(project: Project, prefix: tuple[str, ...]) -> None:
    """Its first process reaps only its own; /proc hides those of others; the file system is read-only; and there are
    few descriptors. What still can be told is told."""
    if prefix:
        project.env.pop(PLATFORM_VARIABLE, None)
    port = free_port()
    ends = {"command": [sys.executable, "-IS", "-c", CODES], "ready": {"type": "log", "pattern": "ready"}}
    project.configure(
        api=toy(restart=FAST), clean={**ends, "restart": FAST}, failed={**ends, "restart": FAST}, clash=toy(port=port)
    )
    (project.root / "test_api.py").write_text("def test_api(api):\n    assert api.url\n")
    script = f"mount -t proc -o hidepid=2 proc /proc\n{read_only(project)}"
    life = inside(project, container(script), str(PROGRAMS / "in_container.py"), str(port), *WITHOUT_RIGHTS, *prefix)
    assert life.returncode == 0, life.stderr
    seen: dict[str, Any] = json.loads(life.stdout)
    assert seen["pid"] == 1
    held = f"cannot start clash: port {port} is held by a process of another user or container"
    for up in (seen["up"], seen["adopting"]):
        assert up["code"] == 1
        assert up["err"] == f"neo-daemons: clash: parked, {held}; stop it or set daemons.clash.port\n"
    assert seen["health"] == {"api": "healthy", "clean": "healthy", "failed": "healthy", "clash": "unhealthy"}
    assert "api: healthy" in seen["health without it"]["out"]
    assert f"problem  clash: port {port} is held by a process of another user or container" in seen["doctor"]["out"]
    assert ("linux-without-pidfds (pidfd_open: " in seen["doctor"]["out"]) == bool(prefix)
    assert "orphan" not in seen["doctor"]["out"]
    assert seen["adopted"]
    assert seen["exits"] == {"api": "killed by SIGKILL", "clean": "exit code 0", "failed": "exit code 3"}
    assert seen["restart"]["code"] == 0
    assert seen["restarted"]
    assert "registry: Read-only file system" in seen["events"]
    assert "1 passed" in seen["plugin"]["out"], seen["plugin"]["out"]
    assert seen["down"]["code"] == 0
    assert "Traceback" not in life.stdout


HOW_ZOMBIES_EXITED = """
import sys

from neo_daemons.records import Identity
from neo_daemons.supervision.platform.spawning import exit_status_of_zombie

for pid, start in zip(sys.argv[1::2], sys.argv[2::2]):
    print(exit_status_of_zombie(int(pid), Identity(boot_id="", start_time=float(start))))
"""


def test_an_exit_code_that_is_withheld_is_not_taken_for_a_clean_one() -> None:
    """In place of a code that we may not know, the kernel says 0. A namespace of its own has no right to ours."""
    children = [subprocess.Popen(["sh", "-c", f"read _; exit {code}"], stdin=subprocess.PIPE) for code in (0, 3)]
    known = [
        (str(child.pid), str(identity.start_time)) for child in children if (identity := procfs.identify(child.pid))
    ]
    try:
        for child in children:
            assert child.stdin is not None
            child.stdin.close()
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        look = [sys.executable, "-c", HOW_ZOMBIES_EXITED, *(text for one in known for text in one)]
        for prefix, said in (((), "exit code 0\nexit code 3\n"), (in_namespace(":"), "None\nNone\n")):
            assert subprocess.run([*prefix, *look], capture_output=True, text=True, check=True).stdout == said
        others = [text for pid, start in known for text in (pid, str(float(start) + 1))]
        assert subprocess.run([*look[:3], *others], capture_output=True, text=True, check=True).stdout == "None\nNone\n"
    finally:
        for child in children:
            child.wait()


MOUNT_IT = r"; without it processes cannot be told apart: mount it \(mount -t proc proc /proc\)"


@pytest.mark.long
@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("mount -t tmpfs tmpfs /proc", r"/proc is not mounted \(No such file or directory\)"),
        (":", r"/proc is that of another pid namespace, in which this process is \d+ and not \d+"),
    ],
    ids=["none", "that of the host"],
)
def test_a_container_without_a_proc_of_its_own_is_refused(project: Project, script: str, fault: str) -> None:
    """The error was about a "process 7"; and in the host's /proc each number is that of another process, which would
    have got a signal."""
    configure(project)
    for command in ("up", "serve", "doctor", "reap", "down"):
        said = inside(project, container(script), "-m", "neo_daemons", command)
        assert said.returncode == 1
        assert re.fullmatch(f"neo-daemons: {fault}{MOUNT_IT}\n", said.stderr), said.stderr
        assert said.stdout == ""
    assert not project.state.path.exists()
    seen = inside(project, container(script), "-c", f"from neo_daemons import procfs; procfs.identify({os.getpid()})")
    assert re.search(rf"ProcfsUnavailable: {fault}\n$", seen.stderr), "what observers say as the reason of `unknown`"
    said = inside(project, container(script), *PYTEST)
    assert said.returncode == 4
    assert re.search(f"^ERROR: neo-daemons: {fault}{MOUNT_IT}$", said.stderr, re.MULTILINE), said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.long
def test_a_container_in_which_nothing_can_be_written_is_refused(project: Project) -> None:
    configure(project)
    project.env["TMPDIR"] = "/mnt"
    lines = ["mount -t proc proc /proc", f"{READ_ONLY} /"]
    for place in ("/tmp", "/var/tmp", "/mnt", project.root):
        lines += [f"mount --rbind {place} {place}", f"{READ_ONLY} {place}"]
    nowhere = container("\n".join(lines))
    state = project.state.path
    up = inside(project, nowhere, "-m", "neo_daemons", "up")
    assert up.returncode == 2
    assert up.stderr == (
        f"neo-daemons: cannot use the state directory {state}: Read-only file system; "
        "choose a writable one with --state-dir or NEO_DAEMONS_STATE_DIR\n"
    )
    doctor = inside(project, nowhere, "-m", "neo_daemons", "doctor")
    assert doctor.returncode == 1
    assert f"problem  state dir: {state} cannot be created: {project.root} is not writable\n" in doctor.stdout
    run = inside(project, nowhere, *PYTEST, "-s")  # it cannot capture anything, but says so itself
    assert run.returncode == 4
    assert "Traceback" not in run.stderr
    assert run.stderr.strip() == (
        "ERROR: neo-daemons: no directory for temporary files is writable; set TMPDIR to a writable directory"
    )
