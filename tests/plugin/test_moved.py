"""A daemon that is restarted on another port, which nobody waited for: handles and variables say where it is."""

from __future__ import annotations

import pytest

from .inner import Inner

pytestmark = pytest.mark.long


def test_handles_and_variables_follow_a_daemon_to_its_new_port(inner: Inner) -> None:
    inner.configure(api=inner.toy(exports={"API_URL": "http://${host}:${port}"}))
    inner.write("pytest.ini", "[pytest]\nneo_daemons_export_env = true\n")
    inner.copy("moves.py", "moves.py")
    inner.copy("moved.py", "test_moved.py")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 4}, outcome.text
