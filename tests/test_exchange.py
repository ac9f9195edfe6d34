"""What the client makes of answers, complete or not."""

from __future__ import annotations

import socket

import pytest

from neo_daemons.control.exchange import Answer, Interrupted, InvalidAnswer, ask

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def answer(data: bytes) -> Answer:
    """The answer of a server that sends `data` and closes the connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        return Answer(ours)


def test_a_body_has_the_length_that_its_head_states() -> None:
    assert answer(OK + b"content-length: 3\r\n\r\nabcdef").read() == b"abc"
    assert answer(OK + b"Content-Length:0\r\n\r\n").read() == b""


def test_a_body_in_chunks_is_put_together() -> None:
    assert answer(CHUNKED + b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\na: b\r\n\r\n").read() == b"abc0123456789"


def test_lines_come_one_by_one_however_they_are_cut() -> None:
    assert list(answer(CHUNKED + b"3\r\na\nb\r\n2\r\nc\n\r\n1\r\nd\r\n0\r\n\r\n").lines()) == [b"a", b"bc", b"d"]


def test_the_status_is_that_of_the_head() -> None:
    assert answer(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").status == 404
    assert answer(b"HTTP/1.1 503\r\ncontent-length: 0\r\n\r\n").status == 503


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200",
        OK + b"content-length: 3\r\n",
        OK + b"content-length: 3\r\n\r\nab",
        CHUNKED,
        CHUNKED + b"3\r\nab",
        CHUNKED + b"3\r\nabc\r\n",
    ],
)
def test_an_answer_that_ends_too_soon_is_no_answer(data: bytes) -> None:
    with pytest.raises(Interrupted):
        answer(data).read()


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"x" * 100_000,
        b"HTTP/1.1 OK\r\n\r\n",
        OK + b"\r\n",
        OK + b"content-length: -1\r\n\r\n",
        OK + b"a: b\r\n" * 1000,
        CHUNKED + b"-3\r\nabc\r\n",
        CHUNKED + b"no\r\n",
    ],
)
def test_what_is_not_http_is_reported_as_that(data: bytes) -> None:
    with pytest.raises(InvalidAnswer):
        answer(data).read()


def test_a_request_is_sent_whole() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(OK + b"content-length: 0\r\n\r\n")
        ask(ours, "POST", "/v1/reload?", {"a": "b"}, b"{}")
        ours.close()
        assert theirs.makefile("rb").read() == (
            b"POST /v1/reload? HTTP/1.1\r\nHost: neo-daemons\r\na: b\r\nContent-Length: 2\r\n\r\n{}"
        )
