"""Sends HTTP requests without proxies, cookies or kept connections, and reads only as much of a response as needed.

httpx is imported with the first client, because loading it takes longer than everything else here.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from .reasons import CUT, is_refused, reason

if TYPE_CHECKING:
    import ssl

    import httpx


_loading = threading.Lock()
"""Held while httpx and what it loads later are imported, by one thread at a time: if that fails, for want of a
descriptor, others that wait for the same import get a half of the module. So would a process forked meanwhile."""
os.register_at_fork(before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release)

_asking: set[asyncio.Task[Response | None]] = set()
"""The requests under way, and those that were given up and close their connections."""


class Response(Struct, frozen=True):
    """The response to a request."""

    status: int
    body: bytes
    """At most one byte more than the limit, which shows that it was longer."""
    server: str | None
    """The name that the server reports."""
    packed: bool
    """Whether it is compressed, although the request did not allow that."""


class NoAnswer(Exception):
    """There was no response; ``str()`` says why."""


class NoConnection(NoAnswer):
    """The connection failed."""

    @property
    def refused(self) -> bool:
        """Whether nothing listens there."""
        return is_refused(self)


class NotHttp(NoAnswer):
    """The server does not speak HTTP."""


class Unsendable(NoAnswer):
    """The request is malformed and cannot be sent."""


def make_client(verify: ssl.SSLContext | bool) -> httpx.AsyncClient:
    """Create a client for requests to daemons, without its own timeout. The first call loads httpx: where the event
    loop must go on, let a thread create the client.

    Args:
        verify: the context that verifies certificates; False: do not verify them.
    """
    import http.cookiejar

    with _loading:
        import httpx

        # Daemons are local: use no proxy from the environment, and keep no connection that would delay a daemon's exit.
        client = httpx.AsyncClient(  # the first one loads httpcore
            verify=verify,
            trust_env=False,
            timeout=None,  # noqa: S113 - callers have one
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            # A small response must not become large when it is decompressed.
            headers={"Accept-Encoding": "identity"},
        )
    # The cookies of one daemon must not be sent to another.
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
        limit: the maximum number of bytes of the body to return.
        unpack: also read a compressed body, which may become large; otherwise it is left unread.

    Raises:
        NoAnswer: there is no response; or one of its subclasses above.
    """
    with _loading:
        import anyio

        scope = anyio.CancelScope()  # the first one loads what anyio needs for asyncio

    async def work() -> Response | None:
        with scope:
            return await _ask(client, method, url, limit=limit, headers=headers, json=json, unpack=unpack)
        return None

    task = asyncio.ensure_future(work())
    _asking.add(task)
    task.add_done_callback(_asked)
    try:
        response = await asyncio.shield(task)
    except asyncio.CancelledError:
        # httpx shields what closes a connection from the cancellation of a scope, but not from that of its task.
        scope.cancel()
        raise
    assert response is not None, "only we cancel the scope"
    return response


def _asked(task: asyncio.Task[Response | None]) -> None:
    _asking.discard(task)
    if not task.cancelled():
        task.exception()  # nobody may be waiting for it any more


async def _ask(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    limit: int,
    headers: Mapping[str, str] | None,
    json: Any,
    unpack: bool,
) -> Response:
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
