"""An internal error is one line that says what to do, for people who did not write the program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPORT = "this is a bug in neo-daemons; please report it in the issue tracker of its repository, with"


def run(tmp_path: Path, command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command in which something of ours breaks."""
    program = (
        "import sys\nfrom neo_daemons import cli\n"
        "def broken(options):\n    raise TypeError('takes 2 arguments\\nbut 3 were given')\n"
        f"cli._command = lambda name: broken\nsys.exit(cli.main({command.split()!r}))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("command", "code"), [("down", 1), ("doctor", 1), ("status --json", 1), ("health", 3)])
def test_a_bug_in_a_command_is_one_line(tmp_path: Path, command: str, code: int) -> None:
    """It was a traceback of 25 lines."""
    ended = run(tmp_path, command)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr == (
        "neo-daemons: internal error: TypeError: takes 2 arguments but 3 were given; "
        f"{REPORT} the traceback that NEO_DAEMONS_TRACEBACK=1 shows\n"
    )


@pytest.mark.parametrize(("command", "variable"), [("down", "1"), ("serve", "0")])
def test_the_traceback_is_shown_on_request_and_goes_into_the_log_of_a_supervisor(
    tmp_path: Path, command: str, variable: str
) -> None:
    ended = run(tmp_path, command, NEO_DAEMONS_TRACEBACK=variable)
    assert ended.returncode == 1
    assert "in broken\n" in ended.stderr
    assert REPORT in ended.stderr.splitlines()[-1]
