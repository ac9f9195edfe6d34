"""Warm sessions: which of them there are, why one was not used again, and that none runs old code unnoticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.harness import PATIENCE_S

from .inner import Inner

pytestmark = pytest.mark.long

KEEP = ("--neo-daemons-keep", "60s")
TEST = "def test_api(api): pass\n"
NOISE = (
    "TMUX_PANE", "VSCODE_IPC_HOOK", "KITTY_WINDOW_ID", "DIRENV_DIFF", "INVOCATION_ID", "GPG_TTY", "WT_SESSION",
    "ITERM_SESSION_ID", "ALACRITTY_LOG", "WEZTERM_PANE", "JOURNAL_STREAM", "SSH_TTY", "COLORTERM", "PS1", "MAKELEVEL",
    "P9K_SSH", "_P9K_TTY", "FNM_MULTISHELL_PATH", "__MISE_SESSION", "GIT_ASKPASS", "PYTHONSTARTUP", "DEBUGPY_RUNNING",
    "ELECTRON_RUN_AS_NODE", "CHROME_DESKTOP", "PYTHONHASHSEED", "CLAUDECODE",
)  # fmt: skip


def command(inner: Inner, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "neo_daemons", "sessions", *arguments],
        cwd=inner.root,
        env=inner.env,
        text=True,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_a_changed_file_replaces_the_warm_daemons_that_watch_it(inner: Inner) -> None:
    inner.write("src/app.py", "version = 1\n")
    inner.configure(api=inner.toy("src/app.py", watch=["src/**/*.py"]), other=inner.toy())
    inner.write("test_warm.py", "def test_both(api, other): pass\n")
    assert inner.run(*KEEP).counts() == {"passed": 1}, inner.output()
    assert inner.run(*KEEP).counts() == {"passed": 1}, inner.output()
    assert inner.starts() == 2
    assert "may run old code" not in inner.output()
    inner.write("src/app.py", "version = 2\n")
    third = inner.run(*KEEP)
    assert third.counts() == {"passed": 1}, third.text
    assert inner.starts() == 3
    assert "api, kept warm by an earlier run, was updated: src/app.py changed" in third.text
    inner.end_warm()


def test_the_header_names_daemons_that_run_files_of_the_project_and_watch_none(inner: Inner) -> None:
    for name in ("start.sh", "app/__init__.py", "src/jobs/main.py", "venv/pyvenv.cfg", "venv/bin/tool"):
        inner.write(name, "")
    inner.configure(
        script=inner.toy("./start.sh"),
        package=inner.toy("-m", "app"),
        module=inner.toy("jobs.main:run"),
        whole=inner.toy("${project}/start.sh"),
        watching=inner.toy("./start.sh", watch=["start.sh"]),
        elsewhere=inner.toy("/etc/passwd", "no-such.sh", "no_such:app"),
        tool=inner.toy("venv/bin/tool", "src", "${name}.sh"),
    )
    inner.write("test_warm.py", "def test_all(script, package, module, whole, watching, elsewhere, tool): pass\n")
    for _ in range(2):
        assert inner.run(*KEEP).counts() == {"passed": 1}, inner.output()
    assert "script, package, module, whole may run old code" in inner.output()
    inner.end_warm()


def test_noise_of_terminals_and_editors_does_not_end_a_session(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("test_warm.py", TEST)
    inner.env |= dict.fromkeys(NOISE[::2], "1")
    assert inner.run(*KEEP).counts() == {"passed": 1}, inner.output()
    for name in NOISE[::4]:
        del inner.env[name]
    inner.env |= dict.fromkeys(NOISE[1:], "2")
    assert inner.run(*KEEP).counts() == {"passed": 1}, inner.output()
    assert inner.starts() == 1
    inner.end_warm()


def test_what_is_not_compared_is_passed_on_and_what_is_compared_counts(inner: Inner) -> None:
    passed = dict.fromkeys(("PROMPT", "WARP_FACTOR", "CURSOR_API_KEY", "VIM", "VSCODE_PID"), "treasure")
    inner.env |= {**passed, "PYTEST_THING": "1", "TERM": "dumb"}
    inner.configure(api=inner.toy())
    inner.write(
        "test_warm.py",
        f"""
        import pathlib

        def test_api(api):
            found = pathlib.Path(f"/proc/{{api.pid}}/environ").read_text().split(chr(0))
            assert {{f"{{name}}=treasure" for name in {[*passed]}}} <= {{*found}}
            assert not [text for text in found if text.startswith(("PYTEST_", "TERM="))]
        """,
    )
    assert inner.run(*KEEP).counts() == {"passed": 1}, inner.output()
    del inner.env["PROMPT"]
    inner.env["CURSOR_API_KEY"] = "other"
    second = inner.run(*KEEP)
    assert "environment variable changed: CURSOR_API_KEY; environment variable removed: PROMPT" in second.text
    inner.end_warm()


def test_the_header_names_the_variables_that_differ_and_never_their_values(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("test_warm.py", TEST)
    inner.env |= {"API_TOKEN": "treasure-1", "GOES": "treasure-2"}
    assert inner.run(*KEEP).counts() == {"passed": 1}, inner.output()
    for path in inner.tmp.glob("neo-daemons-*/warm-*/session.json"):
        assert "treasure" not in path.read_text()
    del inner.env["GOES"]
    inner.env |= {"API_TOKEN": "treasure-3", **{f"NEW_{number}": "treasure-4" for number in range(9)}}
    second = inner.run(*KEEP)
    assert second.counts() == {"passed": 1}, second.text
    assert "treasure" not in second.text
    line = next(line for line in second.text.splitlines() if line.startswith("neo-daemons: "))
    assert line == (
        "neo-daemons: api, started on demand; those kept warm by an earlier run were not used: environment variable "
        "changed: API_TOKEN; environment variables added: NEW_0, NEW_1, NEW_2, NEW_3, NEW_4, NEW_5 and 3 more; "
        "environment variable removed: GOES"
    )
    listed = command(inner).stdout
    assert "started because an earlier one could not be used: environment variable changed: API_TOKEN" in listed
    assert "treasure" not in listed
    inner.end_warm()


def test_a_session_of_another_version_is_not_used(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("test_warm.py", TEST)
    assert inner.run(*KEEP).counts() == {"passed": 1}, inner.output()
    (path,) = inner.tmp.glob("neo-daemons-*/warm-*/session.json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "version": "0.0.1"}))
    second = inner.run(*KEEP)
    assert "not used: the version of neo-daemons changed (0.0.1 → " in second.text
    path.write_text(json.dumps({**record, "environment": "0123456789abcdef"}))
    third = inner.run(*KEEP)
    assert "not used: its file is missing, or another version has written it" in third.text
    assert inner.starts() == 3
    inner.end_warm()


def test_sessions_lists_those_that_are_kept_warm_and_ends_them(inner: Inner) -> None:
    assert command(inner).stdout == "no session is kept warm\n"
    assert list(inner.tmp.iterdir()) == []
    inner.configure(api=inner.toy(), unused=inner.toy())
    inner.write("test_warm.py", TEST)
    assert inner.run("--neo-daemons-keep", "10m").counts() == {"passed": 1}, inner.output()
    listed = command(inner)
    assert listed.returncode == 0, listed.stderr
    head, rest = listed.stdout.splitlines()
    name, _, root = head.partition("  ")
    assert (name[:5], root) == ("warm-", str(inner.root))
    assert rest.startswith("  kept for 10m 0s after a run, age ")
    assert rest.endswith("MB, daemons: api")
    (told,) = json.loads(command(inner, "--json").stdout)
    assert (told["name"], told["project"], told["daemons"]) == (name, str(inner.root), ["api"])
    assert (told["in_use"], told["replaced"], told["keep_s"]) == (False, None, 600)
    assert told["bytes"] > 0
    assert told["age_s"] >= 0
    wrong = command(inner, "--end", "warm-nothing")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "no warm session warm-nothing" in wrong.stderr
    assert len(inner.supervisors()) == 1
    ended = command(inner, "--end", name)
    assert (ended.returncode, ended.stdout) == (0, f"ended {name} ({inner.root})\n"), ended.stderr
    assert inner.left() == []
    assert command(inner, "--end").stdout == "no session is kept warm\n"


def test_a_session_that_a_run_uses_is_not_ended(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_warm.py",
        """
        import pathlib, time

        def test_long(api):
            pathlib.Path("here").touch()
            deadline = time.monotonic() + 60
            while not pathlib.Path("go").exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
        """,
    )
    run = inner.popen(*KEEP)
    inner.reaches("here")
    assert "in use by a run" in command(inner).stdout
    refused = command(inner, "--end")
    assert refused.returncode == 1
    assert "not ended: a run is using it" in refused.stderr
    other = inner.popen("--co", "-q", *KEEP)  # lists only: it takes no session
    assert inner.end(other).code == 0
    (inner.root / "go").touch()
    assert run.wait(PATIENCE_S) == 0
    assert command(inner, "--end").returncode == 0
    assert inner.left() == []


def test_a_variable_that_is_not_utf_8_can_be_told_apart(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("test_warm.py", TEST)
    inner.env["ODD"] = os.fsdecode(b"\xff\xfe")
    for _ in range(2):
        assert inner.run(*KEEP).counts() == {"passed": 1}, inner.output()
    assert inner.starts() == 1
    inner.env["ODD"] = os.fsdecode(b"\xff\xfd")
    assert "environment variable changed: ODD" in inner.run(*KEEP).text
    inner.end_warm()
