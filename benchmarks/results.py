"""What was measured, part by part, and how it is shown."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

OURS = "neo-daemons"


class Part(NamedTuple):
    """When a part was measured, and on how quiet a machine."""

    began: str
    """ISO 8601, UTC."""
    minutes: float
    load: float
    """Average of the minute before it began."""
    quick: bool
    """Whether it was only a rough run."""


class Results:
    """Samples by measure, supervisor and number of daemons."""

    def __init__(self) -> None:
        self.samples: dict[tuple[str, str, int], list[float]] = {}
        self.units: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.parts: dict[str, Part] = {}
        self._faults: dict[str, list[str]] = {}
        self._part_of: dict[tuple[str, str, int], str] = {}
        self._now = ""
        self.keep: Callable[[], None] = lambda: None
        """Called at the end of each part."""

    @contextlib.contextmanager
    def part(self, name: str, *, quick: bool) -> Iterator[None]:
        """What is added meanwhile belongs to this part, and replaces what an earlier run of the part has added."""
        for key in [key for key, owner in self._part_of.items() if owner == name]:
            del self.samples[key], self._part_of[key]
        self._faults.pop(name, None)
        self.parts.pop(name, None)
        self._now = name
        moment = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        load, began = os.getloadavg()[0], time.monotonic()
        yield
        self.parts[name] = Part(moment, (time.monotonic() - began) / 60, load, quick)
        self.keep()

    def add(self, what: str, who: str, n: int, value: float, unit: str) -> None:
        """Add one sample to the present part."""
        self.samples.setdefault((what, who, n), []).append(value)
        self._part_of[what, who, n] = self._now
        self.units[what] = unit

    def fault(self, who: str, text: str) -> None:
        """Note what the present part could not measure, and whose fault it is."""
        self._faults.setdefault(self._now, []).append(f"{who}: {text}")

    @property
    def faults(self) -> list[str]:
        """What could not be measured."""
        return [f"{part}: {text}" for part, texts in self._faults.items() for text in texts]

    @property
    def is_ours_at_fault(self) -> bool:
        """Whether something could not be measured because of ours."""
        return any(text.startswith(f"{OURS}: ") for texts in self._faults.values() for text in texts)

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
            "| measure | n | who | samples | median | p95 | p99 | longest | ratio to ours |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for what, unit_of in self.units.items():
            unit = f" {unit_of}" if unit_of else ""
            for n in sorted({n for measure, _, n in self.samples if measure == what}):
                rows = [who for measure, who, size in self.samples if (measure, size) == (what, n)]
                for who in sorted(rows, key=lambda who: self.median(what, who, n)):
                    values, median = self.samples[what, who, n], self.median(what, who, n)
                    ours = self.median(what, OURS, n) if (what, OURS, n) in self.samples else 0.0
                    ratio = f"{median / ours:.2f}" if ours and who != OURS else ""
                    p95, p99, longest = (f"{self.quantile(what, who, n, share):.3g}" for share in (0.95, 0.99, 1))
                    lines.append(
                        f"| {what} | {n} | {who} | {len(values)} | {median:.3g}{unit} | {p95} | {p99} | {longest} "
                        f"| {ratio} |"
                    )
        return "\n".join(lines)

    def about(self) -> str:
        """The machine and the versions."""
        system = f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        return "\n".join([f"{system}.", "", *(f"* {who} {what}" for who, what in self.versions.items())])

    def parts_table(self) -> str:
        """Markdown: when each part was measured, and how busy the machine was before."""
        lines = ["| part | began | minutes | load before |", "|---|---|---|---|"]
        for name, part in self.parts.items():
            lines.append(
                f"| {name}{' (quick)' if part.quick else ''} | {part.began} | {part.minutes:.1f} | {part.load:.2f} |"
            )
        return "\n".join(lines)

    def json(self) -> dict[str, Any]:
        """All samples."""
        return {
            "machine": self.about(),
            "versions": self.versions,
            "parts": {name: part._asdict() for name, part in self.parts.items()},
            "faults": self._faults,
            "samples": [
                {
                    "measure": what, "who": who, "n": n, "unit": self.units[what],
                    "part": self._part_of[what, who, n], "values": values,
                }
                for (what, who, n), values in self.samples.items()
            ],
        }  # fmt: skip

    def save(self, path: Path) -> None:
        """Write all to a file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        written = path.with_suffix(".new")
        written.write_text(json.dumps(self.json(), indent=1) + "\n")
        written.replace(path)

    @classmethod
    def load(cls, path: Path) -> Results:
        """What `save` wrote; empty if there is no such file.

        Raises:
            ValueError: the file is something else.
        """
        results = cls()
        if not path.exists():
            return results
        try:
            told = json.loads(path.read_text())
            results.versions = told["versions"]
            results.parts = {name: Part(**part) for name, part in told["parts"].items()}
            results._faults = told["faults"]
            for sample in told["samples"]:
                results._now = sample["part"]
                for value in sample["values"]:
                    results.add(sample["measure"], sample["who"], sample["n"], value, sample["unit"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} was not written by this version of the benchmarks: {error!r}") from error
        return results
