"""A restore exchanges two directories; a kill at any step loses neither."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import PATIENCE_S, PROGRAMS


@pytest.mark.parametrize("way", ["exchange", "fallback"])
def test_killed_at_any_step_of_a_restore_both_directories_are_whole(tmp_path: Path, way: str) -> None:
    command = [sys.executable, str(PROGRAMS / "replace_kills.py"), str(tmp_path), way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = ast.literal_eval(done.stdout)
    assert found["old"] >= 1
    assert found["new"] >= 1
    # Where the system cannot exchange directories, there is a moment without one; both are there under other names.
    assert found["missing"] == (0 if way == "exchange" else 1)
