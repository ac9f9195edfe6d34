"""A short soak of the real daemons; ``python -m tests.chaos --minutes N`` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.soak import Soak

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("real"), pytest.mark.timeout(540)]

MINUTES = 0.25


def test_the_real_daemons_under_chaos(tmp_path: Path) -> None:
    report = Soak(tmp_path, MINUTES, seed=5).run()
    print(report.text())
    assert not report.broken, report.text()
    assert report.faults.total() > 10
    assert report.counts["writes acknowledged"] > 0
    assert report.counts["completions"] > 0
    assert report.counts["wake messages acknowledged"] > 0
    assert report.counts["daemon restarts"] > 0
