"""Makes the page of a run: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).with_name("page_files")
FILES = {"/*STYLE*/": "page.css", "/*SCRIPT*/": "page.js"}


def render(data: dict[str, Any]) -> str:
    """Return the page. No text in `data` can leave its place: the browser is told to run the page's own script alone,
    and that script never makes HTML of a text."""
    parts = {mark: (TEMPLATE / name).read_text(encoding="utf-8") for mark, name in FILES.items()}
    parts["SCRIPT-HASH"] = base64.b64encode(hashlib.sha256(parts["/*SCRIPT*/"].encode()).digest()).decode()
    parts["STYLE-HASH"] = base64.b64encode(hashlib.sha256(parts["/*STYLE*/"].encode()).digest()).decode()
    # JSON with these escapes is still JSON, and holds nothing that HTML could mistake for a tag or a comment.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e")
    parts["/*DATA*/"] = text.replace("&", "\\u0026")
    page = (TEMPLATE / "page.html").read_text(encoding="utf-8")
    for mark in ("SCRIPT-HASH", "STYLE-HASH", *FILES, "/*DATA*/"):  # the data last: it may contain any mark
        page = page.replace(mark, parts[mark], 1)
    return page
