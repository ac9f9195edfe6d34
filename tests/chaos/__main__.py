"""``python -m tests.chaos --minutes N``: exits with 0 if every check held, with 1 and a list if not, with 2 for wrong
usage."""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
from pathlib import Path

from . import faults
from .soak import Soak


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Chaos on the real daemons.")
    parser.add_argument("--minutes", type=_minutes, default=3.0, metavar="N", help="how long it strikes (default: 3)")
    parser.add_argument("--seed", type=int, metavar="S", help="of what strikes whom (default: a random one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts there, too")
    parser.add_argument(
        "--without", action="append", default=[], choices=sorted(faults.ALL), metavar="FAULT",
        help=f"leave out a fault (repeatable): {', '.join(sorted(faults.ALL))}",
    )  # fmt: skip
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as directory:
        report = Soak(Path(directory).resolve(), options.minutes, seed, frozenset(options.without)).run()
    print(report.text())
    if options.json is not None:
        options.json.write_text(json.dumps(report.json(), indent=2) + "\n")
    return 1 if report.broken else 0


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.1 <= value <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r}: write minutes, from 0.1 to 10000")
    return value


if __name__ == "__main__":
    sys.exit(main())
