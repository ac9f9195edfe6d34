"""Hooks of a project that fail: one line says so, and where; nothing is lost but what they would have done."""

from __future__ import annotations

import pytest

from .inner import Inner

pytestmark = pytest.mark.long

FAILURES = (
    "raise RuntimeError('of the project')",
    "pytest.fail('of the project')",
    "raise SystemExit('of the project')",
)


@pytest.mark.parametrize("statement", FAILURES)
def test_a_failing_definitions_hook_is_a_usage_error_and_is_ignored_without_the_flag(
    inner: Inner, statement: str
) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "conftest.py",
        f"""
        import pytest

        def pytest_neo_daemons_definitions(definitions):
            {statement}
        """,
    )
    inner.write("test_api.py", "def test_api(api): pass\ndef test_plain(): pass\n")
    outcome = inner.run()
    assert outcome.code == pytest.ExitCode.USAGE_ERROR, outcome.text
    place = f"{inner.root / 'conftest.py'}:5: pytest_neo_daemons_definitions failed: "
    assert place in outcome.text
    assert "of the project" in outcome.text
    assert "Traceback" not in outcome.text
    assert "INTERNALERROR" not in outcome.text
    outcome = inner.run(on=False)
    assert outcome.counts() == {"passed": 1, "skipped": 1}, outcome.text


@pytest.mark.parametrize("statement", FAILURES)
def test_a_failing_ready_hook_is_reported_in_the_summary(inner: Inner, statement: str) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "conftest.py",
        f"""
        import pytest

        def pytest_neo_daemons_ready(daemon):
            {statement}
        """,
    )
    inner.write("test_api.py", "def test_api(api): pass\ndef test_again(api): assert api.state == 'ready'\n")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 2}, outcome.text
    assert "pytest_neo_daemons_ready failed: " in outcome.text
    assert "of the project; the run continued" in outcome.text
