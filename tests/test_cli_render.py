"""The output for people."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from neo_daemons.cli import render
from neo_daemons.status import DaemonStatus, Status, SupervisorStatus


def shown_table(url: str, width: int) -> str:
    """The table with a daemon that is reached at `url`."""
    daemon = DaemonStatus(
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
    )
    supervisor = SupervisorStatus(pid=3, version="1", state_dir="/nowhere", started_at=0)
    shown = io.StringIO()
    Console(file=shown, width=width).print(render.table(Status(supervisor=supervisor, daemons=(daemon,)), width))
    return shown.getvalue()


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_shows_a_complete_url_with_an_ipv6_address(width: int) -> None:
    assert "http://[fd00::1]:8000" in shown_table("http://[fd00::1]:8000", width)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_table_shows_a_url_without_credentials(width: int) -> None:
    shown = shown_table("http://me:s3cret@h:80", width)
    assert "http://***@h:80" in shown
    assert "s3cret" not in shown
