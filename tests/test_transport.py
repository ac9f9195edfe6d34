"""The internals of uvicorn that the transport relies on, so that a version that differs is noticed here."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from neo_daemons.control import address, transport
from neo_daemons.control.transport import GuestServer, HttpProtocol, behind

REQUEST = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"
PATIENCE_S = 20.0


@contextlib.asynccontextmanager
async def serving(path: Path, protocol: type[HttpProtocol] = HttpProtocol) -> AsyncIterator[GuestServer]:
    server = GuestServer.of(PlainTextResponse("hello"), protocol)
    task = asyncio.create_task(server.serve(sockets=[address.bind(path)]))
    try:
        yield server
    finally:
        server.stop_asked.set()
        await asyncio.wait_for(task, PATIENCE_S)


async def status_of(path: Path) -> tuple[int | None, asyncio.StreamWriter]:
    """Return the status of an answer (None if the connection was closed instead) and the open connection."""
    reader, writer = await asyncio.open_unix_connection(path)
    with contextlib.suppress(ConnectionError):
        writer.write(REQUEST)
        await writer.drain()
        line = await asyncio.wait_for(reader.readline(), PATIENCE_S)
        return (int(line.split()[1]) if line else None), writer
    return None, writer


async def close(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def test_only_the_transport_imports_uvicorn() -> None:
    package = Path(transport.__file__).parents[1]
    knowing = [path.name for path in package.rglob("*.py") if re.search(r"(import|from) uvicorn", path.read_text())]
    assert knowing == ["transport.py"]


def test_the_server_leaves_signals_alone_and_stops_on_request(tmp_path: Path) -> None:
    async def run() -> None:
        before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
        async with serving(tmp_path / "s"):
            status, writer = await status_of(tmp_path / "s")
            assert status == 200
            assert {signum: signal.getsignal(signum) for signum in before} == before
            await close(writer)

    asyncio.run(run())


def test_a_connection_without_a_request_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "HEAD_S", 0.05)

    async def run() -> None:
        async with serving(tmp_path / "s"):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
            writer.write(REQUEST[:10])
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
            await close(writer)

    asyncio.run(run())


def test_beyond_the_limit_requests_are_refused_and_beyond_the_spare_ones_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(transport, "SPARE_CONNECTIONS", 1)

    async def run() -> None:
        async with serving(tmp_path / "s") as server:
            idle: list[asyncio.StreamWriter] = []

            async def connections(count: int) -> None:
                while len(idle) < count:
                    idle.append((await asyncio.open_unix_connection(tmp_path / "s"))[1])
                async with asyncio.timeout(PATIENCE_S):
                    while len(server.server_state.connections) != count:  # noqa: ASYNC110 - uvicorn tells nobody
                        await asyncio.sleep(0.01)

            await connections(2)
            refused, writer = await status_of(tmp_path / "s")
            await close(writer)
            await connections(3)
            closed, writer = await status_of(tmp_path / "s")
            await close(writer, *idle)
            assert (refused, closed) == (503, None)

    asyncio.run(run())


def test_only_requests_over_tcp_pass_the_guard(tmp_path: Path) -> None:
    def guard(app: ASGIApp) -> ASGIApp:
        return PlainTextResponse("no", 401)

    async def run() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        server = GuestServer.of(PlainTextResponse("hello"), behind(guard))
        task = asyncio.create_task(server.serve(sockets=[address.bind(tmp_path / "s"), listener]))
        status, inside = await status_of(tmp_path / "s")
        assert status == 200
        reader, outside = await asyncio.open_connection(*listener.getsockname())
        outside.write(REQUEST)
        assert b" 401 " in await asyncio.wait_for(reader.readline(), PATIENCE_S)
        await close(inside, outside)
        server.stop_asked.set()
        await asyncio.wait_for(task, PATIENCE_S)

    asyncio.run(run())
