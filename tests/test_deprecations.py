"""What is deprecated works as before, and is announced where its users look."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from neo_daemons import deprecations
from neo_daemons.cli import inspect
from neo_daemons.cli.requirements import load_with_requirements
from neo_daemons.config import load
from neo_daemons.deprecations import Deprecation

OLD = Deprecation("0.3", "0.4", "use something else")
SAID = "is deprecated since 0.3, and 0.4 will not have it; use something else"
KEYS = {"parallel": OLD, "daemons.*.log.keep": OLD, "daemons.*.ready.timeout_s": OLD}
CONFIGURATION = """
parallel = 3

[daemons.a]
command = ["sleep", "1000"]
log = { keep = 1 }

[daemons.b]
command = ["sleep", "1000"]
port = "auto"
ready = [{ type = "tcp" }, { type = "http", timeout_s = 3 }]
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(deprecations, "KEYS", KEYS)
    file = tmp_path / "neo-daemons.toml"
    file.write_text(CONFIGURATION)
    return file


def options(file: Path) -> argparse.Namespace:
    return argparse.Namespace(config=file, state_dir=file.parent / "state", require=[], tests=False)


def test_deprecated_keys_are_found_and_still_work(file: Path) -> None:
    configuration = load(file)
    assert configuration.deprecations == (
        f"{file}: parallel {SAID}",
        f"{file}: daemons.a.log.keep {SAID}",
        f"{file}: daemons.b.ready.timeout_s {SAID}",
    )
    assert (configuration.parallel, configuration.definitions[0].log.keep) == (3, 1)


def test_keys_of_pyproject_are_named_as_they_stand_there(file: Path) -> None:
    pyproject = file.with_name("pyproject.toml")
    pyproject.write_text("[tool.neo_daemons]\nparallel = 3\n")
    assert load(pyproject).deprecations == (f"{pyproject}: tool.neo_daemons.parallel {SAID}",)


def test_commands_say_so_on_standard_error(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_with_requirements(options(file))
    said = capsys.readouterr()
    assert (said.out, said.err.count(SAID)) == ("", 3)
    assert said.err.startswith(f"neo-daemons: {file}: parallel is deprecated")


def test_the_doctor_notes_it_and_has_found_no_problem(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect.doctor(options(file)) == 0
    assert f"note     configuration: {file}: parallel {SAID}" in capsys.readouterr().out


def test_callers_of_what_is_deprecated_in_python_are_warned() -> None:
    def old() -> None:
        deprecations.warn("old()", OLD)

    with pytest.warns(DeprecationWarning, match=r"old\(\) is deprecated since 0\.3") as caught:
        old()
    assert caught[0].filename == __file__


def test_nothing_is_said_of_a_configuration_without_such_keys(tmp_path: Path) -> None:
    file = tmp_path / "neo-daemons.toml"
    file.write_text(CONFIGURATION)
    assert load(file).deprecations == ()
