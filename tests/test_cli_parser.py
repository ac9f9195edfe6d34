"""The parser of the command line knows no more than it has to, and nobody notices."""

from __future__ import annotations

import argparse
import re
import shlex

import pytest

from neo_daemons.cli import formatters, main
from neo_daemons.cli.examples import EXAMPLES
from neo_daemons.cli.parser import COMMANDS, command_parser


def test_a_stated_command_is_the_only_one_that_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_parser(["status"]).parse_args(["why", "api"])
    assert "invalid choice: 'why' (choose from" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["xyzzy"], ["--help"]], ids=" ".join)
def test_without_a_known_command_all_are_named(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_parser(given).parse_args(given)
    said = "".join(capsys.readouterr())
    assert [name for name in COMMANDS if name not in said] == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["statsu"], "error: unknown command 'statsu'; did you mean status?"),
        (["status", "--jsn"], "error: unrecognized arguments: --jsn; did you mean --json?"),
        (["status", "--xyz"], "error: unrecognized arguments: --xyz"),
        (["--verison"], "error: unknown option --verison; did you mean --version?"),
        (["--json", "status"], "error: unknown option --json; options follow the command"),
    ],
    ids=" ".join,
)
def test_a_mistyped_command_or_option_gets_a_suggestion(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(given)
    assert (caught.value.code, capsys.readouterr().err.splitlines()[-1].partition(": ")[2]) == (2, said)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_has_examples_which_can_be_parsed_in_80_columns(name: str) -> None:
    lines = EXAMPLES[name].splitlines()
    assert all(len(line) <= 78 for line in lines), lines
    for line in lines:
        words = shlex.split(re.split(r" {2,}| \|{1,2} | > |\)\"", line.removeprefix('eval "$('))[0])
        assert words[:2] == ["neo-daemons", name]
        assert command_parser(words[1:]).parse_args(words[1:]).command == name
    assert EXAMPLES.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_names_itself_in_its_help_which_fits_80_columns(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command_parser([name, "--help"]).parse_args([name, "--help"])
    out = capsys.readouterr().out
    assert out.startswith(f"usage: neo-daemons {name} ")
    assert [line for line in out.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("columns", ["40", " 60 ", "200", "0", "-5", "wide", None])
def test_help_is_as_wide_as_argparse_would_make_it(columns: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", columns)
    for ours, theirs in (
        (formatters.plain_help, argparse.HelpFormatter),
        (formatters.command_help, argparse.RawDescriptionHelpFormatter),
    ):
        texts = []
        for formatter in (ours, theirs):
            parser = argparse.ArgumentParser(prog="neo", description="long " * 60, formatter_class=formatter)
            parser.add_argument("--option", help="word " * 60)
            texts.append(parser.format_help())
        assert texts[0] == texts[1]
