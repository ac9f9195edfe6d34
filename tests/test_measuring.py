"""How often, and how many at a time, daemons are measured for those who ask."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from neo_daemons.supervision import measuring, meter
from neo_daemons.supervision.measuring import SLICE, Measurements
from neo_daemons.supervision.meter import OVERDUE_S, SPAN_S, Meter
from neo_daemons.supervision.platform import Usage


class Counting:
    """A platform that counts what it is asked to measure."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.gone: set[int] = set()
        self.young: set[int] = set()
        """For which the kernel counts no memory yet."""

    def usage(self, pids: Iterable[int]) -> Mapping[int, Usage]:
        self.asked.append(list(pids))
        return {pid: Usage(0.0, 0 if pid in self.young else pid) for pid in self.asked[-1] if pid not in self.gone}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time on the monotonic clock, to be changed."""
    now = [1000.0]
    for module in (measuring, meter):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
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


def measurements(platform: Any, daemons: list[Any]) -> Measurements:
    return Measurements(platform, lambda: daemons)


async def settle(asked: Measurements) -> None:
    """Let what is under way in the background end."""
    assert asked._renewing is not None
    await asyncio.wait([asked._renewing])


@pytest.mark.asyncio
async def test_all_who_ask_within_a_second_share_one_measurement(platform: Any, clock: list[float]) -> None:
    daemons = [*fleet(3), SimpleNamespace(run=None)]
    asked = measurements(platform, daemons)
    for _ in range(5):
        await asked.bring_up_to_date()
        await settle(asked)
        clock[0] += SPAN_S / 10
    assert platform.asked == [[1, 2, 3]]


@pytest.mark.asyncio
async def test_who_asks_does_not_wait_for_what_is_measured_for_the_next_one(platform: Any, clock: list[float]) -> None:
    daemons = fleet(3)
    asked = measurements(platform, daemons)
    await asked.bring_up_to_date()
    await settle(asked)
    clock[0] += SPAN_S
    platform.asked.clear()
    await asked.bring_up_to_date()
    asked.at_once()
    assert platform.asked == []
    await settle(asked)
    assert platform.asked == [[1, 2, 3]]
    assert {daemon.run.meter.measured_at for daemon in daemons} == {clock[0]}


@pytest.mark.asyncio
async def test_who_asks_for_one_daemon_has_no_other_measured(platform: Any, clock: list[float]) -> None:
    daemons = fleet(3)
    asked = measurements(platform, daemons)
    await asked.bring_up_to_date(daemons[1])
    assert platform.asked == [[2]]
    assert asked._renewing is None


@pytest.mark.asyncio
async def test_nobody_gets_what_is_overdue(platform: Any, clock: list[float]) -> None:
    daemons = fleet(3)
    asked = measurements(platform, daemons)
    for ask in (asked.at_once, asked.at_once):
        ask()
        assert platform.asked.pop() == [1, 2, 3]
        clock[0] += OVERDUE_S
    await asked.bring_up_to_date()
    assert platform.asked.pop() == [1, 2, 3]


@pytest.mark.asyncio
async def test_a_daemon_that_has_just_started_is_measured_at_once(platform: Any, clock: list[float]) -> None:
    daemons = fleet(2)
    asked = measurements(platform, daemons)
    await asked.bring_up_to_date()
    daemons += fleet(1, first=9)
    await asked.bring_up_to_date()
    assert platform.asked == [[1, 2], [9]]


@pytest.mark.asyncio
async def test_many_are_measured_in_slices_with_other_work_in_between(platform: Any, clock: list[float]) -> None:
    daemons = fleet(2 * SLICE + 10)
    asked = measurements(platform, daemons)
    first = asyncio.create_task(asked.bring_up_to_date())
    await asyncio.sleep(0)
    assert [len(pids) for pids in platform.asked] == [SLICE]
    asked.at_once()  # by another client meanwhile
    await first
    await settle(asked)
    assert [len(pids) for pids in platform.asked] == [SLICE, SLICE + 10], "nothing is measured twice"


def test_what_has_only_just_been_spawned_is_measured_again(platform: Any, clock: list[float]) -> None:
    """`status` showed 0 bytes for two seconds."""
    (daemon,) = daemons = fleet(1)
    asked = measurements(platform, daemons)
    platform.young.add(1)
    asked.at_once()
    assert daemon.run.meter.reading(clock[0]) is None
    platform.young.clear()
    asked.at_once()
    reading = daemon.run.meter.reading(clock[0])
    assert reading is not None
    assert reading.rss_bytes == 1


def test_what_is_gone_has_no_reading(platform: Any, clock: list[float]) -> None:
    (daemon,) = daemons = fleet(1)
    asked = measurements(platform, daemons)
    asked.at_once()
    reading = daemon.run.meter.reading(clock[0])
    assert reading is not None
    assert (reading.rss_bytes, reading.cpu_percent) == (1, 0.0)
    assert daemon.run.meter.reading(clock[0] + OVERDUE_S) is None
    clock[0] += OVERDUE_S
    platform.gone.add(1)
    asked.at_once()
    assert daemon.run.meter.reading(clock[0]) is None
