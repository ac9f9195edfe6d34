"""The work in progress for one daemon."""

from __future__ import annotations

import asyncio

from neo_daemons.supervision.jobs import Job


def test_work_that_is_replaced_or_cancelled_before_it_begins_never_runs() -> None:
    """Python would complain of a coroutine that nobody has awaited, which is an error here."""
    done: list[int] = []

    async def work(number: int) -> None:
        done.append(number)

    async def use() -> None:
        job = Job(lambda error: done.append(-1))
        job.begin(work(1))
        job.begin(work(2))
        await job.finished()
        job.begin(work(3))
        await job.stop()
        assert not job.is_under_way

    asyncio.run(use())
    assert done == [2]
