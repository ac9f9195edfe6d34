"""``python -m benchmarks [NAME…]``: a table on stdout; exits with 2 for wrong usage."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from . import fleet, flood, peers, plugin, real
from .results import Results

NAMES = ("fleet", "real", "flood", "plugin")


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ours beside its peers, in one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small and rough, to see that it works")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="rounds (default: 3)")
    parser.add_argument("--peer", action="append", default=[], metavar="PEER", help="only this one (repeatable)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    parser.add_argument("--install-peers", action="store_true", help=f"fetch those of PyPI and npm into {peers.CACHE}")
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
    names = options.names or NAMES
    results = Results()
    if "fleet" in names:
        fleet.measure(results, quick=options.quick, repeat=options.repeat, names=frozenset(options.peer))
    if "real" in names:
        real.measure(results, repeat=1 if options.quick else options.repeat)
    if "flood" in names:
        flood.measure(results, quick=options.quick, repeat=1 if options.quick else options.repeat)
    if "plugin" in names:
        plugin.measure(results, pairs=3 if options.quick else 20)
        plugin.measure_failure(results, repeat=1 if options.quick else options.repeat)
    print(results.about(), "", results.table(), sep="\n")
    for what, slope in fleet.slopes(results).items():
        print(f"\n{what}: grows as n to the power of {slope:.2f}", end="")
    for fault in results.faults:
        print(f"\nnot measured: {fault}", end="")
    print()
    if options.json is not None:
        options.json.write_text(json.dumps(results.json(), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
