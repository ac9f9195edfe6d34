"""How chroma is found."""

from __future__ import annotations

from importlib import metadata

import pytest

from neo_daemons.catalog import installed
from neo_daemons.definitions import (
    CannotRun,
    Launch,
)

from .machine import PIP, Machine, needed, program


def test_chroma_is_found_on_path(machine: Machine) -> None:
    (script,) = machine.install("chroma")
    assert machine.locate("chroma") == Launch(
        command=(str(script), "run", "--path", "${data_dir}", "--host", "${host}", "--port", "${port}"),
        env={"CHROMA_SERVER_HTTP_PORT": "${port}"},
    )


def test_chroma_beside_this_interpreter_goes_first_and_has_a_version(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.install("chroma")
    script = program(machine.scripts / "chroma")
    monkeypatch.setattr(metadata, "version", {"chromadb": "1.2.3"}.__getitem__)
    launch = machine.finds("chroma")
    assert (launch.command[0], launch.version) == (str(script), "1.2.3")


def test_a_version_that_is_not_recorded_is_not_made_up(machine: Machine) -> None:
    assert installed.installed_version("no-such-distribution", program(machine.scripts / "chroma")) is None


def test_without_chroma_the_remedy_installs_it_here(machine: Machine) -> None:
    (machine.path / "chroma").write_text("not executable")
    assert machine.locate("chroma") == CannotRun(
        reason="chromadb is not installed in this environment, and chroma is not on PATH",
        remedy=f'{PIP} "{needed("chroma", "chromadb")}"',
    )


def test_a_relative_directory_on_path_gives_an_absolute_program(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (script,) = machine.install("chroma")
    monkeypatch.chdir(machine.path.parent)
    machine.environ["PATH"] = "bin"
    assert machine.finds("chroma").command[0] == str(script)
