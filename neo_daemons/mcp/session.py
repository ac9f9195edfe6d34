"""The session of one agent with a server over streamable HTTP. It outlives the server's process.

A session with `initialize` (until 2025-11-25) is begun again, by the agent's own request, when the server has lost it.
Since 2026-07-28 requests stand alone, so there is nothing to begin again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec

from neo_daemons.status import DaemonStatus

from . import in_threads, messages
from .keeping import CannotReach, Keeper
from .messages import Message
from .sse import TooLong, events

SESSION = "mcp-session-id"
VERSION = "mcp-protocol-version"
ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
CONNECT_S = 10.0
SHORT_S = 30.0
"""For answers that take no work: of notifications, and of the `initialize` that begins a session again."""
IDLE_S = 2.0
"""How long an idle connection is kept. Servers close theirs after 5 s and more: the other end must be first."""
REOPEN_S = 1.0
"""Pause before a stream is opened again if the server does not say how long."""
REOPENINGS = 3
RETRY_S = 10.0
"""How long a request that was not carried out is tried again: a supervisor may not yet know that the server is gone."""
PAUSE_S = 0.1

Send = Callable[[Message], Awaitable[None]]


class Lost(Exception):
    """The server does not know the session, or is not there. The request was not carried out."""


class Broken(Exception):
    """The server or the connection to it ended before the answer."""


class Session:
    """Carries the messages of an agent to the server, and those of the server to the agent.

    Args:
        send: takes what is for the agent.
    """

    def __init__(self, keeper: Keeper, send: Send) -> None:
        self._keeper = keeper
        self._send = send
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=8, keepalive_expiry=IDLE_S)
        timeout = httpx.Timeout(None, connect=CONNECT_S)
        self._http = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)
        self._server: DaemonStatus | None = None
        self._lock = asyncio.Lock()
        self._generation = 0
        self._id: str | None = None
        self._version: str | None = None
        self._initialize: Message | None = None
        self._initialized: Message | None = None
        self._listener: asyncio.Task[None] | None = None
        self._own_ids = itertools.count(1)
        self._mirrored: dict[str, dict[str, str]] = {}

    async def close(self) -> None:
        """Tell the server that the session is over, if it can be told at once."""
        if self._listener is not None:
            self._listener.cancel()
        if self._id is not None and self._server is not None:
            with contextlib.suppress(httpx.HTTPError):
                await self._http.delete(str(self._server.url), headers=self._headers(), timeout=1.0)
        await self._http.aclose()

    async def notify(self, message: Message) -> None:
        """Pass on what is not answered: a notification, or the agent's answer to a request of the server."""
        if message.get("method") == "notifications/initialized":
            self._initialized = message
        with contextlib.suppress(CannotReach, Lost, Broken):  # whoever waits for it is gone with the session
            server = await self._reach()
            await self._accepted(server, message)
            if message is self._initialized:
                self._listen(server)

    async def ask(self, request: Message) -> None:
        """Pass on a request, and everything that the server sends in answer to it. The agent gets one answer, whatever
        happens."""
        request_id, seen = request["id"], self._generation
        if request["method"] == "initialize":
            self._forget()
            self._initialize = request
        deadline: float | None = None
        try:
            while True:
                try:
                    server = await self._reach()
                    seen = self._generation
                    return await self._exchange(server, request)
                except Lost as error:
                    deadline = deadline or time.monotonic() + RETRY_S
                    if time.monotonic() >= deadline:
                        raise CannotReach(f"{self._keeper.name} cannot be reached: {error}; try again") from None
                    await self._renew(seen)
                    await asyncio.sleep(PAUSE_S)
        except CannotReach as error:
            await self._send(messages.error(request_id, messages.CONNECTION_CLOSED, str(error)))
        except (Broken, TooLong) as error:
            # The next request asks where the server is now. Not every server answers an unknown session with 404.
            await self._renew(seen)
            text = (
                f"{self._keeper.name} ended the connection before it answered ({error}). It may have been restarted. "
                "Whether the request was carried out is unknown; send it again if that is safe"
            )
            await self._send(messages.error(request_id, messages.CONNECTION_CLOSED, text))

    def _forget(self) -> None:
        self._id = self._version = self._initialized = None
        if self._listener is not None:
            self._listener.cancel()

    async def _reach(self) -> DaemonStatus:
        """Return the server, once it is ready and knows the session."""
        async with self._lock:
            if self._server is None:
                server = await in_threads.call(self._keeper.wait_reachable)
                if self._initialized is not None:
                    await self._begin_again(server)
                self._generation += 1
                self._server = server
            return self._server

    async def _renew(self, seen: int) -> None:
        """Have the next request begin the session again, unless another request has done that since."""
        async with self._lock:
            if self._generation == seen:
                self._server = None

    async def _begin_again(self, server: DaemonStatus) -> None:
        """Replay the agent's own `initialize`; its answer stays here."""
        assert self._initialize is not None
        assert self._initialized is not None
        self._id = self._version = None
        own = {**self._initialize, "id": f"neo-daemons-{next(self._own_ids)}"}
        answers: list[Message] = []

        async def take(message: Message) -> None:
            answers.append(message)

        try:
            async with asyncio.timeout(SHORT_S):
                await self._exchange(server, own, take)
            await self._accepted(server, self._initialized)
        except (Broken, TimeoutError, TooLong) as error:
            raise Lost(f"it does not begin a session ({_named(error)})") from None
        if not any("result" in one for one in answers):
            raise CannotReach(f"{self._keeper.name} refuses to begin the session again: {answers[-1:]}")
        self._listen(server)

    def _headers(self) -> dict[str, str]:
        session = {SESSION: self._id} if self._id is not None else {}
        return {**ACCEPT, **session, **({VERSION: self._version} if self._version is not None else {})}

    async def _accepted(self, server: DaemonStatus, message: Message) -> None:
        """Send what is not answered."""
        headers = self._headers()
        try:
            content = msgspec.json.encode(message)
            response = await self._http.post(str(server.url), content=content, headers=headers, timeout=SHORT_S)
        except httpx.HTTPError as error:
            raise Broken(_named(error)) from None
        if response.status_code == httpx.codes.NOT_FOUND:
            raise Lost("it does not know the session")

    async def _exchange(self, server: DaemonStatus, request: Message, send: Send | None = None) -> None:
        """Send a request and pass on what comes back until it is answered."""
        send = send or self._send
        version = messages.stated_version(request)
        headers = self._headers()
        if version is not None:
            headers = ACCEPT | messages.version_headers(request, version, self._mirrored)
        try:
            async with self._http.stream(
                "POST", str(server.url), content=msgspec.json.encode(request), headers=headers
            ) as response:
                if response.status_code == httpx.codes.NOT_FOUND and SESSION in headers:
                    raise Lost("it does not know the session")
                self._learn_session(request, response)
                kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
                if kind == "text/event-stream" and response.is_success:
                    last_id, pause_s, answered = await self._pass_on(response, request, send)
                else:
                    answered = await self._single(response, request, send)
                    last_id, pause_s = None, 0.0
            if not answered:
                await self._resume(server, headers, request, send, last_id, pause_s)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Lost(_named(error)) from None
        except httpx.HTTPError as error:
            raise Broken(_named(error)) from None

    async def _resume(
        self,
        server: DaemonStatus,
        headers: dict[str, str],
        request: Message,
        send: Send,
        last_id: str | None,
        pause_s: float,
    ) -> None:
        """Read on from a stream that the server has closed before the answer, which it may do if it numbers events."""
        for _ in range(REOPENINGS):
            if last_id is None:
                break
            await asyncio.sleep(pause_s)
            again = {**headers, "last-event-id": last_id}
            async with self._http.stream("GET", str(server.url), headers=again) as response:
                if not response.is_success:
                    break
                newer, pause_s, answered = await self._pass_on(response, request, send)
                last_id = newer or last_id
            if answered:
                return
        raise Broken("its answer stopped")

    async def _single(self, response: httpx.Response, request: Message, send: Send) -> bool:
        """Pass on an answer that is one JSON document, or say what came instead."""
        content = await response.aread()
        try:
            answer = next(one for one in messages.decode(content) if messages.is_answer(one))
        except (ValueError, StopIteration):
            code = {404: messages.METHOD_NOT_FOUND, 400: messages.INVALID_REQUEST}.get(response.status_code)
            text = f"{self._keeper.name} answered with HTTP status {response.status_code}"
            answer = messages.error(None, code or messages.INTERNAL_ERROR, text)
        await self._answered(request, answer, send)
        return True

    async def _pass_on(
        self, response: httpx.Response, request: Message | None, send: Send
    ) -> tuple[str | None, float, bool]:
        """Pass on the messages of a stream until the request is answered.

        Returns:
            The last event's id, the pause before reading on in seconds, and whether the request was answered.
        """
        last_id, pause_s = None, REOPEN_S
        try:
            async for event in events(response.aiter_bytes()):
                last_id = event.id if event.id is not None else last_id
                pause_s = event.retry_ms / 1000 if event.retry_ms is not None else pause_s
                for message in messages.decode(event.data) if event.data else ():
                    if request is not None and messages.is_answer(message):
                        await self._answered(request, message, send)
                        return last_id, pause_s, True
                    await send(message)
        except ValueError:
            raise Broken("it sent no JSON") from None
        except httpx.HTTPError:
            if last_id is None:
                raise
        return last_id, pause_s, False

    async def _answered(self, request: Message, answer: Message, send: Send) -> None:
        result = answer.get("result")
        if isinstance(result, dict):
            if request["method"] == "initialize" and isinstance(result.get("protocolVersion"), str):
                self._version = result["protocolVersion"]
            if request["method"] == "tools/list":
                self._learn_headers(result.get("tools"))
        await send({**answer, "id": request["id"]})  # an error may come without it

    def _learn_session(self, request: Message, response: httpx.Response) -> None:
        if request["method"] == "initialize" and response.is_success:
            self._id = response.headers.get(SESSION)

    def _learn_headers(self, tools: Any) -> None:
        for tool in tools if isinstance(tools, list) else ():
            if isinstance(tool, dict) and isinstance(tool.get("name"), str):
                self._mirrored[tool["name"]] = messages.mirrored_parameters(tool.get("inputSchema"))

    def _listen(self, server: DaemonStatus) -> None:
        """Open the stream on which the server sends what belongs to no request."""
        if self._listener is not None:
            self._listener.cancel()
        self._listener = asyncio.create_task(self._listening(str(server.url)))

    async def _listening(self, url: str) -> None:
        last_id: str | None = None
        seen = self._generation
        while True:
            headers = self._headers() | ({"last-event-id": last_id} if last_id is not None else {})
            try:
                async with self._http.stream("GET", url, headers=headers) as response:
                    if response.status_code == httpx.codes.NOT_FOUND and self._id is not None:
                        break
                    if not response.is_success:
                        return  # the server has no such stream
                    newer, pause_s, _ = await self._pass_on(response, None, self._send)
                    last_id = newer or last_id
            except (httpx.HTTPError, Broken, TooLong):
                break
            await asyncio.sleep(pause_s)
        # The server is gone, or does not know the session. It may have something to say before it is next asked.
        await asyncio.sleep(REOPEN_S)
        asyncio.create_task(self._reach_again(seen))  # noqa: RUF006 - of its own: beginning again ends this task

    async def _reach_again(self, seen: int) -> None:
        await self._renew(seen)
        with contextlib.suppress(CannotReach, Lost):  # the next request says so
            await self._reach()


def _named(error: Exception) -> str:
    return str(error) or type(error).__name__
