"""Daemons that are seen by connecting to them, by HTTP or TCP, and those of which only the process is seen."""

from __future__ import annotations

import asyncio
import http.client
import re
import socket
import time
import urllib.parse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from neo_daemons import procfs
from neo_daemons.urls import host_and_port, is_url, redacted, without_credentials

from .background import background
from .observation import Details
from .observer import Draft, Observer, clean
from .record import Evidence

TIMEOUT_S = 2.0
MAX_BODY_BYTES = 4_000_000
"""Of an answer: more is not read."""
REFUSED = "connection refused"
SHORTEST_SECRET = 4
"""Characters: a shorter word of a header is no secret, and in every text."""
NOT_TOLD_S = 5.0
"""For how long it is not asked again who listens, after the system did not say: another user's process, mostly."""
SHOWN = 200
"""Characters of an answer that are quoted."""

D = TypeVar("D", bound=Details)


class Answer(Struct, frozen=True):
    """What came back."""

    status: int
    body: bytes
    server: str | None
    secrets: tuple[str, ...] = ()
    """What was sent and must not be shown, as when the answer repeats the question."""

    @property
    def is_cut(self) -> bool:
        """There was more of it than was read."""
        return len(self.body) > MAX_BODY_BYTES

    def json(self) -> Any:
        """The body; None if it is no JSON."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def __str__(self) -> str:
        phrase = http.client.responses.get(self.status, "")
        return f"{self.status} {phrase}".strip() + (f" of {self.server}" if self.server else "")

    @property
    def quoted(self) -> str:
        """The beginning of the body."""
        text = self.body[: SHOWN * 10].decode("utf-8", "replace")
        for secret in self.secrets:
            text = text.replace(secret, "***")
        text = " ".join(text.split())
        return f": {text[:SHOWN]}" if text else ""


class HttpDetails(Details, frozen=True, kw_only=True):
    """What an HTTP daemon answered."""

    http_status: int | None = None

    @property
    def summary(self) -> tuple[str, ...]:
        return (f"answers {self.http_status}",)


class Listener:
    """The process that listens at a loopback address, where the system tells. To find it takes milliseconds; to see
    that it is still the same, next to nothing."""

    def __init__(self) -> None:
        self._link = ""
        self._pid: int | None = None
        self._sought_at = -NOT_TOLD_S

    def seek(self, draft: Draft, host: str, port: int) -> None:
        """Note it, unless that has been done, or nobody listens."""
        if draft.listener is None and not draft.nobody_listens:
            draft.listener = self._find(host, port)

    def _find(self, host: str, port: int) -> int | None:
        now = time.monotonic()
        if self._pid is not None and self._link in procfs.open_files(self._pid):
            return self._pid
        if self._pid is None and now < self._sought_at + NOT_TOLD_S:
            return None
        self._pid, self._sought_at = None, now
        for address in ("127.0.0.1", "::1") if host == "localhost" else (host,):
            if is_loopback(address) and (inode := procfs.listening_socket(address, port)) is not None:
                self._link = f"socket:[{inode}]"
                self._pid = next(iter(procfs.holders(inode)), None)
                break
        return self._pid


class HttpDaemonObserver(Observer[D], Generic[D]):
    """Of daemons that serve HTTP, at a URL that is given or on record."""

    kind = "it"
    """What should answer, for messages."""

    def __init__(
        self,
        url: str | None,
        name: str,
        state_dir: Path | str | None,
        headers: Mapping[str, str] | None,
        timeout_s: float,
        reuse_s: float,
    ) -> None:
        if url is None and state_dir is None:
            from neo_daemons.config.locate import find_state_dir

            state_dir = find_state_dir().path
        if url is not None and (not is_url(url) or "?" in url or "#" in url):
            raise ValueError(f"{redacted(url)!r} is not a URL; write one such as http://127.0.0.1:8000")
        super().__init__(name, state_dir, timeout_s, reuse_s)
        self._url = url.rstrip("/") if url is not None else None
        self._headers = dict(headers or {})
        for key, value in self._headers.items():
            if not f"{key}{value}".isprintable() or not f"{key}{value}".isascii():
                raise ValueError(f"header {clean(key)}: cannot be sent: give printable ASCII, without a line's end")
        self._listener = Listener()

    def _place(self) -> str:
        return f"at {without_credentials(self._url)}" if self._url is not None else super()._place()

    def _weigh(self) -> Evidence | None:
        evidence = super()._weigh()
        if self._url is None or evidence is None or evidence.record is None:
            return evidence
        recorded = evidence.record.url
        if recorded is None or not is_url(recorded) or _place_of(recorded) == _place_of(self._url):
            return evidence
        return elsewhere(evidence, redacted(recorded))

    async def _examine(self, draft: Draft, evidence: Evidence | None) -> None:
        url = self._url
        if url is None:
            assert evidence is not None
            url = self._recorded(draft, evidence)
            if url is None:
                return
        draft.url = draft.doing = without_credentials(url)
        try:
            await self._converse(draft, evidence, url)
        finally:  # also of one that does not answer in time
            self._listener.seek(draft, *host_and_port(url))

    async def _converse(self, draft: Draft, evidence: Evidence | None, url: str) -> None:
        """Ask what there is to ask."""
        raise NotImplementedError

    @staticmethod
    def _recorded(draft: Draft, evidence: Evidence) -> str | None:
        """The URL on record; without one there is nothing to look at."""
        if evidence.record is None:
            draft.fault(str(evidence.fault), "unhealthy" if evidence.standing == "missing" else "unknown")
            return None
        url = evidence.record.url
        if url is None or not is_url(url):
            draft.fault(f"its PID record names no URL ({redacted(str(url))}): give one", "unknown")
            return None
        return url.rstrip("/")

    async def _ask(
        self, draft: Draft, url: str, path: str, *, method: str = "GET", body: Any = None, what: str | None = None
    ) -> Answer | None:
        """One request; None, and a fault, if there is no answer.

        `what` is asked for, for messages: by default the daemon itself.
        """
        import httpx

        draft.doing = without_credentials(url) + path.partition("?")[0]
        status = "unhealthy"
        try:
            async with (
                background().client(secure=url.startswith("https:")) as client,
                client.stream(method, url + path, headers=self._headers, json=body) as response,
            ):
                if response.headers.get("content-encoding", "identity") != "identity":
                    draft.fault(f"{what or draft.doing}: the answer is packed, which was not asked for")
                    return None
                content = bytearray()
                async for chunk in response.aiter_raw():
                    content += chunk[: MAX_BODY_BYTES + 1 - len(content)]
                    if len(content) > MAX_BODY_BYTES:
                        break
                server = response.headers.get("server")
                return Answer(response.status_code, bytes(content), server, self._secrets(url))
        except httpx.RemoteProtocolError as error:
            reason = f"what answers does not speak HTTP ({error}){self._holder(draft, url)}"
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, ValueError):
            reason, status = "cannot be asked: that is no request which can be sent", "unknown"
        except httpx.ConnectError as error:
            reason = _cause(error)
            draft.nobody_listens = reason == REFUSED
        except httpx.HTTPError as error:
            reason = _cause(error)
        draft.fault(f"{what or draft.doing}: {reason}", status)  # type: ignore[arg-type]
        return None

    def _secrets(self, url: str) -> tuple[str, ...]:
        parts = urllib.parse.urlsplit(url)
        given = (*self._headers.values(), parts.username or "", parts.password or "")
        words = (word for value in given for word in (value, *value.split()))
        return tuple(sorted({word for word in words if len(word) >= SHORTEST_SECRET}, key=len, reverse=True))

    def _refuse(self, draft: Draft, url: str, path: str, answer: Answer) -> None:
        """The answer is not that of such a daemon."""
        where = f"{draft.url}{path.partition('?')[0]}"
        if answer.status in (401, 403):
            draft.fault(f"{where}: {answer}: it wants credentials; give them as headers")
        elif answer.status >= 500:
            draft.fault(f"{where}: {answer}{answer.quoted}")
        else:
            holder = self._holder(draft, url)
            draft.fault(f"{where}: wrong service: what answers is not {self.kind} ({answer}{answer.quoted}){holder}")

    def _holder(self, draft: Draft, url: str) -> str:
        self._listener.seek(draft, *host_and_port(url))
        if draft.listener is None:
            return ""
        return f"; pid {draft.listener} listens there ({' '.join(procfs.command(draft.listener))[:100]})"


class HttpObserver(HttpDaemonObserver[HttpDetails]):
    """Asks any HTTP daemon at one path.

    Args:
        url: of the daemon; by default what its PID record says.
        path: what is asked for.
        method: nothing but GET and HEAD, which change nothing.
        status: those that are healthy; by default any 2xx.
        body: a regular expression that must be found in the answer.
        headers: sent with every request, never shown.
    """

    details = HttpDetails

    def __init__(
        self,
        url: str | None = None,
        *,
        name: str,
        path: str = "/",
        method: Literal["GET", "HEAD"] = "GET",
        status: Collection[int] = (),
        body: str | None = None,
        state_dir: Path | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
        reuse_s: float = 0.0,
    ) -> None:
        super().__init__(url, name, state_dir, headers, timeout_s, reuse_s)
        if path and (not path.startswith("/") or not path.isprintable()):
            raise ValueError(f"path={clean(path)!r}: write one that begins with /")
        self.kind = f"{name} as expected"
        self._path = path
        self._method = method
        self._status = frozenset(status)
        self._body = re.compile(body) if body is not None else None

    async def _converse(self, draft: Draft, evidence: Evidence | None, url: str) -> None:
        answer = await self._ask(draft, url, self._path, method=self._method)
        if answer is None:
            return
        draft.details["http_status"] = answer.status
        good = answer.status in self._status if self._status else 200 <= answer.status < 300
        if not good:
            self._refuse(draft, url, self._path, answer)
        elif self._body is not None and not self._body.search(answer.body.decode("utf-8", "replace")):
            draft.fault(f"{draft.doing}: {self._body.pattern!r} is not in the answer ({answer}{answer.quoted})")


class TcpObserver(Observer[Details]):
    """Connects to a port, and says nothing there.

    Args:
        host: where.
        port: a number; by default the first port on record.
    """

    details = Details

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        name: str,
        state_dir: Path | str | None = None,
        timeout_s: float = TIMEOUT_S,
        reuse_s: float = 0.0,
    ) -> None:
        if port is None and state_dir is None:
            raise ValueError(f"{name}: give a port, or the state directory that records it")
        if port is not None and not 0 < port < 65_536:
            raise ValueError(f"{name}: port {port}: write one from 1 to 65535")
        super().__init__(name, state_dir, timeout_s, reuse_s)
        self._host = host
        self._port = port
        self._listener = Listener()

    def _place(self) -> str:
        return f"at {self._host}:{self._port}" if self._port is not None else super()._place()

    def _weigh(self) -> Evidence | None:
        evidence = super()._weigh()
        if self._port is None or evidence is None or evidence.record is None:
            return evidence
        ports = evidence.record.ports.values()
        return evidence if self._port in ports else elsewhere(evidence, f"ports {', '.join(map(str, ports))}")

    async def _examine(self, draft: Draft, evidence: Evidence | None) -> None:
        port = self._port
        if port is None:
            assert evidence is not None
            if evidence.record is None:
                draft.fault(str(evidence.fault), "unhealthy" if evidence.standing == "missing" else "unknown")
                return
            port = next(iter(evidence.record.ports.values()), None)
            if port is None:
                draft.fault("its PID record names no port: give one", "unknown")
                return
        draft.doing = f"{self._host}:{port}"
        try:
            _, writer = await asyncio.open_connection(self._host, port)
        except OSError as error:
            draft.fault(f"{draft.doing}: {_cause(error)}")
            draft.nobody_listens = True
        else:
            writer.transport.abort()
        finally:
            self._listener.seek(draft, self._host, port)


class ProcessObserver(Observer[Details]):
    """Sees whether the process on record lives: all there is to see, without a port, from outside.

    Args:
        name: of the daemon.
        state_dir: of its supervisor.
    """

    details = Details

    def __init__(self, name: str, state_dir: Path | str, *, timeout_s: float = TIMEOUT_S, reuse_s: float = 0.0) -> None:
        super().__init__(name, state_dir, timeout_s, reuse_s)

    async def _examine(self, draft: Draft, evidence: Evidence | None) -> None:
        assert evidence is not None
        if evidence.standing in ("damaged", "unproven"):
            draft.fault(str(evidence.fault), "unknown")
        elif evidence.pid is None:
            draft.fault(str(evidence.fault))
        elif procfs.is_stopped(evidence.pid):
            draft.fault(f"pid {evidence.pid} is stopped by a signal")


def elsewhere(evidence: Evidence, recorded: str) -> Evidence:
    """A record that is of a daemon at another place than the one that is looked at."""
    fault = f"the PID record is of another place ({recorded})"
    return Evidence(standing="elsewhere", supervised=evidence.supervised, fault=fault)


def _place_of(url: str) -> tuple[str, int]:
    host, port = host_and_port(url)
    return ("localhost" if is_loopback(host) or host == "0.0.0.0" else host, port)  # noqa: S104 - compared


def is_loopback(address: str) -> bool:
    """Whether it is an address of this machine alone; a name is none."""
    import ipaddress

    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _cause(error: BaseException) -> str:
    """Why there is no connection, in the words of the system."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return REFUSED
        if isinstance(cause, socket.gaierror):
            return f"no such host ({cause.strerror})"
        cause = cause.__cause__ or cause.__context__
    text = str(error)
    if "refused" in text or "All connection attempts failed" in text:
        return REFUSED
    return text or "the connection was cut"
