"""What holds for every daemon that is known by name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from neo_daemons import catalog, environment
from neo_daemons.catalog import installed, neo_mjs
from neo_daemons.catalog.mlx import TINY_MODEL
from neo_daemons.config.builtins import BUILTINS
from neo_daemons.definitions import (
    Launch,
)
from neo_daemons.references import expand_all

from .machine import LINK_SCRIPT, Machine, checkout


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
    monkeypatch.setattr(installed, "sysconfig", SimpleNamespace(get_path=lambda name: str(machine.scripts)))
    monkeypatch.setattr(environment, "_scripts", lambda: str(machine.scripts))
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


def test_every_daemon_that_is_known_by_name_has_a_way_to_be_found() -> None:
    assert list(catalog.MODULES) == list(BUILTINS)
