"""When chroma's fixture was there. Copied, as test_first.py, beside a conftest.py."""

from __future__ import annotations

import time
from pathlib import Path


def test_first(chroma_url: str) -> None:
    Path(__file__).with_name("ready").write_text(str(time.monotonic()))
