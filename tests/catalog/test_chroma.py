"""How chroma is found."""

from __future__ import annotations

import json
from importlib import metadata

import pytest

from neo_daemons.catalog import installed
from neo_daemons.config import ConfigError
from neo_daemons.definitions import (
    CannotRun,
    Launch,
)
from neo_daemons.references import expand

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
        missing=True,
    )


def test_a_relative_directory_on_path_gives_an_absolute_program(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (script,) = machine.install("chroma")
    monkeypatch.chdir(machine.path.parent)
    machine.environ["PATH"] = "bin"
    assert machine.finds("chroma").command[0] == str(script)


SETTINGS = """
settings = { allow_reset = true, cors_allow_origins = ["a$b"], sqlitedb = { hash_type = "md5" }, max_payload = 5 }
"""


def test_settings_become_a_file_and_override_the_variables_of_the_shell(machine: Machine) -> None:
    (script,) = machine.install("chroma")
    launch = machine.finds("chroma", SETTINGS)
    ((path, content),) = launch.files.items()
    assert launch.command == (str(script), "run", path)
    assert path == "${data_dir}/.neo-daemons-settings.yaml"
    assert json.loads(expand(content, {})) == {
        "allow_reset": True,
        "cors_allow_origins": ["a$b"],
        "sqlitedb": {"hash_type": "md5"},
        "max_payload": 5,
    }
    assert launch.env == {
        "CHROMA_SERVER_HTTP_PORT": "${port}",
        "CHROMA_PORT": "${port}",
        "CHROMA_LISTEN_ADDRESS": "${host}",
        "CHROMA_PERSIST_PATH": "${data_dir}",
        "CHROMA_ALLOW_RESET": "true",
        "CHROMA_CORS_ALLOW_ORIGINS": '["a$$b"]',
        "CHROMA_SQLITEDB__HASH_TYPE": '"md5"',
        "CHROMA_MAX_PAYLOAD": "5",
    }


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("settings = true", "settings = true: expected a table; use a table, e.g. { allow_reset = true }"),
        ("settings = { port = 1 }", "settings.port = 1: is set by daemons.chroma.port; remove it, and set"),
        ("settings = { persist_path = 'x' }", "settings.persist_path = 'x': is set by daemons.chroma.data_dir; remove"),
        ("settings = { a = { b = [1, 2020-01-01] } }", "settings.a.b[1] = 2020-01-01: dates are not supported; put it"),
        ("command = ['x']\nsettings = { a = 1 }", "settings: has no effect together with command; remove one of the"),
        ("external = 'http://x'\nsettings = { a = 1 }", "settings: has no effect together with external; remove one"),
    ],
)
def test_wrong_settings_are_refused(machine: Machine, settings: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        machine.locate("chroma", settings)
    assert f"daemons.chroma.{says}" in str(caught.value)


def test_only_chroma_has_settings(machine: Machine) -> None:
    with pytest.raises(ConfigError, match=r"daemons\.mlx\.settings = .*: unknown key"):
        machine.locate("mlx", "settings = { a = 1 }")
