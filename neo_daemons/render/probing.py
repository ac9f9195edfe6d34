"""Probes as commands that run in a container, with what its image has."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from neo_daemons.definitions import AnyProbe, ExecProbe, FileProbe, HttpProbe, LogProbe, TcpProbe

from .quantities import seconds
from .workload import LOOPBACK, Workload

NOT_PORTABLE = re.compile(r"\\[A-Za-z0-9]|\(\?|[*+?}]\?")
"""What Python's regular expressions have and those of POSIX do not."""
SHELLS = ("sh", "bash", "curl", "wget")
"""Programs beside which every image has a shell."""


class CannotAsk(Exception):
    """A probe cannot be made with what an image has. ``str()`` says why, `remedy` what to set."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.remedy = remedy


def command(workload: Workload, probes: Iterable[AnyProbe]) -> tuple[str, ...]:
    """Return a command that passes if all of `probes` pass.

    Raises:
        CannotAsk: one of them cannot be made.
    """
    if workload.image.probe_command is not None and not _replaced(workload):
        return workload.image.probe_command
    commands = [_command(workload, probe) for probe in probes]
    if len(commands) == 1:
        return commands[0]
    return ("sh", "-c", " && ".join(shlex.join(one) for one in commands))


def _replaced(workload: Workload) -> bool:
    return workload.deploy.ready is not None or workload.deploy.live is not None


def port_of(workload: Workload, probe: HttpProbe | TcpProbe) -> int:
    """Return the number of the port that a probe asks."""
    ports: Mapping[str, int] = workload.image.ports
    return ports[probe.port] if probe.port is not None else next(iter(ports.values()))


def url_of(workload: Workload, probe: HttpProbe) -> str:
    """Return the URL that a probe asks."""
    return probe.url if probe.url is not None else f"http://{LOOPBACK}:{port_of(workload, probe)}{probe.path}"


def _command(workload: Workload, probe: AnyProbe) -> tuple[str, ...]:
    program = workload.probe_with
    if isinstance(probe, ExecProbe):
        return probe.command
    if isinstance(probe, LogProbe):
        raise CannotAsk("engines do not read logs", 'set it to what can be asked, e.g. { type = "http", path = "/" }')
    if program is None:
        raise CannotAsk("needs a program of the image", 'set daemons.{name}.deploy.probe_with, e.g. to "python3"')
    match probe:
        case HttpProbe():
            return _http(workload, probe, program)
        case TcpProbe():
            return _tcp(port_of(workload, probe), probe.timeout_s, program)
        case FileProbe():
            return _file(probe, program)


def _http(workload: Workload, probe: HttpProbe, program: str) -> tuple[str, ...]:
    url = url_of(workload, probe)
    match program:
        case "python3":
            return _http_by_python(url, probe)
        case "curl":
            return _http_by_curl(url, probe)
        case "wget":
            return _http_by_wget(url, probe)
        case "bash":
            return _http_by_bash(workload, probe)
        case "neo-daemons":
            builtin = workload.definition.builtin if not workload.definition.command else None
            if builtin is None and (probe.method != "GET" or probe.headers or probe.status or probe.body is not None):
                raise CannotAsk("neo-daemons health asks whether a URL answers, no more", _use("python3"))
            base = f"http://{LOOPBACK}:{port_of(workload, probe)}" if builtin is not None else url
            asked = shlex.join(["neo-daemons", "health", workload.name, "--url", base])
            return ("sh", "-c", f"{asked}; [ $? -le 1 ]")  # degraded is alive
    raise CannotAsk(f"{program} cannot send requests", _use("python3", "bash"))


def _use(*programs: str) -> str:
    choice = " or ".join(f'"{one}"' for one in programs)
    return f"set daemons.{{name}}.deploy.probe_with to {choice}, if the image has it"


def _body(probe: HttpProbe) -> str:
    """Return the pattern of a body as grep -E and bash know it."""
    assert probe.body is not None
    if NOT_PORTABLE.search(probe.body):
        raise CannotAsk(f"only Python knows the regular expression {probe.body!r}", _use("python3"))
    return probe.body


def _sent(probe: HttpProbe) -> tuple[dict[str, str], str | None]:
    """Return the headers and the body of a request."""
    if probe.json is None:
        return dict(probe.headers), None
    return {"Content-Type": "application/json", **probe.headers}, json.dumps(probe.json)


def _http_by_curl(url: str, probe: HttpProbe) -> tuple[str, ...]:
    headers, data = _sent(probe)
    words = ["curl", "-sS", "-m", seconds(probe.timeout_s)]
    if probe.method == "HEAD":
        words.append("-I")
    elif probe.method != "GET":
        words += ["-X", probe.method]
    for key, value in headers.items():
        words += ["-H", f"{key}: {value}"]
    if data is not None:
        words += ["--data", data]
    passing = ("-f", "-L", "--max-redirs", "0")  # fails for every status but 2xx
    if probe.status and probe.body is not None:
        raise CannotAsk("curl tells the status or the body, not both", _use("python3", "bash"))
    if probe.status:
        asked = shlex.join([*words, "-o", "/dev/null", "-w", "%{http_code}", url])
        wanted = "|".join(map(str, probe.status))
        return ("sh", "-c", f'case "$({asked})" in {wanted}) ;; *) exit 1 ;; esac')
    if probe.body is not None:
        return ("sh", "-c", f"{shlex.join([*words, *passing, url])} | grep -Eq -e {shlex.quote(_body(probe))}")
    return (*words, *passing, "-o", "/dev/null", url)


def _http_by_wget(url: str, probe: HttpProbe) -> tuple[str, ...]:
    headers, data = _sent(probe)
    if probe.status or probe.method == "HEAD" or (probe.method == "POST" and data is None):
        raise CannotAsk("wget cannot ask that", _use("python3", "bash"))
    words = ["wget", "-q", "-T", f"{max(1, round(probe.timeout_s))}", "-O", "-"]
    words += [f"--header={key}: {value}" for key, value in headers.items()]
    if data is not None:
        words.append(f"--post-data={data}")
    if probe.body is None:
        return ("sh", "-c", f"{shlex.join([*words, url])} > /dev/null")
    return ("sh", "-c", f"{shlex.join([*words, url])} | grep -Eq -e {shlex.quote(_body(probe))}")


def _http_by_bash(workload: Workload, probe: HttpProbe) -> tuple[str, ...]:
    if probe.url is not None:
        raise CannotAsk("bash asks the ports of the daemon only", _use("python3", "curl"))
    headers, data = _sent(probe)
    lines = [f"{probe.method} {probe.path} HTTP/1.0", "Host: localhost"]
    lines += [f"{key}: {value}" for key, value in headers.items()]
    if data is not None:
        lines.append(f"Content-Length: {len(data.encode())}")
    request = "".join(f"{line}\r\n" for line in [*lines, ""]) + (data or "")
    quoted = "$'" + re.sub(r"[\\'\r\n]", lambda m: {"\r": "\\r", "\n": "\\n"}.get(m[0], f"\\{m[0]}"), request) + "'"
    status = "|".join(map(str, probe.status)) or "2??"
    steps = [
        f"exec 3<>/dev/tcp/{LOOPBACK}/{port_of(workload, probe)}",
        f"printf %s {quoted} >&3",
        "read -r _ status _ <&3",
        f"[[ $status == @({status}) ]]",
    ]
    if probe.body is not None:
        steps.append(f"{{ read -r -d '' answer <&3 || true; }} && pattern={shlex.quote(_body(probe))}")
        steps.append("[[ $answer =~ $pattern ]]")
    return ("bash", "-c", " && ".join(steps))


def _http_by_python(url: str, probe: HttpProbe) -> tuple[str, ...]:
    headers, data = _sent(probe)
    request: list[Any] = [url, data.encode() if data is not None else None, headers]
    passes = f"r.status in {probe.status}" if probe.status else "200 <= r.status < 300"
    if probe.body is not None:
        passes += f" and re.search({probe.body!r}, r.read().decode(errors='replace'))"
    script = [
        "import re, sys, urllib.request as u",
        # It neither follows redirections, nor takes a status for a failure, nor uses a proxy.
        "o = u.OpenerDirector(); o.add_handler(u.HTTPHandler()); o.add_handler(u.HTTPSHandler())",
        f"q = u.Request({', '.join(map(repr, request))}, method={probe.method!r})",
        f"r = o.open(q, timeout={seconds(probe.timeout_s)})",
        f"sys.exit(not ({passes}))",
    ]
    return ("python3", "-c", "; ".join(script))


def _tcp(port: int, timeout_s: float, program: str) -> tuple[str, ...]:
    if program == "bash":
        return ("bash", "-c", f"exec 3<>/dev/tcp/{LOOPBACK}/{port}")
    if program == "python3":
        return (
            "python3",
            "-c",
            f"import socket; socket.create_connection(({LOOPBACK!r}, {port}), {seconds(timeout_s)})",
        )
    raise CannotAsk(f"{program} cannot open connections", _use("python3", "bash"))


def _file(probe: FileProbe, program: str) -> tuple[str, ...]:
    if probe.database is not None:
        raise CannotAsk("a position in a database cannot be asked by one command", "set it to what can be asked")
    if program == "python3":
        age = f"time.time() - os.path.getmtime({probe.path!r})"
        return ("python3", "-c", f"import os, sys, time; sys.exit({age} > {seconds(probe.within_s)})")
    if program in SHELLS:
        path = shlex.quote(probe.path)
        return ("sh", "-c", f"[ $(( $(date +%s) - $(stat -c %Y {path}) )) -le {round(probe.within_s)} ]")
    raise CannotAsk(f"{program} cannot tell the age of a file", _use("python3", "sh"))
