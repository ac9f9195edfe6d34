"""Tests whose daemon is not installed: they fail, or are skipped if the project says so; nothing else is skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neo_daemons.bridge_files import SCRIPTS as WAKE_SCRIPTS
from tests.harness import Project

from .inner import MODES, PARALLEL, Inner, messages, refused, results

pytestmark = pytest.mark.long

TESTS = """
    import unittest

    import pytest

    def test_missing(bridge): pass

    def test_missing_again(bridge_graph): pass

    def test_waits_for_it(api): pass

    @pytest.mark.neo_daemons("bridge")
    def test_marked(): pass

    def test_looked_up(neo_daemons):
        neo_daemons["bridge"]

    def test_new(new_daemon):
        new_daemon("bridge")

    @pytest.mark.neo_daemons("bridge")
    class TestOld(unittest.TestCase):
        def test_old(self): pass

    def test_broken(broken): pass

    def test_misconfigured(mlx): pass

    def test_fine(fine): pass

    def test_plain(): pass
"""
MISSING = {"test_missing", "test_missing_again", "test_waits_for_it", "test_marked", "test_looked_up", "test_new"}
SKIP = "[pytest]\nneo_daemons_unavailable = skip\n"


def half_installed(root: Path) -> dict[str, Any]:
    """The settings of a bridge whose checkout lacks its packages."""
    script = root / "half" / WAKE_SCRIPTS[0]
    script.parent.mkdir(parents=True)
    script.touch()
    return {"home": str(root / "half")}


def configure(inner: Inner) -> None:
    server = inner.root / "bin" / "mlx_lm.server"
    server.parent.mkdir()
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    inner.env["PATH"] = f"{server.parent}:{inner.env['PATH']}"
    inner.configure(
        bridge=half_installed(inner.root),
        mlx={"model": "./nowhere"},
        api=inner.toy(requires=["bridge"]),
        broken=inner.toy("exit=3", "write=no treasure here"),
        fine=inner.toy(),
    )
    inner.write("test_some.py", TESTS)


@pytest.mark.oldest
@MODES
def test_tests_whose_daemon_is_not_installed_are_skipped_if_the_project_says_so(
    inner: Inner, mode: tuple[str, ...]
) -> None:
    configure(inner)
    inner.write("pytest.ini", SKIP)
    outcome = inner.run("-rs", *mode)
    skipped = {name for name, result in results(outcome).items() if result == "skipped"}
    assert skipped == {*MISSING, "test_old"}, outcome.text
    assert outcome.counts() == {"skipped": 7, "error": 2, "passed": 2}, outcome.text
    said = messages(outcome)
    assert "bridge is not available: " in said["test_missing"]
    assert "api is not available: it waits for bridge, which failed: " in said["test_waits_for_it"]
    assert "no treasure here" in said["test_broken"]
    assert "mlx is not available: the model directory" in said["test_misconfigured"]


def test_tests_whose_daemon_is_not_installed_fail_by_default(inner: Inner) -> None:
    configure(inner)
    outcome = inner.run()
    bad = {name for name, result in results(outcome).items() if result in ("error", "failed")}
    assert bad == {*MISSING, "test_old", "test_broken", "test_misconfigured"}, outcome.text
    assert "skipped" not in outcome.counts(), outcome.text


def test_a_missing_daemon_of_an_attached_supervisor_is_skipped_too(inner: Inner, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    project = Project(tmp_path / "served")
    watched = project.root / "watched.py"
    watched.touch()
    project.configure(
        bridge=half_installed(project.root),
        api=inner.toy(requires=["bridge"]),
        gone=inner.toy("exit=3", restart="never"),
        wrong=inner.toy(watch=["watched.py"]),
    )
    try:
        project.serve()
        project.reaches("bridge", "unavailable")
        project.reaches("gone", "parked")
        project.reaches("wrong", "ready")
        watched.unlink()
        project.client.order("wrong", "restart")
        project.reaches("wrong", "unavailable")
        inner.write("pytest.ini", SKIP)
        names = ("bridge", "api", "gone", "wrong")
        inner.write("test_some.py", "\n".join(f"def test_{name}({name}): pass" for name in names))
        outcome = inner.run("--neo-daemons-attach", str(project.state.path), on=False)
        assert results(outcome) == {
            "test_bridge": "skipped",
            "test_api": "skipped",
            "test_gone": "error",
            "test_wrong": "error",
        }, outcome.text
    finally:
        project.close()


def test_another_word_is_a_usage_error(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("pytest.ini", "[pytest]\nneo_daemons_unavailable = perhaps\n")
    inner.write("test_some.py", "def test_api(api): pass\n")
    refused(inner, inner.run(*PARALLEL), ("pytest.ini: neo_daemons_unavailable = 'perhaps'", "use fail or skip"))


@pytest.mark.parametrize("word", ["fail", "skip"])
def test_without_the_flag_the_setting_changes_nothing(inner: Inner, word: str) -> None:
    inner.configure(api=inner.toy())
    inner.write("test_some.py", "def test_api(api): pass\n")
    outcome = inner.run("-o", f"neo_daemons_unavailable={word}", on=False)
    assert outcome.counts() == {"skipped": 1}, outcome.text
