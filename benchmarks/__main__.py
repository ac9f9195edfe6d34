"""``python -m benchmarks [NAME…]``: tables on stdout. Exits with 2 for wrong usage, with 1 if a ``--check`` fails."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from neo_daemons import ControlError, registry

from . import command, demand, fence, fleet, flood, goals, peers, plots, plugin, real, suite
from .results import OURS, Results


class Run(NamedTuple):
    """How a part is to be measured."""

    quick: bool
    repeat: int
    sizes: tuple[int, ...]
    peers: frozenset[str]


class Part(NamedTuple):
    """What can be asked for by name."""

    about: str
    measure: Callable[[Results, Run], None]


def _plugin(results: Results, run: Run) -> None:
    with results.part("plugin", quick=run.quick):
        plugin.measure(results, pairs=1 if run.quick else 7 * run.repeat)
        plugin.measure_failure(results, repeat=run.repeat if run.quick else 2 * run.repeat)


PARTS = {
    "fleet": Part(
        "3, 300 and 1,000 small daemons: about 28 minutes (--size 3: 9, 300: 11, 1000: 8)",
        lambda results, run: fleet.measure(
            results, sizes=run.sizes, quick=run.quick, repeat=run.repeat, names=run.peers
        ),
    ),
    "endurance": Part(
        "10,000 restarts among 300: about 4 minutes",
        lambda results, run: fleet.endure(results, quick=run.quick, repeat=run.repeat),
    ),
    "real": Part(
        "chroma, bridge and mlx, supervised and bare: about 3 minutes",
        lambda results, run: real.measure(results, quick=run.quick, repeat=run.repeat if run.quick else 2 * run.repeat),
    ),
    "demand": Part(
        "chroma when it is first needed, and supervisors of idle daemons: about 6 minutes",
        lambda results, run: demand.measure(results, quick=run.quick, repeat=2 if run.quick else 5 * run.repeat),
    ),
    "flood": Part(
        "a log that is written faster than anybody reads: about 2 minutes",
        lambda results, run: flood.measure(
            results, quick=run.quick, repeat=run.repeat if run.quick else 2 * run.repeat
        ),
    ),
    "plugin": Part("what pytest pays for the plugin: about 2 minutes", _plugin),
    "first": Part(
        "how soon a fixture is there: about 3 minutes",
        lambda results, run: suite.measure_first(
            results, quick=run.quick, repeat=run.repeat if run.quick else 3 * run.repeat
        ),
    ),
    "suite": Part(
        "200 short tests over all three daemons, -n 1, 2, 4 and 8: about 8 minutes",
        lambda results, run: suite.measure(results, quick=run.quick, repeat=run.repeat),
    ),
    "fence": Part(
        "what the fence costs 2,000 short tests, and beside a process: about 3 minutes",
        lambda results, run: fence.measure(results, pairs=1 if run.quick else 7 * run.repeat),
    ),
    "command": Part(
        "`status` as a whole process: less than a minute",
        lambda results, run: command.measure(results, quick=run.quick, repeat=3 if run.quick else 10 * run.repeat),
    ),
}
"""Name → what it measures. The minutes are those of two cores and three rounds."""
REPORT = "report"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    known = [kind.name for kind in peers.ALL]
    for wrong in [name for name in options.names if name not in (*PARTS, REPORT)]:
        parser.error(f"there is no benchmark {wrong!r}; choose from {', '.join(PARTS)} and {REPORT}")
    for wrong in [name for name in options.peer if name not in known]:
        parser.error(f"there is no peer {wrong!r}; choose from {', '.join(known)}")
    if options.repeat is not None and options.repeat < 1:
        parser.error("--repeat needs a number from 1 on")
    if any(size < 1 for size in options.size):
        parser.error("--size needs a number from 1 on")
    if REPORT in options.names and (options.out is None or len(options.names) > 1):
        parser.error(f"{REPORT} stands alone, and needs --out DIR with what was measured before")
    if options.install_peers:
        peers.install()
        return 0
    results = Results()
    if options.out is not None:
        path = options.out / "results.json"
        try:
            results = Results.load(path)
        except ValueError as error:
            parser.error(f"{error}; choose another --out")
        results.keep = lambda: results.save(path)
    run = Run(
        quick=options.quick,
        repeat=options.repeat or (1 if options.quick else 3),
        sizes=tuple(options.size) or (fleet.QUICK_SIZES if options.quick else fleet.SIZES),
        peers=frozenset(options.peer),
    )
    names = [name for name in PARTS if name in (options.names or PARTS)]
    if names:
        for variable in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
            # Installed programs have their bytecode; a checkout's would be compiled anew at each start.
            os.environ.pop(variable, None)
        # What is supervised here is not production.
        os.environ.setdefault(
            registry.VARIABLE, str(Path(tempfile.gettempdir()) / f"neo-daemons-benchmarks-{os.getuid()}")
        )
    for name in names:
        try:
            PARTS[name].measure(results, run)
        except (ControlError, OSError, psutil.Error, subprocess.SubprocessError) as error:
            results.fault(OURS, f"broke off: {error!r}")
            results.keep()
    report = _report(results)
    print(report)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "results.md").write_text(f"# Results\n\n{report}")
        try:
            plots.draw(results, options.out)
        except ImportError:
            print("no plots: matplotlib is not installed", file=sys.stderr)
    missed = any(goal.reached is False for goal in goals.goals(results)) or results.is_ours_at_fault
    return int(options.check and missed)


def _parser() -> argparse.ArgumentParser:
    parts = "\n".join(f"  {name:<10} {part.about}" for name, part in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure neo-daemons beside its peers, in one run.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"names (minutes are those of two idle cores and three rounds):\n{parts}\n"
        f"  {REPORT:<10} nothing: print what --out DIR holds, and write its pages anew\n\n"
        "The exit code is 2 for wrong usage, and 1 if --check finds something missed.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure (default: all)")
    parser.add_argument("--quick", action="store_true", help="run small and rough, to see that it works")
    parser.add_argument(
        "--repeat", type=int, metavar="N", help="rounds (default: 3, with --quick 1); short parts run several times N"
    )
    parser.add_argument(
        "--size", type=int, action="append", default=[], metavar="N", help="only fleets of N daemons (repeatable)"
    )
    parser.add_argument(
        "--peer", action="append", default=[], metavar="PEER", help="only this supervisor, in fleet (repeatable)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write results.md, results.json and plots there; a part that is measured again replaces what results.json "
        "holds of it, and the other parts stay",
    )
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if a figure misses its goal, or ours could not be measured"
    )
    parser.add_argument(
        "--install-peers", action="store_true", help=f"only fetch the peers of PyPI and npm into {peers.CACHE}"
    )
    return parser


def _report(results: Results) -> str:
    growths = fleet.growths(results)
    parts = [
        results.about(),
        results.parts_table(),
        goals.table(results),
        results.table(),
        f"How costs grow with n: the exponent between the two largest fleets.\n\n{growths}" if growths else "",
        "Not measured, or not as it should be:\n\n" + "\n".join(f"* {fault}" for fault in results.faults)
        if results.faults
        else "",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


if __name__ == "__main__":
    sys.exit(main())
