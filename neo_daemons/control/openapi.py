"""The control API's operations as a table, from which the server creates its routes and this module the OpenAPI
document."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from neo_daemons.definitions import Definition
from neo_daemons.status import Change, DaemonStatus, Explanation, JournalEntry, Needed, Status
from neo_daemons.version import VERSION

from . import api

LINES = "application/x-ndjson"
JSON = "application/json"
TEXT = "text/plain"
OPEN_METRICS = "application/openmetrics-text"
REFERENCE = "#/components/schemas/{name}"
WINDOW = {
    "n": ({"type": "integer", "minimum": 0, "maximum": api.MAX_LINES, "default": 20}, "number of latest entries"),
    "follow": ({"enum": [0, 1], "default": 0}, "1: also stream new entries as they occur"),
}
ORDERS: dict[api.OrderName, str] = {
    "start": "Start a daemon and those that it requires.",
    "stop": "Stop a daemon.",
    "restart": "Stop a daemon if it is running, and start it.",
    "hold": "Do not restart a daemon after it exits, until it is released.",
    "release": "End a hold, and start the daemon if it is down because of it.",
}
SESSION = "Only available in a pytest session; other supervisors refuse it."


class Operation(Struct, frozen=True, kw_only=True):
    """One kind of request."""

    handler: str
    """The method of `Handlers` that carries it out."""
    method: str
    path: str
    summary: str
    answer: Any = None
    """The type of the answer."""
    media_type: str = JSON
    body: type[Struct] | None = None
    query: dict[str, tuple[dict[str, Any], str]] = {}
    """Name → schema, description."""


OPERATIONS = (
    Operation(
        handler="status",
        method="GET",
        path="/status",
        summary="The current status of the supervisor and its daemons.",
        answer=Status,
    ),
    Operation(
        handler="events",
        method="GET",
        path="/events",
        summary="The latest entries of the journal; with follow, one per line.",
        answer=list[JournalEntry],
        query={**WINDOW, "daemon": ({"type": "string"}, "only entries about this daemon")},
    ),
    Operation(
        handler="why",
        method="GET",
        path="/daemons/{name}/why",
        summary="Explain the current state of a daemon.",
        answer=Explanation,
    ),
    Operation(
        handler="logs",
        method="GET",
        path="/daemons/{name}/logs",
        summary="The last lines of a daemon's log.",
        answer=str,
        media_type=TEXT,
        query=WINDOW,
    ),
    Operation(
        handler="reload",
        method="POST",
        path="/reload",
        summary="Reload the configuration and apply what has changed.",
        answer=list[Change],
        body=api.Reload,
    ),
    Operation(
        handler="shutdown",
        method="POST",
        path="/shutdown",
        summary="Stop the supervisor. A second request skips all grace periods.",
        answer=Status,
        body=api.Shutdown,
    ),
    Operation(
        handler="lease",
        method="POST",
        path="/leases",
        summary="Hold a lease for as long as the connection lasts.",
        answer=api.LeaseGranted,
        media_type=LINES,
        body=api.LeaseRequest,
    ),
    Operation(
        handler="need",
        method="POST",
        path="/daemons/{name}/need",
        summary="Start a daemon unless it is running, and wait for the outcome.",
        answer=Needed,
        body=api.Need,
    ),
    Operation(
        handler="signal",
        method="POST",
        path="/daemons/{name}/signal",
        summary=f"Send a signal to a daemon, to simulate a fault. {SESSION}",
        answer=DaemonStatus,
        body=api.Signal,
    ),
    *(
        Operation(
            handler=order,
            method="POST",
            path=f"/daemons/{{name}}/{order}",
            summary=summary,
            answer=DaemonStatus,
            body=api.Order,
        )
        for order, summary in ORDERS.items()
    ),
    Operation(
        handler="define",
        method="PUT",
        path="/daemons/{name}",
        summary=f"Add a daemon or change its definition. {SESSION}",
        answer=DaemonStatus,
        body=Definition,
    ),
    Operation(
        handler="remove",
        method="DELETE",
        path="/daemons/{name}",
        summary=f"Stop a daemon and delete its log and data. {SESSION}",
        answer=dict[str, Any],
    ),
    Operation(
        handler="settings",
        method="GET",
        path="/session",
        summary=f"The settings of a session. {SESSION}",
        answer=api.SessionSettings,
    ),
    Operation(
        handler="set_up",
        method="PUT",
        path="/session",
        summary=f"Reconfigure a session that was kept warm. {SESSION}",
        answer=list[Change],
        body=api.SessionSettings,
    ),
    Operation(
        handler="metrics",
        method="GET",
        path=api.METRICS,
        summary="The metrics of the supervisor and its daemons, as OpenMetrics text.",
        answer=str,
        media_type=OPEN_METRICS,
    ),
    Operation(
        handler="document", method="GET", path="/openapi.json", summary="This document.", answer=dict[str, Any]
    ),
)  # fmt: skip

FAULTS = {
    400: "invalid query or body",
    401: "over TCP: the token is missing or wrong",
    403: "over TCP: the request comes from a web page",
    404: "unknown daemon",
    408: "the request body was not completed in time",
    409: "not possible in the current state",
    421: "over TCP: the request is for another host",
    501: "prometheus_client, which the metrics need, is not installed",
}


def document() -> bytes:
    """Return the OpenAPI 3.1 document as JSON."""
    paths: dict[str, dict[str, Any]] = {}
    bodies = {operation.body for operation in OPERATIONS if operation.body is not None}
    types = [*_answers(), *bodies, api.Fault]
    schemas, components = msgspec.json.schema_components(types, ref_template=REFERENCE)
    found = dict(zip(map(repr, types), schemas, strict=True))
    for operation in OPERATIONS:
        paths.setdefault(api.route(operation.path), {})[operation.method.lower()] = _describe(operation, found)
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "neo-daemons",
                "version": VERSION,
                "description": "The control API of one supervisor. Fields are only ever added.",
            },
            "paths": paths,
            "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
            "security": [{}, {"token": []}],
        }
    ).encode()


def _answers() -> Iterable[Any]:
    return [operation.answer for operation in OPERATIONS]


def _describe(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    parameters = [_parameter("query", name, *described) for name, described in operation.query.items()]
    if "{name}" in operation.path:
        parameters.append(_parameter("path", "name", {"type": "string", "minLength": 1}, "the daemon"))
    answer = schemas[repr(operation.answer)]
    content = {operation.media_type: {"schema": answer}}
    if "follow" in operation.query and operation.media_type == JSON:
        content[LINES] = {"schema": {}}
    fault = {JSON: {"schema": schemas[repr(api.Fault)]}}
    responses = {str(status): {"description": text, "content": fault} for status, text in FAULTS.items()}
    description: dict[str, Any] = {
        "operationId": operation.handler,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": {"200": {"description": "done", "content": content}, **responses},
    }
    if operation.body is not None:
        required = any(field.required for field in msgspec.structs.fields(operation.body))
        description["requestBody"] = {
            "required": required,
            "content": {JSON: {"schema": schemas[repr(operation.body)]}},
        }
    return description


def _parameter(place: str, name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"in": place, "name": name, "required": place == "path", "schema": schema, "description": text}
