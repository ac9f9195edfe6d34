"""What is fed, with what, and what must be true of every input.

A target makes itself ready in a directory of its own and hands out a function, which Hypothesis calls with inputs.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neo_daemons import Client, processes, records, references, urls
from neo_daemons.cli import display
from neo_daemons.config import ConfigError, load
from neo_daemons.control.address import Loopback, socket_path
from neo_daemons.control.client import ControlError
from neo_daemons.definitions import Log
from neo_daemons.records import DaemonRecord, DamagedRecord, SupervisorRecord
from neo_daemons.state_dir import StateDir
from neo_daemons.status import EventName
from neo_daemons.supervision import journal
from neo_daemons.supervision.logs import DaemonLog
from pytest_neo_daemons import settings
from tests.harness import Project, toy

Fuzz = Callable[[], None]
Target = Callable[[Path], contextlib.AbstractContextManager[Fuzz]]
TRIED: Counter[str] = Counter()
"""Inputs, by target."""

KEYS = [
    "command", "env", "cwd", "port", "ports", "data_dir", "ready", "live", "restart", "stop", "after",
    "requires", "log", "enabled", "exports", "external", "max_runtime_s", "max_rss_bytes", "options", "type",
    "path", "url", "body", "headers", "json", "timeout_s", "interval_s", "failures", "pattern", "within_s",
    "base_s", "ceiling_s", "limit", "window_s", "when", "signal", "grace_s", "max_bytes", "keep", "name",
    "token", "pid", "identity", "boot_id", "start_time", "at", "event", "daemon", "detail", "format", "socket",
    "version",
]  # fmt: skip
ESCAPES = ("\x1b[2J", "\x1b]0;title\x07", "\x1b]52;c;aGk=\x1b\\", "\x1bc", "\x9b31m", "\x9d0;x\x9c", "\x1b[31m",
           "\x1b[", "\x1bP1$q\x1b\\", "\x1b(0", "\r", "\b", "\x07", "\x00", "\x7f", "\u202e", "\u2028")  # fmt: skip
COLOUR = re.compile(r"\x1b\[[0-9;:]*m")

_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20), st.sampled_from(KEYS),
    st.sampled_from(["${port}", "${daemons.a.url}", "${", "$", "http", "auto", "http://[", "/", "~", "\x00"]),
)  # fmt: skip
_names = st.one_of(st.sampled_from(KEYS), st.text(max_size=8))
_values = st.recursive(
    _scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_names, inner, max_size=4)),
    max_leaves=12,
)  # fmt: skip
_hostile_text = st.lists(st.one_of(st.sampled_from(ESCAPES), st.text(max_size=6)), max_size=12).map("".join)


def _toml(value: Any) -> str:
    """Close to TOML: what JSON has and TOML has not is a fault of its own."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(part)}" for key, part in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def _tables(tables: Mapping[str, Mapping[str, Any]]) -> bytes:
    lines = []
    for name, table in tables.items():
        lines.append(f"[daemons.{json.dumps(name)}]")
        lines += [f"{json.dumps(key)} = {_toml(value)}" for key, value in table.items()]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


_configurations = st.one_of(
    st.binary(max_size=300),
    st.dictionaries(_names, _values, max_size=6).map(
        lambda table: "\n".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in table.items()).encode("utf-8", "replace")
    ),
    st.dictionaries(
        st.sampled_from(["a", "b", "chroma", "mlx", "bridge"]), st.dictionaries(_names, _values, max_size=5), max_size=3
    ).map(_tables),
    st.dictionaries(
        st.sampled_from(["a", "b"]),
        st.dictionaries(st.sampled_from(KEYS), _values, max_size=4).map(lambda table: {"command": ["true"], **table}),
        min_size=1,
    ).map(_tables),
)


@contextlib.contextmanager
def configuration(root: Path) -> Iterator[Fuzz]:
    """Any configuration is read, or refused in one line that does nothing to a terminal."""
    file = root / "neo-daemons.toml"

    @example(b'[daemons."a"]\n".0"=[]')
    @given(_configurations)
    def fuzz(data: bytes) -> None:
        TRIED["configuration"] += 1
        file.write_bytes(data)
        faults: tuple[str, ...] = ("none",)
        try:
            load(file, state_dir=root / "state", environ={})
        except ConfigError as error:
            faults = error.faults
        assert faults
        for fault in faults:
            assert fault, data
            assert fault.isprintable(), repr(fault)

    yield fuzz


@contextlib.contextmanager
def record(root: Path) -> Iterator[Fuzz]:
    """Any file is a record, or a damaged one."""
    path = root / "api.json"
    known = {
        "format": 1, "name": "api", "token": "0" * 32, "fingerprint": "0" * 16, "command": ["true"], "ports": {},
        "url": None, "data_dir": None, "log_path": "", "spawned_at": 0.0, "log_offset": 0, "pid": 1,
    }  # fmt: skip
    near = st.dictionaries(_names, _values, max_size=4).map(lambda changes: json.dumps({**known, **changes}).encode())
    cut = st.tuples(near, st.integers(0, 400)).map(lambda pair: pair[0][: pair[1]])

    @given(st.one_of(st.binary(max_size=300), _values.map(lambda value: json.dumps(value).encode()), near, cut))
    def fuzz(data: bytes) -> None:
        TRIED["record"] += 1
        path.write_bytes(data)
        with contextlib.suppress(DamagedRecord):
            assert isinstance(records.read(path, DaemonRecord), DaemonRecord)
        with contextlib.suppress(DamagedRecord):
            assert isinstance(records.read(path, SupervisorRecord), SupervisorRecord)

    yield fuzz


@contextlib.contextmanager
def journal_file(root: Path) -> Iterator[Fuzz]:
    """Each line of any journal is an entry, or is counted as damaged."""
    path = root / "journal.jsonl"
    entry = st.dictionaries(_names, _values, max_size=4).map(
        lambda changes: json.dumps({"at": 1.0, "event": "running", **changes}).encode()
    )

    @example(b'{"at":1e20,"event":""}')
    @given(st.lists(st.one_of(st.binary(max_size=60), entry), max_size=12).map(b"\n".join))
    def fuzz(data: bytes) -> None:
        TRIED["journal"] += 1
        path.write_bytes(data)
        entries, damaged = journal.read(path)
        assert len(entries) + damaged <= data.count(b"\n") + 1
        made = journal.Journal(path)
        made.add(EventName.RUNNING, daemon="api")
        made.close()
        assert journal.read(path)[0][-1].event == "running"
        for found in entries:
            assert display.entry(found).isprintable(), repr(display.entry(found))

    yield fuzz


@contextlib.contextmanager
def log(root: Path) -> Iterator[Fuzz]:
    """Any bytes are lines, of which a terminal takes nothing but colours."""
    path = root / "api.log"

    @given(st.one_of(st.binary(max_size=400), _hostile_text.map(lambda text: text.encode("utf-8", "replace"))))
    def fuzz(data: bytes) -> None:
        TRIED["log"] += 1
        path.write_bytes(data)
        lines = DaemonLog(path, Log()).tail(5)
        assert len(lines) <= 5
        for text in (*lines, data.decode("utf-8", "replace")):
            plain = COLOUR.sub("", display.tame(text))
            assert all(c.isprintable() or c in "\n\t" for c in plain), repr(plain)
            assert display.clean(text).replace("\t", "").isprintable()

    yield fuzz


@contextlib.contextmanager
def text(root: Path) -> Iterator[Fuzz]:
    """Whatever is written for a duration, a URL, an address or a reference is one, or is refused as what it is not."""
    near = st.from_regex(r"[0-9]{0,4}h?[0-9]{0,9}m?[0-9]{0,9}s?", fullmatch=True)
    url = st.from_regex(
        r"https?://([a-z]{1,3}(:[^@/]{0,3})?@)?[\[\]a-z0-9:.%]{0,12}(:[0-9]{0,6})?(/.{0,5})?", fullmatch=True
    )

    @given(st.one_of(_hostile_text, near, url, st.from_regex(r"[\[\]0-9a-f:.]{0,14}:[0-9]{1,6}", fullmatch=True)))
    def fuzz(text: str) -> None:
        TRIED["text"] += 1
        with contextlib.suppress(pytest.UsageError):
            assert 0 <= settings._duration_s(text, "--neo-daemons-keep") <= settings.LONGEST_S
        with contextlib.suppress(ValueError):
            assert 0 <= Loopback.parse(text).port <= 65535
        if urls.is_url(text):
            host, port = urls.host_and_port(text)
            assert host
            assert 0 <= port <= 65535
            urls.without_credentials(text)
        urls.redacted(text)
        assert references.expand(references.escape(text), {}) == text
        with contextlib.suppress(ValueError):
            references.expand(text, {"port": "1"})

    yield fuzz


@contextlib.contextmanager
def process_name(root: Path) -> Iterator[Fuzz]:
    """A process is found whatever it calls itself."""
    own = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
    pid, before = os.getpid(), own.read_bytes()
    known = processes.identify(pid)

    @given(st.one_of(st.binary(min_size=1, max_size=15), st.from_regex(rb"[)( \n0-9SZ]{1,15}", fullmatch=True)))
    def fuzz(name: bytes) -> None:
        TRIED["process_name"] += 1
        own.write_bytes(name)
        assert processes.identify(pid) == known

    try:
        yield fuzz
    finally:
        own.write_bytes(before)


@contextlib.contextmanager
def control(root: Path) -> Iterator[Fuzz]:
    """A supervisor answers others, whatever is sent to its socket; and goes on supervising."""
    project = Project(root)
    project.configure(api=toy("quiet"))
    project.serve()
    pid = project.reaches("api", "ready").pid
    lines = ["GET /v1/status HTTP/1.1", "POST /v1/daemons/api/why HTTP/1.1", "PUT /v1/session HTTP/1.1", "GET"]
    headers = ["Host: x", "Content-Length: 7", "Content-Length: -1", "Transfer-Encoding: chunked",
               "Expect: 100-continue", "Connection: Upgrade", "Upgrade: websocket",
               "X" * 70_000, "Range: bytes=0-"]  # fmt: skip
    requests = st.builds(
        lambda line, head, body: "\r\n".join([line, *head, "", ""]).encode() + body,
        st.sampled_from(lines),
        st.lists(st.sampled_from(headers), max_size=4),
        st.one_of(st.binary(max_size=60), _values.map(lambda value: json.dumps(value).encode())),
    )

    @given(st.lists(st.one_of(st.binary(max_size=200), requests), min_size=1, max_size=3))
    def fuzz(parts: list[bytes]) -> None:
        TRIED["control"] += 1
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.settimeout(0.005)
            connection.connect(str(socket_path(project.state.path)))
            for part in parts:
                connection.sendall(part)
            connection.recv(65536)
        found = project.client.status()
        assert found.daemon("api").pid == pid
        assert found.supervisor.warning is None

    try:
        yield fuzz
        assert not [event for event, _ in project.events() if event == "internal-error"]
    finally:
        left = project.close()
        assert not left, left


@contextlib.contextmanager
def client(root: Path) -> Iterator[Fuzz]:
    """A client of a server that has gone mad raises `ControlError`, at once."""
    (root / "honest").mkdir()
    project = Project(root / "honest")
    project.configure(api=toy("quiet"))
    project.serve()
    honest = records.read(project.state.record, SupervisorRecord)
    assert honest is not None
    left = project.close()
    assert not left, left
    state = StateDir(root / "state")
    state.create()
    path = str(root / "s")
    state.record.write_bytes(msgspec.json.encode(msgspec.structs.replace(honest, socket=path)))
    answer = [b""]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(answer[0])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    bodies = st.one_of(st.binary(max_size=80), _values.map(lambda value: json.dumps(value).encode()))
    answers = st.builds(
        lambda status, head, body: b"HTTP/1.1 " + status + b"\r\n" + head + b"\r\n" + body,
        st.sampled_from([b"200 OK", b"400 Bad", b"500 x", b"999", b"-1", b"", b"200 " + b"x" * 70_000, b"204 No"]),
        st.sampled_from([b"", b"Content-Length: 5\r\n", b"Content-Length: x\r\n", b"Transfer-Encoding: chunked\r\n",
                         b"Content-Length: -5\r\n", b"X: y\r\n" * 200, b"\xff: \xff\r\n"]),
        bodies,
    )  # fmt: skip

    @example(b"HTTP/1.1 200\nTransfer-Encoding: chunked\n\n-2")
    @given(st.one_of(st.binary(max_size=120), answers))
    def fuzz(data: bytes) -> None:
        TRIED["client"] += 1
        answer[0] = data
        made = Client(state.path)
        for ask in (
            made.status,
            lambda: made.why("api"),
            lambda: list(made.events(5)),
            lambda: list(made.logs("api", 5)),
        ):
            with contextlib.suppress(ControlError):
                ask()

    try:
        yield fuzz
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


TARGETS: Mapping[str, Target] = {
    "configuration": configuration,
    "record": record,
    "journal": journal_file,
    "log": log,
    "text": text,
    "process_name": process_name,
    "control": control,
    "client": client,
}
