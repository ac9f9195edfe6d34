"""``python -m tests.site collect`` writes the pages into ``build/docs``, ``python -m tests.site check`` checks the site
in ``build/site``."""

from __future__ import annotations

import sys

from .finished import faults
from .pages import ROOT, collect


def main(words: list[str]) -> int:
    if words == ["collect"]:
        print(f"{len(collect(ROOT / 'build/docs'))} files")
        return 0
    if words == ["check"]:
        found = faults(ROOT / "build/site")
        print("\n".join(found) or "the site is whole")
        return 1 if found else 0
    print("usage: python -m tests.site collect|check", file=sys.stderr)
    return 2


sys.exit(main(sys.argv[1:]))
