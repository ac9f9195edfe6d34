"""The tutorial is true: each of its files is used, and each of its commands is run."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from neo_daemons.cli.parser import command_parser
from neo_daemons.config import load

from .pages import ROOT
from .tutorial import Step, commands, run, steps

PAGE = ROOT / "docs" / "first-project.md"
STEPS = steps(PAGE)
PASSED = re.compile(r"^=+ 2 passed in", re.MULTILINE)


def file(name: str) -> str:
    """Return the content of a file of the tutorial."""
    (text,) = (step.text for step in STEPS if step.file == name)
    return text


def test_the_configuration_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "neo-daemons.toml"
    path.write_text(file("neo-daemons.toml"))
    assert {daemon.name for daemon in load(path, environ={"HOME": str(tmp_path)}).definitions} == {"chroma", "notes"}


@pytest.mark.parametrize("name", [step.file for step in STEPS if step.file and step.file.endswith(".py")])
def test_the_programs_compile(name: str) -> None:
    compile(file(name), name, "exec")


def test_the_commands_exist() -> None:
    ours = [words[1:] for words in commands(STEPS) if words[0] == "neo-daemons"]
    assert len(ours) >= 5
    for words in ours:
        command_parser(words).parse_args(words)


def test_the_options_of_pytest_exist(pytestconfig: pytest.Config) -> None:
    runs = [words[1:] for words in commands(STEPS) if words[0] == "pytest"]
    assert len(runs) == 3
    named = {word.removeprefix("--").replace("-", "_") for words in runs for word in words if word.startswith("--neo")}
    assert named == {"neo_daemons", "neo_daemons_artifacts"}
    assert named <= set(vars(pytestconfig.option))


@pytest.mark.real
def test_the_project_works_with_the_packages_that_are_here(tmp_path: Path) -> None:
    """Everything but what installs packages, and one of two runs of pytest."""
    left_out = ("mkdir", "cd", "python3", ".", "pip")
    kept = [step if step.file else Step(_without(step.text, left_out), None) for step in STEPS]
    kept = [step for step in kept if step.text.strip() != "pytest --neo-daemons\npytest --neo-daemons -n 2"]
    done = run(kept, tmp_path, {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})
    assert '\n"the cat sleeps"\n' in done


@pytest.mark.matrix
@pytest.mark.timeout(580)
def test_the_tutorial_works_literally(tmp_path: Path) -> None:
    done = run(STEPS, tmp_path, {"NEO_DAEMONS": str(ROOT), "PATH": f"{_python3(tmp_path)}:{os.environ['PATH']}"})
    assert '\n"the cat sleeps"\n' in done
    assert len(PASSED.findall(done)) == 3, done


def _without(text: str, programs: Sequence[str]) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if line.split()[0] not in programs)


def _python3(directory: Path) -> Path:
    """Return a directory in which ``python3`` is the interpreter of the tests, without their packages."""
    (directory / "bin").mkdir()
    (directory / "bin" / "python3").symlink_to(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
    return directory / "bin"
