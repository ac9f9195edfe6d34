"""With our plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_neo_daemons import Daemon


@pytest.fixture(scope="session")
def chroma_url(chroma: Daemon) -> str:
    return chroma.url


@pytest.fixture(scope="session")
def mlx_url(mlx: Daemon) -> str:
    return mlx.url


@pytest.fixture(scope="session")
def graph(bridge: Daemon) -> str:
    return bridge.env["NEO_MEMORY_DB_PATH"]
