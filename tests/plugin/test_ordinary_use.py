"""What a maintainer does in the first hour: forgets a fault, misses a flag, has a daemon down, works in a monorepo."""

from __future__ import annotations

import pytest

from tests.harness import PATIENCE_S, Project

from .inner import LIVE, Inner

pytestmark = pytest.mark.long

# Faults


@pytest.mark.parametrize("fault", ["pause", "stop", "kill"])
def test_a_forgotten_fault_is_repaired_before_fixtures_are_torn_down(inner: Inner, fault: str) -> None:
    inner.configure(api=inner.toy())
    inner.env["FAULT"] = fault
    inner.copy("forgets.py", "test_forgets.py")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 3, "failed": 1}, outcome.text


def test_waiting_for_a_stopped_daemon_does_not_start_it(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.copy("waits_for_stopped.py", "test_waits.py")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 3}, outcome.text


# Daemons that others need


def test_a_dependant_is_retried_once_its_requirement_can_start(inner: Inner) -> None:
    broken = inner.root / "broken"
    broken.touch()
    inner.configure(
        db=inner.toy(f"fail-if={broken}"),
        api=inner.toy(requires=["db"]),
        own=inner.toy(f"fail-if={broken}", requires=["good"]),
        good=inner.toy(),
    )
    inner.write(
        "test_needs.py",
        f"""
        import pathlib

        def test_first(api): pass
        def test_own_first(own): pass
        def test_repairs(): pathlib.Path({str(broken)!r}).unlink()
        def test_second(api): assert api.state == "ready"
        def test_own_second(own): assert own.state == "ready"
        """,
    )
    outcome = inner.run()
    results = {name.partition("::")[2]: result for name, result in outcome.results.items()}
    assert results == {
        "test_first": "error",
        "test_own_first": "error",
        "test_repairs": "passed",
        "test_second": "passed",
        "test_own_second": "passed",
    }, outcome.text


def test_a_dependant_that_keeps_failing_is_given_up(inner: Inner) -> None:
    starts = inner.root / "starts"
    broken = {
        "command": ["sh", "-c", f"echo start >> '{starts}'; exit 3"],
        "ready": {"type": "log", "pattern": "never"},
    }
    inner.configure(db=broken, api=inner.toy(requires=["db"]))
    inner.write(
        "test_needs.py",
        """
        import pytest

        @pytest.mark.parametrize("number", range(8))
        def test_needs(api, number): pass
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"error": 8}, outcome.text
    assert outcome.text.count("it waits for db, which failed: exit code 3") >= 8
    assert 2 <= len(starts.read_text().splitlines()) <= 3 * 2


def test_a_report_names_the_dependencies_of_a_test_that_are_down(inner: Inner, project: Project) -> None:
    inner.configure(
        db=inner.toy(), cache=inner.toy(requires=["db"]), api=inner.toy(requires=["cache"]), else_=inner.toy()
    )
    project.serve()
    for name in ("api", "else_"):
        project.reaches(name, "ready")
    for name in ("db", "else_"):
        project.client.order(name, "stop", wait_s=PATIENCE_S)
    inner.write(
        "test_down.py",
        """
        def test_passes(api): pass
        def test_fails(api): raise AssertionError("on purpose")
        def test_uses_none(): raise AssertionError("on purpose")
        """,
    )
    outcome = inner.run("--neo-daemons-attach", on=False)
    assert outcome.counts() == {"passed": 1, "failed": 2}, outcome.text
    header, _, rest = outcome.text.partition("rootdir")
    reports, _, summary = rest.partition("= neo-daemons =")
    assert "db is stopped" in header
    assert "else_ is stopped" in header
    assert reports.count("db, which cache needs, is stopped") == 1
    assert "else_" not in reports
    assert "db, which cache needs, is stopped" in summary


def test_a_report_omits_daemons_that_are_up_or_were_not_requested(inner: Inner) -> None:
    inner.configure(db=inner.toy(), api=inner.toy(requires=["db"]), idle=inner.toy())
    inner.write(
        "test_up.py",
        """
        def test_fails(api, neo_daemons): raise AssertionError("on purpose")
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"failed": 1}, outcome.text
    assert "is stopped" not in outcome.text
    assert "needs" not in outcome.text


# Options


def test_options_that_need_the_flag_imply_it(inner: Inner, project: Project) -> None:
    inner.configure(api=inner.toy(live=LIVE))
    project.serve()
    url = project.reaches("api", "ready").url
    inner.write("test_api.py", "def test_api(api): assert api.url")
    assert inner.run("--neo-daemons-attach", on=False).counts() == {"passed": 1}, inner.output()
    assert inner.run("--neo-daemons-url", f"api={url}", on=False).counts() == {"passed": 1}, inner.output()
    assert inner.run("--neo-daemons-keep", "1m", "-n", "2", on=False).counts() == {"passed": 1}, inner.output()
    warm = inner.run("--neo-daemons-keep", "1m", on=False)
    inner.end_warm()
    assert warm.counts() == {"passed": 1}, warm.text
    assert "kept warm by an earlier run" in warm.text
    for setting in ("neo_daemons_keep=1m", f"neo_daemons_url=api={url}", "neo_daemons_attach=.neo-daemons"):
        assert inner.run("-o", setting, on=False).counts() == {"skipped": 1}, inner.output()


# Several projects in one repository


def monorepo(inner: Inner) -> None:
    # Two projects with a configuration each, below a root directory without one.
    inner.write("pyproject.toml", "[tool.pytest.ini_options]\n")
    for name in ("orders", "billing"):
        inner.configure(**{f"{name}-api": inner.toy()})
        (inner.root / "services" / name).mkdir(parents=True)
        (inner.root / "neo-daemons.toml").rename(inner.root / "services" / name / "neo-daemons.toml")
        inner.write(f"services/{name}/tests/test_{name}.py", f"def test_{name}({name}_api): assert {name}_api.url")


def test_a_configuration_below_the_root_is_found_if_it_is_the_only_one_of_the_given_paths(inner: Inner) -> None:
    monorepo(inner)
    for paths in (["services/orders"], ["services/orders/tests/test_orders.py::test_orders", "services/orders/tests"]):
        assert inner.run("--rootdir=.", *paths).counts() == {"passed": 1}, inner.output()


def test_with_several_configurations_a_missing_fixture_names_the_nearest_one(inner: Inner) -> None:
    monorepo(inner)
    outcome = inner.run("services/orders", "services/billing")
    assert outcome.counts() == {"error": 2}, outcome.text
    for name in ("orders", "billing"):
        near = f"services/{name}/neo-daemons.toml"
        assert f"{near} defines {name}-api, but this run uses " in outcome.text
        assert f"or with --neo-daemons-config {near}" in outcome.text
        assert inner.run("--neo-daemons-config", near, f"services/{name}").counts() == {"passed": 1}, inner.output()


@pytest.mark.parametrize("arguments", [(), ("services/orders", "services/billing"), ("-n", "2")], ids=str)
def test_without_the_flag_the_tests_of_every_project_skip(inner: Inner, arguments: tuple[str, ...]) -> None:
    monorepo(inner)
    assert inner.run(*arguments, on=False).counts() == {"skipped": 2}, inner.output()
