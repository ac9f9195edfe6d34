"""Completion in a real bash, which runs the program for each Tab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from neo_daemons.cli import main
from neo_daemons.cli.completion import configured

from .terminal import Terminal

TRY = r"""
eval "$(neo-daemons completion bash)"
while IFS= read -r COMP_LINE; do
    COMP_POINT=${#COMP_LINE} COMP_TYPE=9 COMPREPLY=()
    _python_argcomplete neo-daemons "${COMP_LINE##* }" "" </dev/null
    echo "${COMPREPLY[*]%% }"
done
"""
"""Calls what the shell calls for a Tab, and prints what it would offer."""


def offered(project: Path, lines: list[str]) -> list[set[str]]:
    """Return what bash offers after each of these lines."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    answer = subprocess.run(
        [bash, "--norc", "-c", TRY],
        input="".join(f"{line}\n" for line in lines),
        cwd=project,
        env={**os.environ, "PATH": path},
        text=True,
        capture_output=True,
        timeout=120,
        check=True,
    )
    return [set(line.split()) for line in answer.stdout.splitlines()]


@pytest.mark.long
def test_bash_completes_commands_options_daemons_and_groups(tmp_path: Path) -> None:
    (tmp_path / "neo-daemons.toml").write_text(
        '[daemons.db]\ncommand = ["db"]\ngroups = ["storage"]\n[daemons.web]\ncommand = "an error does not matter"\n'
    )
    wanted: Mapping[str, set[str]] = {
        "neo-daemons st": {"start", "status", "stop"},
        "neo-daemons up ": {"db", "web", "@storage"},
        "neo-daemons up @s": {"@storage"},
        "neo-daemons why d": {"db"},
        "neo-daemons serve --only db --require w": {"web"},
        "neo-daemons status --j": {"--json"},
        "neo-daemons env --format d": {"dotenv"},
        "neo-daemons events -n ": set(),
    }
    assert dict(zip(wanted, offered(tmp_path, [*wanted]), strict=True)) == wanted


@pytest.mark.long
def test_a_tab_completes_a_group_with_its_mark(tmp_path: Path) -> None:
    """For bash an @ ends a word, but not one that begins with it: the @ was replaced as well."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    (tmp_path / "neo-daemons.toml").write_text('[daemons.db]\ncommand = ["db"]\ngroups = ["storage"]\n')
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = "import os; os.execvp('bash', ['bash', '--norc', '--noprofile', '-i'])"
    terminal = Terminal(["-c", shell], tmp_path, {**os.environ, "PATH": path, "PS1": "$ "})
    try:
        terminal.shows("$ ")
        terminal.type('eval "$(neo-daemons completion bash)"; echo complete""d\n')
        terminal.shows("completed")
        terminal.type("neo-daemons up @s\t")
        terminal.shows("neo-daemons up @storage ")
    finally:
        terminal.close()


def test_names_are_those_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert configured(None) == (["chroma", "bridge", "mlx"], [])
    (tmp_path / "neo-daemons.toml").write_text("[daemons]\napi = 3\ndb = { groups = [3, 'x'] }\n")
    assert configured(None) == (["api", "db"], ["x"])
    (tmp_path / "neo-daemons.toml").write_text("[")
    assert configured(None) == ([], [])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "neo-daemons" in capsys.readouterr().out


def test_no_other_command_loads_it() -> None:
    code = (
        "import sys\nfrom neo_daemons.cli import main\n"
        "main(['status', '--state-dir', '/nowhere/at-all'])\n"
        "print([name for name in ('argcomplete', 'difflib', 'rich', 'shutil') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, timeout=120, check=True)
    assert done.stdout == "[]\n", done.stderr
