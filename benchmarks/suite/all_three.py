"""The suite: 200 short tests over three daemons. Copied, as test_all_three.py, beside a conftest.py."""

from __future__ import annotations

import uuid

import pytest
from daemons import COMPLETION, ask, remember  # type: ignore[import-not-found]

COLLECTIONS = "api/v2/tenants/default_tenant/databases/default_database/collections"


@pytest.mark.parametrize("number", range(67))
def test_chroma(chroma_url: str, number: int) -> None:
    name = f"c{number}-{uuid.uuid4().hex}"
    assert ask(f"{chroma_url}/{COLLECTIONS}", {"name": name})["name"] == name


@pytest.mark.parametrize("number", range(67))
def test_mlx(mlx_url: str, number: int) -> None:
    assert ask(f"{mlx_url}/v1/chat/completions", COMPLETION)["choices"]


@pytest.mark.parametrize("number", range(66))
def test_bridge(graph: str, number: int) -> None:
    assert remember(graph, f"{number}-{uuid.uuid4().hex}") > 0
