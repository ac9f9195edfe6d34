"""Without ``--neo-daemons``, a configuration is found where a run with it would find it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neo_daemons.config import ConfigError, load
from pytest_neo_daemons.config_files import file_daemons

from .inner import Inner

TABLE = '.api]\ncommand = ["true"]\n'
DEEP = "x = " + "[" * 5000 + "]" * 5000 + "\n"


@pytest.mark.parametrize(
    ("name", "content", "daemons"),
    [
        ("neo-daemons.toml", f"[daemons{TABLE}", ["api"]),
        ("neo-daemons.toml", f"\ufeff[daemons{TABLE}", ["api"]),
        ("neo-daemons.toml", "[daemons.api", []),
        ("neo-daemons.toml", f"[daemons{TABLE}".encode("utf-16"), []),
        ("neo-daemons.toml", DEEP, []),
        ("neo-daemons.toml", "daemons = 'api'\n", []),
        ("pyproject.toml", f"[tool.neo_daemons.daemons{TABLE}", ["api"]),
        ("pyproject.toml", f"\ufeff[tool.neo_daemons.daemons{TABLE}", ["api"]),
        ("pyproject.toml", f'[tool."neo_daemons".daemons{TABLE}', ["api"]),
        ("pyproject.toml", f"[tool . neo_daemons . daemons{TABLE}", ["api"]),
        ("pyproject.toml", "[tool]\nneo_daemons = { daemons = { api = { command = ['true'] } } }\n", ["api"]),
        ("pyproject.toml", "[project]\nname = 'neo_daemons'\n", None),
        ("pyproject.toml", "tool = 'neo_daemons'\n", None),
        ("pyproject.toml", f"# neo_daemons\n{DEEP}", []),
        ("pyproject.toml", DEEP, None),
    ],
)
def test_daemons_are_read_from_the_file_that_a_run_would_load(
    tmp_path: Path, name: str, content: str | bytes, daemons: list[str] | None
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert file_daemons(path) == daemons
    try:
        configuration = load(directory=tmp_path)
    except ConfigError:
        assert daemons == []
    else:
        assert configuration.source == (None if daemons is None else path)
        assert daemons is None or [definition.name for definition in configuration.definitions] == daemons


def test_an_unreadable_configuration_still_counts_as_found(tmp_path: Path) -> None:
    (tmp_path / "neo-daemons.toml").symlink_to("nowhere")
    assert file_daemons(tmp_path / "neo-daemons.toml") == []
    with pytest.raises(ConfigError):
        load(directory=tmp_path)


def test_without_the_flag_a_configuration_that_crashes_the_parser_does_not_end_the_run(inner: Inner) -> None:
    inner.write("test_plain.py", "def test_plain(): pass\n")
    inner.write("below/test_plain.py", "def test_plain(): pass\n")
    inner.write("below/neo-daemons.toml", DEEP)
    (inner.root / "below" / "deep").mkdir()
    os.symlink("neo-daemons.toml", inner.root / "below" / "deep" / "neo-daemons.toml")
    outcome = inner.run("--import-mode=importlib", on=False)
    assert outcome.counts() == {"passed": 2}, outcome.text
