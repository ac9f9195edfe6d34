"""``python -m tests.site collect`` writes the pages into ``build/docs``, ``python -m tests.site check`` checks the site
in ``build/site``. ``python -m tests.site write PAGE DIR`` writes the files that a page shows,
``python -m tests.site picture STATE_DIR`` the picture of the README: the daemons of a running supervisor."""

from __future__ import annotations

import sys
from pathlib import Path

from .finished import faults
from .pages import ROOT, collect
from .tutorial import steps


def main(words: list[str]) -> int:
    if words == ["collect"]:
        print(f"{len(collect(ROOT / 'build/docs'))} files")
        return 0
    if words == ["check"]:
        found = faults(ROOT / "build/site")
        print("\n".join(found) or "the site is whole")
        return 1 if found else 0
    if len(words) == 3 and words[0] == "write":
        return _write(Path(words[1]), Path(words[2]))
    if len(words) == 2 and words[0] == "picture":
        from .picture import of_status

        (ROOT / "docs/images/status.svg").write_text(of_status(Path(words[1])), encoding="utf-8")
        return 0
    print("usage: python -m tests.site collect|check|write PAGE DIR|picture STATE_DIR", file=sys.stderr)
    return 2


def _write(page: Path, target: Path) -> int:
    """Write the files that a page shows."""
    for step in steps(page):
        if step.file:
            (target / step.file).parent.mkdir(parents=True, exist_ok=True)
            (target / step.file).write_text(step.text, encoding="utf-8")
    return 0


sys.exit(main(sys.argv[1:]))
