"""Metric families as OpenMetrics text, by prometheus_client, which is imported when the first text is wanted.

The library needs five microseconds a sample, and a supervisor of many daemons has many that seldom change. So a row is
rendered anew only when it has changed, with other work in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

MEDIA_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
SLICE = 50
"""How many rows are rendered before other work gets a turn: a few milliseconds."""
END = b"# EOF\n"


class Kind(StrEnum):
    """The types of metrics that are used here."""

    COUNTER = "counter"
    GAUGE = "gauge"
    INFO = "info"
    STATES = "stateset"
    SUMMARY = "summary"


class Row(Struct, frozen=True, gc=False):
    """The samples of one set of labels.

    `value` is a number; of a summary, how many were observed and their sum; of an info, its labels as pairs; of a state
    set, the one state that holds.
    """

    labels: tuple[str, ...]
    value: Any
    created: float | None = None
    """When the counting began; seconds since the epoch."""


class Family(NamedTuple):
    """A metric with all its rows."""

    kind: Kind
    name: str
    text: str
    labels: tuple[str, ...]
    rows: list[Row]
    unit: str = ""
    states: tuple[str, ...] = ()
    """All states of a state set."""


class Exposition:
    """Renders families. Keeps what it has rendered, for the next time."""

    def __init__(self) -> None:
        self._heads: dict[str, bytes] = {}
        self._rows: dict[str, dict[tuple[str, ...], tuple[Row, bytes]]] = {}
        """Family → labels → the row, and its text."""

    async def render(self, families: Iterable[Family], others: Iterable[Metric] = ()) -> bytes:
        """Return the text of these families, and of `others`, which are the library's own.

        Raises:
            ImportError: prometheus_client is not installed.
        """
        parts = [_text(metric) for metric in others]
        for family in families:
            if family.name not in self._heads:
                self._heads[family.name] = _text(_metric(family, ()))
            head, before = self._heads[family.name], self._rows.get(family.name, {})
            changed = [row for row in family.rows if (seen := before.get(row.labels)) is None or seen[0] != row]
            texts: dict[tuple[str, ...], tuple[Row, bytes]] = {}
            for start in range(0, len(changed), SLICE):
                rows = changed[start : start + SLICE]
                texts.update(
                    zip((row.labels for row in rows), zip(rows, _texts(family, rows, head), strict=True), strict=True)
                )
                await asyncio.sleep(0)
            self._rows[family.name] = now = {
                row.labels: texts.get(row.labels) or before[row.labels] for row in family.rows
            }
            parts.append(head)
            parts.extend(text for _, text in now.values())
        return b"".join((*parts, END))


def _texts(family: Family, rows: list[Row], head: bytes) -> list[bytes]:
    """Return the text of each row: all rows of a family have the same number of lines."""
    lines = _text(_metric(family, rows)).removeprefix(head).split(b"\n")
    count = (len(lines) - 1) // len(rows)
    return [b"\n".join((*lines[start : start + count], b"")) for start in range(0, len(lines) - 1, count)]


def load() -> None:
    """Import the library.

    Raises:
        ImportError: it is not installed.
    """
    import prometheus_client.openmetrics.exposition  # noqa: F401


class _One:
    """A registry of one metric."""

    def __init__(self, metric: Metric) -> None:
        self._metrics = (metric,)

    def collect(self) -> tuple[Metric, ...]:
        return self._metrics


def _text(metric: Metric) -> bytes:
    from prometheus_client.openmetrics.exposition import generate_latest

    text: bytes = generate_latest(_One(metric))  # type: ignore[no-untyped-call]
    return text.removesuffix(END)


def _metric(family: Family, rows: Iterable[Row]) -> Metric:
    from prometheus_client import metrics_core as core

    name, text, labels, unit = family.name, family.text, family.labels, family.unit
    match family.kind:
        case Kind.GAUGE:
            gauge = core.GaugeMetricFamily(name, text, labels=labels, unit=unit)
            for row in rows:
                gauge.add_metric(row.labels, row.value)
            return gauge
        case Kind.COUNTER:
            counter = core.CounterMetricFamily(name, text, labels=labels, unit=unit)
            for row in rows:
                counter.add_metric(row.labels, row.value, row.created)
            return counter
        case Kind.INFO:
            info = core.InfoMetricFamily(name, text, labels=labels)
            for row in rows:
                info.add_metric(row.labels, dict(row.value))
            return info
        case Kind.STATES:
            states = core.StateSetMetricFamily(name, text, labels=labels)
            for row in rows:
                states.add_metric(row.labels, {state: state == row.value for state in family.states})
            return states
        case Kind.SUMMARY:
            summary = core.SummaryMetricFamily(name, text, labels=labels, unit=unit)
            for row in rows:
                summary.add_metric(row.labels, *row.value)
            return summary
