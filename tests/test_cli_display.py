"""The output for people."""

from __future__ import annotations

import io
import sys
import time
from typing import Any

import pytest
from rich.console import Console

from neo_daemons.cli import display
from neo_daemons.status import DaemonStatus, Holder, Status, SupervisorStatus


def ready(url: str = "http://127.0.0.1:8000", **more: Any) -> DaemonStatus:
    return DaemonStatus(
        name="api",
        state="ready",
        ready=True,
        pid=2,
        url=url,
        ports={"main": 8000},
        restarts=0,
        uptime_s=1.0,
        cpu_percent=None,
        rss_bytes=None,
        log_path="/nowhere",
        data_dir=None,
        last_exit=None,
        detail=None,
        **more,
    )


def shown_table(url: str, width: int) -> str:
    """The table with a daemon that is reached at `url`."""
    daemon = ready(url)
    supervisor = SupervisorStatus(pid=3, version="1", state_dir="/nowhere", started_at=0)
    shown = io.StringIO()
    Console(file=shown, width=width).print(display.table(Status(supervisor=supervisor, daemons=(daemon,)), width))
    return shown.getvalue()


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_shows_a_complete_url_with_an_ipv6_address(width: int) -> None:
    assert "http://[fd00::1]:8000" in shown_table("http://[fd00::1]:8000", width)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_table_shows_a_url_without_credentials(width: int) -> None:
    shown = shown_table("http://me:s3cret@h:80", width)
    assert "http://***@h:80" in shown
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("variables", "is_terminal", "coloured"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
    ids=str,
)
def test_the_table_is_coloured_where_colours_are_wanted(
    variables: dict[str, str], is_terminal: bool, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return is_terminal

    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", shown := Terminal())
    supervisor = SupervisorStatus(pid=3, version="1", state_dir="/nowhere", started_at=0)
    display.show_table(Status(supervisor=supervisor, daemons=(ready(),)))
    assert "http://127.0.0.1:8000" in shown.getvalue()
    assert ("\x1b[" in shown.getvalue()) is coloured


def test_remarks_say_who_needs_a_daemon_and_when_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    first, second = Holder(name="claude", pid=812, since=0), Holder(name="remote", pid=None, since=1)
    assert display.remarks(ready(holders=(first,))) == "needed by claude (pid 812)"
    assert display.remarks(ready(holders=(second,))) == "needed by remote"
    assert display.remarks(ready(holders=(first, second))) == "needed by claude (pid 812) and 1 other"
    assert display.remarks(ready(holders=(first, second, second))) == "needed by claude (pid 812) and 2 others"
    assert display.remarks(ready(idle_stop_at=1240.5)) == "stops in 4m 0s unless needed"
    assert display.remarks(ready(idle_stop_at=991.0)) == "stops in 0.0s unless needed"
