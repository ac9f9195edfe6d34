"""Where a configuration is found, and where its state directory is."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from neo_daemons.config import ConfigError, find_state_dir, load
from neo_daemons.config.builtins import BUILTINS
from neo_daemons.control.client import Client, NoSupervisor
from neo_daemons.definitions import Port
from neo_daemons.state_dir import ENVIRONMENT_VARIABLE

from .reading import API, WEB, fault, names_of, read
from .test_command_line import command_line


def test_without_any_file_chroma_bridge_and_mlx_run(root: Path) -> None:
    configuration = load(directory=root, environ={})
    assert names_of(configuration) == ["chroma", "bridge", "mlx"]
    assert configuration.source is None
    assert configuration.parallel is None
    assert configuration.project.root == root
    assert configuration.state.path == root / ".neo-daemons"
    assert all(d.builtin == d.name and d.enabled and d.cwd == str(root) for d in configuration.definitions)
    chroma, bridge, mlx = configuration.definitions
    assert chroma.ports == {"main": Port(preferred=8000)}
    assert chroma.data_dir == f"{root}/.neo-daemons/data/chroma"
    assert bridge.ports == {}
    assert bridge.data_dir == f"{root}/.neo-daemons/data/bridge"
    assert mlx.ports == {"main": Port(preferred=8080)}
    assert mlx.data_dir is None


def test_a_file_without_daemons_means_the_default_ones(root: Path) -> None:
    assert names_of(read(root, "parallel = 2")) == ["chroma", "bridge", "mlx"]


def test_a_file_with_daemons_means_these_in_their_order(root: Path) -> None:
    assert names_of(read(root, WEB + "[daemons.chroma]\n" + API)) == ["web", "chroma", "api"]


def test_every_built_in_can_be_configured_by_an_empty_table(root: Path) -> None:
    configuration = read(root, "".join(f"[daemons.{name}]\n" for name in BUILTINS))
    assert [d.builtin for d in configuration.definitions] == list(BUILTINS)


def test_a_table_in_pyproject_is_a_configuration(root: Path) -> None:
    (root / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.neo_daemons.daemons.api]\ncommand = ["api"]\n')
    configuration = load(directory=root, environ={})
    assert names_of(configuration) == ["api"]
    assert configuration.source == root / "pyproject.toml"


def test_the_nearest_configuration_upwards_is_used(root: Path) -> None:
    below = root / "real" / "a" / "b"
    below.mkdir(parents=True)
    (root.parent / "neo-daemons.toml").write_text(WEB)
    (root / "neo-daemons.toml").write_text(API)
    (root / "real" / "pyproject.toml").write_text('[project]\nname = "mentions-neo_daemons-only"\n')
    configuration = load(directory=below, environ={})
    assert configuration.source == root / "neo-daemons.toml"
    assert configuration.project.root == root
    assert configuration.state.path == root / ".neo-daemons"


def test_neo_daemons_toml_takes_precedence_over_pyproject(root: Path) -> None:
    (root / "pyproject.toml").write_text('[tool.neo_daemons.daemons.web]\ncommand = ["web"]\n')
    (root / "neo-daemons.toml").write_text(API)
    assert names_of(load(directory=root, environ={})) == ["api"]


def test_a_broken_pyproject_matters_only_if_it_mentions_us(root: Path) -> None:
    (root / "pyproject.toml").write_text("[broken\n")
    assert names_of(load(directory=root, environ={})) == ["chroma", "bridge", "mlx"]
    (root / "pyproject.toml").write_text("tool = 'neo_daemons'\n")
    assert names_of(load(directory=root, environ={})) == ["chroma", "bridge", "mlx"]
    (root / "pyproject.toml").write_text("[tool.neo_daemons\n")
    with pytest.raises(ConfigError, match=r"pyproject\.toml: invalid TOML: .*"):
        load(directory=root, environ={})


def test_without_a_file_a_project_that_was_supervised_is_found_upwards(root: Path) -> None:
    (root / ".neo-daemons").mkdir()
    (root / ".neo-daemons" / "journal.jsonl").touch()
    configuration = load(directory=root / "real", environ={})
    assert configuration.project.root == root
    assert configuration.source is None


def test_a_byte_order_mark_is_accepted(root: Path) -> None:
    (root / "neo-daemons.toml").write_bytes(b"\xef\xbb\xbf" + API.encode())
    assert names_of(load(root / "neo-daemons.toml", environ={})) == ["api"]


def test_the_state_directory_is_argument_then_variable_then_file_then_default(root: Path) -> None:
    file = root / "neo-daemons.toml"
    file.write_text('state_dir = "of-file"\n')
    variable = {ENVIRONMENT_VARIABLE: str(root / "of-variable")}
    assert load(file, state_dir=root / "of-argument", environ=variable).state.path == root / "of-argument"
    assert load(file, environ=variable).state.path == root / "of-variable"
    assert load(file, environ={ENVIRONMENT_VARIABLE: ""}).state.path == root / "of-file"
    assert load(directory=root / "real", environ={}).state.path == root / "of-file"
    file.write_text("")
    assert load(file, environ={}).state.path == root / ".neo-daemons"


def test_commands_find_the_same_state_directory_even_if_the_daemons_are_wrong(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = root / "neo-daemons.toml"
    file.write_text('state_dir = "of-file"\n[daemons.api]\nport = "wrong"\n')
    monkeypatch.chdir(root / "real")
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    assert find_state_dir().path == root / "of-file"
    assert find_state_dir(file=file).path == root / "of-file"
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "")
    assert find_state_dir().path == root / "of-file"
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "of-variable")
    assert find_state_dir().path == root / "real" / "of-variable"
    assert find_state_dir(Path("of-argument")).path == root / "real" / "of-argument"
    monkeypatch.delenv(ENVIRONMENT_VARIABLE)
    file.write_text("state_dir = 3")
    assert find_state_dir().path == root / ".neo-daemons"
    file.write_text("state_dir =")
    with pytest.raises(ConfigError, match="invalid TOML"):
        find_state_dir()
    assert find_state_dir(root / "of-argument").path == root / "of-argument"
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(root / "of-variable"))
    assert find_state_dir().path == root / "of-variable"


@pytest.mark.parametrize("place", ["a-file", "a-file/below"])
def test_a_state_directory_that_is_a_file_is_one_clear_error(
    root: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` said "cannot read a-file/supervisor.json: Not a directory" and exited with 1."""
    said = f"{root}/a-file is not a directory; use an existing directory or a new path"
    for command in ("status", "up", "down", "logs x", "doctor", "reap", "serve"):
        ended = command_line(*command.split(), "--state-dir", place, cwd=root)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == f"neo-daemons: --state-dir {place}: {said}\n"
    monkeypatch.chdir(root)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, place)
    with pytest.raises(ConfigError, match=f"^{ENVIRONMENT_VARIABLE}={place}: {said}$"):
        find_state_dir()
    monkeypatch.delenv(ENVIRONMENT_VARIABLE)
    assert f"state_dir = {place!r}: {said}" in fault(root, f'state_dir = "{place}"')


HEAVY = {"neo_daemons.catalog", "neo_daemons.orchestrator", "neo_daemons.supervision.supervisor"}
HEAVY |= {"prometheus_client", "rich", "textual"}
HEAVY |= {f"neo_daemons.config.{name}" for name in ("build", "builtins", "checks", "configuration", "schema")}


@pytest.mark.parametrize(
    "command",
    ["start x", "stop x", "restart x", "hold x", "release x", "status", "logs x", "events", "why x", "reload", "down"],
)
def test_a_command_that_talks_to_a_supervisor_does_not_import_the_modules_that_build_definitions(
    root: Path, command: str
) -> None:
    program = (
        "import sys\nfrom neo_daemons.cli import main\n"
        f"code = main({[*command.split(), '--state-dir', str(root / 'state')]!r})\n"
        f"print(code, sorted({HEAVY} & sys.modules.keys()))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    code = 0 if command == "down" else 3
    assert ended.stdout.splitlines()[-1] == f"{code} []", ended


def test_the_command_in_a_hint_finds_the_same_state_directory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = root / "other.toml"
    file.write_text('state_dir = "of-file"\n')
    monkeypatch.chdir(root / "real")
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    for options in (
        [],
        ["--state-dir", "a b"],
        ["--config", "../other.toml"],
        ["--state-dir", "x", "--config", str(file)],
    ):
        given = {options[at]: Path(options[at + 1]) for at in range(0, len(options), 2)}
        state_dir = find_state_dir(given.get("--state-dir"), file=given.get("--config"))
        with pytest.raises(NoSupervisor) as caught:
            Client(state_dir).status()
        hint = str(caught.value).rpartition("start one: ")[2]
        assert shlex.split(hint) == ["neo-daemons", "up", *options]
    with pytest.raises(NoSupervisor, match=f"start one: neo-daemons up --state-dir {root}/x$"):
        Client(root / "x").status()
