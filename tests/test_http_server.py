"""HTTP as the server of the control API speaks it, with clients of all kinds."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest

from neo_daemons.control import address, http_server
from neo_daemons.control.http_server import Guard, Handler, HttpServer
from neo_daemons.control.web import TEXT, Request, Response, json_response

REQUEST = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"
PATIENCE_S = 20.0
HELLO = Response(body=b"hello", media_type=TEXT)


async def hello(request: Request) -> Response:
    return HELLO


@contextlib.asynccontextmanager
async def serving(path: Path, handler: Handler = hello, guard: Guard | None = None) -> AsyncIterator[HttpServer]:
    server = HttpServer(handler, guard)
    await server.listen(address.bind(path))
    try:
        yield server
    finally:
        await asyncio.wait_for(server.close(), PATIENCE_S)
        assert server.connections == set()


async def exchange(path: Path, data: bytes) -> bytes:
    """Send `data` and return all that is answered until the connection is closed."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
            return await asyncio.wait_for(reader.read(), PATIENCE_S)
        return b""
    finally:
        await close(writer)


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


async def reached(server: HttpServer, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(server.connections) != count:  # noqa: ASYNC110 - the server sends no event
            await asyncio.sleep(0.01)


def test_only_the_two_ends_of_a_connection_know_h11() -> None:
    package = Path(http_server.__file__).parents[1]
    knowing = {path.name for path in package.rglob("*.py") if "import h11" in path.read_text()}
    assert knowing == {"exchange.py", "http_server.py"}


def test_requests_of_one_connection_are_answered_in_order_even_if_all_are_sent_at_once(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def echo(request: Request) -> Response:
        body = b"".join([piece async for piece in request.pieces()])
        await asyncio.sleep(0)
        seen.append(body)
        return Response(body=body)

    async def run() -> bytes:
        async with serving(tmp_path / "s", echo):
            one = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n%d"
            last = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
            return await exchange(tmp_path / "s", b"".join(one % number for number in range(3)) + last)

    answer = asyncio.run(run())
    assert seen == [b"0", b"1", b"2", b""]
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert answer.endswith(b"connection: close\r\n\r\n") or b"Connection: close" in answer


def test_what_is_not_http_is_refused_and_the_connection_closed(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path / "s"):
            assert b" 400 " in await exchange(tmp_path / "s", b"nonsense\r\n\r\n")
            assert b" 400 " in await exchange(tmp_path / "s", b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"x" * 100_000)
            assert b" 200 " in await exchange(tmp_path / "s", b"GET / HTTP/1.0\r\n\r\n")

    asyncio.run(run())


def test_the_answer_to_head_has_no_body(tmp_path: Path) -> None:
    async def pieces() -> AsyncGenerator[bytes, None]:
        yield b"never"

    async def streaming(request: Request) -> Response:
        return Response(body=pieces())

    async def run() -> None:
        for handler in (hello, streaming):
            async with serving(tmp_path / "s", handler):
                answer = await exchange(tmp_path / "s", b"HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                assert b" 200 " in answer
                assert answer.endswith(b"\r\n\r\n")

    asyncio.run(run())


def test_a_client_that_asks_before_it_sends_its_body_is_told_to_go_on(tmp_path: Path) -> None:
    async def reading(request: Request) -> Response:
        return Response(body=b"".join([piece async for piece in request.pieces()]))

    async def run() -> None:
        async with serving(tmp_path / "s", reading):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
            writer.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n")
            assert b" 100 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
            writer.write(b"abc")
            assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
            assert await asyncio.wait_for(reader.readexactly(3), PATIENCE_S) == b"abc"
            await close(writer)

    asyncio.run(run())


def test_a_bug_in_a_handler_is_status_500_and_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(request: Request) -> Response:
        raise ZeroDivisionError

    async def run() -> None:
        async with serving(tmp_path / "s", broken):
            for _ in range(2):
                assert b" 500 " in await exchange(tmp_path / "s", REQUEST)

    asyncio.run(run())
    assert "ZeroDivisionError" in caplog.text


def test_a_stream_ends_with_its_client(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def pieces() -> AsyncGenerator[bytes, None]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            ended.set()

    done: list[str] = []

    async def streaming(request: Request) -> Response:
        return Response(body=pieces(), done=lambda: done.append("done"))

    async def run() -> None:
        async with serving(tmp_path / "s", streaming) as server:
            status, writer = await status_of(tmp_path / "s")
            assert status == 200
            await close(writer)
            await asyncio.wait_for(ended.wait(), PATIENCE_S)
            await reached(server, 0)
            assert done == ["done"]

    asyncio.run(run())


def test_a_slow_reader_holds_up_the_stream_and_not_the_memory(tmp_path: Path) -> None:
    made = 0

    async def pieces() -> AsyncGenerator[bytes, None]:
        nonlocal made
        for _ in range(1000):
            made += 1
            yield b"x" * 100_000

    async def streaming(request: Request) -> Response:
        return Response(body=pieces())

    async def run() -> None:
        async with serving(tmp_path / "s", streaming):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
            writer.write(REQUEST)
            await asyncio.sleep(0.2)
            assert 0 < made < 50
            size = 0
            while size < 100_000_000:
                size += len(await asyncio.wait_for(reader.read(1 << 20), PATIENCE_S))
            await close(writer)

    asyncio.run(run())


def test_a_connection_without_a_request_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "HEAD_S", 0.05)
    monkeypatch.setattr(http_server, "KEPT_S", 0.05)

    async def run() -> None:
        async with serving(tmp_path / "s"):
            assert await exchange(tmp_path / "s", REQUEST[:10]) == b""
            assert (await exchange(tmp_path / "s", REQUEST + REQUEST[:10])).count(b" 200 ") == 1

    asyncio.run(run())


def test_a_shutdown_lets_running_requests_finish_and_cuts_off_what_takes_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "GRACE_S", 0.5)
    going_on = asyncio.Event()
    begun: list[str] = []

    async def slow(request: Request) -> Response:
        begun.append(request.path)
        await (going_on.wait() if request.path == "/short" else asyncio.Event().wait())
        return HELLO

    async def run() -> None:
        async with serving(tmp_path / "s", slow) as server:
            short = asyncio.create_task(exchange(tmp_path / "s", REQUEST.replace(b" / ", b" /short ")))
            long = asyncio.create_task(exchange(tmp_path / "s", REQUEST))
            idle = asyncio.create_task(exchange(tmp_path / "s", b""))
            await reached(server, 3)
            while len(begun) < 2:  # noqa: ASYNC110 - lists send no event
                await asyncio.sleep(0.01)
            asyncio.get_running_loop().call_later(0.1, going_on.set)
        assert b" 200 " in await short
        assert await long == b""
        assert await idle == b""

    asyncio.run(run())


def test_beyond_the_limit_requests_are_refused_and_beyond_the_spare_ones_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(http_server, "SPARE_CONNECTIONS", 1)

    async def run() -> None:
        async with serving(tmp_path / "s") as server:
            idle: list[asyncio.StreamWriter] = []

            async def connections(count: int) -> None:
                while len(idle) < count:
                    idle.append((await asyncio.open_unix_connection(tmp_path / "s"))[1])
                await reached(server, count)

            await connections(2)
            refused, writer = await status_of(tmp_path / "s")
            await close(writer)
            await connections(3)
            closed, writer = await status_of(tmp_path / "s")
            await close(writer, *idle)
            assert (refused, closed) == (503, None)

    asyncio.run(run())


def test_only_requests_over_tcp_pass_the_guard(tmp_path: Path) -> None:
    async def run() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        async with serving(tmp_path / "s", guard=lambda request: json_response({}, 401)) as server:
            await server.listen(listener)
            status, inside = await status_of(tmp_path / "s")
            assert status == 200
            reader, outside = await asyncio.open_connection(*listener.getsockname())
            outside.write(REQUEST)
            assert b" 401 " in await asyncio.wait_for(reader.readline(), PATIENCE_S)
            await close(inside, outside)

    asyncio.run(run())


def test_a_second_socket_takes_the_place_of_the_first(tmp_path: Path) -> None:
    async def run() -> None:
        server = HttpServer(hello)
        first, second = address.bind(tmp_path / "a"), address.bind(tmp_path / "b")
        await server.listen(first)
        _, kept = await status_of(tmp_path / "a")
        await server.listen(second)
        server.stop_listening(first)
        status, writer = await status_of(tmp_path / "b")
        assert status == 200
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_unix_connection(tmp_path / "a")
        assert len(server.connections) == 2, "the first connection is still open"
        await close(kept, writer)
        await server.close()

    asyncio.run(run())
