"""The harness of the benchmarks: what it keeps, how it judges, and what it refuses. It measures nothing here."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import goals, plots
from benchmarks.__main__ import PARTS, Part, Run, main
from benchmarks.cost import Cost, cpu_ms, instructions, spend
from benchmarks.fleet import growth, growths, used, waits
from benchmarks.plugin import WITHOUT
from benchmarks.results import OURS, Results


def filled(samples: dict[tuple[str, str, int], list[float]], part: str = "fleet") -> Results:
    results = Results()
    with results.part(part, quick=False):
        for (what, who, n), values in samples.items():
            for value in values:
                results.add(what, who, n, value, "s")
    return results


def goal(results: Results, what: str) -> goals.Goal:
    (found,) = (each for each in goals.goals(results) if each.what == what)
    return found


def test_the_page_has_the_targets_of_the_code() -> None:
    page = (Path(__file__).parents[1] / "docs" / "benchmarks.md").read_text()
    for row in goals.table(Results()).splitlines()[2:]:
        targets = row.replace(" not measured ", "").rstrip("| ")
        assert f"{targets} |" in page
    for name in PARTS:
        assert f"`{name}`" in page


def test_parts_that_are_measured_one_after_the_other_accumulate(tmp_path: Path) -> None:
    path = tmp_path / "out" / "results.json"
    first = Results.load(path)
    first.versions["runit"] = "2"
    with first.part("one", quick=True):
        first.add("up", OURS, 3, 1.5, "s")
        first.fault("pm2", "did not come up")
    first.save(path)
    second = Results.load(path)
    with second.part("two", quick=False):
        second.add("stop", OURS, 3, 0.5, "s")
    second.save(path)
    both = Results.load(path)
    assert both.samples == {("up", OURS, 3): [1.5], ("stop", OURS, 3): [0.5]}
    assert both.units == {"up": "s", "stop": "s"}
    assert both.faults == ["one: pm2: did not come up"]
    assert both.versions == {"runit": "2"}
    assert [(name, part.quick) for name, part in both.parts.items()] == [("one", True), ("two", False)]
    assert both.json() == second.json()


def test_a_part_that_is_measured_again_replaces_all_of_itself_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results = Results()
    with results.part("one", quick=False):
        results.add("up", OURS, 3, 1, "s")
        results.add("up", "runit", 3, 2, "s")
        results.fault(OURS, "once")
    with results.part("two", quick=False):
        results.add("up", OURS, 300, 3, "s")
    results.save(path)
    again = Results.load(path)
    with again.part("one", quick=False):
        again.add("up", OURS, 3, 4, "s")
    assert again.samples == {("up", OURS, 3): [4], ("up", OURS, 300): [3]}
    assert again.faults == []


def test_a_part_is_kept_when_it_is_over_and_not_when_it_breaks_off() -> None:
    results, kept = Results(), []
    results.keep = lambda: kept.append(dict(results.samples))
    with results.part("one", quick=False):
        results.add("up", OURS, 3, 1, "s")
    with pytest.raises(RuntimeError), results.part("two", quick=False):
        raise RuntimeError
    assert kept == [{("up", OURS, 3): [1]}]


@pytest.mark.parametrize("content", ["", "[]", '{"samples": []}', '{"versions": {}, "parts": {"x": 1}}'])
def test_another_results_json_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"results\.json was not written by this version"):
        Results.load(path)


def test_nothing_measured_is_neither_reached_nor_missed() -> None:
    assert {each.reached for each in goals.goals(Results())} == {None}
    assert goals.table(Results()).count("not measured") == len(list(goals.goals(Results())))


@pytest.mark.parametrize(("ours", "reached"), [(12, True), (12.1, False)])
def test_a_restart_is_judged_by_its_ratio_to_runit(ours: float, reached: bool) -> None:
    results = filled({("crash to restart", OURS, 3): [ours], ("crash to restart", "runit", 3): [10]})
    assert goal(results, "crash to restart, n = 3: median to runit's").reached is reached


@pytest.mark.parametrize(("percent", "reached"), [(0.04, True), (0.06, False)])
def test_idle_with_three_is_zero_to_one_decimal(percent: float, reached: bool) -> None:
    assert goal(filled({("idle CPU", OURS, 3): [percent]}), "idle, n = 3: CPU").reached is reached


def test_a_peer_that_was_not_always_green_is_not_the_fastest() -> None:
    suite, started = goals.SUITE, goals.STARTED
    results = filled(
        {
            (suite, OURS, 2): [9, 9], (started, OURS, 2): [3, 3],
            (suite, "fast", 2): [1], (started, "fast", 2): [6, 6],
            (suite, "slow", 2): [10, 10], (started, "slow", 2): [6, 6],
        }
    )  # fmt: skip
    assert goal(results, "suite, -n 2: time, to the fastest green peer").found == pytest.approx(0.9)


def test_what_is_unused_is_told_by_the_least_of_each() -> None:
    what = "pytest, the plugin unused: CPU time"
    results = filled({(what, OURS, 1): [103, 300, 250], (what, WITHOUT, 1): [100, 180, 600]})
    assert goal(results, "installed and unused: CPU time").found == pytest.approx(3)


def test_growth_is_of_the_two_largest_fleets() -> None:
    results = filled(
        {
            ("up", OURS, 3): [1], ("up", OURS, 300): [1], ("up", OURS, 1000): [(1000 / 300) ** 2],
            ("up", "runit", 3): [1],
        }
    )  # fmt: skip
    assert growth(results, "up") == pytest.approx(2)
    assert math.isnan(growth(results, "up", "runit"))
    assert growths(results).splitlines()[0] == "| cost | neo-daemons |"
    assert growths(filled({("up", OURS, 3): [1]})) == ""


@pytest.mark.parametrize(("took", "waited"), [(0.0, [0]), (0.05, [0.05]), (0.12, [0.12, 0.07, 0.02])])
def test_a_long_silence_counts_as_all_the_requests_that_it_keeps_waiting(took: float, waited: list[float]) -> None:
    assert waits(took, 0.05) == pytest.approx(waited)


@pytest.mark.parametrize(
    ("told", "count"),
    [
        ("# started on Thu\n\n22531876,,instructions:u,9004,100.00,,\n", 22531876),
        ("<not supported>,,instructions:u,0,100.00,,\n", None),
        ("", None),
    ],
)
def test_instructions_are_read_where_there_are_any(told: str, count: float | None) -> None:
    assert instructions(told) == count


def test_instructions_become_time_at_the_pace_of_the_runs_without() -> None:
    without = [Cost(1, 0.1, 1000), Cost(1, 0.2, 2000), Cost(1, 0.4, 2000)]
    assert cpu_ms([Cost(1, 99, 1500)], without) == pytest.approx([150])
    assert cpu_ms([Cost(1, 0.5)], [Cost(1, 0.1)]) == pytest.approx([500])


def test_a_command_that_fails_has_no_cost(tmp_path: Path) -> None:
    assert spend([sys.executable, "-S", "-c", "sum(range(10**6))"], tmp_path).cpu_s > 0
    with pytest.raises(subprocess.CalledProcessError):
        spend([sys.executable, "-S", "-c", "raise SystemExit(3)"], tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="benchmarks read /proc")
def test_idle_cpu_is_counted_finer_than_ticks() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            time.sleep(0.05)
            cpu, _ = used([process.pid])
        finally:
            process.kill()
    assert 0 < cpu < 0.05
    assert cpu * 100 != int(cpu * 100)
    assert used([process.pid]) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("nonsense", "there is no benchmark 'nonsense'; choose from fleet, "),
        ("fleet --peer x", "there is no peer 'x'; choose from neo-daemons, "),
        ("--repeat 0", "--repeat needs a number from 1 on"),
        ("--size 0", "--size needs a number from 1 on"),
        ("report", "report stands alone, and needs --out DIR"),
        ("report fleet --out .", "report stands alone, and needs --out DIR"),
        ("report --out .", "choose another --out"),
    ],
)
def test_wrong_usage_says_what_there_is(
    arguments: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(SystemExit, match="2"):
        main(arguments.split())
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(("ours", "code"), [(2.0, 0), (3.0, 1)])
def test_a_report_measures_nothing_and_is_checked(
    ours: float, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plots, "draw", lambda *_: [])
    crash = "crash to restart"
    results = filled({(crash, OURS, 3): [ours], (crash, "runit", 3): [2]}, part="fleet, n = 3")
    results.save(tmp_path / "results.json")
    before = (tmp_path / "results.json").read_text()
    assert main(["report", "--check", "--out", str(tmp_path)]) == code
    told = capsys.readouterr().out
    assert f"median to runit's | ≤ 1.2 × | {ours / 2:.3g} × |" in told
    assert (tmp_path / "results.md").read_text() == f"# Results\n\n{told[:-1]}"
    assert (tmp_path / "results.json").read_text() == before


def test_a_part_that_breaks_off_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(results: Results, _: Run) -> None:
        with results.part("real", quick=False):
            raise TimeoutError("not ready")

    def works(results: Results, _: Run) -> None:
        with results.part("command", quick=False):
            results.add("status", OURS, 3, 1, "ms")

    monkeypatch.setattr(plots, "draw", lambda *_: [])
    for name, measure in (("real", breaks), ("command", works)):
        monkeypatch.setitem(PARTS, name, Part("", measure))
    for variable in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
        monkeypatch.setenv(variable, "1")
    assert main(["real", "command", "--check", "--out", str(tmp_path)]) == 1
    assert "real: neo-daemons: broke off: TimeoutError('not ready')" in capsys.readouterr().out
    kept = Results.load(tmp_path / "results.json")
    assert (list(kept.parts), len(kept.faults), len(kept.samples)) == (["command"], 1, 1)


@pytest.mark.parametrize(("who", "code"), [(OURS, 1), ("pm2", 0)])
def test_a_check_fails_if_ours_could_not_be_measured(
    who: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "draw", lambda *_: [])
    results = Results()
    with results.part("fleet, n = 3", quick=False):
        results.fault(who, "not all came up")
    results.save(tmp_path / "results.json")
    assert main(["report", "--check", "--out", str(tmp_path)]) == code


def test_the_help_names_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    told = capsys.readouterr().out
    for name in (*PARTS, "report"):
        assert f"\n  {name} " in told
