"""A program that cannot be run: the one line that says why, for daemons, probes and doctor alike."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest

from neo_daemons.status import DaemonStatus
from neo_daemons.supervision.platform import SpawnSpec, current_platform

from .harness import Project, until

MUSL = "/lib/ld-of-nowhere.so.1"


def elf(machine: int, loader: str = "") -> bytes:
    """An ELF executable of 64 bits for a kind of machine, with nothing in it but the name of its loader."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1 if loader else 0, 64, 0, 0)
    name = loader.encode() + b"\0"
    return header + (struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(name), len(name), 1) + name if loader else b"")


NATIVE = Path(sys.executable).read_bytes()[18:20]
FAULTS = {
    "nothing there": (None, "/run does not exist"),
    "a directory": ("directory", "/run is a directory, not a program"),
    "a dangling link": ("link", "/nowhere/at/all, which does not exist"),
    "not executable": ("not executable", "/run is not executable; fix: chmod +x"),
    "missing interpreter": (b"#!/nowhere/bin/sh -e\n", "/run: its interpreter /nowhere/bin/sh does not exist; "),
    "an interpreter that is none": (b"#!/etc/passwd\n", "/run: its interpreter /etc/passwd is not executable; "),
    "missing interpreter by env": (
        b"#!/usr/bin/env no-such-sh\n",
        "/run: its interpreter no-such-sh is not on its PATH",
    ),
    "missing interpreter by env -S": (
        b"#!/usr/bin/env -S no-such-sh -x\n",
        "its interpreter no-such-sh is not on its PATH",
    ),
    "line ends of Windows": (b"#!/bin/sh\r\ntrue\r\n", "/run: its first line ends in a carriage return; save it"),
    "no first line": (b"true\n", "/run has no interpreter line; start it with e.g. #!/bin/sh"),
    "empty": (b"", "/run is empty"),
    "another machine": (elf(2), "/run is built for another CPU architecture"),
    "another system": (elf(int.from_bytes(NATIVE, "little"), MUSL), "/run is built for another system: its loader"),
}


def make(path: Path, content: bytes | str | None) -> None:
    match content:
        case bytes():
            path.write_bytes(content)
            path.chmod(0o755)
        case "directory":
            path.mkdir()
        case "link":
            path.symlink_to("/nowhere/at/all")
        case "not executable":
            path.write_text("#!/bin/sh\n")


def spawn_in_vain(tmp_path: Path, cwd: Path, program: str) -> str:
    """What the platform says of a program that it cannot run."""
    with (tmp_path / "log").open("wb") as log:
        spec = SpawnSpec([program], dict(os.environ), str(cwd), log.fileno())
        with pytest.raises(OSError) as caught:  # noqa: PT011 - its text is what is looked at
            current_platform().spawn(spec)
    return str(caught.value.strerror)


@pytest.mark.parametrize(("content", "said"), FAULTS.values(), ids=FAULTS)
def test_a_spawn_that_fails_says_what_is_wrong_with_the_program(
    tmp_path: Path, content: bytes | str | None, said: str
) -> None:
    make(tmp_path / "run", content)
    refusal = spawn_in_vain(tmp_path, tmp_path, str(tmp_path / "run"))
    assert said in refusal
    assert refusal.isprintable()


def test_a_missing_working_directory_is_named_and_not_the_program(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert spawn_in_vain(tmp_path, gone, "true") == f"its working directory {gone} does not exist"


def test_status_probes_and_doctor_name_the_missing_interpreter_of_a_script(project: Project) -> None:
    make(project.root / "run.sh", b"#!/nowhere/python\n")
    project.configure(
        api={"command": ["${project}/run.sh"]},
        web={
            "command": ["sleep", "1000"],
            "ready": {"type": "exec", "command": ["${project}/run.sh"]},
        },
    )
    said = f"{project.root}/run.sh: its interpreter /nowhere/python does not exist"
    doctor = project.run("doctor")
    assert f"problem  api: {said}" in doctor.stdout
    assert doctor.returncode == 1
    project.serve()
    detail = project.reaches("api", "backoff", "parked").detail
    assert detail is not None
    assert detail.startswith(f"cannot start api: {said}; install it")
    assert said in project.run("why", "web").stdout


def test_doctor_shows_programs_as_they_will_be_run(project: Project) -> None:
    make(project.root / "run.sh", b"#!/bin/sh\n")
    project.configure(
        api={"command": ["${project}/run.sh"]},
        web={"command": ["./run.sh"]},
        db={"command": ["run.sh"], "env": {"PATH": "${project}:/bin"}},
        gone={"command": ["${project}/gone.sh"]},
        late={"command": ["./run-${port}.sh"], "port": "auto"},
    )
    lines = project.run("doctor").stdout.splitlines()
    for name in ("api", "db"):
        assert f"ok       {name}: {project.root}/run.sh" in lines
    assert f"ok       web: {project.root}/./run.sh" in lines
    assert f"problem  gone: {project.root}/gone.sh does not exist" in lines
    assert "ok       late: ./run-${port}.sh, resolved when it starts" in lines


@pytest.mark.linux("a daemon takes no descriptor there, so there is hardly a limit to reach")
def test_a_limit_of_open_files_is_told_as_what_it_is(project: Project) -> None:
    """As many daemons as fit run; the others say whose limit it is, and how to mend it."""
    few, many = 60, 70
    once = {"base_s": 600.0, "ceiling_s": 600.0}  # after two tries, none until the end of the test
    project.configure(**{f"d{number}": {"command": ["sleep", "600"], "restart": once} for number in range(many)})
    project.serve(prefix=("sh", "-c", f'ulimit -n {few}; exec "$@"', "sh"))

    def settled() -> tuple[DaemonStatus, ...] | None:
        daemons = project.client.status().daemons
        return daemons if all(one.state in ("ready", "backoff") for one in daemons) else None

    daemons = until(settled, "each of them to be up or to say why not")
    assert sum(one.ready for one in daemons) > few // 2
    details = {str(one.detail).partition(": ")[2] for one in daemons if not one.ready}
    assert details == {
        "Too many open files: the supervisor has reached its limit; raise it (ulimit -n) and start the supervisor again"
    }
