"""The unit of a supervisor says to systemd what it is meant to say, whatever the paths are."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from neo_daemons.render.installation import HEADER, Installation, NotExpressible, name_of
from neo_daemons.render.systemd import render

pytestmark = pytest.mark.long

ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze, the judge, is not installed")
PYTHON = "/usr/bin/env"  # any program that is there: systemd-analyze looks
AWKWARD = [
    "a b",
    "100%",
    "$HOME",
    "${x}",
    "%h",
    "it's",
    'say "hi"',
    "back\\slash",
    "end\\",
    "end ",
    "-x",
    "ü",
    "a=b",
    "日",
    ";",
    "@a",
    "~",
    "#",
]


def installation(**changes: Any) -> Installation:
    values: dict[str, Any] = {
        "name": "neo-daemons-x",
        "root": "/srv/project",
        "state_dir": "/srv/project/.neo-daemons",
        "interpreter": PYTHON,
    }
    return Installation(**{**values, **changes})


def unit(one: Installation) -> str:
    return render(one)[f"{one.name}.service"]


def assigned(text: str, key: str) -> list[str]:
    """The values that a unit gives to a key, as systemd joins and strips its lines: systemd.syntax(7)."""
    lines = re.sub(r"\\\n", " ", text).split("\n")
    return [line.partition("=")[2].strip(" \t") for line in lines if line.startswith(f"{key}=")]


def words(value: str, *, specifiers: bool = True) -> list[str]:
    """The words of a value, as systemd takes them apart: its quotes, its escapes, then its specifiers."""
    found: list[str] = []
    word, quote, position = None, "", 0
    while position < len(value):
        character = value[position]
        position += 1
        if character == "\\":
            assert position < len(value), "an escape at the end"
            escaped = value[position]
            position += 1
            assert escaped in "\\\"'", f"an escape that systemd reads otherwise: {escaped}"
            word = (word or "") + escaped
        elif quote and character == quote:
            quote = ""
        elif not quote and character in "\"'":
            word, quote = word or "", character
        elif not quote and character in " \t":
            found += [] if word is None else [word]
            word = None
        else:
            word = (word or "") + character
    assert not quote, "a quote that nothing closes"
    found += [] if word is None else [word]
    return [expand(word) for word in found] if specifiers else found


def expand(text: str) -> str:
    """A text after the replacement of specifiers."""
    assert not re.search(r"(?<!%)(%%)*%(?!%)", text), f"a specifier: {text}"
    return text.replace("%%", "%")


def command(value: str) -> list[str]:
    """The arguments that systemd calls a program with."""
    unquoted = re.sub(r'"(?:\\.|[^"\\])*"', '""', value)
    assert not re.search(r"(^| );( |$)", unquoted), "an end of the command"
    program, *arguments = words(value)
    assert program.startswith(":"), "variables are replaced"
    assert not set(program) & set("'\"\\"), "systemd refuses such a program"
    if program == ":/usr/bin/env" and arguments[:1] != ["-P"]:
        assert "=" not in arguments[0], "an assignment"
        return arguments
    return [program[1:], *arguments]


def verify(directory: Path, units: Sequence[str], *options: str) -> str:
    """What systemd has to complain of. It starts nothing, and needs no running systemd."""
    files = []
    for number, text in enumerate(units):
        files.append(directory / f"unit-{number}.service")
        files[-1].write_text(text)
    assert ANALYZE is not None
    done = subprocess.run(
        [ANALYZE, "verify", "--man=no", "--recursive-errors=no", *options, *files],
        env={"XDG_RUNTIME_DIR": str(directory), "PATH": "/usr/bin:/bin", "HOME": str(directory)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr + (f"exit code {done.returncode}" if done.returncode else "")


def is_noncharacter(character: str) -> bool:
    code = ord(character)
    return 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE


CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"]).filter(lambda character: not is_noncharacter(character))
TEXT = st.text(CHARACTERS | st.sampled_from("%$\\\"' ;:@~#-"), max_size=12)
PATHS = st.lists(st.sampled_from(AWKWARD) | TEXT.map(lambda t: t.replace("/", "")), min_size=1, max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("units")


@given(root=PATHS, state_dir=PATHS, config=st.none() | PATHS, interpreter=PATHS, value=TEXT)
@example(root="/a ; b", state_dir="/ ; ", config=None, interpreter="/ ; ", value=" ; ")
@settings(derandomize=True, deadline=None, max_examples=300)
def test_the_commands_reach_python_unchanged(
    root: str, state_dir: str, config: str | None, interpreter: str, value: str
) -> None:
    one = installation(root=root, state_dir=state_dir, config=config, interpreter=interpreter, env={"A": value})
    if "=" in interpreter and set(interpreter) & set("'\"\\"):
        with pytest.raises(NotExpressible, match="without quotes"):
            unit(one)
        return
    text = unit(one)
    for key, verb in (("ExecStart", "serve"), ("ExecReload", "reload")):
        (found,) = assigned(text, key)
        options = ["--state-dir", state_dir, *(["--config", config] if config is not None else [])]
        assert command(found) == [interpreter, "-P", "-m", "neo_daemons", verb, *options]
    (found,) = assigned(text, "WorkingDirectory")
    assert expand(found).rstrip("/") == root.rstrip("/")
    (found,) = assigned(text, "Environment")
    assert words(found) == [f"A={value}"]
    (found,) = assigned(text, "RequiresMountsFor")
    assert words(found) == [state_dir]


@needs_systemd
@given(paths=st.lists(st.tuples(PATHS, PATHS, st.none() | PATHS, TEXT), min_size=10, max_size=30))
@settings(derandomize=True, deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))
def test_systemd_finds_no_fault_in_any_path(directory: Path, paths: list[tuple[str, str, str | None, str]]) -> None:
    units = [
        unit(installation(root=root, state_dir=state_dir, config=config, env={"A": value}))
        for root, state_dir, config, value in paths
    ]
    assert verify(directory, units) == ""


@needs_systemd
@pytest.mark.parametrize("name", AWKWARD)
def test_systemd_finds_the_interpreter_whatever_its_path(tmp_path: Path, name: str) -> None:
    interpreter = tmp_path / name / "python"
    interpreter.parent.mkdir()
    text = unit(installation(interpreter=str(interpreter)))
    if not set(str(interpreter)) & set("'\"\\"):
        assert f"Command {interpreter} is not executable" in verify(tmp_path, [text])
    interpreter.symlink_to(PYTHON)
    assert verify(tmp_path, [text]) == ""


@pytest.mark.parametrize("path", ["/a=b/it's/python", "/a=b/c\\d/python", '/a="b"/python'])
def test_an_interpreter_that_neither_systemd_nor_env_can_run_is_refused(path: str) -> None:
    with pytest.raises(NotExpressible, match="without quotes and backslashes"):
        unit(installation(interpreter=path))


@needs_systemd
@pytest.mark.parametrize("options", [(), ("--user",)], ids=["system", "user"])
@pytest.mark.parametrize("system", [True, False])
def test_systemd_finds_no_fault(tmp_path: Path, options: tuple[str, ...], *, system: bool) -> None:
    account = "root" if system else None
    assert verify(tmp_path, [unit(installation(machine=system, account=account))], *options) == ""


@needs_systemd
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("Type=notify", "Type=notfy"),
        ("KillMode=process", "KilMode=process"),
        ("WatchdogSec=60", "WatchdogSec=soon"),
        ("RestartPreventExitStatus=2 4 5", "RestartPreventExitStatus=2 4 many"),
        ("WorkingDirectory=/srv", "WorkingDirectory=srv"),
        ("[Service]", "[Servce]"),
        ("--state-dir /srv", '--state-dir "/srv'),
        ("OOMPolicy=continue", "OOMPolicy=go on"),
    ],
)
def test_systemd_would_see_a_fault(tmp_path: Path, right: str, wrong: str) -> None:
    text = unit(installation())
    assert right in text
    assert verify(tmp_path, [text.replace(right, wrong)]) != ""


def test_the_unit_is_the_same_each_time_and_bears_our_mark() -> None:
    one = installation(env={"B": "2", "A": "1"})
    assert unit(one) == unit(installation(env={"A": "1", "B": "2"}))
    assert HEADER in unit(one).split("\n")[0]
    assert assigned(unit(one), "Environment") == ["A=1", "B=2"]


def test_what_depends_on_user_or_system() -> None:
    user, system = unit(installation()), unit(installation(machine=True, account="me"))
    assert assigned(user, "WantedBy") == ["default.target"]
    assert assigned(user, "User") == assigned(user, "After") == []  # a user's systemd knows no network.target
    assert assigned(system, "WantedBy") == ["multi-user.target"]
    assert assigned(system, "User") == ["me"]
    assert assigned(system, "After") == assigned(system, "Wants") == ["network-online.target"]


def test_daemons_outlive_a_crash_and_a_final_exit_code_is_final() -> None:
    from neo_daemons.cli import codes

    text = unit(installation())
    assert assigned(text, "KillMode") == ["process"]
    assert assigned(text, "Restart") == ["on-failure"]
    final = {codes.USAGE, codes.ALREADY_RUNNING, codes.REQUIRED}
    assert assigned(text, "RestartPreventExitStatus") == [" ".join(map(str, sorted(final)))]


def test_a_state_directory_within_the_project_needs_no_mount_of_its_own() -> None:
    assert assigned(unit(installation()), "RequiresMountsFor") == []
    assert assigned(unit(installation(root="/", state_dir="/.neo-daemons")), "RequiresMountsFor") == []
    assert assigned(unit(installation(state_dir="/data/x y")), "RequiresMountsFor") == ['"/data/x y"']


@pytest.mark.parametrize("character", ["\n", "\r", "\x01", "\x7f", "\x85", "\ufffe", "\ufdd0", "\udc80"])
@pytest.mark.parametrize("field", ["root", "state_dir", "config", "interpreter", "env"])
def test_what_no_unit_can_hold_is_refused(field: str, character: str) -> None:
    value: Any = f"/a{character}b"
    with pytest.raises(NotExpressible, match="cannot hold"):
        installation(**{field: {"A": value} if field == "env" else value})


@pytest.mark.parametrize("field", ["root", "state_dir", "interpreter"])
def test_a_relative_path_is_refused(field: str) -> None:
    with pytest.raises(NotExpressible, match="not an absolute path"):
        installation(**{field: "here"})


def test_the_name_is_readable_and_unlike_others() -> None:
    names = [
        name_of(Path(path)) for path in ("/a/My Project/.neo-daemons", "/b/My Project/.neo-daemons", "/state", "/")
    ]
    assert [name[:-9] for name in names] == ["neo-daemons-my-project"] * 2 + ["neo-daemons-state", "neo-daemons"]
    assert len(set(names)) == 4
    assert re.fullmatch(r"neo-daemons-[a-z0-9-]{1,32}-[0-9a-f]{8}", name_of(Path("/x/" + "ü$ long" * 20)))
