"""The parser of the command line knows no more than it has to, and nobody notices."""

from __future__ import annotations

import pytest

from neo_daemons.cli.parser import COMMANDS, command_parser


def test_a_stated_command_is_the_only_one_that_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_parser(["status"]).parse_args(["why", "api"])
    assert "invalid choice: 'why' (choose from" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["statsu"], ["--help"]], ids=" ".join)
def test_without_a_known_command_all_are_named(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_parser(given).parse_args(given)
    said = "".join(capsys.readouterr())
    assert [name for name in COMMANDS if name not in said] == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_names_itself_in_its_usage(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_parser([name, "--help"]).parse_args([name, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: neo-daemons {name} ")
