"""The control API over TCP: a request must carry the token and must not come from a web page.

Every user of this machine, and every web page in this user's browser, can connect to the port.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
from pathlib import Path

from neo_daemons.files import read_regular, write_whole
from neo_daemons.state_dir import StateDirError
from neo_daemons.urls import url_host

from . import api
from .address import Loopback
from .web import Request, Response, json_response

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

    def refuse(self, request: Request) -> Response | None:
        """Return the response to a request without the token, to another host, or from a web page; None for others."""
        return refuse(request, self.address, self._token)

    def close(self) -> None:
        """Stop listening and remove the token."""
        self.socket.close()
        with contextlib.suppress(OSError):
            if self._is_published():
                self._token_file.unlink(missing_ok=True)


def refuse(request: Request, address: Loopback, token: str) -> Response | None:
    """Return the response to a request that was not sent to `address`, lacks the `token`, or is from a web page."""
    host = url_host(address.host)
    hosts = (f"{host}:{address.port}", f"localhost:{address.port}")
    if request.headers.get("host", "").lower() not in hosts:
        # DNS rebinding: a page whose host name now resolves to this machine still sends that name.
        return _refusal(421, f"wrong Host header; this server is {' or '.join(hosts)}")
    if "origin" in request.headers or "sec-fetch-site" in request.headers:
        return _refusal(403, "requests from web pages are refused")
    said = request.headers.get("authorization", "").encode("latin-1")
    if not hmac.compare_digest(said, f"{SCHEME}{token}".encode()):
        return _refusal(401, "the token is missing or wrong; it is in control.token in the state directory")
    return None


def _refusal(status: int, error: str) -> Response:
    headers = {"connection": "close"} | ({"www-authenticate": SCHEME.strip()} if status == 401 else {})
    return json_response(api.Fault(error), status, headers)
