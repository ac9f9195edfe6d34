"""The reference of the states, and the picture of the lifecycle, from its table.

Only the places in the picture are written here. Which arrows there are, and what they are called, is what the table
says; an arrow that the picture has no place for is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import NamedTuple

from neo_daemons.supervision.machine import ALIVE, TABLE, Event, Refused, State, Transition

from .source import code, members_with_values, one_line, table

S, E = State, Event
ORDERS = (E.START, E.STOP, E.RESTART, E.HOLD, E.RELEASE)
ENDS = (E.RETRY, E.PARK, E.REST, E.KEEP, E.DONE)
OVER = frozenset({S.STARTING, S.ENDING, S.CYCLING})
"""The states whose end has one of several outcomes."""


class Arrow(NamedTuple):
    """A line of the picture, for all transitions from each of `sources` to `target`."""

    sources: frozenset[State]
    target: State
    points: tuple[tuple[int, int], ...]
    label_at: tuple[int, int]
    events: tuple[Event, ...] | None = None
    """Only these; None: all that lead from each source to the target, but for orders."""
    called: str | None = None
    """Instead of the names of the events."""


WIDTH, HEIGHT = 940, 540
BOX = (112, 38)
PLACES = {
    S.STARTING: (110, 86), S.RUNNING: (330, 86), S.READY: (520, 86), S.DEGRADED: (750, 86),
    S.CYCLING: (400, 236), S.ENDING: (590, 236), S.STOPPING: (820, 236),
    S.UNAVAILABLE: (90, 430), S.BACKOFF: (250, 430), S.PARKED: (390, 430), S.HELD: (530, 430),
    S.DONE: (670, 430), S.STOPPED: (820, 430),
}  # fmt: skip
GROUP = (262, 44, 560, 92)
BAR = (170, 310, 680, 34)
ARROWS = (
    Arrow(frozenset({S.STARTING}), S.RUNNING, ((166, 86), (274, 86)), (212, 78)),
    Arrow(frozenset({S.RUNNING}), S.READY, ((386, 86), (464, 86)), (425, 78)),
    Arrow(frozenset({S.READY}), S.DEGRADED, ((576, 78), (694, 78)), (635, 70)),
    Arrow(frozenset({S.DEGRADED}), S.READY, ((694, 96), (576, 96)), (635, 114)),
    Arrow(ALIVE, S.CYCLING, ((380, 136), (380, 217)), (346, 182), (E.CONDEMN,)),
    Arrow(ALIVE, S.CYCLING, ((420, 136), (420, 217)), (446, 182), (E.RESTART,)),
    Arrow(ALIVE, S.ENDING, ((590, 136), (590, 217)), (616, 182)),
    Arrow(ALIVE, S.STOPPING, ((800, 136), (800, 217)), (820, 182), (E.STOP,)),
    Arrow(frozenset({S.STARTING}), S.UNAVAILABLE, ((80, 105), (80, 411)), (50, 236)),
    Arrow(frozenset({S.STARTING}), S.PARKED, ((140, 105), (140, 327), (170, 327)), (0, 0), (E.REFUSED,), ""),
    Arrow(frozenset({S.CYCLING}), S.BACKOFF, ((400, 255), (400, 310)), (0, 0), (E.RETRY,), ""),
    Arrow(frozenset({S.ENDING}), S.BACKOFF, ((590, 255), (590, 310)), (0, 0), (E.RETRY,), ""),
    Arrow(OVER, S.BACKOFF, ((250, 344), (250, 411)), (272, 384)),
    Arrow(OVER, S.PARKED, ((390, 344), (390, 411)), (444, 384), (E.PARK,), "park, or refused"),
    Arrow(OVER, S.HELD, ((530, 344), (530, 411)), (552, 384)),
    Arrow(OVER, S.DONE, ((670, 344), (670, 411)), (692, 384)),
    Arrow(OVER, S.STOPPED, ((790, 344), (790, 411)), (774, 384)),
    Arrow(frozenset({S.STOPPING}), S.STOPPED, ((868, 255), (868, 411)), (902, 384), ENDS, "any end"),
    Arrow(frozenset({S.UNAVAILABLE}), S.STARTING, ((90, 449), (90, 520), (16, 520), (16, 86), (54, 86)), (110, 486)),
    Arrow(frozenset({S.BACKOFF}), S.STARTING, ((250, 449), (250, 520), (16, 520), (16, 86), (54, 86)), (268, 486)),
    Arrow(frozenset({S.PARKED}), S.STARTING, ((390, 449), (390, 520), (16, 520), (16, 86), (54, 86)), (408, 486)),
    Arrow(frozenset({S.DONE}), S.STARTING, ((670, 449), (670, 520), (16, 520), (16, 86), (54, 86)), (706, 486)),
)
STYLE = """
  svg { --paper: #ffffff; --ink: #1f2430; --line: #5b6472; --soft: #f2f4f8; --up: #dff3e4; --down: #fdeeda; }
  @media (prefers-color-scheme: dark) {
    svg { --paper: #1d212b; --ink: #e8eaf0; --line: #9aa4b5; --soft: #272c38; --up: #1f4430; --down: #4a3a20; }
  }
  text { font: 14px system-ui, sans-serif; fill: var(--ink); text-anchor: middle; }
  .event { font-size: 12px; fill: var(--line); }
  .paper { fill: var(--paper); }
  .group { fill: var(--soft); stroke: var(--line); stroke-dasharray: 4 3; }
  .state { fill: var(--soft); stroke: var(--line); }
  .up { fill: var(--up); }
  .down { fill: var(--down); }
  .arrow { fill: none; stroke: var(--line); stroke-width: 1.4; }
  .order { stroke-dasharray: 5 4; }
  .head { fill: var(--line); }
"""


def page() -> str:
    """Return the page."""
    rows = [
        (code(value), one_line(text)) for value, text in members_with_values("neo_daemons.supervision.machine.State")
    ]
    events = [
        (code(value), one_line(text)) for value, text in members_with_values("neo_daemons.supervision.machine.Event")
    ]
    return "\n\n".join(
        [
            "# States",
            "[Supervision](../supervision.md#states) explains how a daemon comes from one state into another. `idle` "
            "is how `stopped` is shown for a daemon [on demand](../supervision.md#on-demand) that nobody needs.",
            table(("state", "meaning"), rows).rstrip(),
            "## The lifecycle",
            "![What happens to a daemon, from starting to each of its ends](../images/lifecycle.svg)",
            "Solid arrows are what happens, dashed ones what a user orders while a process is running. The table below "
            "has all of them.",
            "## Events of the lifecycle",
            table(("event", "meaning"), events).rstrip(),
            "## The table",
            "What each event does in each state. An event that a state's row does not name changes nothing.",
            table(("state", "event → next state"), ((code(state), _outcomes(state)) for state in State)).rstrip(),
        ]
    )


def _outcomes(state: State) -> str:
    words = list[str]()
    for event in Event:
        cell = TABLE[state][event]
        if isinstance(cell, Refused):
            words.append(f"{event}: refused")
        elif isinstance(cell, Transition) and cell.state is not state:
            words.append(f"{event} → {cell.state}")
    return " · ".join(words)


def picture() -> str:
    """Return the picture of the lifecycle, as SVG.

    Raises:
        ValueError: the table has a transition, other than by an order, that no arrow stands for.
    """
    drawn = {pair for arrow in ARROWS for pair in _stands_for(arrow)}
    missing = [f"{state} {event}" for state, event in _all_that_happens() if (state, event) not in drawn]
    if missing:
        raise ValueError(f"the picture of the lifecycle has no arrow for {', '.join(missing)}; add it to ARROWS")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>The lifecycle of a daemon</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="head" d="M0 0L8 4L0 8z"/></marker></defs>',
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="10"/>',
        _box(GROUP, "group"),
        _text(GROUP[0] + GROUP[2] // 2, 62, "a process is running", "event"),
        _box(BAR, "group"),
        _text(BAR[0] + BAR[2] // 2, BAR[1] + 22, "the run is over, and nothing of it is left", "event"),
        *(line for arrow in ARROWS for line in _drawn(arrow)),
        *(line for state in PLACES for line in _state(state)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _all_that_happens() -> Iterator[tuple[State, Event]]:
    for state in State:
        for event in Event:
            cell = TABLE[state][event]
            if event not in ORDERS and isinstance(cell, Transition) and cell.state is not state:
                yield state, event


def _events(arrow: Arrow) -> list[Event]:
    def lead(event: Event) -> bool:
        cells = [TABLE[source][event] for source in arrow.sources]
        return all(isinstance(cell, Transition) and cell.state is arrow.target for cell in cells)

    wanted: Iterable[Event] = [one for one in Event if one not in ORDERS] if arrow.events is None else arrow.events
    found = [event for event in wanted if lead(event)]
    if arrow.events is not None and len(found) < len(arrow.events):
        raise ValueError(f"{arrow.events} no longer lead to {arrow.target}; correct ARROWS")
    return found


def _stands_for(arrow: Arrow) -> Iterator[tuple[State, Event]]:
    return ((source, event) for source in arrow.sources for event in _events(arrow))


def _drawn(arrow: Arrow) -> Iterator[str]:
    events = _events(arrow)
    order = " order" if events and all(event in ORDERS for event in events) else ""
    path = "M" + "L".join(f"{x} {y}" for x, y in arrow.points)
    yield f'<path class="arrow{order}" d="{path}" marker-end="url(#head)"/>'
    name = ", ".join(events) if arrow.called is None else arrow.called
    if name:
        x, y = arrow.label_at
        yield _text(x, y, name, "event")


def _state(state: State) -> Iterator[str]:
    x, y = PLACES[state]
    colour = "up" if state in (S.READY, S.DONE) else "down" if state in (S.PARKED, S.UNAVAILABLE, S.DEGRADED) else ""
    yield _box((x - BOX[0] // 2, y - BOX[1] // 2, *BOX), f"state {colour}".strip())
    yield _text(x, y + 5, state.value)


def _box(place: tuple[int, int, int, int], kind: str) -> str:
    x, y, width, height = place
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>'


def _text(x: int, y: int, text: str, kind: str = "name") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}</text>'
