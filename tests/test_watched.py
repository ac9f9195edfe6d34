"""Which files the patterns of ``watch`` name, and what counts as a change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neo_daemons import watched
from neo_daemons.watched import CannotWatch, Pattern, changed, digests, in_words

pytestmark = pytest.mark.long

FILES = (
    "app.py",
    "src/main.py",
    "src/main.txt",
    "src/deep/er/util.py",
    "src/.hidden.py",
    "src/.git/hook.py",
    "src/node_modules/x/index.py",
    "src/__pycache__/main.py",
    "src/env/pyvenv.cfg",
    "src/env/lib/site.py",
    "src/[odd] name^.py",
    "src/[]&~.py",
    "src/[!].py",
    ".config/settings.py",
)
ODD = "src/[odd] name^.py"
NO_SET, NEITHER = "src/[]&~.py", "src/[!].py"
MAIN, UTIL = "src/main.py", "src/deep/er/util.py"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    for name in FILES:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "common.py").write_text("")
    return project


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("app.py", ["app.py"]),
        ("./app.py", ["app.py"]),
        ("*.py", ["app.py"]),
        ("src/*.py", [MAIN, ODD, NO_SET, NEITHER]),
        ("src/**/*.py", [MAIN, UTIL, ODD, NO_SET, NEITHER]),
        ("src/**", [MAIN, "src/main.txt", UTIL, ODD, NO_SET, NEITHER]),
        ("**/*.py", ["app.py", MAIN, UTIL, ODD, NO_SET, NEITHER]),
        ("**/er/*", [UTIL]),
        ("src/**/er/**/*.py", [UTIL]),
        ("src/mai?.py", [MAIN]),
        ("src/main.[pt]*", [MAIN, "src/main.txt"]),
        ("src/main.[!t]*", [MAIN]),
        ("src/[[]odd*", [ODD]),
        ("src/[]&~.py", [NO_SET]),
        ("src/[!].py", [NEITHER]),
        ("src/[[][]!]*", [NO_SET, NEITHER]),
        ("src/[[][!]o]*", [NEITHER]),
        ("src/*[&&][~~]*", [NO_SET]),
        ("*/main.py", [MAIN]),
        (".config/*.py", [".config/settings.py"]),
        ("src/node_modules/**/*.py", ["src/node_modules/x/index.py"]),
        ("src/env/lib/*.py", ["src/env/lib/site.py"]),
        ("src/deep/../main.py", [MAIN]),
    ],
)
def test_a_pattern_names_these_files(root: Path, pattern: str, names: list[str]) -> None:
    assert sorted(digests([pattern], root)) == sorted(names)
    for name in FILES:
        assert Pattern(pattern, root).matches(str(root / name)) or name not in names


def test_a_pattern_may_lead_out_of_the_project(root: Path) -> None:
    common = str(root.parent / "shared" / "common.py")
    assert list(digests(["../shared/*.py"], root)) == [common]
    assert list(digests([f"{root.parent}/shared/*.py"], root)) == [common]


@pytest.mark.parametrize("pattern", ["nothing.py", "src/*.rs", "nowhere/**/*.py", "src/deep"])
def test_a_pattern_that_names_nothing_is_refused(root: Path, pattern: str) -> None:
    with pytest.raises(CannotWatch, match=r"no file in .*project matches"):
        digests(["app.py", pattern], root)


@pytest.mark.parametrize("pattern", ["", ".", "/", "src/", "a\0b"])
def test_what_is_no_pattern_is_refused(root: Path, pattern: str) -> None:
    with pytest.raises(CannotWatch, match="names no files"):
        Pattern(pattern, root)


@pytest.mark.parametrize("pattern", ["src/[b-a].py", "[z-a]*/**"])
def test_an_impossible_set_is_refused(root: Path, pattern: str) -> None:
    with pytest.raises(CannotWatch, match=r"is not a pattern: bad character range"):
        Pattern(pattern, root)


def test_too_much_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "MAX_FILES", 2)
    with pytest.raises(CannotWatch, match="more than 2 files"):
        digests(["src/**/*.py"], root)
    monkeypatch.setattr(watched, "MAX_FILES", 100)
    monkeypatch.setattr(watched, "MAX_BYTES", 10)
    with pytest.raises(CannotWatch, match="more than 10 bytes"):
        digests(["src/**/*.py"], root)
    monkeypatch.setattr(watched, "MAX_BYTES", 1000)
    monkeypatch.setattr(watched, "MAX_DIRECTORIES", 1)
    with pytest.raises(CannotWatch, match="more than 1 directories"):
        digests(["src/**/*.py"], root)


def test_only_content_counts(root: Path) -> None:
    before = digests(["src/**/*.py"], root)
    os.utime(root / MAIN, (1, 1))
    (root / "src/main.txt").write_text("changed")
    assert changed(before, digests(["src/**/*.py"], root)) == []
    times = os.stat(root / MAIN)
    (root / MAIN).write_text("src/moin.py")  # as long as before
    os.utime(root / MAIN, ns=(times.st_atime_ns, times.st_mtime_ns))
    (root / UTIL).unlink()
    (root / "src/new.py").write_text("")
    found = changed(before, digests(["src/**/*.py"], root))
    assert found == [UTIL, MAIN, "src/new.py"]
    assert in_words(found) == f"{UTIL} and 2 more files changed"
    assert in_words(found[:2]) == f"{UTIL} and 1 more file changed"
    assert in_words(found[:1]) == f"{UTIL} changed"


def test_what_is_no_regular_file_is_left_out(root: Path) -> None:
    os.mkfifo(root / "src" / "pipe.py")
    (root / "src" / "loop.py").symlink_to("loop.py")
    (root / "src" / "gone.py").symlink_to("nowhere")
    (root / "src" / "link.py").symlink_to("main.txt")
    found = digests(["src/*.py"], root)
    assert "src/link.py" in found
    assert not {"src/pipe.py", "src/gone.py"} & found.keys()
