"""The asynchronous fixtures, for the plugin that runs the asynchronous tests of this run: pytest-asyncio or anyio."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator
from typing import Any

import pytest

from neo_daemons.interpreter import installed_modules

from .fixtures import behind
from .provider import provider_of

NAME = "chroma_async_client"


def fixtures(config: pytest.Config) -> types.ModuleType:
    """Return a plugin with the fixtures."""
    made = types.ModuleType("pytest_neo_daemons.of_async")
    plugins = config.pluginmanager
    if plugins.hasplugin("asyncio"):
        import pytest_asyncio  # the plugin itself: it is loaded

        setattr(made, NAME, pytest_asyncio.fixture(_chroma_async_client, name=NAME))
    elif plugins.hasplugin("anyio"):
        setattr(made, NAME, pytest.fixture(_chroma_async_client, name=NAME))
    else:
        setattr(made, NAME, pytest.fixture(_no_plugin, name=NAME))
    return made


async def _chroma_async_client(request: pytest.FixtureRequest, chroma: object) -> AsyncIterator[Any]:
    """Return a client of `chromadb.AsyncHttpClient` for a new database, which is removed after the test."""
    daemon = behind(chroma, "chroma", request)
    with installed_modules():
        from . import databases
    databases.require_chromadb(NAME)
    database = databases.create(daemon)
    try:
        yield await database.async_client()
    finally:
        if not provider_of(request).is_isolated(daemon):
            database.drop()


def _no_plugin() -> None:
    """Fail: nothing runs asynchronous tests."""
    pytest.fail(f"{NAME} requires a plugin for asynchronous tests; fix: pip install pytest-asyncio", pytrace=False)
