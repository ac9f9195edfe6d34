"""A probe as a command asks the question of the supervisor's own probe, and comes to the same verdict."""

from __future__ import annotations

import asyncio
import http.server
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neo_daemons.definitions import AnyProbe, FileProbe, Log
from neo_daemons.render.probing import CannotAsk, command
from neo_daemons.render.stack import Faults
from neo_daemons.render.workload import Workload, plan
from neo_daemons.supervision.logs import DaemonLog
from neo_daemons.supervision.platform import current_platform
from neo_daemons.supervision.probes import Prober, Target
from tests.harness import free_port, toml
from tests.health.answers import Server

from .project import stack

pytestmark = pytest.mark.long

BIN = Path(sys.executable).parent
PROGRAMS = ("bash", "curl", "wget", "python3", "neo-daemons", "sh")
STATUS = {"/missing": 404, "/broken": 500, "/moved": 302, "/empty": 204, "/made": 201, "/kept": 304}
BODIES = {"/json": b'{"ok": true, "n": [1]}', "/lines": b"first\nsecond ok\n", "/dollar": b'5$ (a) it\'s \\ "x"\n'}
PROBES: dict[str, dict[str, Any]] = {
    "passes": {"path": "/"},
    "missing": {"path": "/missing"},
    "broken": {"path": "/broken"},
    "a redirection": {"path": "/moved"},
    "not modified": {"path": "/kept"},
    "no content": {"path": "/empty"},
    "created": {"path": "/made"},
    "a status without a phrase": {"path": "/bare"},
    "a status of a list": {"path": "/missing", "status": [404, 500]},
    "a status outside a list": {"path": "/", "status": [204]},
    "a redirection in a list": {"path": "/moved", "status": [302]},
    "a body": {"path": "/json", "body": '"ok": true'},
    "a body that begins with a brace": {"path": "/json", "body": '{"ok": true'},
    "a body with braces": {"path": "/json", "body": "[{]"},
    "another body": {"path": "/json", "body": '"ok": false'},
    "a body of a failure": {"path": "/broken", "body": "broken"},
    "a body of a redirection": {"path": "/moved", "body": "moved"},
    "a body and a status": {"path": "/missing", "body": "missing", "status": [404]},
    "a body, another status": {"path": "/", "body": "^", "status": [204]},
    "what only the headers hold": {"path": "/", "body": "only-in-headers"},
    "a regular expression": {"path": "/lines", "body": "first|third"},
    "a repetition": {"path": "/lines", "body": "s{2}|se?co+nd"},
    "a repetition that is not there": {"path": "/lines", "body": "o{2}"},
    "the start of the text": {"path": "/lines", "body": "^second"},
    "a class of Python": {"path": "/lines", "body": r"second\sok"},
    "quotes and dollars": {"path": "/dollar", "body": r"5[$$] \(a\) it's"},
    "a backslash in brackets": {"path": "/dollar", "body": r"[\]x]"},
    "a path with odd characters": {"path": "/has a b%20c/é?x=[1]{2}&y='z'#gone"},
    "a path that is not that": {"path": "/has a"},
    "HEAD": {"path": "/", "method": "HEAD"},
    "HEAD of what is missing": {"path": "/missing", "method": "HEAD"},
    "POST": {"path": "/posted", "method": "POST"},
    "POST with JSON": {"path": "/posted", "method": "POST", "json": {"a": "it's é $$x"}, "body": "it's|it.u0027s"},
    "POST with JSON, refused": {"path": "/posted", "method": "POST", "json": {"a": 1}, "body": "it's"},
    "GET with JSON": {"path": "/posted", "json": {"a": 1}},
    "GET where POST is wanted": {"path": "/posted"},
    "headers": {"path": "/asked", "headers": {"X-Ask": "a 'b' $$c", "X-Empty": "", "Host": "other"}, "body": "a 'b' "},
    "no headers": {"path": "/asked"},
    "another port": {"path": "/", "port": "closed"},
    "a URL and a path": {"url": "URL/has", "path": "/b c/é?x=[1]{2}&y='z'"},
    "a URL": {"url": "URL/missing"},
    "a connection": {"type": "tcp"},
    "no connection": {"type": "tcp", "port": "closed"},
}
FOLLOWS = {"wget": {"a redirection"}}
"""Where a program's verdict is known to differ: docs/rendering.md says so."""


def answer(request: http.server.BaseHTTPRequestHandler) -> None:
    """Answers by the path: a status, a text, or whether what was sent is what should be."""
    path = request.path
    length = int(request.headers.get("Content-Length", 0))
    sent = request.rfile.read(length)
    status, body = STATUS.get(path, 200), BODIES.get(path, path.strip("/").encode() or b"ok")
    if path == "/bare":
        request.wfile.write(b"HTTP/1.0 200\r\n\r\nok")
        return
    if path == "/posted":
        status, body = (200, sent) if request.command == "POST" else (405, b"")
    elif path == "/asked":
        asked, host = request.headers.get("X-Ask"), request.headers.get("Host")
        status = 200 if (asked, host, request.headers.get("X-Empty")) == ("a 'b' $c", "other", "") else 400
        body = (asked or "").encode()
    elif path.startswith("/has"):
        wanted = ("/has%20a%20b%20c/%C3%A9?x=", "/has/b%20c/%C3%A9?x=")  # brackets and quotes come either way
        status = 200 if path.startswith(wanted) and "gone" not in path else 404
    request.send_response(status)
    request.send_header("X-Mark", "only-in-headers")
    if status == 302:
        request.send_header("Location", "/")
    if status not in (204, 304):
        request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if request.command != "HEAD" and status not in (204, 304):
        request.wfile.write(body)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server(answer)
    yield found
    found.close()


def workload(probe: dict[str, Any], program: str, **ports: int) -> Workload:
    """A daemon with this probe, in an image with this program."""
    table = {"command": ["api"], "ports": ports, "ready": {"type": "http", "timeout_s": 20, **probe}}
    table["deploy"] = {"image": "api:1", "probe_with": program}
    given = stack("[daemons.api]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in table.items()))
    faults = Faults(given)
    found = plan(given, faults).workloads["api"]
    faults.raise_all()
    return found


def passes(asked: tuple[str, ...], directory: Path) -> bool:
    """Whether a command passes. A proxy that its environment names is not there."""
    dead = f"http://127.0.0.1:{free_port()}"
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy")
    env = {**os.environ, **dict.fromkeys(names, dead), "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(asked, env=env, cwd=directory, capture_output=True, timeout=120, check=False)
    assert b"Traceback" not in done.stderr or asked[0] == "python3"
    return done.returncode == 0


def supervisor_passes(probe: AnyProbe, directory: Path, ports: dict[str, int]) -> bool:
    """What the supervisor finds."""
    log = DaemonLog(directory / "api.log", Log())

    async def ask() -> bool:
        prober = Prober(current_platform())
        try:
            return (await prober.check(probe, Target("127.0.0.1", ports, {}, "/", log, log.end, {}))).ok
        finally:
            await prober.close()

    return asyncio.run(ask())


@pytest.mark.long
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_command_comes_to_the_verdict_of_the_supervisor(program: str, server: Server, tmp_path: Path) -> None:
    if program != "neo-daemons" and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    ports = {"main": int(server.url.rpartition(":")[2]), "closed": free_port()}
    verdicts = dict[str, tuple[bool, bool]]()
    for name, stated in PROBES.items():
        table = {**stated, "url": stated["url"].replace("URL", server.url)} if "url" in stated else stated
        found = workload(table, program, **ports)
        (probe,) = found.ready
        try:
            asked = command(found, found.ready)
        except CannotAsk:
            continue
        verdicts[name] = (passes(asked, tmp_path), supervisor_passes(probe, tmp_path, ports))
    differ = {name for name, (theirs, ours) in verdicts.items() if theirs != ours}
    assert differ == FOLLOWS.get(program, set()), {name: verdicts[name] for name in differ}
    every = len(PROBES)
    least = {"python3": every, "neo-daemons": every, "curl": every - 7, "bash": every - 7, "wget": every // 2}
    assert len(verdicts) >= least.get(program, 0), set(PROBES) - set(verdicts)
    assert program == "sh" or {ours for _, ours in verdicts.values()} == {True, False}


@pytest.mark.parametrize("program", ["sh", "bash", "curl", "wget", "python3"])
def test_a_file_is_fresh_until_it_is_too_old(program: str, tmp_path: Path) -> None:
    beat = tmp_path / "it's a $beat"
    probe = FileProbe(path=str(beat), within_s=30)
    asked = command(workload({"type": "tcp"}, program, main=1), [probe])
    assert not passes(asked, tmp_path), "there is no file"
    beat.touch()
    assert passes(asked, tmp_path)
    os.utime(beat, (1, 1))
    assert not passes(asked, tmp_path)


def test_all_of_several_probes_have_to_pass(server: Server, tmp_path: Path) -> None:
    ports = {"main": int(server.url.rpartition(":")[2])}
    good, bad = (workload({"path": path}, "python3", **ports).ready[0] for path in ("/", "/missing"))
    found = workload({}, "python3", **ports)
    assert passes(command(found, [good, good]), tmp_path)
    assert not passes(command(found, [good, bad]), tmp_path)
    assert not passes(command(found, [bad, good]), tmp_path)
