"""``python -m tests.fuzz --minutes N [TARGET…]``: exits with 0 if every input was survived, with 1 and the smallest
input that was not, with 2 for wrong usage."""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

import hypothesis

from .targets import TARGETS, TRIED

AT_A_TIME = 300
"""Inputs that one seed decides."""


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Hostile input for whatever reads any.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--minutes", type=_minutes, default=5.0, metavar="N", help="for all together (default: 5)")
    parser.add_argument("--seed", type=int, metavar="S", help="of the first inputs (default: a random one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts there, too")
    options = parser.parse_args()
    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    first = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    names = options.targets or list(TARGETS)
    failed = [name for name in names if not feed(name, options.minutes * 60 / len(names), first)]
    print(f"{TRIED.total()} inputs, {len(failed)} targets failed{''.join(f' {name}' for name in failed)}")
    if options.json is not None:
        options.json.write_text(json.dumps({"first_seed": first, "tried": dict(TRIED), "failed": failed}) + "\n")
    return 1 if failed else 0


def feed(name: str, seconds: float, seed: int) -> bool:
    """Whether all was survived."""
    settings = hypothesis.settings(
        max_examples=AT_A_TIME, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory, TARGETS[name](Path(directory).resolve()) as fuzz:
        deadline = time.monotonic() + seconds
        seeded = settings(fuzz)
        while time.monotonic() < deadline:
            try:
                hypothesis.seed(seed)(seeded)()
            except Exception:
                traceback.print_exc()
                print(
                    f"{name}: failed; again with: python -m tests.fuzz {name} --seed {seed} --minutes 0.1", flush=True
                )
                return False
            seed += 1
    print(f"{name}: {TRIED[name]} inputs", flush=True)
    return True


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.001 <= value <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r}: write minutes, from 0.001 to 10000")
    return value


if __name__ == "__main__":
    sys.exit(main())
