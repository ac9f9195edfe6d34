"""Probe a daemon: http, tcp, exec, log line, file progress.

A probe returns a `Result` within its timeout, and does not raise for anything that the daemon does. A fault of the
daemon is a verdict. A fault on our side, such as a bug or a lack of descriptors, makes the answer unknown. One `Prober`
serves a whole supervisor. It creates its HTTP client when the first probe needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from neo_daemons.checks import http, tcp
from neo_daemons.checks.files import read_number
from neo_daemons.checks.reasons import REFUSED, lacking, reason
from neo_daemons.definitions import Account, AnyProbe, ExecProbe, FileProbe, HttpProbe, LogProbe, TcpProbe
from neo_daemons.urls import redacted_within, url_host

from . import faults
from .logs import CHUNK, DaemonLog
from .platform import ExitStatus, Platform, SpawnSpec

if TYPE_CHECKING:
    import httpx

NOT_YET = "not listening yet"
MAX_BODY = 1_000_000
"""Maximum number of bytes of a response that a body condition reads."""


class Answer(StrEnum):
    """The outcome of a probe."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"  # we could not ask, so the daemon is neither ready nor failed


class Result(Struct, frozen=True):
    """What a probe found: its answer, and a short description of the request and the reply."""

    answer: Answer
    detail: str
    stranger: bool = False
    """Whether another process answers on the daemon's port."""

    @property
    def ok(self) -> bool:
        """Whether the probe passed."""
        return self.answer is Answer.OK


def verdict(passed: bool, detail: str) -> Result:
    """Return the result of a probe that could ask the daemon."""
    return Result(Answer.OK if passed else Answer.FAILED, detail)


class Target(Struct):
    """The run of a daemon that is probed. `memory` belongs to the probes, for this run."""

    host: str
    ports: Mapping[str, int]
    env: Mapping[str, str]
    cwd: str
    log: DaemonLog
    log_start: int
    """The position in the log where this run began."""
    memory: dict[Any, Any]
    account: Account | None = None
    """Whom commands run as; None: as we do."""
    heard: set[int | str] = set()
    """Ports and URLs that have accepted a connection during this run."""
    external: bool = False
    """The daemon is run by somebody else, so it is not just starting while it does not listen."""
    stranger: Callable[[], str | None] = lambda: None
    """Describes another process that listens on one of the ports. Called before anything is sent there."""

    def port(self, name: str | None) -> int:
        """The port with this name, or the first one."""
        return self.ports[name] if name is not None else next(iter(self.ports.values()))


class Prober:
    """Runs probes, whose references must have been resolved."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._client: httpx.AsyncClient | None = None

    async def check(self, probe: AnyProbe, target: Target) -> Result:
        """Run one probe."""
        try:
            async with asyncio.timeout(probe.timeout_s):
                match probe:
                    case HttpProbe():
                        return await self._http(probe, target)
                    case TcpProbe():
                        return await self._tcp(probe, target)
                    case ExecProbe():
                        return await self._exec(probe, target)
                    case LogProbe():
                        return await self._log(probe, target)
                    case FileProbe():
                        return await self._file(probe, target)
        except TimeoutError:
            return verdict(False, f"{name_of(probe, target)}: no answer in {probe.timeout_s:g} s")
        except re.error as error:
            return verdict(False, f"{name_of(probe, target)}: invalid regular expression {error.pattern!r}: {error}")
        except Exception as error:
            why = f"{lacking(error)} (on the supervisor's side)"
            if lacking(error) is None:
                if (bug := ("bug", faults.kind(error))) not in target.memory:  # not at each check
                    target.memory[bug] = True
                    faults.report(f"a bug in the probe {probe}", error)
                why = f"internal error: {type(error).__name__}: {error}; the supervisor's log has its traceback"
            return Result(Answer.UNKNOWN, f"{name_of(probe, target)}: {why}")

    async def _http(self, probe: HttpProbe, target: Target) -> Result:
        client = await self._http_client()
        # Nothing listens during most of a boot, and a refused connection costs a tenth of a refused request.
        port = target.port(probe.port) if probe.url is None else None
        if port is not None and ("listening", port) not in target.memory:
            connected = await self._connect(target, port)
            if connected is not None:
                return verdict(False, connected)
            if (stranger := target.stranger()) is not None:
                return Result(Answer.FAILED, stranger, stranger=True)
            target.memory["listening", port] = True
        what = name_of(probe, target)
        try:
            response = await http.ask(
                client,
                probe.method,
                url_of(probe, target),
                limit=MAX_BODY if probe.body is not None else 0,
                headers=probe.headers,
                json=probe.json,
                unpack=True,
            )
        except http.NoAnswer as error:
            if lacking(error) is not None:
                raise
            why = str(error)
            if why == REFUSED and probe.url is not None and probe.url not in target.heard and not target.external:
                why = NOT_YET
            return verdict(False, f"{what}: {why}")
        status = response.status
        if probe.url is not None:
            target.heard.add(probe.url)
        if (status not in probe.status) if probe.status else not 200 <= status < 300:
            return verdict(False, f"{what}: status {status}")
        if probe.body is not None and not re.search(probe.body, response.body.decode("utf-8", "replace")):
            return verdict(False, f"{what}: status {status}, but {probe.body!r} is not in the answer")
        return verdict(True, f"{what}: status {status}")

    async def _http_client(self) -> httpx.AsyncClient:
        """Return the client. A thread creates it with the first check, while the daemon boots."""
        if self._client is None:
            made = await asyncio.to_thread(http.make_client, verify=False)
            self._client = self._client or made  # several checks may be the first
        return self._client

    async def _tcp(self, probe: TcpProbe, target: Target) -> Result:
        refused = await self._connect(target, target.port(probe.port))
        if refused is None and (stranger := target.stranger()) is not None:
            return Result(Answer.FAILED, stranger, stranger=True)
        return verdict(refused is None, refused or f"{name_of(probe, target)}: accepted")

    @staticmethod
    async def _connect(target: Target, port: int) -> str | None:
        """Connect. Returns None, or why there is no connection."""
        where = f"{target.host}:{port}"
        try:
            await tcp.connect(target.host, port)
        except (OSError, ValueError) as error:
            if lacking(error) is not None:
                raise
            if (why := reason(error)) == REFUSED and port not in target.heard:
                return f"{NOT_YET} on {where}"  # as in any start
            return f"connect to {where}: {why}"
        target.heard.add(port)
        return None

    async def _exec(self, probe: ExecProbe, target: Target) -> Result:
        what = name_of(probe, target)
        ended: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        import tempfile  # most supervisors need neither this nor SQLite

        with tempfile.TemporaryFile() as output:
            try:
                process = self._platform.spawn(
                    SpawnSpec(probe.command, target.env, target.cwd, output.fileno(), (), target.account)
                )
            except (OSError, ValueError) as error:
                if lacking(error) is not None:
                    raise
                return verdict(False, f"{what}: {reason(error)}")
            process.watch(lambda status: None if ended.done() else ended.set_result(status))
            try:
                status = await asyncio.shield(ended)
            finally:
                process.signal_group(signal.SIGKILL)
                if not ended.done():
                    await _reaped(ended)
                process.close()
            output.seek(0)
            last = output.read(MAX_BODY).decode("utf-8", "replace").strip().splitlines()[-1:]
        return verdict(status.clean, f"{what}: {status}{', ' + last[0][:200] if last else ''}")

    @staticmethod
    async def _log(probe: LogProbe, target: Target) -> Result:
        # A match is kept for the run, whatever happens to the file. Until then, each check reads only new output
        # and the line that was unfinished at the last check.
        matches = re.compile(probe.pattern).search
        end = target.log.end  # the next check reads what is written meanwhile
        seen: str | tuple[int, bytes, int] = target.memory.get(probe, (target.log_start, b"", target.log.cuts))
        while not isinstance(seen, str):
            position, rest, cuts = seen
            data, position = target.log.read(position)
            text = (rest if target.log.cuts == cuts else b"") + data
            # A progress bar ends its lines with \r. The part to read again must stay short.
            unfinished = text[max(text.rfind(b"\n"), text.rfind(b"\r")) + 1 :][-CHUNK:]
            lines = text.decode("utf-8", "replace").splitlines() if data else []
            found = next((line for line in lines if matches(line)), None)
            target.memory[probe] = seen = (
                (position, unfinished, target.log.cuts) if found is None else found.strip()[:200]
            )
            if found is None and (not data or position >= end):
                return verdict(False, f"{name_of(probe, target)}: not written yet")
            await asyncio.sleep(0)  # a flood must not delay the other daemons
        return verdict(True, f"log: {seen}")

    @staticmethod
    async def _file(probe: FileProbe, target: Target) -> Result:
        what = name_of(probe, target)
        now = time.monotonic()
        path = Path(probe.path)
        end: int | None = None
        expected: tuple[type[Exception], ...] = (OSError, ValueError, OverflowError)
        try:
            if probe.database is not None and probe.query is not None:
                from neo_daemons.checks import sqlite

                expected += sqlite.FAULTS
                # In a thread: the user's SQL may be slow, and must not block the loop.
                database, deadline = Path(probe.database), now + probe.timeout_s
                end = await asyncio.to_thread(sqlite.read_number, database, probe.query, deadline)
                position: Any = read_number(path)
            else:
                found = path.stat()
                position = (found.st_mtime_ns, found.st_size)
        except expected as error:
            if lacking(error) is not None:
                raise
            return verdict(False, f"{what}: {reason(error)}")
        # A daemon without work has written no position, so it is where the log ended at its start.
        last, since, start = target.memory.get(probe, (position, now, end))
        if position != last:
            since = now
        if end is not None and (position if position is not None else start) >= end:
            target.memory[probe] = (position, now, start)
            return verdict(True, f"{what}: at {end}, the end of the log")
        target.memory[probe] = (position, since, start)
        if now - since < probe.within_s:
            return verdict(True, f"{what}: {position} of {end}" if end is not None else f"{what}: changed")
        where = f"at {position}, behind {end}, " if end is not None else ""
        return verdict(False, f"{what}: {where}no progress for {now - since:.0f} s")

    async def close(self) -> None:
        """Close the HTTP client."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


def url_of(probe: HttpProbe, target: Target) -> str:
    """The URL that an HTTP probe requests."""
    if probe.url is not None:
        return probe.url.rstrip("/") + probe.path if probe.path != "/" else probe.url
    return f"http://{url_host(target.host)}:{target.port(probe.port)}{probe.path}"


def name_of(probe: AnyProbe, target: Target) -> str:
    """Return a short description of a probe."""
    match probe:
        case HttpProbe():
            return f"{probe.method} {redacted_within(url_of(probe, target))}"
        case TcpProbe():
            return f"connect to {target.host}:{target.port(probe.port)}"
        case ExecProbe():
            return f"exec {os.path.basename(probe.command[0])}"
        case LogProbe():
            return f"log line {probe.pattern!r}"
        case FileProbe():
            return f"progress of {probe.path}"


def without_requests_of(probes: Iterable[AnyProbe], lines: Iterable[str]) -> Iterator[str]:
    """Drop the lines with which a server logs the requests of these probes (``"GET /health HTTP/1.1" 503``): those
    with a probe's method, a blank and its path. References in the paths must have been resolved."""
    asked = [f"{p.method} {re.escape(p.path)}" for p in probes if isinstance(p, HttpProbe) and p.url is None]
    own = re.compile(rf"\b(?:{'|'.join(asked)})(?![^\s\"'?])") if asked else None
    return (line for line in lines if own is None or not own.search(line))


async def _reaped(ended: asyncio.Future[ExitStatus]) -> None:
    # It was killed, and exits as soon as the kernel gets to it. A probe that timed out must not leave a zombie.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(ended), 5)
