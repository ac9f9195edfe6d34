"""``python -m tests.simulation --seeds N``: run many worlds; report the first violation with its seed."""

from __future__ import annotations

import argparse
import sys
import time

from .scenario import live


def main() -> int:
    """Run the worlds. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, metavar="N", help="number of worlds (default: 1000)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of them (default: 0)")
    parser.add_argument("--trace", action="store_true", help="print all that happened")
    options = parser.parse_args()
    began = time.monotonic()
    counts: dict[str, int] = {}
    for seed in range(options.first, options.first + options.seeds):
        world = live(seed)
        for what, count in world.counts.items():
            counts[what] = counts.get(what, 0) + count
        if options.trace:
            print("\n".join(world.log))
        if world.violation is not None:
            print("\n".join(world.log[-60:]) if not options.trace else "")
            print(f"{world.violation}\nagain: python -m tests.simulation --first {seed} --seeds 1 --trace")
            return 1
    print(f"{options.seeds} seeds in {time.monotonic() - began:.0f} s; no invariant broken; {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
