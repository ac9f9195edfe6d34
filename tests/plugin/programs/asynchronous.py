"""Uses daemons in asynchronous tests and fixtures, and in others beside them."""

# mypy: ignore-errors

import asyncio
import urllib.request

import pytest
import pytest_asyncio


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def answer(api):
    return await asyncio.to_thread(lambda: urllib.request.urlopen(api.url).status)


@pytest.mark.asyncio(loop_scope="session")
async def test_async(answer, api):
    await asyncio.sleep(0)
    assert answer == 200
    assert api.pid


@pytest.mark.timeout(60)
def test_sync(api):
    assert api.state == "ready"


@pytest.mark.asyncio
@pytest.mark.neo_daemons("api", isolated=True)
async def test_isolated(api):
    pid = api.pid
    api.kill()
    api.wait_ready()
    assert api.pid != pid
