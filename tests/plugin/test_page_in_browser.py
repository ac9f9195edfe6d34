"""The page of a run in a real browser: it is drawn, clicked, searched and read, and lets no text become markup."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_neo_daemons.reports import page
from tests import browser

from .inner import PARALLEL, Inner
from .test_page import TESTS
from .test_reports import SERVER

PROGRAM = browser.find()
pytestmark = [
    pytest.mark.long,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(
        PROGRAM is None,
        reason="the page was NOT tested in a browser: install chromium (Debian: apt-get install chromium)",
    ),
]
EVIL = "</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\"><!--"
LABEL, AXIS, LANE = 150, 26, 28
"""Where lanes are, in pixels; see page.js."""
COLOURED = """(() => {
    const canvas = document.getElementById('canvas'), pen = canvas.getContext('2d');
    const seen = new Set();
    const data = pen.getImageData(0, 0, canvas.width, canvas.height).data;
    for (let i = 0; i < data.length; i += 4)
        if (data[i + 3] > 200) seen.add(`${data[i]},${data[i + 1]},${data[i + 2]}`);
    return seen.size;
})()"""


@pytest.fixture
def window(tmp_path: Path) -> Iterator[browser.Page]:
    assert PROGRAM is not None
    (tmp_path / "profile").mkdir()
    opened = browser.Page(PROGRAM, tmp_path / "profile")
    try:
        yield opened
    finally:
        opened.close()


def large() -> dict[str, Any]:
    """The data of a run of 2,000 tests on 8 workers, with texts that want to be markup."""
    chance = random.Random(1)
    outcomes = ["passed"] * 40 + ["failed", "skipped", "error", "xfailed"]
    clocks, tests = [chance.random() for _ in range(8)], []
    for number in range(2000):
        worker = min(range(8), key=clocks.__getitem__)
        begin = clocks[worker]
        call, end = begin + 0.01, begin + 0.02 + chance.random() ** 4
        clocks[worker] = end + 0.005
        outcome = chance.choice(outcomes)
        test = {"id": f"tests/test_{number % 37}.py::test_{number}[{EVIL}]", "w": worker, "o": outcome, "d": ["api"]}
        test["p"] = [["setup", begin, call], ["call", call, end], ["teardown", end, end + 0.001]]
        test |= {"l": {"api": [number, number + 3]}} if outcome == "passed" else {"t": [EVIL], "s": [["api", EVIL]]}
        tests.append(test)
    end = max(clocks)
    log = [f"line {number} {EVIL}" for number in range(2100)]
    events = [
        [0.1, "starting", "", "", 0],
        [0.5, "ready", EVIL, "", 0],
        [end / 2, "exit", "killed by SIGKILL", "signal", 1],
    ]
    segments = [[0.1, 0.5, "starting", "api"], [0.5, end / 2, "ready", "api"], [end / 2 + 1, end, "ready", "api"]]
    api = {
        "name": "api",
        "own": False,
        "segments": segments,
        "events": events,
        "log": log,
        "cut": 5,
        "facts": [["note", EVIL]],
    }
    workers = [f"gw{number}" for number in range(8)]
    head = {"title": EVIL, "command": EVIL, "versions": "", "outcome": "failed", "remarks": [EVIL], "at": 1.7e9}
    return head | {"duration": end, "workers": workers, "daemons": [api], "tests": tests}


def place(window: browser.Page, lane: int, left: float) -> tuple[float, float]:
    """Where a lane is in the window, at a share of its width."""
    x, y, width = window.js(
        "(() => { const r = document.getElementById('canvas').getBoundingClientRect(); return [r.x, r.y, r.width]; })()"
    )
    return x + LABEL + (width - LABEL) * left, y + AXIS + lane * LANE + 12


def details(window: browser.Page) -> str:
    return str(window.js("document.getElementById('details').textContent"))


def test_page_of_a_large_run_is_usable_by_mouse_and_keys(window: browser.Page, tmp_path: Path) -> None:
    data = large()
    (tmp_path / "page.html").write_text(page.render(data))
    window.prefer("light")
    window.open(tmp_path / "page.html")
    assert (window.complaints(), window.requests()) == ([], [(tmp_path / "page.html").as_uri()])
    assert window.js("document.title").endswith(": failed — neo-daemons")
    assert window.js("document.querySelectorAll('script, img').length") == 2
    assert window.js("document.querySelectorAll('.row').length") < 100
    assert window.js("document.getElementById('shown').textContent") == "2000 of 2000"
    assert window.js(COLOURED) > 8
    failures = [test for test in data["tests"] if test["o"] in ("failed", "error")]
    assert EVIL in details(window)  # the first failure is shown at once

    # A daemon, by its name: all of its log. By its bar: that state.
    window.click(*place(window, 0, -0.05))
    assert "line 0 " in details(window)
    assert f"line 2099 {EVIL}" in details(window)
    assert "2000 tests used it" in details(window)
    window.click(*place(window, 0, 0.3))
    assert "api was ready from" in details(window)
    # A test, by its bar: its slice.
    window.click_on("[data-outcome=failed]")
    window.click_on("[data-outcome=error]")
    window.click_on("[data-outcome=skipped]")
    window.click_on("[data-outcome=xfailed]")
    window.click(*place(window, 3, 0.5))
    picked = window.js("document.querySelector('.row[aria-selected=true]').dataset.test")
    assert "on gw2" in details(window)
    assert f"line {picked} " in details(window)
    assert f"line {int(picked) + 3} " not in details(window)
    # Search, and the list by keys.
    window.click_on("#search")
    window.type("test_1999[")
    assert window.js("document.getElementById('shown').textContent") == (
        "1 of 2000" if data["tests"][1999]["o"] == "passed" else "0 of 2000"
    )
    window.js("const s = document.getElementById('search'); s.value = ''; s.dispatchEvent(new Event('input'))")
    window.js("document.getElementById('list').focus()")
    window.press("End")
    last = max((test for test in data["tests"] if test["o"] == "passed"), key=lambda test: test["p"][0][1])
    assert last["id"].partition("::")[2] in details(window)
    # The timeline by keys: zoom, neighbours, lanes, failures.
    window.js("document.getElementById('lanes').focus()")
    before = details(window)
    window.press("ArrowLeft")
    assert details(window) != before
    before = window.js("document.getElementById('canvas').toDataURL()")
    window.press("+")
    assert window.js("document.getElementById('canvas').toDataURL()") != before
    window.press("0")
    window.press("ArrowUp")
    assert window.js("document.getElementById('said').textContent") != ""
    window.click_on("[data-outcome=failed]")
    window.click_on("[data-outcome=error]")
    window.js("document.getElementById('lanes').focus()")
    said = set()
    for _ in range(3):
        window.press("f")
        said.add(window.js("document.getElementById('said').textContent"))
    assert len(said) == min(3, len(failures))
    window.press("Enter")
    assert window.js("document.activeElement.id") == "details"
    assert window.complaints() == []
    window.screenshot(tmp_path / "large-light.png")
    light = window.js("getComputedStyle(document.body).backgroundColor")
    window.prefer("dark")
    assert window.js("getComputedStyle(document.body).backgroundColor") != light
    window.screenshot(tmp_path / "large-dark.png")


def test_large_run_is_drawn_fast(window: browser.Page, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page.render(large()))
    window.open(tmp_path / "page.html")
    took = window.js(
        """new Promise(done => {
            const box = document.getElementById('lanes'), start = performance.now();
            let left = 20;
            const turn = () => {
                box.dispatchEvent(new KeyboardEvent('keydown', { key: left % 2 ? '+' : '-', bubbles: true }));
                if (left-- > 0) requestAnimationFrame(turn);
                else done((performance.now() - start) / 20);
            };
            turn();
        })"""
    )
    assert took < 500, f"{took} ms for one frame"


def test_page_of_a_real_run_in_the_browser(inner: Inner, window: browser.Page, tmp_path: Path) -> None:
    inner.configure(api=SERVER, fragile=SERVER)
    inner.write("test_all.py", TESTS)
    inner.run(*PARALLEL, "--neo-daemons-report", "page.html")
    window.open(inner.root / "page.html")
    assert window.complaints() == []
    assert "test_" in details(window)
    assert window.js("document.title").endswith(": failed — neo-daemons")
    window.click(*place(window, 0, -0.05))
    assert "GET /?from-passing" in details(window)
    window.click(*place(window, 1, -0.05))
    assert "killed by SIGKILL" in details(window)
    window.screenshot(tmp_path / "real.png")
