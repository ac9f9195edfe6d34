"""What a client follows, given up by another thread."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from neo_daemons.control.client import NoSupervisor

from .harness import PATIENCE_S, Project, toy


def test_who_waits_for_the_next_event_or_line_is_told_that_there_is_none(project: Project) -> None:
    project.configure(api=toy("quiet"))
    project.serve()
    project.reaches("api", "ready")
    with ThreadPoolExecutor() as pool:
        for follow in (project.client.follow_events(1), project.client.logs("api", 1, follow=True)):
            begun = threading.Event()
            rest = pool.submit(lambda follow=follow, begun=begun: (next(follow), begun.set(), list(follow)))  # type: ignore[misc]
            assert begun.wait(PATIENCE_S)
            follow.give_up()
            assert rest.result(PATIENCE_S)[2] == []
    early = project.client.follow_events(5)
    early.give_up()
    assert list(early) == []
    early.give_up()


def test_a_stream_that_is_not_given_up_says_why_it_ends(project: Project) -> None:
    with pytest.raises(NoSupervisor):
        next(project.client.follow_events(1))
