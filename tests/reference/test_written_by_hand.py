"""The tables that are written by hand do not contradict the code, and leave nothing out."""

from __future__ import annotations

import re

import msgspec
import pytest
from msgspec import Struct

from neo_daemons.config.schema import File, Settings
from neo_daemons.definitions import Log, Restart, Stop
from neo_daemons.status import DaemonStatus, Exit, Explanation, JournalEntry, SupervisorStatus
from neo_daemons.supervision.machine import TABLE, Event, Refused, State, Transition

from . import plugin, source
from .configuration import keys
from .pages import ROOT

ORDERS = [Event.START, Event.STOP, Event.RESTART, Event.HOLD, Event.RELEASE]


def rows(page: str, head: str) -> list[list[str]]:
    """Return the cells of all tables of a page of `docs` that have this header."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    tables = re.findall(rf"^{re.escape(head)} *\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert tables, f"{page} has no table {head}"
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for table in tables for line in table.splitlines()
    ]


@pytest.mark.parametrize(
    ("head", "structs"),
    [
        ("key", (File, Settings)),
        ("key of `restart`", (Restart,)),
        ("key of `stop`", (Stop,)),
        ("key of `log`", (Log,)),
    ],
)
def test_keys_of_the_configuration_and_their_defaults(head: str, structs: tuple[type[Struct], ...]) -> None:
    written = {
        name.strip("`"): default
        for name, _, default, _ in rows("configuration.md", f"| {head} | type | default | meaning |")
    }
    known = {name: default for struct in structs for name, _, default in keys(struct)}
    assert set(known) <= set(written)
    for name, default in known.items():
        if re.fullmatch(r'`(\d[\d.]*|true|false|"[^"]*"|\{\})`', default):
            assert written[name] == default, name


def test_what_orders_do_in_each_state() -> None:
    written = {
        state: cells
        for state, *cells in rows("supervision.md", "| state | `start` | `stop` | `restart` | `hold` | `release` |")
    }
    assert set(written) == set(State)
    for state, cells in written.items():
        assert cells == [outcome(State(state), order) for order in ORDERS], state


def outcome(state: State, order: Event) -> str:
    cell = TABLE[state][order]
    if isinstance(cell, Refused):
        return "refused"
    return cell.state if isinstance(cell, Transition) and cell.state is not state else "–"


def test_where_events_lead() -> None:
    written = {event: moves for event, _, moves in rows("supervision.md", "| event | what it is | moves |")}
    assert set(written) == {event for event in Event if event not in ORDERS}
    for event, moves in written.items():
        assert moved(moves) == {
            (state, cell.state)
            for state in State
            if isinstance(cell := TABLE[state][Event(event)], Transition) and cell.state is not state
        }, event


def moved(text: str) -> set[tuple[str, str]]:
    """Return the pairs of states in a text like ``a, b → c; d → e``; "the same" are those of RETRY."""
    text = text.replace("the same", "starting, ending, cycling")
    parts = [part.split(" → ") for part in text.split("; ")]
    return {(state, target) for states, target in parts for state in states.split(", ")}


@pytest.mark.parametrize(
    ("head", "enum", "names"),
    [
        ("| state | meaning |", "State", set(State)),
        ("| event | what it is | moves |", "Event", set(Event) - set(ORDERS)),
    ],
)
def test_states_and_events_mean_what_their_docstrings_say(head: str, enum: str, names: set[str]) -> None:
    said = dict(source.members_with_values(f"neo_daemons.supervision.machine.{enum}"))
    written = {name.strip("`"): meaning for name, meaning, *_ in rows("supervision.md", head)}
    assert {name: plain(written[name]) for name in names} == {name: plain(said[name]) for name in names}


def plain(text: str) -> str:
    """Return a text without links, its first capital and its full stop."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).rstrip(".")
    return text[0].lower() + text[1:]


@pytest.mark.parametrize(
    ("struct", "prefix"),
    [(SupervisorStatus, "."), (DaemonStatus, "."), (Exit, ".last_exit."), (Explanation, ""), (JournalEntry, "")],
)
def test_the_fields_of_answers(struct: type[Struct], prefix: str) -> None:
    written = {name for first, *_ in rows("api.md", "| field | type | |") for name in re.findall(r"`([\w.]+)`", first)}
    assert {f"{prefix}{field.encode_name}" for field in msgspec.structs.fields(struct)} <= written


def test_options_and_settings_of_the_plugin() -> None:
    options, settings = plugin.declared()
    cells = [
        cell
        for option, setting, *_ in rows("pytest.md", "| option | ini | default | meaning |")
        for cell in (option, setting)
    ]
    named = set(re.findall(r"`(--neo-daemons[a-z-]*|neo_daemons\w*)", " ".join(cells)))
    assert named == {*options, *settings}


def test_fixtures_of_the_plugin() -> None:
    written = {
        name for first, *_ in rows("pytest.md", "| fixture | scope | is |") for name in re.findall(r"`(\w+)`", first)
    }
    assert {name.strip("`") for name, *_ in plugin.fixtures()} - {"NAME"} <= written
