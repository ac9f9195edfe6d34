"""How long a second worker waits for what a first one has. Copied, as test_attach.py; each worker runs it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest


def test_attach(request: pytest.FixtureRequest, worker_id: str) -> None:
    ready, took = (Path(__file__).with_name(name) for name in ("ready", "took"))
    if worker_id == "gw0":
        request.getfixturevalue("chroma_url")
        ready.touch()
        while not took.exists():
            time.sleep(0.005)
    else:
        while not ready.exists():
            time.sleep(0.005)
        time.sleep(0.2)
        began = time.perf_counter()
        request.getfixturevalue("chroma_url")
        written = took.with_suffix(".tmp")
        written.write_text(str(time.perf_counter() - began))
        written.rename(took)
