"""Leases: each lasts as long as the connection that asked for it."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import AsyncGenerator

import msgspec

from neo_daemons.status import Holder

from . import api
from .protocols import Controlled
from .web import LINES, Request, Response


class Leases:
    """Grants leases on a supervisor."""

    def __init__(self, controlled: Controlled) -> None:
        self._controlled = controlled
        self._numbers = itertools.count(1)

    def grant(self, request: Request, wanted: api.LeaseRequest) -> Response:
        """Grant a lease and return the response, which lasts as long as the lease.

        Raises:
            Refused: the supervisor is stopping.
        """
        number = next(self._numbers)
        self._controlled.lease_taken(number, owner=wanted.owner)
        demand, needs = self._controlled.supervisor.demand, wanted.needs
        if wanted.own:
            needs = tuple(map(self._controlled.supervisor.needs.instances.give, needs))
        if wanted.inhibit is not None:
            demand.inhibit(number, None if wanted.inhibit == "*" else wanted.inhibit)
        demand.take(number, Holder(name=wanted.holder, pid=request.pid, since=time.time()), needs)
        return Response(
            body=_held(request, number, needs), media_type=LINES, done=functools.partial(self._drop, number)
        )

    def _drop(self, number: int) -> None:
        self._controlled.supervisor.demand.give_up(number)
        self._controlled.lease_dropped(number)


async def _held(request: Request, number: int, needs: tuple[str, ...]) -> AsyncGenerator[bytes, None]:
    """Yield one line, then wait until the client disconnects. The kernel reports that, however the client exits."""
    yield msgspec.json.encode(api.LeaseGranted(number, needs)) + b"\n"
    await request.lost()
