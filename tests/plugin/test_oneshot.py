"""What runs once, in test runs: once for all workers, before what requires it, and told as the cause of failures."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from .inner import Inner

pytestmark = pytest.mark.long

WORK = "open('runs', 'a').write('x'); print('no such table'); raise SystemExit(__import__('os').path.exists('fail'))"
KEEP = ("--neo-daemons-keep", "60s")
TEST = "def test_a(app): pass\ndef test_b(app): pass\ndef test_c(app): pass\ndef test_d(app): pass\n"


def configure(inner: Inner, **settings: Any) -> None:
    work = {"command": [sys.executable, "-c", WORK], "oneshot": True, "restart": "never", **settings}
    inner.configure(migrate=work, app=inner.toy(requires=["migrate"]))


def runs(inner: Inner) -> int:
    return len((inner.root / "runs").read_text())


def test_it_runs_once_for_all_workers_and_again_in_the_next_session(inner: Inner) -> None:
    configure(inner)
    inner.write("test_app.py", TEST + "def test_done(migrate): assert migrate.pid is None\n")
    for expected in (1, 2):  # each session has data of its own
        assert inner.run("-n", "2").counts() == {"passed": 5}, inner.output()
        assert runs(inner) == expected


def test_its_failure_is_the_cause_of_every_failing_test(inner: Inner) -> None:
    configure(inner)
    inner.write("fail", "")
    inner.write("test_app.py", TEST)
    run = inner.run()
    assert run.counts() == {"error": 4}, run.text
    assert "it waits for migrate, which failed: exit code 1; last line: no such table" in run.text
    assert runs(inner) <= 3


def test_a_warm_session_runs_it_again_only_for_other_inputs(inner: Inner) -> None:
    inner.write("1.sql", "one")
    configure(inner, inputs=["*.sql"])
    inner.write("test_app.py", TEST)
    for expected, name in ((1, None), (1, "2.sql"), (2, None)):
        run = inner.run(*KEEP)
        assert run.counts() == {"passed": 4}, run.text
        assert runs(inner) == expected
        if name is not None:
            inner.write(name, "two")
    inner.end_warm()
