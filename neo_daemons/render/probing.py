"""Probes as commands that run in a container, with what its image has."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from neo_daemons.definitions import AnyProbe, ExecProbe, FileProbe, HttpProbe, LogProbe, TcpProbe

from .quantities import seconds
from .workload import LOOPBACK, Workload

NOT_PORTABLE = re.compile(r"\\[A-Za-z0-9]|\(\?|[*+?}][?+]|\{,|(?<!\\)(?<!\[)[\^$]|\[[^\]]*\\")
"""What Python's regular expressions have and those of POSIX do not; ends of a text are ends of a line to grep."""
BRACE = re.compile(r"\\.|\[\^?\]?[^\]]*\]|\{[0-9]+(?:,[0-9]*)?\}|(\{)", re.DOTALL)
"""Its group is a brace that repeats nothing: POSIX does not allow it, and JSON begins with it."""
MAX_BODY = 1_000_000
"""Maximum number of bytes of a response that a body condition reads, as in the supervisor."""
KEPT = "!#$%&'()*+,/:;=?@[]~"
"""What is not escaped in a URL: it has a meaning there, or is escaped already."""
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
    """Return the URL that a probe asks: the one that the supervisor asks."""
    if probe.url is None:
        return f"http://{LOOPBACK}:{port_of(workload, probe)}{path_of(probe)}"
    return quote(probe.url if probe.path == "/" else probe.url.rstrip("/") + probe.path, safe=KEPT)


def path_of(probe: HttpProbe) -> str:
    """Return the path that a probe asks, as it is sent."""
    return quote(probe.path.partition("#")[0], safe=KEPT)


def _command(workload: Workload, probe: AnyProbe) -> tuple[str, ...]:
    program = workload.probe_with
    if isinstance(probe, ExecProbe):
        return probe.command
    if isinstance(probe, LogProbe):
        raise CannotAsk("engines do not read logs", 'set it to what can be asked, e.g. { type = "http", path = "/" }')
    if program is None:
        raise CannotAsk("needs a program of the image", 'set daemons.{name}.deploy.probe_with, e.g. to "python3"')
    if program == "neo-daemons":
        if isinstance(probe, HttpProbe) and workload.definition.builtin == "chroma" and not _replaced(workload):
            base = f"http://{LOOPBACK}:{port_of(workload, probe)}"
            asked = shlex.join(["neo-daemons", "health", workload.name, "--url", base])
            return ("sh", "-c", f"{asked}; [ $? -le 1 ]")  # degraded is alive
        program = "python3"  # which it runs on
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
    raise CannotAsk(f"{program} cannot send requests", _use("python3", "bash"))


def _use(*programs: str) -> str:
    choice = " or ".join(f'"{one}"' for one in programs)
    return f"set daemons.{{name}}.deploy.probe_with to {choice}, if the image has it"


def _body(probe: HttpProbe) -> str:
    """Return the pattern of a body as grep -E and bash know it."""
    assert probe.body is not None
    if NOT_PORTABLE.search(probe.body):
        raise CannotAsk(f"only Python knows the regular expression {probe.body!r}", _use("python3"))
    return BRACE.sub(lambda match: "\\{" if match[1] else match[0], probe.body)


def _sent(probe: HttpProbe) -> tuple[dict[str, str], str | None]:
    """Return the headers and the body of a request."""
    if probe.json is None:
        return dict(probe.headers), None
    return {"Content-Type": "application/json", **probe.headers}, json.dumps(probe.json)


def _status(probe: HttpProbe) -> str:
    """Return the pattern of a status that passes, as shells know it."""
    return "|".join(map(str, probe.status)) or "2??"


def _http_by_curl(url: str, probe: HttpProbe) -> tuple[str, ...]:
    headers, data = _sent(probe)
    if probe.method == "HEAD" and data is not None:
        raise CannotAsk("curl cannot ask that", _use("python3", "bash"))
    words = ["curl", "-gsS", "--noproxy", "*", "-m", seconds(probe.timeout_s)]
    if url.startswith("https:"):
        words.append("-k")
    if probe.method == "HEAD":
        words.append("-I")
    elif probe.method != "GET" or data is not None:
        words += ["-X", probe.method]
    for key, value in headers.items():
        words += ["-H", f"{key}: {value}" if value else f"{key};"]
    if data is not None:
        words += ["--data", data]
    # curl's own -f takes a redirection for a success.
    if probe.body is None:
        asked = shlex.join([*words, "-o", "/dev/null", "-w", "%{http_code}", url])
        return ("sh", "-c", f'case "$({asked})" in {_status(probe)}) ;; *) exit 1 ;; esac')
    asked = shlex.join([*words, "-w", " %{http_code}", url])
    steps = [
        f"answer=$({asked}) || exit",
        f'case "${{answer##* }}" in {_status(probe)}) ;; *) exit 1 ;; esac',
        f'printf %s "${{answer% *}}" | grep -Eq -e {shlex.quote(_body(probe))}',
    ]
    return ("sh", "-c", "; ".join(steps))


def _http_by_wget(url: str, probe: HttpProbe) -> tuple[str, ...]:
    headers, data = _sent(probe)
    if probe.status or (probe.method, data is None) not in (("GET", True), ("POST", False)):
        raise CannotAsk("wget cannot ask that", _use("python3", "bash"))
    # Those of GNU and of BusyBox know these; neither can be told by both not to follow a redirection.
    words = ["wget", "-q", "-t", "1", "-T", f"{max(1, round(probe.timeout_s))}", "-O", "-"]
    if url.startswith("https:"):
        words.append("--no-check-certificate")
    words += [f"--header={key}: {value}" for key, value in headers.items()]
    if data is not None:
        words.append(f"--post-data={data}")
    direct, asked = "unset http_proxy https_proxy", shlex.join([*words, url])
    if probe.body is None:
        return ("sh", "-c", f"{direct}; {asked} > /dev/null")
    compared = f'printf %s "$answer" | grep -Eq -e {shlex.quote(_body(probe))}'
    return ("sh", "-c", f"{direct}; answer=$({asked}) || exit; {compared}")


def _http_by_bash(workload: Workload, probe: HttpProbe) -> tuple[str, ...]:
    if probe.url is not None:
        raise CannotAsk("bash asks the ports of the daemon only", _use("python3", "curl"))
    headers, data = _sent(probe)
    lines = [f"{probe.method} {path_of(probe)} HTTP/1.0"]
    if "host" not in map(str.lower, headers):
        lines.append("Host: localhost")
    lines += [f"{key}: {value}" for key, value in headers.items()]
    if data is not None:
        lines.append(f"Content-Length: {len(data.encode())}")
    request = "".join(f"{line}\r\n" for line in [*lines, ""]) + (data or "")
    quoted = "$'" + re.sub(r"[\\'\r\n]", lambda m: {"\r": "\\r", "\n": "\\n"}.get(m[0], f"\\{m[0]}"), request) + "'"
    steps = [
        f"exec 3<>/dev/tcp/{LOOPBACK}/{port_of(workload, probe)}",
        f"printf %s {quoted} >&3",
        r"IFS=$' \r' read -r _ status _ <&3",
        f"[[ $status == @({_status(probe)}) ]]",
    ]
    if probe.body is not None:
        steps += [
            f"{{ read -r -d '' answer <&3 || true; }} && pattern={shlex.quote(_body(probe))}",
            r"[[ ${answer#*$'\r\n\r\n'} =~ $pattern ]]",
        ]
    return ("bash", "-c", " && ".join(steps))


def _http_by_python(url: str, probe: HttpProbe) -> tuple[str, ...]:
    headers, data = _sent(probe)
    request: list[Any] = [url, data.encode() if data is not None else None, headers]
    passes = f"r.status in {probe.status}" if probe.status else "200 <= r.status < 300"
    if probe.body is not None:
        passes += f" and re.search({probe.body!r}, r.read({MAX_BODY}).decode(errors='replace'))"
    secure = url.startswith("https:")
    script = [
        f"import re, sys{', ssl' if secure else ''}, urllib.request as u",
        # It neither follows redirections, nor takes a status for a failure, nor uses a proxy, nor verifies.
        "o = u.OpenerDirector(); o.add_handler(u.HTTP"
        + ("SHandler(context=ssl._create_unverified_context()))" if secure else "Handler())"),
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
