"""How mlx and its model are found."""

from __future__ import annotations

import importlib.util
import platform
import shlex
import sys
from pathlib import Path

import pytest

from neo_daemons import catalog
from neo_daemons.catalog import hub_model
from neo_daemons.catalog.mlx import TINY_MODEL
from neo_daemons.definitions import (
    CannotRun,
)

from .machine import PIP, Machine, needed, program


def test_mlx_without_a_model_gets_the_tiny_one(machine: Machine) -> None:
    (script,) = machine.install("mlx_lm.server")
    launch = machine.finds("mlx")
    model = str(machine.cache / TINY_MODEL)
    assert launch.command == (str(script), "--model", model, "--host", "${host}", "--port", "${port}")
    assert launch.env == {"MLX_DISABLE_COMPILE": "1", "HF_HUB_CACHE": model, "HF_HUB_OFFLINE": "1"}
    assert launch.note is not None
    assert "built-in tiny model, whose answers are meaningless; set daemons.mlx.model to use a real" in launch.note
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
    assert isinstance(found, CannotRun)
    assert found.remedy == f'uv pip install --python {shlex.quote(sys.executable)} "{needed("chroma", "chromadb")}"'


def test_mlx_with_a_directory_that_is_not_there_is_unavailable(machine: Machine) -> None:
    machine.install("mlx_lm.server")
    assert machine.locate("mlx", 'model = "./gone"') == CannotRun(
        reason=f"the model directory {machine.root}/gone does not exist",
        remedy="set daemons.mlx.model to a model's directory or Hugging Face repository id",
        missing=False,
    )


def test_without_mlx_the_remedy_installs_it_here(machine: Machine) -> None:
    assert machine.locate("mlx") == CannotRun(
        reason="mlx-lm is not installed in this environment, and mlx_lm.server is not on PATH",
        remedy=f'{PIP} "{needed("mlx", "mlx-lm")}" "{needed("mlx", "mlx[cpu]")}"',
        missing=True,
    )


def test_on_an_intel_mac_the_remedy_is_another_server(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is empty there: pip would install nothing, and doctor would say the same again."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert machine.locate("mlx") == CannotRun(
        reason="there is no mlx for Macs with Intel processors",
        remedy="set daemons.mlx.enabled = false, or daemons.mlx.external to the URL of a server elsewhere",
        missing=True,
    )
