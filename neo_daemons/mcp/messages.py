"""JSON-RPC messages of MCP as plain data: what the shim has to know of them."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import msgspec

Message = dict[str, Any]
RequestId = str | int
METHOD_NOT_FOUND = -32601
INVALID_REQUEST = -32600
INTERNAL_ERROR = -32603
CONNECTION_CLOSED = -32000
VERSION_META = "io.modelcontextprotocol/protocolVersion"
"""Since revision 2026-07-28 each request names its revision here, and there is no `initialize`."""
NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""Method → the parameter that is also a header."""


def decode(line: bytes) -> list[Message]:
    """Return the messages of a line: one, or those of a batch.

    Raises:
        ValueError: it is not JSON, or no message.
    """
    try:
        content = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
    messages = content if isinstance(content, list) else [content]
    if not messages or not all(isinstance(one, dict) for one in messages):
        raise ValueError("expected a JSON object")
    return messages


def is_request(message: Message) -> bool:
    """Return whether a message must be answered."""
    return "method" in message and message.get("id") is not None


def is_answer(message: Message) -> bool:
    """Return whether a message answers a request."""
    return "method" not in message and ("result" in message or "error" in message)


def error(request_id: object, code: int, text: str) -> Message:
    """Return the answer that reports an error."""
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": text}}


def stated_version(message: Message) -> str | None:
    """Return the revision that a message itself names, in the manner of 2026-07-28; None before that."""
    version = _within(message, "params", "_meta", VERSION_META)
    return version if isinstance(version, str) else None


def version_headers(message: Message, version: str, mirrored: Mapping[str, dict[str, str]]) -> dict[str, str]:
    """Return the headers by which HTTP repeats what is in a request of 2026-07-28.

    Args:
        mirrored: see `mirrored_parameters`, by tool.
    """
    headers = {"mcp-protocol-version": version, "mcp-method": str(message["method"])}
    name = _within(message, "params", NAMED_BY.get(str(message["method"]), ""))
    if isinstance(name, str):
        headers["mcp-name"] = _header_value(name)
    if message["method"] == "tools/call" and isinstance(name, str):
        for path, header in mirrored.get(name, {}).items():
            value = _within(message, "params", "arguments", *path.split("\0"))
            if isinstance(value, str | int | float):  # true and false are integers
                text = str(value).lower() if isinstance(value, bool) else str(value)
                headers[f"mcp-param-{header}"] = _header_value(text)
    return headers


def mirrored_parameters(schema: object, path: tuple[str, ...] = ()) -> dict[str, str]:
    """Return which arguments of a tool are repeated in a header: path, joined by NUL → name of the header."""
    found: dict[str, str] = {}
    properties = schema.get("properties") if isinstance(schema, dict) else None
    for name, inner in properties.items() if isinstance(properties, dict) else ():
        if isinstance(inner, dict):
            header = inner.get("x-mcp-header")
            if isinstance(header, str):
                found["\0".join((*path, name))] = header
            found |= mirrored_parameters(inner, (*path, name))
    return found


def _header_value(text: str) -> str:
    plain = re.fullmatch(r"[\x20-\x7E]*", text) and text == text.strip() and not re.fullmatch(r"=\?base64\?.*\?=", text)
    return text if plain else f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def _within(value: object, *keys: str) -> object:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
