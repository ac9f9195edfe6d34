"""The metrics: what they say, that their own library can read them, and what they cost."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse

from neo_daemons.control import store_sizes
from neo_daemons.control.exposition import MEDIA_TYPE, Exposition, Family, Kind, Row
from neo_daemons.control.metrics import STATES
from neo_daemons.control.store_sizes import StoreSizes, measure
from neo_daemons.status import Cause
from neo_daemons.supervision.meter import Meter
from neo_daemons.supervision.platform import Usage
from neo_daemons.supervision.tally import Tally

from .harness import FAST, Project, kill, toy, until

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def parsed(text: str) -> list[Metric]:
    return list(parse(text))  # type: ignore[no-untyped-call]


def read(text: str) -> Samples:
    """Sample → labels, but for the daemon's name → value."""
    found: Samples = {}
    for family in parsed(text):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in found.setdefault(sample.name, {}), f"{sample.name} {labels} twice"
            found[sample.name][labels] = sample.value
    return found


def check_names_and_units(text: str) -> None:
    for family in parsed(text):
        assert re.fullmatch(r"(neo_daemons|process)_[a-z_]+", family.name)
        if family.name.startswith("neo_daemons"):
            assert family.documentation.endswith(".")
            units = {unit for unit in ("seconds", "bytes") if f"_{unit}" in family.name}
            assert units == ({family.unit} if family.unit else set())
        labels = {label for sample in family.samples for label in sample.labels}
        assert labels <= {"daemon", "cause", "platform", "version", "neo_daemons_daemon_state"}


def of(samples: Samples, name: str, daemon: str, **labels: str) -> float | None:
    return samples[f"neo_daemons_daemon_{name}"].get(tuple(sorted({"daemon": daemon, **labels}.items())))


def test_a_scrape_tells_of_states_exits_restarts_probes_and_sizes(project: Project) -> None:
    project.configure(
        api=toy(restart=FAST, data_dir="data", live=[{"type": "http", "interval_s": 0.05}]),
        off=toy("quiet", enabled=False),
    )
    project.serve("--listen", "0")
    pid = project.reaches("api", "ready").pid
    kill(pid, signal.SIGKILL)
    new = project.back("api", pid).pid
    (project.root / "data" / "big").write_bytes(os.urandom(100_000))

    def is_measured() -> bool:  # at first the kernel may count no memory
        seen = read(project.client.metrics())
        probes, memory = (
            of(seen, name, "api") or 0 for name in ("probe_duration_seconds_count", "resident_memory_bytes")
        )
        return probes > 2 and memory > 0

    until(is_measured, "probes, and a measurement")
    url, token = project.client.status().supervisor.url, project.state.token.read_text().strip()
    assert httpx.get(f"{url}/metrics").status_code == 401
    answer = httpx.get(f"{url}/metrics", headers={"authorization": f"Bearer {token}"})
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.text.endswith("# EOF\n")
    check_names_and_units(answer.text)
    seen = read(answer.text)
    states = {state: of(seen, "state", "api", neo_daemons_daemon_state=state) for state in STATES}
    assert states == dict.fromkeys(STATES, 0.0) | {"ready": 1.0}
    assert of(seen, "state", "off", neo_daemons_daemon_state="stopped") == 1.0
    assert (of(seen, "ready", "api"), of(seen, "ready", "off"), of(seen, "enabled", "off")) == (1.0, 0.0, 0.0)
    assert of(seen, "restarts_total", "api") == 1.0
    assert of(seen, "exits_total", "api", cause="signal") == 1.0
    assert of(seen, "exits_total", "api", cause="probe") == 0.0
    assert of(seen, "probe_failures_total", "api") == 0.0
    assert 0 < (of(seen, "probe_duration_seconds_sum", "api") or 0) < 60
    assert (of(seen, "resident_memory_bytes", "api") or 0) > 0
    assert of(seen, "cpu_seconds_total", "api") is not None
    assert of(seen, "log_bytes", "api") is not None
    assert (of(seen, "start_time_seconds", "api") or 0) >= (of(seen, "exits_created", "api", cause="exit") or 0)
    assert of(seen, "start_time_seconds", "off") is None
    assert seen["neo_daemons_supervisor_warning"] == {(): 0.0}
    assert seen["process_resident_memory_bytes"][()] > 1_000_000

    printed = project.run("status", "--format", "openmetrics")
    assert read(printed.stdout).keys() == seen.keys()

    # A supervisor that adopts the daemon counts anew, and says since when.
    project.kill_supervisor()
    project.serve()
    assert project.reaches("api", "ready").pid == new
    later = read(project.client.metrics())
    assert of(later, "exits_total", "api", cause="signal") == 0.0
    assert of(later, "exits_created", "api", cause="signal") > of(seen, "exits_created", "api", cause="signal")  # type: ignore[operator]
    assert (of(later, "store_bytes", "api") or 0) >= 100_000


@pytest.mark.long
def test_without_the_library_the_answer_says_what_to_install(project: Project) -> None:
    (project.root / "elsewhere").mkdir()
    (project.root / "elsewhere" / "sitecustomize.py").write_text(
        "import sys\nsys.modules['prometheus_client'] = None\n"
    )
    project.env["PYTHONPATH"] = str(project.root / "elsewhere")
    project.configure(api=toy("quiet"))
    project.serve()
    failed = project.run("status", "--format", "openmetrics")
    assert failed.returncode == 1
    assert 'pip install "prometheus-client' in failed.stderr
    assert project.run("status", "--format", "openmetrics", "--check").returncode == 2


# The text


HOSTILE = ('a"b', "back\\slash", "two\nlines", "{x='1'} 1", "漢字", "")


@pytest.mark.asyncio
async def test_hostile_labels_are_escaped() -> None:
    rows = [Row((name,), float(number)) for number, name in enumerate(HOSTILE)]
    text = (await Exposition().render([Family(Kind.GAUGE, "x", "Help.", ("daemon",), rows)])).decode()
    (family,) = parsed(text)
    assert [(sample.labels["daemon"], sample.value) for sample in family.samples] == list(
        zip(HOSTILE, range(6), strict=True)
    )


def families(numbers: list[int]) -> Iterator[Family]:
    names = [f"d{number}" for number in numbers]
    yield Family(Kind.STATES, "s", "S.", ("daemon",), [Row((n,), STATES[len(n) % 3]) for n in names], states=STATES)
    yield Family(Kind.COUNTER, "c", "C.", ("daemon",), [Row((n,), k, 5.0) for k, n in enumerate(names)], "seconds")
    yield Family(Kind.SUMMARY, "p", "P.", ("daemon",), [Row((n,), (k, k / 7)) for k, n in enumerate(names)], "seconds")
    yield Family(Kind.INFO, "i", "I.", (), [Row((), (("version", "1"),))])


@pytest.mark.asyncio
async def test_what_is_kept_from_the_last_text_makes_no_difference() -> None:
    kept = Exposition()
    for numbers in (list(range(130)), list(range(10, 140)), [], [3, 1, 2], list(range(60))):
        text = await kept.render(families(numbers))
        assert text == await Exposition().render(families(numbers))
        assert len(parsed(text.decode())) == 4


# What is counted


def test_a_tally_counts_by_cause_and_has_failures_from_the_start() -> None:
    tally = Tally()
    assert tally.exits == {Cause.EXIT: 0, Cause.SIGNAL: 0, Cause.PROBE: 0}
    tally.exited(Cause.OPERATOR)
    tally.exited(None)
    tally.probed(0.25, failed=False)
    tally.probed(0.5, failed=True)
    assert (tally.exits[Cause.OPERATOR], tally.exits[Cause.EXIT]) == (1, 1)
    assert (tally.probes, tally.probe_s, tally.probe_failures) == (2, 0.75, 1)


def test_cpu_time_never_falls_though_processes_take_theirs_along() -> None:
    meter = Meter()
    for used_s, total_s in ((2.0, 2.0), (3.0, 3.0), (1.0, 3.0), (1.5, 3.5)):
        meter.take(Usage(used_s, 0), age_s=1.0, now=0.0)
        assert meter.cpu_s == total_s
    meter.take(None, age_s=1.0, now=0.0)
    assert meter.cpu_s == 3.5


def test_data_directories_are_measured_on_disk_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "file").write_bytes(os.urandom(50_000))
    (tmp_path / "a" / "hole").touch()
    os.truncate(tmp_path / "a" / "hole", 1_000_000_000)
    (tmp_path / "a" / "elsewhere").symlink_to("/usr")
    going = threading.Event()
    directories = {"a": str(tmp_path / "a"), "none": str(tmp_path / "none")}
    found = measure(directories, going, 60.0)
    assert 50_000 <= (found["a"] or 0) < 500_000
    assert found["none"] == 0
    monkeypatch.setattr(store_sizes, "MAX_ENTRIES", 2)
    assert measure(directories, going, 60.0)["a"] is None
    assert measure(directories, going, -1.0) == {}
    going.set()
    assert measure(directories, going, 60.0) == {}


@pytest.mark.asyncio
async def test_what_could_not_be_measured_in_time_comes_first_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def first_only(directories: dict[str, str], *_: object) -> dict[str, int | None]:
        asked.append(list(directories))
        return dict.fromkeys(asked[-1][:1], 7)

    monkeypatch.setattr(store_sizes, "measure", first_only)
    monkeypatch.setattr(store_sizes, "FRESH_S", 0.0)
    sizes = StoreSizes()
    for _ in range(3):
        await sizes.bring_up_to_date({"a": "/a", "b": "/b", "c": None})
        assert sizes._measuring is not None
        await sizes._measuring
    assert asked == [["a", "b"], ["b", "a"], ["a", "b"]]
    assert (sizes.size("a"), sizes.size("b"), sizes.size("c")) == (7, 7, None)
