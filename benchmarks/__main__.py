"""``python -m benchmarks [NAME…]``: tables on stdout. Exits with 2 for wrong usage, with 1 if a ``--check`` fails."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from . import fleet, flood, goals, peers, plots, plugin, real, suite
from .results import Results

NAMES = ("fleet", "real", "flood", "plugin", "suite")


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ours beside its peers, in one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small and rough, to see that it works")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="rounds of the longest (default: 3)")
    parser.add_argument("--peer", action="append", default=[], metavar="PEER", help="only this one (repeatable)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write results.md, results.json and plots there")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a figure that was measured is missed")
    parser.add_argument(
        "--install-peers", action="store_true", help=f"fetch those of PyPI and npm into {peers.CACHE}, and no more"
    )
    options = parser.parse_args()
    known = [kind.name for kind in peers.ALL]
    for wrong in [name for name in options.names if name not in NAMES]:
        parser.error(f"no benchmark {wrong!r}; there are {', '.join(NAMES)}")
    for wrong in [name for name in options.peer if name not in known]:
        parser.error(f"no peer {wrong!r}; there are {', '.join(known)}")
    if options.repeat < 1:
        parser.error("--repeat: write a number from 1 on")
    if options.install_peers:
        peers.install()
        return 0
    # Installed programs have their bytecode; a checkout's would be compiled anew at each start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    names = options.names or NAMES
    results = Results()
    if "fleet" in names:
        fleet.measure(results, quick=options.quick, repeat=options.repeat, names=frozenset(options.peer))
    rounds = 1 if options.quick else 3 * options.repeat  # what is quickly measured is measured more often
    if "real" in names:
        real.measure(results, quick=options.quick, repeat=rounds)
    if "flood" in names:
        flood.measure(results, quick=options.quick, repeat=rounds)
    if "plugin" in names:
        plugin.measure(results, pairs=3 if options.quick else 20)
        plugin.measure_failure(results, repeat=rounds)
    if "suite" in names:
        suite.measure(results, quick=options.quick, repeat=max(rounds // 2, 1))
    report = _report(results)
    print(report)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "results.md").write_text(f"# Results\n\n{report}")
        (options.out / "results.json").write_text(json.dumps(results.json(), indent=1) + "\n")
        try:
            plots.draw(results, options.out)
        except ImportError:
            print("no plots: matplotlib is not installed", file=sys.stderr)
    return int(options.check and any(goal.reached is False for goal in goals.goals(results)))


def _report(results: Results) -> str:
    slopes = [f"* {what}: n to the power of {slope:.2f}" for what, slope in fleet.slopes(results).items()]
    parts = [
        results.about(),
        goals.table(results),
        results.table(),
        "How what ours costs grows with n:\n\n" + "\n".join(slopes) if slopes else "",
        "Not measured, or not as it should be:\n\n" + "\n".join(f"* {fault}" for fault in results.faults)
        if results.faults
        else "",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


if __name__ == "__main__":
    sys.exit(main())
