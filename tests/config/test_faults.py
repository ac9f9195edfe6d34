"""Each error of a file is one line with file, key, value and remedy; all errors are reported together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neo_daemons.config import ConfigError, load
from neo_daemons.config.external import external
from neo_daemons.config.schema import Settings
from neo_daemons.state_dir import ENVIRONMENT_VARIABLE

from ..harness import toml
from .cases import BAD
from .reading import API, HTTP, NO_HOME, WEB, WRITE_PORT, assert_says, fault, names_of, read, without_file


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('[daemons.api]\nexternal = "http://me:s3cret@host:99999"', "external = 'http://***@host:99999'"),
        ('[daemons.api]\nexternal = "me:s3cret@host:80"', "external = '***@host:80'"),
        ('[daemons.api]\nexternal = ["http://me:s3cret@host"]', "external = ['http://***@host']"),
        ('[daemons.api]\nexternl = "http://me:s3cret@host"', "externl = 'http://***@host'"),
        (HTTP + ', url = "http://me:s3cret@host:99999" }', "ready.url = 'http://***@host:99999'"),
        (API + 'url = "http://me:s3cret@${hots}"', "url = 'http://***@${hots}'"),
        ('[daemons.api]\ncommand = ["api", "pg://me:s3cret@h/${nix}"]', "command[1] = 'pg://***@h/${nix}'"),
        (f'[daemons.api]\nexternl = "http://me:{"s3cret" * 20}@host"', "externl = 'http://***@host'"),
    ],
)
def test_no_error_shows_the_credentials_in_a_url(root: Path, text: str, shown: str) -> None:
    said = fault(root, text)
    assert f"daemons.api.{shown}: " in said
    assert "s3cret" not in said


def test_a_daemon_whose_value_is_not_a_table_still_exists_for_the_others(root: Path) -> None:
    text = "[daemons]\nx = 3\n" + API + 'after = ["x"]\nenv = { X = "${daemons.x.port}" }'
    assert fault(root, text) == "daemons.x = 3: expected table, got integer; use a table [daemons.x]"


@pytest.mark.parametrize(
    "other",
    ["colour = 1", "env = 3", 'ready = { type = "tcp", port = "x" }', 'ready = { type = "log", pattern = "(" }'],
)
def test_what_two_daemons_share_is_reported_beside_their_other_errors(root: Path, other: str) -> None:
    text = f'{API}port = 8001\ndata_dir = "d"\n{WEB}ports = {{ main = 8001 }}\ndata_dir = "./d"\n{other}\n'
    with pytest.raises(ConfigError) as caught:
        read(root, text)
    said = str(caught.value)
    assert len(caught.value.faults) == 3
    assert 'daemons.web.ports.main = 8001: already used by daemons.api.port; choose another, or "auto"' in said
    assert f"daemons.web.data_dir = './d': is {root}/d, already used by daemons.api" in said


@pytest.mark.parametrize("place", ["${nowhere}", "~no-such-user/x", "a-file"])
def test_an_invalid_data_directory_is_not_reported_as_shared(root: Path, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(root, f'{API}data_dir = "{place}"\n{WEB}data_dir = "{place}"\n')
    assert len(caught.value.faults) == 2
    assert "also that of" not in str(caught.value)


def test_the_port_of_an_external_daemon_is_one_error(root: Path) -> None:
    text = API + 'port = 8001\n[daemons.web]\nexternal = "http://host"\nport = 8001'
    assert fault(root, text).startswith("daemons.web.port = 8001: not allowed for an external daemon")


@pytest.mark.parametrize("url", ["http://me:s3cret@host:99999", "me:s3cret@host"])
def test_no_error_about_an_external_daemon_shows_credentials(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        external("api", url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(("text", "expected"), BAD.values(), ids=BAD)
def test_an_error_is_one_line_with_file_key_value_and_remedy(root: Path, text: str | bytes, expected: str) -> None:
    assert_says(fault(root, text), expected)


MANY = """
state_dir = 3
paralel = 2

[daemons.Api]
command = ["api"]

[daemons.web]
command = "web"
prot = 80
env = { LEVEL = 3, DEBUG = true, ok = "x" }
restart = { limits = 1, jitter = 7 }
ready = [{ type = "http", pth = "/" }, { type = "htpp" }, { type = "tcp", timeout_s = 0 }]

[daemons.db]
command = ["db", "${prot}", "$HOME"]
data_dir = "a-file"
cwd = "nowhere"
start_grace_s = inf

[daemons.queue]
command = ["queue", "${prot}", "$HOME", "${env.TOKEN}", "${daemons.web.port}"]
after = ["db", "nobody"]

[daemons.index]
command = ["index"]
ready = [{ type = "tcp" }, { type = "log", pattern = "(" }]
cwd = "nowhere"
data_dir = "a-file"
"""


def test_all_errors_of_a_file_are_reported_together_each_with_its_key(root: Path) -> None:
    file = root / "neo-daemons.toml"
    file.write_text(MANY)
    with pytest.raises(ConfigError) as caught:
        load(file, environ={})
    head, *lines = str(caught.value).splitlines()
    assert head == f"the configuration has {len(lines)} errors:"
    keys = [re.split(" = |: ", without_file(line, file))[0] for line in lines]
    assert sorted(keys) == sorted(
        [
            "state_dir",
            "paralel",
            "daemons.Api",
            "daemons.web.command",
            "daemons.web.prot",
            "daemons.web.env.LEVEL",
            "daemons.web.env.DEBUG",
            "daemons.web.restart.limits",
            "daemons.web.restart.jitter",
            "daemons.web.ready[0].pth",
            "daemons.web.ready[1].type",
            "daemons.db.start_grace_s",
            "daemons.queue.command[1]",
            "daemons.queue.command[2]",
            "daemons.queue.command[3]",
            "daemons.queue.after[1]",
            "daemons.index.ready[0].type",
            "daemons.index.ready[1].pattern",
            "daemons.index.cwd",
            "daemons.index.data_dir",
        ]
    )


def test_an_error_causes_no_others(root: Path) -> None:
    text = (
        API + 'port = "x"\nready = { type = "http" }\n' + WEB + 'env = { API = "${daemons.api.port}" }\nafter = ["api"]'
    )
    assert fault(root, text).startswith("daemons.api.port = 'x': ")
    text = "parallel = 0\n" + API + 'after = ["web"]\n' + WEB + "port = 0"
    with pytest.raises(ConfigError) as caught:
        read(root, text)
    assert [re.split(" = ", without_file(line, root / "neo-daemons.toml"))[0] for line in caught.value.faults] == [
        "parallel",
        "daemons.web.port",
    ]


def test_observers_do_not_need_the_variables_of_the_supervisor(root: Path) -> None:
    (root / "neo-daemons.toml").write_text(API + 'env = { A = "${env.TOKEN}" }')
    (definition,) = load(root / "neo-daemons.toml", environ={}, observing=True).definitions
    assert definition.env == {"A": "${env.TOKEN}"}
    assert load(root / "neo-daemons.toml", environ={"TOKEN": "x"}).definitions == (definition,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[tool.other]\nx = 1", "has no table [tool.neo_daemons]; add one, or pass another file"),
        ("tool = 3", "has no table [tool.neo_daemons]; add one, or pass another file"),
        ("[tool]\nneo_daemons = 3", "has no table [tool.neo_daemons]; add one, or pass another file"),
        (
            "[tool.neo_daemons.daemons.api]\nport = 0",
            f"tool.neo_daemons.daemons.api.port = 0: out of range; {WRITE_PORT}",
        ),
        (
            "[tool.neo_daemons.daemons]",
            "tool.neo_daemons.daemons = {}: defines no daemon; "
            "add a table, e.g. [tool.neo_daemons.daemons.chroma], or remove it",
        ),
        (
            "[tool.neo_daemons]\ndaemons = 3",
            "tool.neo_daemons.daemons = 3: expected table, got integer; "
            "add a table for each daemon, e.g. [tool.neo_daemons.daemons.chroma]",
        ),
        (
            "[tool.neo_daemons.chroma]",
            "tool.neo_daemons.chroma = {}: unknown key; did you mean [tool.neo_daemons.daemons.chroma]?",
        ),
        (
            '[tool.neo_daemons]\nstate_dir = "~nobody-here"',
            f"tool.neo_daemons.state_dir = '~nobody-here': {NO_HOME}; use an existing directory or a new path",
        ),
    ],
)
def test_in_a_pyproject_keys_and_remedies_name_its_table(root: Path, text: str, expected: str) -> None:
    assert_says(fault(root, text, "pyproject.toml"), expected)


KEYS = [field.encode_name for field in msgspec.structs.fields(Settings)]
WORDS = ["http", "log", "auto", "never", "api", "${port}", "${daemons.api.url}", "$x", "", "~nobody/x", "http://h", "("]
SCALARS = (
    st.booleans() | st.integers(-1, 70_000) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3)
)
THINGS = st.recursive(
    SCALARS | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from([*KEYS, "type", "path", "pattern", "\n"]), inner, max_size=3)
    ),
    max_leaves=6,
)
TABLES = st.dictionaries(st.sampled_from([*KEYS, "model", "x"]), THINGS, max_size=4)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(["api", "web", "chroma", "mlx", "a\n"]), TABLES | THINGS, max_size=3))
def test_any_file_is_a_configuration_or_gives_one_line_per_error(
    tmp_path_factory: pytest.TempPathFactory, daemons: dict[str, Any]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(f"daemons = {toml(daemons)}")
    try:
        assert names_of(load(file, environ={})) == list(daemons)
    except ConfigError as error:
        faults = error.faults
    else:
        faults = ()
    assert len(set(faults)) == len(faults)
    for line in faults:
        without_file(line, file)


def test_an_unreadable_file_is_reported_with_the_reason(root: Path) -> None:
    (root / "loop").symlink_to("loop")
    for name, reason in (("missing.toml", "No such file or directory"), ("real", "Is a directory")):
        with pytest.raises(ConfigError) as caught:
            load(root / name, environ={})
        expected = f"cannot be read: {reason}; pass an existing, readable file"
        assert without_file(str(caught.value), root / name) == expected
    with pytest.raises(ConfigError, match=r"loop.*; pass an existing, readable file"):
        load(root / "loop", environ={})


def test_a_file_name_with_a_line_end_does_not_break_the_line(root: Path) -> None:
    (root / "a\nb.toml").write_text("x = 1")
    with pytest.raises(ConfigError) as caught:
        load(root / "a\nb.toml", environ={})
    assert str(caught.value).startswith(f"{root}/a\\nb.toml: x = 1: unknown key")


def test_variables_without_a_valid_directory_are_reported(root: Path) -> None:
    for name, remedy in (
        (ENVIRONMENT_VARIABLE, "use an existing directory or a new path"),
        ("NEO_DAEMONS_CACHE_DIR", "set it…"),
    ):
        with pytest.raises(ConfigError) as caught:
            read(root, API, **{name: "~nobody-here"})
        assert_says(str(caught.value), f"{name}=~nobody-here: {NO_HOME}; {remedy}")
    with pytest.raises(ConfigError) as caught:
        load(state_dir=Path("~nobody-here"), environ={})
    assert_says(str(caught.value), f"--state-dir ~nobody-here: {NO_HOME}; use an existing directory or a new path")
