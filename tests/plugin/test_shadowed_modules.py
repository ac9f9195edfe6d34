"""A project's own files take the place of no module that the plugin imports."""

from __future__ import annotations

import pytest

from .inner import Inner


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
def test_a_test_run_imports_no_module_of_the_project(inner: Inner, workers: tuple[str, ...]) -> None:
    inner.configure(web=inner.toy())
    inner.write("test_web.py", "def test_web(web):\n    assert web.pid")
    # Not those that pytest and its plugins import themselves.
    for name in ("filelock", "httpx", "h11", "msgspec", "psutil", "rich", "tenacity"):
        inner.write(f"{name}.py", f"raise SystemExit('the project has run its own {name}')")
    outcome = inner.run(*workers)
    assert outcome.code == 0, outcome.text
    assert "the project has run" not in outcome.text
