"""``neo-daemons env``: what the daemons export, as shells and files take it."""

from __future__ import annotations

import json
import subprocess

import pytest

from neo_daemons.cli.env import FORMATS
from neo_daemons.cli.parser import command_parser
from tests.harness import Project, toy

ODD = {
    "PLAIN": "http://127.0.0.1:8000/a?b=c",
    "EMPTY": "",
    "SPACED": "two words",
    "QUOTED": 'it\'s "that" \\ $HOME `id` ; # no',
    "LINES": "one\ntwo\n",
    "UMLAUT": "grün",
}


@pytest.fixture
def running(project: Project) -> Project:
    project.configure(
        api=toy(exports={"API_URL": "http://${host}:${port}", "ODD": ODD["QUOTED"].replace("$", "$$")}),
        other=toy(exports={"OTHER": "1", "API_NAME": "${name}"}),
        idle=toy(enabled=False, exports={"IDLE_URL": "${port}"}),
        silent=toy(),
    )
    project.serve()
    for name in ("api", "other", "silent"):
        project.reaches(name, "ready")
    return project


def test_a_shell_gets_what_the_daemons_export(running: Project) -> None:
    port = running.daemon("api").ports["main"]
    told = running.run("env", "api", "other").stdout
    script = f'{told}\nprintf "%s\\n" "$API_URL" "$ODD" "$OTHER" "$API_NAME"'
    shown = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout
    assert shown == f"http://127.0.0.1:{port}\n{ODD['QUOTED']}\n1\nother\n"


def test_json_has_the_variables_of_all_daemons(running: Project) -> None:
    told = json.loads(running.run("env", "--format", "json").stdout)
    assert {"API_URL", "ODD", "OTHER", "API_NAME"} <= told.keys()
    assert told["ODD"] == ODD["QUOTED"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nobody",), "unknown daemon 'nobody'; configured daemons: api, idle, other, silent"),
        (("silent",), "silent exports no variables; add exports to its definition"),
    ],
)
def test_what_cannot_be_printed_is_one_clear_error(running: Project, arguments: tuple[str, ...], words: str) -> None:
    outcome = running.run("env", *arguments)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert words in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_two_values_of_one_variable_are_an_error_until_one_daemon_is_named(project: Project) -> None:
    project.configure(one=toy(exports={"URL": "1"}), two=toy(exports={"URL": "2", "SAME": "x"}))
    project.serve()
    outcome = project.run("env")
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert "one and two both export URL, with different values; name one of them" in outcome.stderr
    assert project.run("env", "two", "--format=dotenv").stdout == "URL=2\nSAME=x\n"


def test_without_a_supervisor_it_says_so(project: Project) -> None:
    project.configure(api=toy(exports={"URL": "1"}))
    outcome = project.run("env")
    assert (outcome.returncode, outcome.stdout) == (3, "")


def test_every_format_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_parser(["env", "--help"]).parse_args(["env", "--help"])
    assert f"{{{','.join(FORMATS)}}}" in capsys.readouterr().out


def test_sh_gives_back_every_value() -> None:
    script = FORMATS["sh"](ODD) + "".join(f'printf "%s\\0" "${name}"\n' for name in ODD)
    shown = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout
    assert shown.split("\0")[:-1] == [*ODD.values()]


def test_other_formats_quote_as_their_readers_read() -> None:
    few = {name: ODD[name] for name in ("PLAIN", "EMPTY", "SPACED", "QUOTED")}
    quoted = "'it\\'s \"that\" \\\\ $HOME `id` ; # no'"
    assert FORMATS["fish"](few).splitlines() == [
        "set -gx PLAIN 'http://127.0.0.1:8000/a?b=c'",
        "set -gx EMPTY ''",
        "set -gx SPACED 'two words'",
        f"set -gx QUOTED {quoted}",
    ]
    assert FORMATS["dotenv"](few).splitlines() == [
        "PLAIN='http://127.0.0.1:8000/a?b=c'",
        "EMPTY=",
        "SPACED='two words'",
        f"QUOTED={quoted}",
    ]
    assert json.loads(FORMATS["json"](ODD)) == ODD


def test_the_file_of_github_takes_lines_between_two_words() -> None:
    first, line, other, end, last = FORMATS["github"]({"LINES": "one\ntwo", "PLAIN": "x"}).splitlines()
    name, _, word = first.partition("<<")
    assert (name, line, other, end, last) == ("LINES", "one", "two", word, "PLAIN=x")
    assert len(word) > 16
