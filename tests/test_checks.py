"""Asking an endpoint, a file or a database: why it could not be asked is said in plain words, and nothing waits for
ever or is changed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from neo_daemons.checks import http, sqlite, tcp
from neo_daemons.checks.files import is_there, read_number
from neo_daemons.checks.reasons import CUT, LACKING_SQLITE, REFUSED, lacking, reason
from neo_daemons.urls import url_host

from .harness import PATIENCE_S, PROGRAMS, free_port

Resolved = list[tuple[Any, ...]]
Ask = Callable[[str, int], Any]


async def by_tcp(host: str, port: int) -> None:
    await tcp.connect(host, port)


async def by_http(host: str, port: int) -> None:
    client = http.make_client(verify=False)
    try:
        await http.ask(client, "GET", f"http://{url_host(host)}:{port}/", limit=10)
    finally:
        await client.aclose()


def failure(ask: Ask, host: str, port: int) -> Exception:
    with pytest.raises((OSError, ValueError, http.NoAnswer)) as failed:
        asyncio.run(ask(host, port))
    return failed.value


@pytest.fixture(params=[by_tcp, by_http])
def ask(request: pytest.FixtureRequest) -> Ask:
    chosen: Ask = request.param
    return chosen


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have a name stand for addresses, connections to which fail in the given ways."""

    def resolve(**ways: int) -> None:
        codes = {"127.0.0.1": ways.get("four"), "::1": ways.get("six")}

        async def look_up(*_: Any, **__: Any) -> Resolved:
            found: Resolved = []
            if codes["::1"] is not None:
                found.append((socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 1, 0, 0)))
            if codes["127.0.0.1"] is not None:
                found.append((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1)))
            return found

        async def fail(_: Any, __: Any, address: tuple[Any, ...]) -> None:
            code = codes[address[0]]
            assert code is not None
            # As asyncio says it of a connection that fails later.
            raise OSError(code, f"Connect call failed {address}")

        monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", look_up)
        monkeypatch.setattr("asyncio.selector_events.BaseSelectorEventLoop.sock_connect", fail)

    return resolve


@pytest.mark.parametrize(
    ("ways", "said"),
    [
        ({"four": errno.ECONNREFUSED}, REFUSED),
        ({"six": errno.ECONNREFUSED, "four": errno.ECONNREFUSED}, REFUSED),
        ({"six": errno.EADDRNOTAVAIL, "four": errno.ECONNREFUSED}, REFUSED),
        ({"four": errno.EHOSTUNREACH}, os.strerror(errno.EHOSTUNREACH)),
        ({"six": errno.ENETUNREACH, "four": errno.ENETUNREACH}, os.strerror(errno.ENETUNREACH)),
        ({"four": errno.ETIMEDOUT}, os.strerror(errno.ETIMEDOUT)),
        ({"four": errno.EACCES}, os.strerror(errno.EACCES)),
    ],
)
def test_why_there_is_no_connection_is_said_in_the_system_s_words(
    ask: Ask, addresses: Callable[..., None], ways: dict[str, int], said: str
) -> None:
    addresses(**ways)
    error = failure(ask, "somewhere", 1)
    assert reason(error) == said
    assert lacking(error) is None
    assert not isinstance(error, http.NoConnection) or error.refused == (said == REFUSED)


@pytest.mark.parametrize("lack", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EADDRNOTAVAIL])
def test_what_the_process_lacks_is_told_from_what_the_daemon_lacks(
    ask: Ask, addresses: Callable[..., None], lack: int
) -> None:
    addresses(four=lack)
    assert lacking(failure(ask, "somewhere", 1)) is not None


def test_a_name_that_leads_nowhere_is_no_such_host(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", fail)
    error = failure(ask, "nowhere.invalid", 1)
    assert reason(error) == "no such host (Name or service not known)"
    assert lacking(error) is None


@pytest.mark.parametrize("host", ["x" * 70, "a\0b"])
def test_what_is_no_host_is_an_error_and_no_crash(ask: Ask, host: str) -> None:
    error = failure(ask, host, 80)
    assert "Traceback" not in reason(error)
    assert lacking(error) is None


# Over HTTP


def answered(data: bytes, **how: Any) -> http.Response:
    """What comes back where these bytes are answered."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async def run() -> http.Response:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = http.make_client(verify=False)
        try:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            for _ in range(2):
                response = await http.ask(client, "GET", url, limit=4, **how)
            return response
        finally:
            await client.aclose()
            server.close()

    requests: list[bytes] = []
    response = asyncio.run(run())
    assert b"cookie" not in requests[1].lower(), "what a daemon sets is sent to the next"
    assert b"accept-encoding: identity" in requests[0].lower()
    return response


def test_of_an_answer_no_more_is_read_than_is_wanted_and_no_cookie_is_kept() -> None:
    head = b"HTTP/1.1 200 OK\r\nServer: it\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: %d\r\n\r\n"
    assert answered(head % 3 + b"abc") == http.Response(200, b"abc", "it", packed=False)
    assert answered(head % 9 + b"abcdefghi").body == b"abcde", "a byte more says that there is more"


def test_a_packed_answer_is_left_unread_unless_it_is_wanted() -> None:
    import gzip

    packed = gzip.compress(b"abc")
    data = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
    assert answered(data) == http.Response(200, b"", None, packed=True)
    assert answered(data, unpack=True).body == b"abc"


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", http.NotHttp, "illegal status line"),
        (b"", http.NotHttp, "disconnected"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", http.NotHttp, "peer closed connection"),
    ],
)
def test_what_is_no_answer_is_told_by_its_kind(data: bytes, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        answered(data)


def test_a_connection_that_is_reset_was_cut() -> None:
    error = httpx.ReadError("")
    error.__cause__ = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    assert reason(error, CUT) == CUT


@pytest.mark.parametrize(("url", "headers"), [("nonsense://x", {}), ("http://127.0.0.1:1", {"X": "\u2603"})])
def test_what_cannot_be_sent_is_sent_to_nobody(url: str, headers: dict[str, str]) -> None:
    async def run() -> None:
        client = http.make_client(verify=False)
        try:
            await http.ask(client, "GET", url, limit=1, headers=headers)
        finally:
            await client.aclose()

    with pytest.raises(http.Unsendable):
        asyncio.run(run())


def test_nobody_listens() -> None:
    with pytest.raises(http.NoConnection, match=REFUSED):
        asyncio.run(by_http("127.0.0.1", free_port()))
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(by_tcp("127.0.0.1", free_port()))


# Files


def test_a_number_is_read_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "number"
    assert read_number(path) is None
    for text, number in ((b"5", 5), (b" 17\n", 17), (b"-1", -1)):
        path.write_bytes(text)
        assert read_number(path) == number
    for wrong in (b"", b"words", b"\xff\xfe", b"1.5", b"9" * 30, b"1" * 5000, "٣".encode()):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match="number contains '"):
            read_number(path)
    path.unlink()
    assert read_number(path / "in-no-directory") is None
    for make in (os.mkdir, os.mkfifo):
        make(path)
        with pytest.raises(OSError, match="not a regular file"):
            read_number(path)
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_name_is_there_even_if_it_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_there(tmp_path / "nothing")
    (tmp_path / "file").touch()
    assert is_there(tmp_path / "file")
    assert not is_there(tmp_path / "file" / "in-no-directory")
    (tmp_path / "link").symlink_to("nowhere")
    assert is_there(tmp_path / "link")

    def hidden(path: Path) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "lstat", hidden)
    with pytest.raises(PermissionError):
        is_there(tmp_path / "file")


# Databases


def soon() -> float:
    return time.monotonic() + 5


@pytest.mark.parametrize("without_writing", [False, True])
def test_a_value_is_read_while_another_process_writes(tmp_path: Path, *, without_writing: bool) -> None:
    database = tmp_path / "odd name?#%.sqlite"
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE log (id INTEGER PRIMARY KEY)")
        query = "SELECT MAX(id) FROM log"
        assert sqlite.read_number(database, query, soon(), without_writing=without_writing) == 0
        writer.execute("INSERT INTO log VALUES (7)")
        assert sqlite.read_number(database, query, soon(), without_writing=without_writing) == 7
        assert sqlite.read_number(database, "SELECT id FROM log WHERE id < 0", soon()) == 0


@pytest.mark.parametrize("without_writing", [False, True])
def test_what_is_no_database_is_an_error_at_once(tmp_path: Path, *, without_writing: bool) -> None:
    database = tmp_path / "log.sqlite"
    sqlite.beside(database, "-shm").write_bytes(bytes(32768))

    def read(query: str = "SELECT 1") -> int:
        return sqlite.read_number(database, query, soon(), without_writing=without_writing)

    with pytest.raises(FileNotFoundError):
        read()
    database.mkdir()
    with pytest.raises(OSError, match="not a regular file"):
        read()
    database.rmdir()
    os.mkfifo(database)
    with pytest.raises(OSError, match="not a regular file"):
        read()
    database.unlink()
    database.write_bytes(b"no database at all, but long enough to be mistaken for one" * 20)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        read("SELECT * FROM log")


@pytest.mark.parametrize("value", ["9e999", "1e30", "'words'", "x'ff'"])
def test_a_value_that_is_no_whole_number_is_an_error(tmp_path: Path, value: str) -> None:
    sqlite3.connect(tmp_path / "log.sqlite").close()
    with pytest.raises((ValueError, OverflowError)):
        sqlite.read_number(tmp_path / "log.sqlite", f"SELECT {value}", soon())


def test_a_locked_database_is_our_lack_and_not_waited_for(tmp_path: Path) -> None:
    database = tmp_path / "log.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as writer:
        writer.execute("CREATE TABLE log (id)")
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked") as refused:
            sqlite.read_number(database, "SELECT * FROM log", soon())
    assert lacking(refused.value) == "database is locked"


def test_the_codes_of_sqlite_are_those_of_its_library() -> None:
    named = ("BUSY", "LOCKED", "NOMEM", "FULL", "CANTOPEN")
    assert {getattr(sqlite3, f"SQLITE_{name}") for name in named} == LACKING_SQLITE


def test_a_query_without_end_is_given_up(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "log.sqlite").close()
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
    before = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        sqlite.read_number(tmp_path / "log.sqlite", endless, before + 0.05)
    assert time.monotonic() - before < 5


def test_no_client_is_made_of_a_module_whose_import_has_failed() -> None:
    """A thread that waited for the import of another one got the module as it was left, without `AsyncClient`."""
    done = subprocess.run(
        [sys.executable, PROGRAMS / "half_imported.py"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[Errno 24] Too many open files, AsyncClient\n"


@pytest.mark.parametrize("limit", [0, 10])
def test_a_request_that_is_given_up_at_any_moment_closes_its_connection(limit: int) -> None:
    """When a time limit ended while the connection was being closed, as after a supervisor had been stopped for a
    while, the connection stayed open until the supervisor's end."""

    async def work() -> None:
        open_ones: set[object] = set()
        changed = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            open_ones.add(writer)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await reader.read()
            open_ones.discard(writer)
            writer.close()
            changed.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = http.make_client(verify=False)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for moment in range(40):
            asking = asyncio.ensure_future(http.ask(client, "GET", url, limit=limit))
            for _ in range(moment):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        assert (await http.ask(client, "GET", url, limit=limit)).status == 200
        async with asyncio.timeout(PATIENCE_S / 2):
            while open_ones:
                changed.clear()
                await changed.wait()
        await client.aclose()
        server.close()
        await server.wait_closed()

    asyncio.run(work())
