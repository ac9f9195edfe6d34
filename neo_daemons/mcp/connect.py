"""The shim between an agent's stdio and a supervised MCP server: ``mcp connect NAME``.

It needs no SDK: messages pass as they are. Its lease ends with its process, so an agent that is killed leaves nothing.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from pathlib import Path

import msgspec

from neo_daemons.config.locate import find_state_dir

from . import messages
from .keeping import Hold, Keeper
from .messages import Message, RequestId
from .session import Session
from .stdio import join
from .streams import Lines, Output

AT_ONCE = 256
"""Requests of one agent that may be unanswered at the same time; more are refused."""
LAST_WORDS_S = 1.0
"""Time to write the last answers when the agent has closed its end."""


def connect(name: str, file: Path | None, state_dir: Path | None, hold: Hold) -> int:
    """Pass messages until the agent is gone, and return the exit code.

    Args:
        file, state_dir: as the options `--config` and `--state-dir`.
        hold: see `Keeper`.
    """
    keeper = Keeper(name, find_state_dir(state_dir, file=file), hold)
    keeper.begin()
    if keeper.speaks_stdio():
        return join(keeper)
    asyncio.run(_Shim(keeper).run())
    return 0


class _Shim:
    """Routes messages between standard streams and a session."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._asked: dict[RequestId, asyncio.Task[None]] = {}
        self._modern: set[RequestId] = set()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._before: asyncio.Task[None] | None = None
        """The last notification or `initialize`, which later messages must not overtake."""

    async def run(self) -> None:
        descriptor = os.dup(1)
        os.dup2(2, 1)  # whatever else is printed must not be among the messages
        self._output = Output(descriptor)
        self._session = Session(self._keeper, self._say)
        lines = Lines(sys.stdin.fileno())
        gone = asyncio.create_task(self._output.broken.wait())
        reading = asyncio.create_task(self._read(lines))
        await asyncio.wait({gone, reading}, return_when=asyncio.FIRST_COMPLETED)
        for task in (gone, reading, *self._asked.values(), *((self._before,) if self._before else ())):
            task.cancel()
        await self._session.close()
        await self._output.drain(LAST_WORDS_S)

    async def _say(self, message: Message) -> None:
        await self._output.put(msgspec.json.encode(message))

    async def _read(self, lines: Lines) -> None:
        while (line := await lines.next()) is not None:
            if not line.strip():
                continue
            try:
                found = messages.decode(line)
            except ValueError as error:
                await self._say(messages.error(None, -32700, f"not a JSON-RPC message: {error}"))
                continue
            for message in found:
                if messages.is_request(message):
                    await self._ask(message)
                elif not self._cancels(message):
                    await self._notify(message)

    async def _notify(self, message: Message) -> None:
        await self._room.acquire()
        task = asyncio.create_task(self._after(self._before, self._session.notify(message)))
        task.add_done_callback(lambda _: self._room.release())
        self._before = task

    @staticmethod
    async def _after(before: asyncio.Task[None] | None, work: Coroutine[None, None, None]) -> None:
        """Do some work once what must not be overtaken is done."""
        try:
            if before is not None:
                await asyncio.wait({before})
            await work
        finally:
            work.close()  # if it was not begun

    async def _ask(self, message: Message) -> None:
        request_id = message["id"]
        if not isinstance(request_id, str | int):
            await self._say(messages.error(None, messages.INVALID_REQUEST, "an id must be a string or an integer"))
        elif request_id in self._asked:
            await self._say(messages.error(request_id, messages.INVALID_REQUEST, "this id is in use"))
        elif len(self._asked) >= AT_ONCE:
            text = f"{AT_ONCE} requests are unanswered; wait for some of them"
            await self._say(messages.error(request_id, messages.INTERNAL_ERROR, text))
        else:
            if messages.stated_version(message) is not None:
                self._modern.add(request_id)
            task = asyncio.create_task(self._after(self._before, self._session.ask(message)))
            self._asked[request_id] = task
            task.add_done_callback(lambda _: self._forget(request_id, task))
            if message["method"] == "initialize":
                self._before = task

    def _cancels(self, message: Message) -> bool:
        """Since 2026-07-28 a request is cancelled, over HTTP, by closing the connection that waits for its answer."""
        params = message.get("params")
        wanted = params.get("requestId") if isinstance(params, dict) else None
        if message.get("method") != "notifications/cancelled" or not isinstance(wanted, str | int):
            return False
        if wanted not in self._modern:
            return False
        self._asked[wanted].cancel()
        return True

    def _forget(self, request_id: RequestId, task: asyncio.Task[None]) -> None:
        if self._asked.get(request_id) is task:
            del self._asked[request_id]
            self._modern.discard(request_id)
