"""Carry out requests: one method for each operation of `openapi.OPERATIONS`, of the same name.

A handler returns the answer, or raises an exception that `server` turns into an error.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import msgspec

from neo_daemons.definitions import Definition
from neo_daemons.extras import pip_install
from neo_daemons.supervision.machine import Event, Refused
from neo_daemons.supervision.supervisor import Supervisor

from . import api, exposition, openapi
from .bodies import body, window
from .connections import until_closing, while_connected
from .leases import Leases
from .metrics import Metrics
from .outcome import wait_for_outcome
from .protocols import Controlled, DefinedSession
from .web import LINES, TEXT, Request, Response, json_response


class NotInstalled(Exception):
    """A package that the request needs is not installed; ``str()`` says which, and how to get it."""


class Handlers:
    """Carries out requests on a supervisor.

    Args:
        closing: set when the server shuts down; followers end then.
    """

    def __init__(self, controlled: Controlled, closing: asyncio.Event) -> None:
        self._controlled = controlled
        self._closing = closing
        self._leases = Leases(controlled)
        self._metrics = Metrics(controlled.supervisor)

    @property
    def _supervisor(self) -> Supervisor:
        return self._controlled.supervisor

    async def document(self, request: Request) -> Response:
        return Response(body=openapi.document())

    # Queries

    async def status(self, request: Request) -> Response:
        await self._supervisor.measurements.bring_up_to_date()
        return json_response(self._supervisor.status())

    async def metrics(self, request: Request) -> Response:
        try:
            return Response(body=await self._metrics.text(), media_type=exposition.MEDIA_TYPE)
        except ImportError as error:
            text = f"cannot make metrics: {error}; install it where the supervisor runs"
            raise NotInstalled(f"{text}: {pip_install('metrics')}") from None

    async def why(self, request: Request) -> Response:
        return json_response(self._supervisor.explain(request.names["name"]))

    async def events(self, request: Request) -> Response:
        count, follow = window(request)
        name = request.query.get("daemon")
        if name is not None:
            self._supervisor.daemon(name)
        if not follow:
            return json_response(self._supervisor.events(count, name))

        async def lines() -> AsyncIterator[bytes]:
            async for entry in self._supervisor.journal.follow(count, name):
                yield msgspec.json.encode(entry) + b"\n"

        return Response(body=until_closing(lines(), self._closing), media_type=LINES)

    async def logs(self, request: Request) -> Response:
        count, follow = window(request)
        log = self._supervisor.daemon(request.names["name"]).slot.log
        if not follow:
            lines = [*log.tail(count), *([remark] if (remark := log.remark()) else [])]
            return Response(body="".join(f"{line}\n" for line in lines).encode(), media_type=TEXT)

        async def pieces() -> AsyncIterator[bytes]:
            async for text in log.follow(count):
                yield text.encode()

        return Response(body=until_closing(pieces(), self._closing), media_type=TEXT)

    # Orders

    async def start(self, request: Request) -> Response:
        return await self._order(request, Event.START)

    async def stop(self, request: Request) -> Response:
        return await self._order(request, Event.STOP)

    async def restart(self, request: Request) -> Response:
        return await self._order(request, Event.RESTART)

    async def hold(self, request: Request) -> Response:
        return await self._order(request, Event.HOLD)

    async def release(self, request: Request) -> Response:
        return await self._order(request, Event.RELEASE)

    async def _order(self, request: Request, order: Event) -> Response:
        name = request.names["name"]
        wait_s = (await body(request, api.Order)).wait_s
        try:
            self._supervisor.order(name, order)
        except Refused as error:
            raise Refused(f"cannot {order} {name}: {error}") from None
        self._supervisor.needs.forget(name)
        if wait_s:
            await while_connected(request, wait_for_outcome(self._supervisor, name, wait_s))
        daemon = self._supervisor.daemon(name)  # a reload may have replaced or removed it meanwhile
        await self._supervisor.measurements.bring_up_to_date(daemon)
        return json_response(self._supervisor.status_of(daemon))

    async def need(self, request: Request) -> Response:
        wait_s = (await body(request, api.Need)).wait_s
        answer = self._controlled.need(request.names["name"], wait_s)
        return json_response(await while_connected(request, answer))

    async def reload(self, request: Request) -> Response:
        dry_run = (await body(request, api.Reload)).dry_run
        return json_response(await self._controlled.reload(dry_run=dry_run))

    async def shutdown(self, request: Request) -> Response:
        detach = (await body(request, api.Shutdown)).detach
        self._controlled.ask_to_stop(detach=detach)
        return json_response(self._supervisor.status())

    async def lease(self, request: Request) -> Response:
        wanted = await body(request, api.LeaseRequest)
        if wanted.inhibit not in (None, "*"):
            self._supervisor.daemon(str(wanted.inhibit))
        instances = self._supervisor.needs.instances
        for name in wanted.needs:
            instances.check_need(name, own=wanted.own)
        return self._leases.grant(request, wanted)

    # Of sessions only

    def _session(self) -> DefinedSession:
        if self._controlled.session is None:
            raise Refused("only available in a pytest session")
        return self._controlled.session

    async def settings(self, request: Request) -> Response:
        return json_response(self._session().settings())

    async def set_up(self, request: Request) -> Response:
        settings = await body(request, api.SessionSettings, api.MAX_DEFINITIONS_BYTES)
        return json_response(await self._session().set_up(settings))

    async def define(self, request: Request) -> Response:
        definition = await body(request, Definition, api.MAX_DEFINITIONS_BYTES)
        if definition.name != request.names["name"]:
            raise Refused(f"the definition is for {definition.name!r}, not {request.names['name']!r}")
        daemon = await self._session().define(definition)
        return json_response(self._supervisor.status_of(daemon))

    async def remove(self, request: Request) -> Response:
        await self._session().remove(request.names["name"])
        return json_response({})

    async def signal(self, request: Request) -> Response:
        wanted = (await body(request, api.Signal)).signal
        self._session()
        daemon = self._supervisor.daemon(request.names["name"])
        if not await daemon.signal(signal.Signals[wanted]):
            raise Refused(f"cannot send {wanted} to {daemon.name}: it is not running ({daemon.state.public})")
        return json_response(self._supervisor.status_of(daemon))
