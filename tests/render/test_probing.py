"""Probes as commands in a container: each program asks what the supervisor asks, and comes to the same verdict."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from neo_daemons.definitions import AnyProbe, Definition, Deploy, ExecProbe, FileProbe, HttpProbe, TcpProbe
from neo_daemons.references import expand_all
from neo_daemons.render import probing
from neo_daemons.render.image import Image
from neo_daemons.render.probing import CannotAsk
from neo_daemons.render.workload import Workload
from tests.harness import free_port
from tests.test_probes import check, target

pytestmark = pytest.mark.long

PROGRAMS = [name for name in ("python3", "bash", "sh", "curl", "wget", "neo-daemons") if shutil.which(name)]
"""Those that this machine has; python3, bash and sh are required."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers ``/STATUS/WORDS`` with that status and those words, and checks what it is sent."""

    def do_GET(self) -> None:
        _, status, words = self.path.split("/", 2)
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("X-Asked", "yes") != "yes" or (sent and json.loads(sent) != {"a": "it's"}):
            status = "400"
        body = words.encode()
        self.send_response(int(status))
        self.send_header("Content-Length", str(len(body)))
        if status == "302":
            self.send_header("Location", "/200/moved")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_POST = do_HEAD = do_GET  # noqa: N815 - as the server calls them

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a server that answers as it is asked to."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server.server_address[1]
        server.shutdown()
        serving.join()


def workload(probe: AnyProbe, program: str, port: int) -> Workload:
    """The container of a daemon with one probe and one port."""
    return Workload(
        definition=Definition(name="api"),
        deploy=Deploy(probe_with=program),  # type: ignore[arg-type]
        image=Image(name="api:1", ports={"main": port}),
        entrypoint=None,
        arguments=None,
        env={},
        ready=(probe,),
        live=(),
        needs=(),
        exports={},
    )


def asked(probe: AnyProbe, program: str, port: int) -> bool | None:
    """Whether the command passes; None if the program cannot ask that."""
    try:
        command = probing.command(workload(probe, program, port), [probe])
    except CannotAsk:
        return None
    scripts = str(Path(sys.executable).parent)
    env = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "http_proxy": ""}
    return subprocess.run(command, env=env, capture_output=True, timeout=60, check=False).returncode == 0


PROBES: dict[str, tuple[AnyProbe, bool]] = {
    "200": (HttpProbe(path="/200/fine"), True),
    "201": (HttpProbe(path="/201/fine"), True),
    "404": (HttpProbe(path="/404/fine"), False),
    "500": (HttpProbe(path="/500/fine"), False),
    "a redirection": (HttpProbe(path="/302/x"), False),
    "a wanted status": (HttpProbe(path="/404/x", status=(401, 404)), True),
    "another status": (HttpProbe(path="/200/x", status=(401, 404)), False),
    "the right body": (HttpProbe(path="/200/say-'ok'-$$HOME", body="'ok'-[$]HOME$"), True),
    "the wrong body": (HttpProbe(path="/200/fine", body="^ok"), False),
    "a status and a body": (HttpProbe(path="/401/who", status=(401,), body="who"), True),
    "a status and the wrong body": (HttpProbe(path="/401/who", status=(401,), body="^me"), False),
    "a body that Python reads": (HttpProbe(path="/200/42", body=r"^\d+$"), True),
    "headers": (HttpProbe(path="/200/x", headers={"X-Asked": "yes", "Accept": "a b; c='d'"}), True),
    "the wrong header": (HttpProbe(path="/200/x", headers={"X-Asked": "no"}), False),
    "POST": (HttpProbe(path="/200/x", method="POST", json={"a": "it's"}), True),
    "POST of something else": (HttpProbe(path="/200/x", method="POST", json={"a": "its"}), False),
    "HEAD": (HttpProbe(path="/200/x", method="HEAD"), True),
    "HEAD of nothing": (HttpProbe(path="/404/x", method="HEAD"), False),
    "tcp": (TcpProbe(), True),
    "exec": (ExecProbe(command=("test", "a", "=", "a")), True),
    "exec that fails": (ExecProbe(command=("false",)), False),
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("probe", "passes"), PROBES.values(), ids=PROBES)
def test_a_program_comes_to_the_verdict_of_the_supervisor(
    tmp_path: Path, port: int, probe: AnyProbe, passes: bool, program: str
) -> None:
    assert check(probe, target(tmp_path, port)).ok == passes
    found = asked(expand_all(probe, {}), program, port)
    if program == "wget" and "/302" in str(probe):
        assert found  # it follows redirections
        return
    if program == "neo-daemons" and isinstance(probe, HttpProbe):
        # It asks whether a server answers, and takes 4xx for an answer.
        assert found in (None, passes or probe.path.startswith(("/4", "/3"))), found
    else:
        assert found in (None, passes)
    if program == "python3":
        assert found is not None


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("probe", [HttpProbe(), TcpProbe()], ids=["http", "tcp"])
def test_a_closed_port_fails(program: str, probe: AnyProbe) -> None:
    assert not asked(probe, program, free_port())


@pytest.mark.parametrize("program", ["sh", "python3"])
def test_the_age_of_a_file_is_asked(tmp_path: Path, program: str) -> None:
    file = tmp_path / "it's here"
    probe = FileProbe(path=str(file), within_s=30)
    assert not asked(probe, program, 1), "it is missing"
    file.touch()
    assert asked(probe, program, 1)
    os.utime(file, (time.time() - 60,) * 2)
    assert not asked(probe, program, 1)


def test_several_probes_pass_if_all_pass(port: int) -> None:
    good, bad = HttpProbe(path="/200/x"), HttpProbe(path="/500/x")
    for probes, passes in (((good, good), True), ((good, bad), False), ((bad, good), False)):
        found = workload(good, "python3", port)
        command = probing.command(msgspec.structs.replace(found, ready=probes), probes)
        assert (subprocess.run(command, capture_output=True, check=False).returncode == 0) == passes
