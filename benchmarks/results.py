"""What was measured, and how it is shown."""

from __future__ import annotations

import os
import platform
import statistics
from typing import Any

OURS = "neo-daemons"


class Results:
    """Samples by measure, supervisor and number of daemons."""

    def __init__(self) -> None:
        self.samples: dict[tuple[str, str, int], list[float]] = {}
        self.units: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.faults: list[str] = []
        """What could not be measured."""

    def add(self, what: str, who: str, n: int, value: float, unit: str) -> None:
        """One sample."""
        self.samples.setdefault((what, who, n), []).append(value)
        self.units[what] = unit

    def median(self, what: str, who: str, n: int) -> float:
        """Of the samples."""
        return statistics.median(self.samples[what, who, n])

    def quantile(self, what: str, who: str, n: int, share: float) -> float:
        """That this share of the samples does not exceed."""
        values = sorted(self.samples[what, who, n])
        return values[min(int(share * len(values)), len(values) - 1)]

    def sizes(self, what: str, who: str) -> list[int]:
        """The numbers of daemons that it was measured with."""
        return sorted(n for measure, name, n in self.samples if (measure, name) == (what, who))

    def table(self) -> str:
        """Markdown: the ratio is the peer's median to ours."""
        lines = [
            "| measure | n | who | samples | median | p95 | p99 | ratio to ours |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for what in self.units:
            for n in sorted({n for measure, _, n in self.samples if measure == what}):
                rows = [who for measure, who, size in self.samples if (measure, size) == (what, n)]
                for who in sorted(rows, key=lambda who: self.median(what, who, n)):
                    values = self.samples[what, who, n]
                    median, unit = self.median(what, who, n), self.units[what]
                    ours = self.median(what, OURS, n) if (what, OURS, n) in self.samples else 0.0
                    ratio = f"{median / ours:.2f}" if ours and who != OURS else ""
                    p95, p99 = (f"{self.quantile(what, who, n, share):.3g}" for share in (0.95, 0.99))
                    unit = f" {unit}" if unit else ""
                    lines.append(
                        f"| {what} | {n} | {who} | {len(values)} | {median:.3g}{unit} | {p95} | {p99} | {ratio} |"
                    )
        return "\n".join(lines)

    def about(self) -> str:
        """The machine and the versions."""
        system = f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        load = " ".join(f"{value:.2f}" for value in os.getloadavg())
        return "\n".join([f"{system}, load {load}.", "", *(f"* {who} {what}" for who, what in self.versions.items())])

    def json(self) -> dict[str, Any]:
        """All samples."""
        return {
            "machine": self.about(),
            "faults": self.faults,
            "samples": [
                {"measure": what, "who": who, "n": n, "unit": self.units[what], "values": values}
                for (what, who, n), values in self.samples.items()
            ],
        }
