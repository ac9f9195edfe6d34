"""Pictures of the results, by matplotlib."""

from __future__ import annotations

from pathlib import Path

from .results import OURS, Results

GROUPS = {
    "restart": ("crash to restart", True),
    "up": ("up", False),
    "memory": ("memory", True),
    "idle": ("idle CPU", False),
    "storm": ("all killed at once", True),
    "stop": ("stop", True),
    "suite": ("suite of 200 tests, by workers", False),
}
"""File → measure, and whether its scale is logarithmic."""
COLOURS = {OURS: "#c0392b"}


def draw(results: Results, directory: Path) -> list[Path]:
    """An SVG for each group that was measured: the median by n, and a whisker to the 95th percentile.

    Raises:
        ImportError: there is no matplotlib.
    """
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "benchmarks"
    from matplotlib import pyplot

    written = []
    for name, (what, logarithmic) in GROUPS.items():
        who_all = sorted({who for measure, who, _ in results.samples if measure == what}, key=lambda w: (w != OURS, w))
        sizes = sorted({n for measure, _, n in results.samples if measure == what})
        if not sizes:
            continue
        figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
        width = 0.8 / len(who_all)
        for place, who in enumerate(who_all):
            for at, n in enumerate(sizes):
                if (what, who, n) not in results.samples:
                    continue
                median = results.median(what, who, n)
                above = max(results.quantile(what, who, n, 0.95) - median, 0)
                colour = COLOURS.get(who, f"C{place % 10}")
                label = who if at == 0 else None
                axes.bar(at + place * width, median, width, yerr=[[0], [above]], capsize=2, color=colour, label=label)
        axes.set_xticks([at + 0.4 - width / 2 for at in range(len(sizes))], [f"n = {n}" for n in sizes])
        axes.set_ylabel(f"{what}, {results.units[what]}")
        if logarithmic:
            axes.set_yscale("log")
        axes.legend(fontsize="small", frameon=False)
        path = directory / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
        written.append(path)
    return written
