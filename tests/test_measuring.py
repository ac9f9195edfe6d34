"""How often, and how many at a time, daemons are measured for those who ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from neo_daemons.supervision import measuring
from neo_daemons.supervision.measuring import SLICE, measure
from neo_daemons.supervision.meter import OVERDUE_S, SPAN_S, Meter
from neo_daemons.supervision.platform import Usage


class Counting:
    """A platform that counts what it is asked to measure."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.gone: set[int] = set()

    def usage(self, pids: Iterable[int]) -> Mapping[int, Usage]:
        self.asked.append(list(pids))
        return {pid: Usage(0.0, pid) for pid in self.asked[-1] if pid not in self.gone}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time on the monotonic clock, to be changed."""
    now = [1000.0]
    monkeypatch.setattr(measuring, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture
def platform() -> Any:
    return Counting()


def fleet(count: int, first: int = 1) -> list[Any]:
    """Running daemons."""
    return [
        SimpleNamespace(run=SimpleNamespace(process=SimpleNamespace(pid=pid), meter=Meter(), age_s=5.0))
        for pid in range(first, first + count)
    ]


def test_all_who_ask_within_a_second_share_one_measurement(platform: Any, clock: list[float]) -> None:
    daemons = [*fleet(3), cast("Any", SimpleNamespace(run=None))]
    for _ in range(5):
        measure(platform, daemons)
        clock[0] += SPAN_S / 10
    assert platform.asked == [[1, 2, 3]]
    clock[0] += SPAN_S
    measure(platform, daemons)
    assert platform.asked == [[1, 2, 3], [1, 2, 3]]


def test_a_daemon_that_has_just_started_is_measured_for_the_next_who_asks(platform: Any, clock: list[float]) -> None:
    daemons = fleet(2)
    measure(platform, daemons)
    daemons += fleet(1, first=9)
    measure(platform, daemons)
    assert platform.asked == [[1, 2], [9]]


def test_many_are_measured_in_slices_with_other_work_in_between(platform: Any, clock: list[float]) -> None:
    daemons = fleet(2 * SLICE + 10)
    steps = measuring.measuring(platform, daemons)
    next(steps)
    assert [len(asked) for asked in platform.asked] == [SLICE]
    measure(platform, daemons)  # by another client meanwhile
    assert [len(asked) for asked in platform.asked] == [SLICE, SLICE, 10]
    assert list(steps) == [], "nothing is measured twice"


def test_who_asks_often_waits_for_one_slice_and_gets_nothing_that_is_overdue(platform: Any, clock: list[float]) -> None:
    daemons = fleet(3 * SLICE)
    measure(platform, daemons)
    clock[0] += SPAN_S
    for count in range(1, 4):
        measure(platform, daemons)
        assert len(platform.asked) == 3 + count
    measure(platform, daemons)
    assert len(platform.asked) == 6
    clock[0] += OVERDUE_S
    measure(platform, daemons)
    assert len(platform.asked) == 9, "none of the measurements was of use"


def test_what_is_gone_has_no_reading(platform: Any, clock: list[float]) -> None:
    (daemon,) = daemons = fleet(1)
    measure(platform, daemons)
    reading = daemon.run.meter.reading(clock[0])
    assert reading is not None
    assert (reading.rss_bytes, reading.cpu_percent) == (1, 0.0)
    assert daemon.run.meter.reading(clock[0] + OVERDUE_S) is None
    clock[0] += SPAN_S
    platform.gone.add(1)
    measure(platform, daemons)
    assert daemon.run.meter.reading(clock[0]) is None
