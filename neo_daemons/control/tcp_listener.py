"""The control API over TCP: a request must carry the token and must not come from a web page.

Every user of this machine, and every web page in this user's browser, can connect to the port.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
from pathlib import Path

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from neo_daemons.files import read_regular, write_whole
from neo_daemons.state_dir import StateDirError
from neo_daemons.urls import url_host

from . import api
from .address import Loopback

TOKEN_BYTES = 32
SCHEME = "Bearer "


class TcpListener:
    """A listening port, and the token that it requires, in a file that only this user can read.

    Args:
        address: where to listen; with port 0 the system chooses a free one.
        token_file: where to write the token, which is new each time.

    Raises:
        StateDirError: the port is taken, or the file cannot be written.
    """

    def __init__(self, address: Loopback, token_file: Path) -> None:
        self.socket: socket.socket = address.bind()
        self.address = Loopback(address.host, self.socket.getsockname()[1])
        self._token_file = token_file
        self._token = secrets.token_urlsafe(TOKEN_BYTES)
        try:
            self.publish()
        except StateDirError:
            self.socket.close()
            raise

    def publish(self) -> None:
        """Write the token to its file unless it is already there.

        Raises:
            StateDirError: the file cannot be written.
        """
        try:
            if not self._is_published():
                write_whole(self._token_file, f"{self._token}\n".encode(), mode=0o600)
        except OSError as error:
            raise StateDirError(f"cannot write {self._token_file}: {error.strerror}; free some space there") from None

    def _is_published(self) -> bool:
        try:
            return read_regular(self._token_file, 2 * TOKEN_BYTES).decode("ascii", "replace").strip() == self._token
        except FileNotFoundError:
            return False

    def guard(self, app: ASGIApp) -> ASGIApp:
        """Wrap `app` so that it gets only requests with the token, and none from web pages."""
        return Guard(app, self.address, self._token)

    def close(self) -> None:
        """Stop listening and remove the token."""
        self.socket.close()
        with contextlib.suppress(OSError):
            if self._is_published():
                self._token_file.unlink(missing_ok=True)


class Guard:
    """Passes a request on to `app` if it was sent to `address`, carries the `token`, and is not from a web page."""

    def __init__(self, app: ASGIApp, address: Loopback, token: str) -> None:
        self._app = app
        self._expected = f"{SCHEME}{token}".encode()
        host = url_host(address.host)
        self._hosts = (f"{host}:{address.port}", f"localhost:{address.port}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refuse(Headers(scope=scope))
        if refused is None:
            await self._app(scope, receive, send)
        else:
            await refused(scope, receive, send)

    def _refuse(self, headers: Headers) -> Response | None:
        if headers.get("host", "").lower() not in self._hosts:
            # DNS rebinding: a page whose host name now resolves to this machine still sends that name.
            return _answer(421, f"wrong Host header; this server is {' or '.join(self._hosts)}")
        if "origin" in headers or "sec-fetch-site" in headers:
            return _answer(403, "requests from web pages are refused")
        said = headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(said, self._expected):
            return _answer(401, "the token is missing or wrong; it is in control.token in the state directory")
        return None


def _answer(status: int, error: str) -> Response:
    headers = {"connection": "close"} | ({"www-authenticate": SCHEME.strip()} if status == 401 else {})
    return Response(msgspec.json.encode(api.Fault(error)), status, headers, "application/json")
