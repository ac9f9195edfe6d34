"""``enable`` and ``disable``, with a systemctl and a launchctl that record their arguments."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neo_daemons.cli import enable, services
from neo_daemons.cli.services import CannotInstall
from neo_daemons.render.installation import HEADER, name_of

from .harness import PATIENCE_S, PROGRAMS, Project, in_namespace, is_alive, toy

pytestmark = pytest.mark.long


class Systemd:
    """A stand-in for systemctl on the PATH of a project's commands, and what it was told."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.place = project.root / "bin"
        self.place.mkdir()
        shutil.copy(PROGRAMS / "systemctl.py", self.place)
        script = self.place / "systemctl"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {self.place}/systemctl.py "$@"\n')
        script.chmod(0o755)
        self.home = project.root / "home"
        self.home.mkdir()
        self.units = self.home / ".config/systemd/user"
        self.name = f"{name_of(project.state.path)}.service"
        self.unit = self.units / self.name
        for name in {"XDG_CONFIG_HOME", *enable.CARRIED} - {"NEO_DAEMONS_REGISTRY"}:
            project.env.pop(name, None)
        project.env |= {"HOME": str(self.home), "PATH": f"{self.place}:{os.environ['PATH']}"}
        self.fail()

    def fail(self, **orders: str) -> None:
        """Have these orders fail with a message, and no other."""
        (self.place / "told").write_text(json.dumps({name.replace("_", "-"): text for name, text in orders.items()}))

    def calls(self) -> list[list[str]]:
        """What it was called with since the last look, questions left out."""
        path = self.place / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [call for call in map(json.loads, lines) if not any(word.startswith("is-") for word in call)]

    def pid(self) -> int:
        return int((self.place / "pid").read_text())

    def tree(self) -> dict[str, str | None]:
        """All that is in the home directory."""
        found = sorted(self.home.rglob("*"))
        return {str(path.relative_to(self.home)): path.read_text() if path.is_file() else None for path in found}


@pytest.fixture
def systemd(project: Project) -> Iterator[Systemd]:
    project.configure(api=toy("quiet"))
    systemd = Systemd(project)
    yield systemd
    systemd.fail()
    project.run("down")


def start_of(systemd: Systemd, order: str = "start") -> list[list[str]]:
    return [
        ["--user", "daemon-reload"],
        ["--user", "enable", systemd.name],
        ["--user", order, systemd.name],
    ]


def end_of(systemd: Systemd) -> list[list[str]]:
    return [["--user", "disable", "--now", systemd.name], ["--user", "daemon-reload"]]


def test_enable_runs_the_supervisor_and_disable_leaves_nothing(project: Project, systemd: Systemd) -> None:
    done = project.run("enable", "--yes")
    assert done.returncode == 0, done.stderr
    assert systemd.calls() == start_of(systemd)
    assert f"systemctl --user start {systemd.name}" in done.stdout
    assert "loginctl enable-linger" in done.stdout
    status = project.client.status()
    assert status.supervisor.pid == systemd.pid()
    assert status.daemon("api").ready  # systemctl has waited for it
    assert systemd.unit.stat().st_mode & 0o777 == 0o600
    assert HEADER in systemd.unit.read_text()

    done = project.run("disable", "--yes")
    assert done.returncode == 0, done.stderr
    assert systemd.calls() == end_of(systemd)
    assert not is_alive(status.supervisor.pid)
    assert list(systemd.units.iterdir()) == []
    assert project.left() == []

    done = project.run("disable", "--yes")
    assert (done.returncode, systemd.calls()) == (0, [])
    assert "not enabled" in done.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze, the judge, is not installed")
def test_what_enable_writes_is_a_unit(project: Project, systemd: Systemd) -> None:
    assert project.run("enable", "--yes").returncode == 0
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", "--recursive-errors=no", systemd.unit],
        env={"XDG_RUNTIME_DIR": str(systemd.home), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    project.run("disable", "--yes")


@pytest.mark.parametrize("options", [(), ("--system",)], ids=["user", "system"])
@pytest.mark.parametrize("command", ["enable", "disable"])
def test_a_dry_run_changes_nothing(project: Project, systemd: Systemd, command: str, options: tuple[str, ...]) -> None:
    systemd.units.mkdir(parents=True)
    if command == "disable":
        systemd.unit.write_text(f"# {HEADER}\n")
    before, state = systemd.tree(), project.state.path.exists()
    done = project.run(command, "--dry-run", *options)
    assert done.returncode == 0, done.stderr
    assert systemd.name in done.stdout
    assert (systemd.tree(), project.state.path.exists(), systemd.calls()) == (before, state, [])
    if command == "enable":
        assert "[Service]" in done.stdout
        assert ("systemctl --user start" in done.stdout) == (not options)
        assert not Path("/etc/systemd/system", systemd.name).exists()


def test_without_a_terminal_nothing_is_done_unasked(project: Project, systemd: Systemd) -> None:
    before = systemd.tree()
    done = subprocess.run(
        [sys.executable, "-m", "neo_daemons", "enable"],
        cwd=project.root,
        env=project.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert "[Service]" in done.stdout
    assert (systemd.tree(), systemd.calls()) == (before, [])


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1), (b"\x04", 1)])
def test_the_user_is_asked(project: Project, systemd: Systemd, answer: bytes, code: int) -> None:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "neo_daemons", "enable"],
            cwd=project.root,
            env=project.env,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        os.write(ours, answer)
        output, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == code, output
    assert systemd.unit.exists() == (code == 0)
    assert bool(systemd.calls()) == (code == 0)


def test_a_running_supervisor_is_replaced_and_its_daemons_go_on(project: Project, systemd: Systemd) -> None:
    assert project.run("up").returncode == 0
    before = project.client.status()
    done = project.run("enable", "--yes")
    assert done.returncode == 0, done.stderr
    assert systemd.calls() == start_of(systemd, "restart")
    after = project.client.status()
    assert after.supervisor.pid == systemd.pid() != before.supervisor.pid
    assert after.daemon("api").pid == before.daemon("api").pid
    assert after.daemon("api").adopted


def test_enabling_again_changes_nothing(project: Project, systemd: Systemd) -> None:
    assert project.run("enable", "--yes").returncode == 0
    before = project.client.status()
    written = systemd.unit.stat()
    systemd.calls()
    done = project.run("enable", "--yes")
    assert done.returncode == 0, done.stderr
    assert "up to date" in done.stdout
    assert systemd.calls() == start_of(systemd)
    assert project.client.status().supervisor.pid == before.supervisor.pid
    assert systemd.unit.stat().st_ino == written.st_ino


def test_a_changed_unit_is_shown_and_takes_effect(project: Project, systemd: Systemd) -> None:
    assert project.run("enable", "--yes").returncode == 0
    before = project.client.status()
    systemd.calls()
    project.env["FLAVOUR"] = "100% $sweet"
    done = project.run("enable", "--yes", "--env", "FLAVOUR")
    assert done.returncode == 0, done.stderr
    assert '+Environment="FLAVOUR=100%% $sweet"' in done.stdout
    assert "WatchdogSec" not in done.stdout  # what stays is not shown
    assert systemd.calls() == start_of(systemd, "restart")
    after = project.client.status()
    assert after.supervisor.pid != before.supervisor.pid
    assert after.daemon("api").pid == before.daemon("api").pid


@pytest.mark.parametrize("command", ["enable", "disable"])
@pytest.mark.parametrize("kind", ["file", "link", "masked", "directory"])
def test_what_is_not_ours_is_left_alone(project: Project, systemd: Systemd, command: str, kind: str) -> None:
    systemd.units.mkdir(parents=True)
    match kind:
        case "file":
            systemd.unit.write_text("[Service]\nExecStart=/bin/true\n")
        case "link":
            systemd.unit.symlink_to("/usr/lib/other.service")
        case "masked":
            systemd.unit.symlink_to("/dev/null")
        case "directory":
            systemd.unit.mkdir()
    before = systemd.tree()
    done = project.run(command, "--yes")
    assert done.returncode == 1
    assert str(systemd.unit) in done.stderr
    assert ("unmask" in done.stderr) == (kind == "masked")
    assert (systemd.tree(), systemd.calls()) == (before, [])


@pytest.mark.parametrize("order", ["daemon-reload", "enable", "start"])
def test_what_is_left_to_do_is_said_if_systemctl_fails(project: Project, systemd: Systemd, order: str) -> None:
    systemd.fail(**{order: "Failed to connect to bus: No medium found"})
    done = project.run("enable", "--yes")
    assert done.returncode == 1
    assert "Failed to connect to bus" in done.stderr
    steps = [f"systemctl {' '.join(call)}" for call in start_of(systemd)]
    left = steps[[call[1] for call in start_of(systemd)].index(order) :]
    assert f"still to be run: {' && '.join(left)}\n" in done.stderr
    assert systemd.unit.exists()


def test_a_supervisor_is_not_replaced_before_systemd_has_answered(project: Project, systemd: Systemd) -> None:
    assert project.run("up").returncode == 0
    before = project.client.status().supervisor.pid
    systemd.fail(enable="Failed to enable unit: Unit is masked.")
    assert project.run("enable", "--yes").returncode == 1
    assert project.client.status().supervisor.pid == before


def test_without_systemctl_the_file_is_written_and_the_rest_is_said(project: Project, systemd: Systemd) -> None:
    project.env["PATH"] = str(systemd.home)
    done = project.run("enable", "--yes")
    assert done.returncode == 1
    assert "systemctl was not found; still to be run: systemctl --user daemon-reload && " in done.stderr
    assert systemd.unit.exists()
    assert project.run("disable", "--yes").returncode == 0
    assert list(systemd.units.iterdir()) == []


def test_disable_removes_everything_if_systemd_does_not_answer(project: Project, systemd: Systemd) -> None:
    systemd.fail(start="no")
    project.run("enable", "--yes")
    assert (systemd.units / "default.target.wants" / systemd.name).is_symlink()
    systemd.fail(disable="Failed to connect to bus: No medium found")
    assert project.run("disable", "--yes").returncode == 0
    assert list(systemd.units.iterdir()) == []


def test_disable_removes_nothing_while_the_supervisor_runs(project: Project, systemd: Systemd) -> None:
    assert project.run("enable", "--yes").returncode == 0
    systemd.fail(disable="Access denied")
    before = systemd.tree()
    done = project.run("disable", "--yes")
    assert done.returncode == 1
    assert "nothing was removed" in done.stderr
    assert "neo-daemons down" in done.stderr
    assert systemd.tree() == before
    assert is_alive(systemd.pid())


def test_disable_keeps_what_the_user_has_changed_by_drop_ins(project: Project, systemd: Systemd) -> None:
    assert project.run("enable", "--yes").returncode == 0
    changes = systemd.units / f"{systemd.name}.d"
    changes.mkdir()
    done = project.run("disable", "--yes")
    assert (done.returncode, changes.exists()) == (0, True)
    assert str(changes) in done.stdout


def test_disable_needs_no_valid_configuration(project: Project, systemd: Systemd) -> None:
    assert project.run("enable", "--yes").returncode == 0
    (project.root / "neo-daemons.toml").write_text("[daemons.api]\nport = 3\n")
    assert project.run("disable", "--yes").returncode == 0
    assert not systemd.unit.exists()


@pytest.mark.skipif(not services.SYSTEM_UNITS.is_dir(), reason="a directory of another is put over it")
def test_a_unit_of_the_machine(project: Project, systemd: Systemd) -> None:
    place = project.root / "machine"
    place.mkdir()
    prefix = in_namespace(f"mount --bind {place} /etc/systemd/system")
    systemd.fail(daemon_reload="System has not been booted with systemd")

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*prefix, sys.executable, "-m", "neo_daemons", command, "--system", "--yes"],
            cwd=project.root,
            env=project.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    done = run("enable")
    assert done.returncode == 1
    assert f"still to be run: systemctl daemon-reload && systemctl enable {systemd.name}" in done.stderr
    assert systemd.calls() == [["daemon-reload"]]
    unit = place / systemd.name
    assert unit.stat().st_mode & 0o777 == 0o644
    assert "WantedBy=multi-user.target" in unit.read_text()
    assert "User=" not in unit.read_text()  # root owns the project, in that namespace
    assert run("disable").returncode == 0
    assert list(place.iterdir()) == []


def test_a_broken_configuration_is_not_installed(project: Project, systemd: Systemd) -> None:
    (project.root / "neo-daemons.toml").write_text("[daemons.api]\nport = 3\n")
    assert project.run("enable", "--yes").returncode == 2
    assert (systemd.tree(), systemd.calls()) == ({}, [])


def test_the_supervisor_has_what_the_shell_has(project: Project, systemd: Systemd) -> None:
    project.configure(api=toy("quiet", env={"KEY": "${env.FLAVOUR}"}))
    project.env["FLAVOUR"] = "sweet"
    systemd.fail(start="not now")
    done = project.run("enable", "--yes")
    assert "FLAVOUR" in done.stderr
    assert "--env NAME" in done.stderr
    systemd.fail()
    done = project.run("enable", "--yes", "--env", "FLAVOUR")
    assert (done.returncode, done.stderr) == (0, "")
    assert project.daemon("api").ready


def test_where_programs_and_data_are_is_carried_and_nothing_else(project: Project, systemd: Systemd) -> None:
    project.env |= {"NEO_HOME": "/neo", "HF_HOME": "/models", "NEO_DAEMONS_CACHE_DIR": "/cache", "SECRET": "key"}
    shown = project.run("enable", "--dry-run").stdout
    names = {line.split("=")[1].strip('"') for line in shown.splitlines() if line.strip().startswith("Environment=")}
    assert names == {"PATH", "NEO_HOME", "HF_HOME", "NEO_DAEMONS_CACHE_DIR", "NEO_DAEMONS_REGISTRY"}


@pytest.mark.parametrize(("value", "message"), [(None, "this variable is not set"), ("two\nlines", "cannot hold")])
def test_a_variable_that_cannot_be_carried_is_refused(
    project: Project, systemd: Systemd, value: str | None, message: str
) -> None:
    if value is not None:
        project.env["FLAVOUR"] = value
    done = project.run("enable", "--yes", "--env", "FLAVOUR")
    assert done.returncode == 1
    assert message in done.stderr
    assert systemd.tree() == {}


def test_another_configuration_file_and_state_directory(project: Project, systemd: Systemd) -> None:
    other = project.root / "other.toml"
    (project.root / "neo-daemons.toml").rename(other)
    where = ("--config", "other.toml", "--state-dir", "a state")
    done = project.run("enable", "--yes", *where)
    assert done.returncode == 0, done.stderr
    (unit,) = systemd.units.glob("*.service")
    assert unit.name == f"{name_of(project.root / 'a state')}.service"
    assert f"--config {other}" in unit.read_text()
    assert project.run("disable", "--yes", *where).returncode == 0
    assert list(systemd.units.iterdir()) == []


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"XDG_CONFIG_HOME": "/x"}, "/x/systemd/user"),
        ({"XDG_CONFIG_HOME": ""}, "/home/me/.config/systemd/user"),
        ({"XDG_CONFIG_HOME": "x"}, "/home/me/.config/systemd/user"),
        ({}, "/home/me/.config/systemd/user"),
    ],
)
def test_where_the_units_of_a_user_are(environ: dict[str, str], place: str) -> None:
    found = services.find("n", machine=False, environ={"HOME": "/home/me", **environ}, platform="linux")
    assert found.path == Path(place) / "n.service"
    assert services.find("n", machine=True, environ={}, platform="linux").path == Path("/etc/systemd/system/n.service")


@pytest.mark.parametrize("home", ["", "relative", None])
def test_a_home_that_is_no_path_is_asked_of_the_system(home: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    environ = {} if home is None else {"HOME": home}
    found = services.find("n", machine=False, environ=environ, platform="linux")
    assert found.path.is_relative_to(pwd.getpwuid(os.getuid()).pw_dir)

    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(CannotInstall, match="no home directory"):
        services.find("n", machine=False, environ=environ, platform="linux")


@pytest.mark.parametrize(("place", "message"), [("neo-daemons.toml", "cannot read"), ("/proc/nowhere", "cannot write")])
def test_a_place_that_cannot_be_used_is_named(project: Project, systemd: Systemd, place: str, message: str) -> None:
    project.env["XDG_CONFIG_HOME"] = str(project.root / place)
    done = project.run("enable", "--yes")
    assert done.returncode == 1
    assert f"{message} {project.root / place}/systemd/user/{systemd.name}: " in done.stderr
    assert systemd.calls() == []
