"""Leases: each lasts as long as the connection that asked for it."""

from __future__ import annotations

import itertools

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from . import api
from .protocols import Controlled


class Leases:
    """Grants leases on a supervisor."""

    def __init__(self, controlled: Controlled) -> None:
        self._controlled = controlled
        self._numbers = itertools.count(1)

    def grant(self, request: api.LeaseRequest) -> Response:
        """Grant a lease and return the answer, which lasts as long as the lease.

        Raises:
            Refused: the session is ending.
        """
        number = next(self._numbers)
        if self._controlled.session is not None:
            self._controlled.session.lease_taken(number, owner=request.owner)
        return _Lease(self._controlled, number, request)


class _Lease(Response):
    """Sends one line, then waits until the client disconnects. The kernel reports that, however the client exits."""

    def __init__(self, controlled: Controlled, number: int, request: api.LeaseRequest) -> None:
        super().__init__()
        self._controlled = controlled
        self._number = number
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        inhibitors = self._controlled.supervisor.inhibitors
        if self._request.inhibit is not None:
            inhibitors[self._number] = None if self._request.inhibit == "*" else self._request.inhibit
        try:
            headers = [(b"content-type", b"application/x-ndjson")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            line = msgspec.json.encode(api.LeaseGranted(self._number)) + b"\n"
            await send({"type": "http.response.body", "body": line, "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            inhibitors.pop(self._number, None)
            if self._controlled.session is not None:
                self._controlled.session.lease_dropped(self._number)
