"""``python -m tests.reference`` writes the reference; with ``--check`` it compares, and fails if a file is stale."""

from __future__ import annotations

import sys

from .pages import ROOT, generated, stale


def main(words: list[str]) -> int:
    if words not in ([], ["--check"]):
        print("usage: python -m tests.reference [--check]", file=sys.stderr)
        return 2
    pages = generated()
    old = stale(pages, ROOT)
    if words:
        for name in old:
            print(f"{name} is not what the code says; run: python -m tests.reference")
        return 1 if old else 0
    for name in old:
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(pages[name], encoding="utf-8")
        print(f"wrote {name}")
    return 0


sys.exit(main(sys.argv[1:]))
