"""Asking by HTTP: no proxy, no cookies, no connection that is kept, and no more of an answer than is wanted.

httpx is imported with the first request: to load it takes longer than all else here.
"""

from __future__ import annotations

import http.cookiejar
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from .reasons import CUT, is_refused, reason

if TYPE_CHECKING:
    import httpx


class Response(Struct, frozen=True):
    """What came back."""

    status: int
    body: bytes
    """At most one byte more than was wanted: then there was more of it."""
    server: str | None
    """What it calls itself."""
    packed: bool
    """Compressed, although that was not asked for."""


class NoAnswer(Exception):
    """There was none. ``str()`` says why."""


class NoConnection(NoAnswer):
    """Nobody could be connected to."""

    @property
    def refused(self) -> bool:
        """Nobody listens there."""
        return is_refused(self)


class NotHttp(NoAnswer):
    """What answers does not speak HTTP."""


class Unsendable(NoAnswer):
    """The request cannot be sent to anybody."""


def make_client(verify: ssl.SSLContext | bool) -> httpx.AsyncClient:
    """A client for requests to daemons, without a timeout of its own.

    Args:
        verify: what certificates are checked against; False: they are not.
    """
    import httpx

    # Daemons are local: no proxy from the environment, and no connection kept that would delay a daemon's end.
    client = httpx.AsyncClient(
        verify=verify,
        trust_env=False,
        timeout=None,  # noqa: S113 - whoever asks has one
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        # What is small when it comes must not be large when it is unpacked.
        headers={"Accept-Encoding": "identity"},
    )
    # One daemon's cookies are nobody else's.
    client.cookies.jar.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    return client


async def ask(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    limit: int,
    headers: Mapping[str, str] | None = None,
    json: Any = None,
    unpack: bool = False,
) -> Response:
    """Send one request.

    Args:
        limit: bytes of the body that are wanted.
        unpack: read a packed body too, which may be large then; otherwise it is left unread.

    Raises:
        NoAnswer: there is none; or one of its kinds, above.
    """
    import httpx

    try:
        async with client.stream(method, url, headers=headers, json=json) as response:
            packed = response.headers.get("content-encoding", "identity") != "identity"
            content = bytearray()
            if limit and (unpack or not packed):
                async for chunk in response.aiter_bytes() if unpack else response.aiter_raw():
                    content += chunk[: limit + 1 - len(content)]
                    if len(content) > limit:
                        break
            return Response(response.status_code, bytes(content), response.headers.get("server"), packed)
    except httpx.RemoteProtocolError as error:
        raise NotHttp(str(error)) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, ValueError) as error:
        raise Unsendable(reason(error)) from error
    except httpx.ConnectError as error:
        raise NoConnection(reason(error, CUT)) from error
    except (httpx.HTTPError, OSError) as error:
        raise NoAnswer(reason(error, CUT)) from error
