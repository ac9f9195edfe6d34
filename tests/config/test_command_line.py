"""Commands that cannot start print one line, exit with 2 and leave nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .cases import BAD
from .reading import API, WEB, assert_says, without_file


def command_line(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("NEO_") or name == "NEO_DAEMONS_REGISTRY"
    }
    return subprocess.run(
        [sys.executable, "-m", "neo_daemons", *map(str, arguments)],
        cwd=cwd,
        env=env,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_serve_reports_all_errors_and_exits_with_2(root: Path) -> None:
    (root / "neo-daemons.toml").write_text(API + "port = 0\ncmd = 1\n" + WEB + 'cwd = "nowhere"')
    ended = command_line("serve", cwd=root)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert [
        re.sub(": .*", "", line.replace(f"{root}/neo-daemons.toml: ", "")) for line in ended.stderr.splitlines()
    ] == [
        "neo-daemons",
        "daemons.api.port = 0",
        "daemons.api.cmd = 1",
        "daemons.web.cwd = 'nowhere'",
    ]


@pytest.mark.parametrize(
    "case",
    [
        "unknown key: with a line end",
        "wrong type: daemons",
        "wrong value: duration nan",
        "probe: with a bad pattern",
        "between daemons: cycle of three, of all kinds",
        "place: cwd of an unknown user",
        "file: no TOML",
        "file: not UTF-8",
        "file: tables nested too deeply",
    ],
)
def test_serve_exits_with_2_after_one_line_and_leaves_nothing_behind(root: Path, case: str) -> None:
    text, expected = BAD[case]
    file = root / "bad.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    before = sorted(root.rglob("*"))
    ended = command_line("serve", "--config", file, "--state-dir", root / "state", cwd=root)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert_says(without_file(line.removeprefix("neo-daemons: "), file), expected)
    assert sorted(root.rglob("*")) == before


def test_serve_with_a_missing_file_leaves_nothing_behind(root: Path) -> None:
    before = sorted(root.rglob("*"))
    ended = command_line("serve", "--config", "gone.toml", "--state-dir", root / "state", cwd=root)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"neo-daemons: {root}/gone.toml: cannot be read: No such file or directory; pass an existing, readable file\n"
    )
    assert sorted(root.rglob("*")) == before


def test_requiring_an_unknown_daemon_is_invalid_usage(root: Path) -> None:
    (root / "neo-daemons.toml").write_text(API + WEB)
    before = sorted(root.rglob("*"))
    ended = command_line("serve", "--require", "nobody", "--state-dir", root / "state", cwd=root)
    assert ended.returncode == 2
    assert ended.stderr == "neo-daemons: --require nobody: unknown daemon; configured daemons: api, web\n"
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["frobnicate"], "'frobnicate'"),
        (["serve", "--frobnicate"], "--frobnicate"),
        (["serve", "--conf", "x.toml"], "--conf"),
        ([], "COMMAND"),
        (["status", "--config", ""], "--config: empty value; expected a file"),
        (["status", "--state-dir", ""], "--state-dir: empty value; expected a directory"),
    ],
)
def test_invalid_usage_exits_with_2_and_names_the_error_last(root: Path, arguments: list[str], fault: str) -> None:
    before = sorted(root.rglob("*"))
    ended = command_line(*arguments, cwd=root)
    assert (ended.returncode, ended.stdout) == (2, "")
    *usage, last = ended.stderr.splitlines()
    assert fault in last
    assert all(line.startswith(("usage: ", " ")) for line in usage)
    assert sorted(root.rglob("*")) == before
