"""The changelog is read by tools, and the version stands in one place."""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path
from typing import Any

import keepachangelog
import pytest

from neo_daemons.cli.parser import command_parser
from neo_daemons.version import VERSION

from .release import differences

ROOT = Path(__file__).parents[1]
CHANGELOG = ROOT / "CHANGELOG.md"
CATEGORIES = {"added", "changed", "deprecated", "removed", "fixed", "security"}


@pytest.fixture
def versions() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = keepachangelog.to_dict(str(CHANGELOG), show_unreleased=True)
    return found


def test_each_version_has_a_date_and_known_categories(versions: dict[str, dict[str, Any]]) -> None:
    assert next(iter(versions)) == "unreleased"
    for name, content in versions.items():
        date = content["metadata"]["release_date"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", date) if name != "unreleased" else date is None
        assert content.keys() - {"metadata"} <= CATEGORIES


def test_the_newest_version_is_this_one_or_before_it(versions: dict[str, dict[str, Any]]) -> None:
    released = [tuple(map(int, name.split("."))) for name in versions if name != "unreleased"]
    assert released == sorted(released, reverse=True)
    assert not released or released[0] <= tuple(map(int, VERSION.split(".")))


def test_the_changelog_names_every_command() -> None:
    parser = command_parser([])
    (commands,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    (item,) = re.findall(r"^\* \*\*Commands\*\*: ((?:.*\n)(?:  .*\n)*)", CHANGELOG.read_text(), re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", item)) == sorted(commands.choices)


def test_the_version_is_stated_once() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        assert {*re.findall(r"neo_daemons-([0-9][^-]*)-py3", page.read_text())} <= {VERSION}, page
    found = subprocess.run(
        ["git", "grep", "-l", "-F", f'"{VERSION}"', "--", "neo_daemons", "pytest_neo_daemons", "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode > 1:
        pytest.skip("this is no checkout")
    assert found.stdout.split() == ["neo_daemons/version.py"]


def test_a_file_too_many_and_one_too_few_are_named() -> None:
    assert differences({"a", "b"}, {"b", "c"}) == ["missing: c", "not tracked by git: a"]
    assert differences({"a"}, {"a"}) == []
