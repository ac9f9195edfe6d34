"""The example of a downstream repository, with the real daemons, as its maintainer runs it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugin.inner import Inner

pytestmark = [pytest.mark.real, pytest.mark.timeout(540)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "downstream"


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Inner]:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    inner = Inner(tmp_path)
    yield inner
    inner.close()
    inner.wait_until_nothing_is_left()


@pytest.mark.parametrize(
    "mode", [pytest.param((), marks=pytest.mark.matrix, id="alone"), pytest.param(("-n", "4"), id="n4")]
)
def test_the_example_is_green_and_starts_each_daemon_once(example: Inner, mode: tuple[str, ...]) -> None:
    outcome = example.run(*mode, timeout_s=500)
    assert outcome.code == 0, outcome.text
    assert set(outcome.results.values()) == {"passed"}
    for name in ("chroma", "bridge", "mlx"):
        (line,) = re.findall(rf"^{name}  .*$", outcome.text, re.MULTILINE)
        assert re.search(r"  ready after [0-9.]+ s", line), line
        assert "restarted" not in line
    assert example.left() == []
    assert not (example.root / "var").exists()


def test_without_the_flag_the_example_is_skipped_for_one_reason(example: Inner) -> None:
    outcome = example.run(on=False)
    assert outcome.code == 0, outcome.text
    assert set(outcome.results.values()) == {"skipped"}
    assert len(set(re.findall(r"^SKIPPED \[\d+\] \S+ (.*)$", outcome.text, re.MULTILINE))) == 1, outcome.text


def test_a_second_run_finds_them_warm_with_data_of_its_own(example: Inner) -> None:
    keep = ("--neo-daemons-keep", "10m", "tests/test_memory.py", "tests/test_wake.py")
    assert example.run(*keep, timeout_s=500).code == 0
    before = example.daemons()
    second = example.run(*keep)
    assert second.code == 0, second.text
    assert len(re.findall(r"^(?:chroma|bridge)  .*  reused$", second.text, re.MULTILINE)) == 2, second.text
    assert example.daemons() == before
    example.end_warm()
