"""Checks a daemon over HTTP."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Collection, Mapping
from http.client import responses
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import msgspec

from neo_daemons import processes
from neo_daemons.addresses import is_loopback
from neo_daemons.checks import http
from neo_daemons.checks.reasons import lacking
from neo_daemons.urls import host_and_port, is_url, redacted, without_credentials

from .background import background
from .listener import Listener
from .observation import Details, HealthStatus
from .observer import TIMEOUT_S, Draft, Observer, clean
from .record import Verification

MAX_BODY_BYTES = 4_000_000
"""The maximum number of bytes of a response that is read."""
SHORTEST_SECRET = 4
"""Characters. A shorter word of a header is not treated as a secret, because it could occur in any text."""
SHOWN = 200
"""How many characters of an answer are quoted."""

D = TypeVar("D", bound=Details)


class Answer(http.Response, frozen=True):
    """A response, and the secrets that must not be shown from it."""

    secrets: tuple[str, ...] = ()
    """Credentials that were sent, and that the response may repeat."""

    @property
    def is_cut(self) -> bool:
        """Whether the response was longer than what was read."""
        return len(self.body) > MAX_BODY_BYTES

    def json(self) -> Any:
        """Decode the body; None if it is not JSON."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def __str__(self) -> str:
        phrase = responses.get(self.status, "")
        return f"{self.status} {phrase}".strip() + (f" of {self.server}" if self.server else "")

    @property
    def quoted(self) -> str:
        """The beginning of the body, without credentials."""
        text = self.body[: SHOWN * 10].decode("utf-8", "replace")
        for secret in self.secrets:
            text = text.replace(secret, "***")
        text = " ".join(text.split())
        return f": {text[:SHOWN]}" if text else ""


class HttpDetails(Details, frozen=True, kw_only=True):
    """Details of an HTTP daemon."""

    http_status: int | None = None

    @property
    def summary(self) -> tuple[str, ...]:
        return (f"answers {self.http_status}",)


class HttpDaemonObserver(Observer[D], Generic[D]):
    """Base of the observers of HTTP daemons, which check a given URL or the recorded one."""

    kind = "the expected service"
    """The expected service, for messages."""

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
            raise ValueError(f"{redacted(url)!r} is not a URL; use e.g. http://127.0.0.1:8000")
        super().__init__(name, state_dir, timeout_s, reuse_s)
        self._url = url.rstrip("/") if url is not None else None
        self._headers = dict(headers or {})
        for key, value in self._headers.items():
            if not f"{key}{value}".isprintable() or not f"{key}{value}".isascii():
                raise ValueError(f"header {clean(key)}: cannot be sent; use printable ASCII without line breaks")
        self._listener = Listener()

    def _place(self) -> str:
        return f"at {without_credentials(self._url)}" if self._url is not None else super()._place()

    def _verify_record(self) -> Verification | None:
        verification = super()._verify_record()
        if self._url is None or verification is None or verification.record is None:
            return verification
        recorded = verification.record.url
        if recorded is None or not is_url(recorded) or _place_of(recorded) == _place_of(self._url):
            return verification
        return verification.elsewhere(redacted(recorded))

    async def _examine(self, draft: Draft, verification: Verification | None) -> None:
        url = self._url
        if url is None:
            assert verification is not None
            url = self._recorded(draft, verification)
            if url is None:
                return
        draft.url = draft.doing = without_credentials(url)
        try:
            await self._converse(draft, verification, url)
        finally:  # even if the daemon does not answer in time
            self._listener.seek(draft, *host_and_port(url))

    async def _converse(self, draft: Draft, verification: Verification | None, url: str) -> None:
        """Ask the daemon, and write what is found into `draft`."""
        raise NotImplementedError

    @staticmethod
    def _recorded(draft: Draft, verification: Verification) -> str | None:
        """Return the recorded URL; None, with a fault in `draft`, if there is none."""
        if verification.record is None:
            draft.record_missing(verification)
            return None
        url = verification.record.url
        if url is None or not is_url(url):
            draft.fault(f"its PID record contains no URL ({redacted(str(url))}); pass one", "unknown")
            return None
        return url.rstrip("/")

    async def _ask(
        self, draft: Draft, url: str, path: str, *, method: str = "GET", body: Any = None, what: str | None = None
    ) -> Answer | None:
        """Send one request. Returns None, with a fault in `draft`, if there is no answer.

        `what` names the requested thing in messages; by default it is the daemon itself.
        """
        draft.doing = without_credentials(url) + path.partition("?")[0]
        about = what or draft.doing
        status: HealthStatus = "unhealthy"
        try:
            async with background().client(secure=url.startswith("https:")) as client:
                response = await http.ask(
                    client, method, url + path, limit=MAX_BODY_BYTES, headers=self._headers, json=body
                )
        except http.NotHttp as error:
            reason = f"the service there does not speak HTTP ({error}){self._holder(draft, url)}"
        except http.Unsendable:
            reason, status = "the request cannot be sent: it is malformed", "unknown"
        except http.NoAnswer as error:
            reason = str(error)
            if lacking(error) is not None:
                reason, status = f"{lacking(error)} (in the observing process)", "unknown"
            draft.nobody_listens = isinstance(error, http.NoConnection) and error.refused
        else:
            if not response.packed:
                return Answer(**msgspec.structs.asdict(response), secrets=self._secrets(url))
            reason = "the response is compressed, although the request did not allow it"
        draft.fault(f"{about}: {reason}", status)
        return None

    def _secrets(self, url: str) -> tuple[str, ...]:
        parts = urllib.parse.urlsplit(url)
        given = (*self._headers.values(), parts.username or "", parts.password or "")
        words = (word for value in given for word in (value, *value.split()))
        return tuple(sorted({word for word in words if len(word) >= SHORTEST_SECRET}, key=len, reverse=True))

    def _refuse(self, draft: Draft, url: str, path: str, answer: Answer) -> None:
        """Note a response that a healthy daemon of this kind does not send."""
        where = f"{draft.url}{path.partition('?')[0]}"
        if answer.status in (401, 403):
            draft.fault(f"{where}: {answer}: it requires credentials; pass them in headers")
        elif answer.status >= 500:
            draft.fault(f"{where}: {answer}{answer.quoted}")
        else:
            holder = self._holder(draft, url)
            draft.fault(f"{where}: wrong service: it is not {self.kind} ({answer}{answer.quoted}){holder}")

    def _holder(self, draft: Draft, url: str) -> str:
        self._listener.seek(draft, *host_and_port(url))
        if draft.listener is None:
            return ""
        return f"; pid {draft.listener} listens there ({' '.join(processes.command(draft.listener))[:100]})"


class HttpObserver(HttpDaemonObserver[HttpDetails]):
    """Checks one path of any HTTP daemon.

    Args:
        url: the URL of the daemon; by default, the one in its PID record.
        path: the path to request.
        method: GET or HEAD, which change nothing.
        status: the statuses that count as healthy; by default, any 2xx.
        body: a regular expression that must match somewhere in the response.
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
            raise ValueError(f"path={clean(path)!r}: expected a path that begins with /")
        self.kind = f"the expected {name}"
        self._path = path
        self._method = method
        self._status = frozenset(status)
        self._body = re.compile(body) if body is not None else None

    async def _converse(self, draft: Draft, verification: Verification | None, url: str) -> None:
        answer = await self._ask(draft, url, self._path, method=self._method)
        if answer is None:
            return
        draft.details["http_status"] = answer.status
        good = answer.status in self._status if self._status else 200 <= answer.status < 300
        if not good:
            self._refuse(draft, url, self._path, answer)
        elif self._body is not None and not self._body.search(answer.body.decode("utf-8", "replace")):
            draft.fault(f"{draft.doing}: {self._body.pattern!r} is not in the answer ({answer}{answer.quoted})")


def _place_of(url: str) -> tuple[str, int]:
    host, port = host_and_port(url)
    return ("localhost" if is_loopback(host) or host == "0.0.0.0" else host, port)  # noqa: S104 - compared
