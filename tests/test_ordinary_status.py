"""What people and scripts learn of the daemons' state: the table in a narrow terminal, exit codes, who needs whom."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from neo_daemons.cli import display
from neo_daemons.status import DaemonStatus, Status, SupervisorStatus
from neo_daemons.supervision.meter import SPAN_S, CpuMeter

from .harness import Project, toy

pytestmark = pytest.mark.long

LONG = "exited with code 1, and a long text that does not fit into the line of a narrow terminal"


def daemon(name: str, **changes: object) -> DaemonStatus:
    fields = {
        "name": name, "state": "ready", "ready": True, "pid": 12345, "url": "http://127.0.0.1:38593", "ports": {},
        "restarts": 37, "uptime_s": 4000.0, "cpu_percent": 1.5, "rss_bytes": 190_000_000, "log_path": "/nowhere",
        "data_dir": None, "last_exit": None, "detail": None,
    }  # fmt: skip
    return DaemonStatus(**{**fields, **changes})  # type: ignore[arg-type]


def shown(width: int, *daemons: DaemonStatus) -> list[str]:
    supervisor = SupervisorStatus(pid=3, version="1", state_dir="/nowhere", started_at=0)
    output = io.StringIO()
    Console(file=output, width=width).print(display.table(Status(supervisor=supervisor, daemons=daemons), width))
    return [line.rstrip() for line in output.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 119, 120, 200])
def test_the_table_shows_name_state_and_restarts_however_narrow_the_terminal_is(width: int) -> None:
    lines = shown(width, daemon("web"), daemon("search-index", state="parked", detail=LONG))
    assert all(len(line) <= width for line in lines)
    assert lines[0].split()[:2] == ["NAME", "STATE"]
    assert "RESTARTS" in lines[0].split()
    assert {"web", "ready", "37"} <= set(lines[1].split())
    assert {"search-index", "parked", "37"} <= set(lines[2].split())


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_what_does_not_fit_into_the_table_stands_below_it(width: int) -> None:
    text = " ".join(" ".join(shown(width, daemon("search-index", state="parked", detail=LONG))).split())
    if width in (40, 80):
        assert LONG in text
    assert "http://127.0.0.1:38593" in text


def test_columns_go_only_where_there_is_no_room_for_them() -> None:
    assert shown(80, daemon("web"))[0].split() == ["NAME", "STATE", "PID", "URL", "UPTIME", "RESTARTS", "CPU", "MEMORY"]
    long = daemon("n" * 30)
    assert shown(80, long)[0].split() == ["NAME", "STATE", "PID", "UPTIME", "RESTARTS"]
    assert shown(80, long)[2] == f"{long.name}: {long.url}"


def test_a_name_is_never_cut() -> None:
    name = "n" * 63
    assert name in "".join(line.split()[0] for line in shown(60, daemon(name, url=None))[1:3])


def test_status_check_fails_unless_every_enabled_daemon_is_ready(project: Project) -> None:
    project.configure(
        web=toy(),
        off=toy(enabled=False),
        broken={**toy("quiet"), "command": [sys.executable, "-c", "raise SystemExit(3)"], "restart": "never"},
    )
    project.serve()
    project.reaches("web", "ready")
    project.reaches("broken", "parked", "stopped")
    assert project.run("status").returncode == 0
    for arguments in (("--check",), ("--check", "--json")):
        checked = project.run("status", *arguments)
        assert checked.returncode == 1
        assert "not ready: broken (" in checked.stderr
        assert "off" not in checked.stderr
        assert "web" in checked.stdout
    project.configure(web=toy(), off=toy(enabled=False), spare=toy(start="on-demand"))
    assert project.run("reload").returncode == 0
    project.reaches("web", "ready")
    checked = project.run("status", "--check")
    assert (checked.returncode, checked.stderr) == (0, "")
    project.run("stop", "web")
    assert project.run("status", "--check").returncode == 1
    assert project.run("status", "--check", "--watch").returncode == 2


def test_status_check_fails_without_a_supervisor(project: Project) -> None:
    project.configure(web=toy())
    assert project.run("status", "--check").returncode == 3


@pytest.mark.parametrize("order", ["stop", "hold"])
def test_stop_names_the_daemons_that_need_the_stopped_one_and_run_on(project: Project, order: str) -> None:
    project.configure(
        redis=toy(),
        api=toy(requires=["redis"]),
        worker=toy(requires=["redis"]),
        later=toy(after=["redis"]),
    )
    project.serve()
    for name in ("api", "worker", "later"):
        project.reaches(name, "ready")
    said = project.run(order, "redis").stdout
    assert "note: api, worker, which require redis, are still running" in said
    assert "later" not in said
    project.run("start", "redis")
    project.run("stop", "worker")
    if order == "stop":
        project.run("stop", "redis")
        started = project.run("start", "worker").stdout.splitlines()
        assert started[0].startswith("worker: ")
        assert started[1].startswith("note: also started redis, which worker requires (")
        assert len(project.run("start", "worker").stdout.splitlines()) == 1
        project.run("stop", "worker")
    assert "note: api, which requires redis, is still running" in project.run(order, "redis").stdout
    project.run("start", "redis")
    assert "still running" not in project.run(order, "redis", "api").stdout


def test_a_second_watcher_changes_nothing_of_what_the_first_is_told() -> None:
    """50 % in bursts: half a second of work, half a second of rest."""

    def used(age_s: float) -> float:
        return age_s // 1 * 0.5 + min(age_s % 1, 0.5)

    alone, shared = CpuMeter(), CpuMeter()
    for second in range(1, 20):
        age_s = second * SPAN_S
        told = alone.percent(used(age_s), age_s)
        assert told == 50.0
        assert shared.percent(used(age_s), age_s) == told
        for step in range(1, 10):
            between = age_s + step * SPAN_S / 10
            assert shared.percent(used(between), between) == told


def test_a_meter_begins_with_what_the_daemon_has_used_since_its_start() -> None:
    meter = CpuMeter()
    assert meter.percent(0.0, 0.0) == 0.0
    assert meter.percent(0.05, 0.1) == 50.0
    assert meter.percent(0.5, 2.0) == 25.0
    assert meter.percent(0.5, 4.0) == 0.0
    assert meter.percent(0.1, 6.0) == 0.0, "a child that had used much has ended"
