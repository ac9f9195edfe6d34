"""The definitions of a session's daemons: read, checked and changed. What goes wrong fails the test, without a
traceback."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
import pytest

from neo_daemons.control.client import ControlError
from neo_daemons.definitions import Definition

from .names import definition_fixture_name, fixture_name
from .sessions import Session, Unavailable

T = TypeVar("T")


def wrong_with(definition: object, name: str) -> str | None:
    """Why that is no definition of a daemon called `name`; None if it is one. Making one does not validate it, and a
    supervisor could not even read what is wrong."""
    if not isinstance(definition, Definition) or definition.name != name:
        return f"must be a Definition of that name, but is {definition!r:.200}"
    try:
        msgspec.convert(msgspec.to_builtins(definition), Definition)
    except (msgspec.ValidationError, TypeError) as error:
        return f"cannot be used: {error}"
    return None


def check_stated(definition: Definition | None, name: str) -> None:
    """Fail the test if what a definition fixture returns cannot be used."""
    wrong = wrong_with(definition, name) if definition is not None else None
    if wrong is not None:
        fixture = definition_fixture_name(str(fixture_name(name)))
        pytest.fail(f"what the fixture {fixture} returns {wrong}", pytrace=False)


def read(session: Session, name: str) -> Definition | None:
    """What a daemon was defined as; None if that is not for tests to know."""
    return _or_fail(lambda: session.definition(name))


def define(session: Session, definition: Definition) -> None:
    """Add a daemon to the session, or change one."""
    _or_fail(lambda: session.ask(lambda client: client.define(definition)))


def _or_fail(request: Callable[[], T]) -> T:
    try:
        return request()
    except (ControlError, Unavailable) as error:
        fault = str(error)
    pytest.fail(fault, pytrace=False)  # not in the except clause, whose error it would be shown with
