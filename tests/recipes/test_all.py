"""Every recipe is read without an error, is described, and is rendered where it says how."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from neo_daemons.config import load
from neo_daemons.render import render
from neo_daemons.render.stack import Stack

from .recipe import RECIPES, names

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
RENDERED = {"nats", "postgres", "qdrant", "valkey"}


@pytest.mark.parametrize("name", names())
def test_a_recipe_is_read_and_rendered(name: str, tmp_path: Path) -> None:
    file = RECIPES / name / "neo-daemons.toml"
    configuration = load(file, state_dir=tmp_path)
    assert [one.name for one in configuration.definitions] == [*tomllib.loads(file.read_text())["daemons"]]
    assert any(one.deploy is not None for one in configuration.definitions) == (name in RENDERED)
    if name in RENDERED:
        stack = Stack(name=name, definitions=configuration.definitions, root=str(file.parent), source=str(file))
        for target in ("compose", "kubernetes"):
            written = "".join(render(target, stack).values())
            for one in configuration.definitions:
                assert one.deploy is not None
                assert f"image: {one.deploy.image}" in written


@pytest.mark.parametrize("name", ["ollama", "vllm"])
def test_the_table_in_its_last_comment_is_read(name: str, tmp_path: Path) -> None:
    _, head, rest = (RECIPES / name / "neo-daemons.toml").read_text().rpartition(f"# [daemons.{name}]\n")
    file = tmp_path / "neo-daemons.toml"
    file.write_text((head + rest).replace("# ", "", 1).replace("\n# ", "\n"))
    (definition,) = load(file).definitions
    assert (definition.external is None) == (name == "vllm")


def test_each_recipe_has_a_section_on_the_page() -> None:
    page = PAGE.read_text()
    assert [name for name in names() if f"(../examples/recipes/{name}/neo-daemons.toml)" not in page] == []
