"""Reads, checks and changes the definitions of a session's daemons. Errors fail the test, without a traceback."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
import pytest

from neo_daemons.control.client import ControlError
from neo_daemons.definitions import Definition

from .names import definition_fixture_name, fixture_name
from .sessions import Session
from .unavailable import Unavailable

T = TypeVar("T")


def wrong_with(definition: object, name: str) -> str | None:
    """Return why this is not a valid definition of the daemon `name`; None if it is. Constructing a `Definition` does
    not validate it, and a supervisor could not decode an invalid one."""
    if not isinstance(definition, Definition) or definition.name != name:
        return f"must be a Definition with the same name, but is {definition!r:.200}"
    try:
        msgspec.convert(msgspec.to_builtins(definition), Definition)
    except (msgspec.ValidationError, TypeError) as error:
        return f"is invalid: {error}"
    return None


def check_stated(definition: Definition | None, name: str) -> None:
    """Fail the test if a definition fixture returned an invalid value."""
    wrong = wrong_with(definition, name) if definition is not None else None
    if wrong is not None:
        fixture = definition_fixture_name(str(fixture_name(name)))
        pytest.fail(f"the value returned by the fixture {fixture} {wrong}", pytrace=False)


def read(session: Session, name: str) -> Definition | None:
    """Return the definition of a daemon; None in an attached session, which does not provide it."""
    return _or_fail(lambda: session.definition(name))


def define(session: Session, definition: Definition) -> None:
    """Add a daemon to the session, or change its definition."""
    _or_fail(lambda: session.ask(lambda client: client.define(definition)))


def _or_fail(request: Callable[[], T]) -> T:
    try:
        return request()
    except (ControlError, Unavailable) as error:
        fault = str(error)
    pytest.fail(fault, pytrace=False)  # not in the except clause: pytest would also show its error
