"""One look at the process table answers all who asked before it began, and nobody who asked later."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from neo_daemons.records import Directory
from neo_daemons.supervision import census as module
from neo_daemons.supervision.census import Census
from neo_daemons.supervision.platform import Mark
from neo_daemons.supervision.turns import PER_TURN, Turns


def mark(number: int) -> Mark:
    return Mark(f"{number:032x}", "api", Directory("/state", 1, 2))


class Table:
    """A process table that counts looks at it; see `Platform`."""

    def __init__(self, *marked: int) -> None:
        self.marked = {pid: mark(pid) for pid in marked}
        self.listed = 0
        self.read: list[int] = []
        self.parentless: list[int] | None = None
        self.newest: int | None = None
        self.on_read: Callable[[int], None] = lambda pid: None

    def pids(self) -> Sequence[int]:
        self.listed += 1
        return list(self.marked)

    def newest_pid(self) -> int | None:
        return self.newest

    def orphans(self) -> Sequence[int] | None:
        return self.parentless

    def mark_of(self, pid: int) -> Mark | None:
        self.read.append(pid)
        self.on_read(pid)
        return self.marked.get(pid)


class Main:
    """A main process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid


def taking(table: Table) -> Census:
    return Census(table, Turns())  # type: ignore[arg-type]


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(10):
            return await work()

    return asyncio.run(limited())


def test_all_who_ask_together_share_a_look() -> None:
    table = Table(1, 2, 3)

    async def work() -> list[Any]:
        census = taking(table)
        return await asyncio.gather(*(census.everywhere() for _ in range(50)))

    assert run(work) == [table.marked] * 50
    assert sorted(table.read) == [1, 2, 3]


def test_who_asks_during_a_look_waits_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE", 1)
    table = Table(1, 2, 3)
    answers: list[Any] = []

    async def work() -> None:
        census = taking(table)
        late: list[asyncio.Task[Any]] = []

        def on_read(pid: int) -> None:
            if pid == 3 and not late:
                table.marked[0] = mark(0)  # where the look has already been
                late.append(asyncio.get_running_loop().create_task(census.everywhere()))

        table.on_read = on_read
        monkeypatch.setattr(module, "ROUNDS", 1)
        answers.append(await census.everywhere())
        answers.append(await late[0])

    run(work)
    assert answers == [{pid: mark(pid) for pid in (1, 2, 3)}, {pid: mark(pid) for pid in (0, 1, 2, 3)}]


def test_a_process_that_is_created_during_a_look_is_found() -> None:
    table = Table(1, 2)

    def on_read(pid: int) -> None:
        if pid == 2:  # forks, and exits
            table.marked.pop(2, None)
            table.marked[7] = mark(7)

    table.on_read = on_read
    assert set(run(lambda: taking(table).everywhere())) == {1, 7}


def test_the_processes_are_listed_again_only_if_one_was_created() -> None:
    table = Table(1, 2)
    table.newest = 2
    assert set(run(lambda: taking(table).everywhere())) == {1, 2}
    assert table.listed == 1

    def on_read(pid: int) -> None:
        if pid == 2:  # forks, and exits
            del table.marked[2]
            table.marked[7], table.newest = mark(7), 7

    table.on_read = on_read
    assert set(run(lambda: taking(table).everywhere())) == {1, 7}


def test_known_main_processes_are_passed_over_until_they_exit() -> None:
    table = Table(1, 2)

    async def work() -> None:
        census = taking(table)
        main: Any = Main(1)
        census.know(main)
        assert set(await census.everywhere()) == {2}
        assert table.read == [2]
        other: Any = Main(1)
        census.forget(other)
        assert set(await census.everywhere()) == {2}
        census.forget(main)
        assert set(await census.everywhere()) == {1, 2}

    run(work)


def test_orphans_are_found_without_a_look_at_the_table() -> None:
    table = Table(1, 2, 3)
    table.parentless = [2]
    assert run(lambda: taking(table).among_orphans()) == {2: mark(2)}
    assert (table.listed, table.read) == (0, [2])


def test_without_a_list_of_orphans_the_table_is_looked_at() -> None:
    table = Table(1, 2, 3)
    assert set(run(lambda: taking(table).among_orphans())) == {1, 2, 3}


def test_an_error_reaches_all_who_asked_and_the_next_look_works() -> None:
    table = Table(1)
    broken = True

    def on_read(pid: int) -> None:
        if broken:
            raise OSError(24, "Too many open files")

    table.on_read = on_read

    async def work() -> None:
        nonlocal broken
        census = taking(table)
        answers = await asyncio.gather(*(census.everywhere() for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [OSError] * 3
        broken = False
        assert set(await census.everywhere()) == {1}

    run(work)


def test_who_stops_waiting_does_not_disturb_the_others(caplog: pytest.LogCaptureFixture) -> None:
    table = Table(1)

    async def work() -> None:
        census = taking(table)
        first, second = (asyncio.get_running_loop().create_task(census.everywhere()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert set(await second) == {1}

    run(work)
    assert not caplog.records


# Turns


def test_work_is_spread_over_turns_of_the_loop_in_order() -> None:
    async def work() -> list[tuple[int, int]]:
        turns, done, turn = Turns(), [], 0
        loop = asyncio.get_running_loop()

        def next_turn() -> None:
            nonlocal turn
            turn += 1
            loop.call_soon(next_turn)

        loop.call_soon(next_turn)
        for number in range(3 * PER_TURN):
            turns.call(lambda number=number: done.append((turn, number)))  # type: ignore[misc]
        await turns.wait()
        return done

    done = run(work)
    assert [number for _, number in done] == list(range(3 * PER_TURN))
    in_turn = [sum(turn == other for other, _ in done) for turn in {turn for turn, _ in done}]
    assert max(in_turn) <= PER_TURN


def test_the_first_pieces_of_work_are_done_at_once() -> None:
    async def work() -> list[int]:
        turns, done = Turns(), []
        for number in range(PER_TURN):
            turns.call(lambda number=number: done.append(number))  # type: ignore[misc]
        return done

    assert run(work) == list(range(PER_TURN))


def test_a_piece_of_work_that_fails_does_not_hold_up_the_next() -> None:
    async def work() -> int:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        turns, done = Turns(), []

        def fail() -> None:
            raise ValueError

        for _ in range(PER_TURN):
            turns.call(lambda: None)
        turns.call(fail)
        turns.call(lambda: done.append(True))
        await turns.wait()
        return len(done)

    assert run(work) == 1


def test_a_cancelled_wait_takes_no_turn() -> None:
    async def work() -> None:
        turns = Turns()
        for _ in range(PER_TURN):
            turns.call(lambda: None)
        cancelled, other = (asyncio.get_running_loop().create_task(turns.wait()) for _ in range(2))
        await asyncio.sleep(0)
        cancelled.cancel()
        await other

    run(work)


def test_the_real_platform_lists_processes_and_their_marks(tmp_path: Path) -> None:
    from neo_daemons.supervision.platform import current_platform

    platform = current_platform()
    assert os.getpid() not in platform.pids()
    assert os.getppid() in platform.pids()
    assert platform.orphans() is None, "tests are no subreaper"
