"""A daemon of a test session that runs as another user: it reaches its data, and nothing of it is left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .inner import Inner

pytestmark = pytest.mark.long

OPEN = "neo-daemons-0-*"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a program as another user")
def test_its_data_are_where_it_can_enter_and_gone_with_the_session(inner: Inner) -> None:
    before = set(Path("/var/tmp").glob(OPEN))
    db = {
        "command": ["sh", "-c", "id -un > ${data_dir}/who; exec sleep 600"],
        "user": "nobody",
        "cwd": "/",
        "data_dir": "db",
        "ready": {"type": "exec", "command": ["test", "-s", "${data_dir}/who"]},
    }
    inner.configure(db=db)
    inner.write(
        "test_db.py",
        """
        import pathlib

        def test_db(db):
            data = pathlib.Path(db.data_dir)
            assert (data / "who").read_text() == "nobody\\n"
            assert data.parent.parent == pathlib.Path("/var/tmp")
            assert data.parent.stat().st_mode & 0o777 == 0o711
        """,
    )
    run = inner.run("-n", "2")
    assert run.counts() == {"passed": 1}, run.text
    assert not (inner.root / "db").exists()
    assert set(Path("/var/tmp").glob(OPEN)) <= before
