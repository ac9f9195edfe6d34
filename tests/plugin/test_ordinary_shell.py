"""Shells and containers lack this and that: the plugin works without, or says in one line what is missing."""

from __future__ import annotations

import os

import pytest

from .inner import Inner

pytestmark = pytest.mark.long

NOT_UTF8 = os.fsdecode(b"caf\xe9")


@pytest.fixture
def downstream(inner: Inner) -> Inner:
    inner.configure(web=inner.toy())
    inner.write("test_web.py", "def test_web(web):\n    assert web.pid")
    return inner


@pytest.mark.parametrize(
    "variables",
    [
        {"LEGACY": NOT_UTF8, NOT_UTF8: "1", "HOME": None, "XDG_CACHE_HOME": None, "XDG_RUNTIME_DIR": "/run/user/0/no"},
        {"HOME": f"/nonexistent/{NOT_UTF8}", "XDG_CACHE_HOME": None, "XDG_RUNTIME_DIR": "relative"},
        {"XDG_CACHE_HOME": f"/nonexistent/{NOT_UTF8}", "PATH": None, "LC_ALL": "xx_YY.unknown"},
    ],
    ids=["no home", "home not UTF-8", "cache not UTF-8"],
)
def test_a_run_works_whatever_is_in_variables_that_it_does_not_need(
    downstream: Inner, variables: dict[str, str | None]
) -> None:
    for variable, value in variables.items():
        downstream.env.pop(variable, None)
        if value is not None:
            downstream.env[variable] = value
    outcome = downstream.run()
    assert outcome.code == 0, outcome.text
    assert outcome.counts() == {"passed": 1}


def test_a_run_works_with_a_temporary_directory_too_deep_for_a_socket_and_no_runtime_directory(
    downstream: Inner,
) -> None:
    deep = downstream.tmp / ("a-long-directory-name-" * 4)
    deep.mkdir(mode=0o700)
    downstream.env |= {"TMPDIR": str(deep), "XDG_RUNTIME_DIR": "/run/user/0/no"}
    outcome = downstream.run()
    assert outcome.code == 0, outcome.text


def test_a_temporary_directory_that_is_not_utf8_is_reported_in_one_line(downstream: Inner) -> None:
    directory = downstream.tmp / NOT_UTF8
    directory.mkdir(mode=0o700)
    downstream.env["TMPDIR"] = str(directory)
    outcome = downstream.run()
    assert outcome.code == 4, outcome.text
    assert "the path is not UTF-8; set TMPDIR to another directory" in outcome.text
    assert "INTERNALERROR" not in outcome.text


def test_a_project_path_that_is_not_utf8_is_reported_in_one_line(downstream: Inner) -> None:
    root = downstream.root / NOT_UTF8
    root.mkdir()
    for name in ("neo-daemons.toml", "test_web.py"):
        (downstream.root / name).rename(root / name)
    outcome = downstream.run(f"--rootdir={root}", str(root))
    assert outcome.code == 4, outcome.text
    assert "the path of the project is not UTF-8; rename the directory" in outcome.text
    assert "INTERNALERROR" not in outcome.text


def test_files_that_cannot_be_created_are_reported_in_one_line(downstream: Inner) -> None:
    downstream.env["TMPDIR"] = str(downstream.tmp)
    (downstream.tmp / f"neo-daemons-{os.geteuid()}").write_text("not a directory")
    outcome = downstream.run()
    assert outcome.code == 4, outcome.text
    assert "set TMPDIR to a writable directory" in outcome.text
    assert "INTERNALERROR" not in outcome.text
    (downstream.tmp / f"neo-daemons-{os.geteuid()}").unlink()
