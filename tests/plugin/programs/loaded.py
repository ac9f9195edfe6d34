"""A conftest.py that writes down which of our modules each process of the run has loaded."""

import sys
from pathlib import Path

import pytest


def pytest_unconfigure(config: pytest.Config) -> None:
    worker = getattr(config, "workerinput", {}).get("workerid", "main")
    ours = [name for name in sys.modules if name.startswith("neo_daemons.")]
    Path(f"loaded-{worker}").write_text("\n".join(ours))
