"""The how-to pages are true: their commands are run, and the files they show do what they say."""

from __future__ import annotations

import configparser
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from neo_daemons.definitions import Definition

from .pages import ROOT
from .tutorial import commands, run, steps

DOCS = ROOT / "docs"


@pytest.mark.long
def test_two_worktrees_have_daemons_of_their_own(tmp_path: Path) -> None:
    found = steps(DOCS / "side-by-side.md")
    done = run(found, tmp_path, {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})

    (feature, main) = [line.split()[3] for line in done.splitlines() if line.startswith("web ")]
    assert feature != main
    assert f"export WEB_URL={feature}" in done
    assert done.count("and its daemons have stopped") == 2


@pytest.mark.parametrize("real", [False, True])
def test_a_test_run_takes_the_tiny_model_unless_it_is_told_otherwise(real: bool) -> None:
    (conftest,) = (step for step in steps(DOCS / "mac-and-ci.md") if step.file == "conftest.py")
    hooks: dict[str, Any] = {}
    exec(compile(conftest.text, conftest.file or "", "exec"), hooks)
    definitions = {"mlx": Definition(name="mlx", options={"model": "large"})}
    options = {"--real-model": real}

    hooks["pytest_addoption"](SimpleNamespace(addoption=lambda name, **_: options[name]))
    hooks["pytest_neo_daemons_definitions"](SimpleNamespace(getoption=options.__getitem__), definitions)

    assert definitions["mlx"].options == ({"model": "large"} if real else {})


def test_the_options_that_the_ci_passes_to_pytest_exist(pytestconfig: pytest.Config) -> None:
    found = steps(DOCS / "ci.md")
    (tox,) = (step.text for step in found if step.file == "tox.ini")
    parser = configparser.ConfigParser()
    parser.read_string(tox)
    runs = [words for words in commands(found) if words[0] == "pytest"]
    runs.append(parser["testenv"]["commands"].split())

    assert len(runs) == 3
    options = {word[2:].replace("-", "_") for words in runs for word in words if word.startswith("--neo")}
    assert options == {"neo_daemons", "neo_daemons_artifacts"}
    assert options <= set(vars(pytestconfig.option))
