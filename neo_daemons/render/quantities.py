"""Quantities: ``512Mi`` and ``500m`` as Kubernetes writes them, and seconds without an exponent."""

from __future__ import annotations

import re
from fractions import Fraction

UNITS = {
    "": 1,
    **{f"{letter}i": 1024 ** (power + 1) for power, letter in enumerate("KMGT")},
    **{letter: 1000 ** (power + 1) for power, letter in enumerate("kMGT")},
}


def seconds(number: float) -> str:
    """Return a number of seconds as every program reads it: never ``1e+06``. Less than a millisecond is one."""
    return f"{max(number, 0.001):.3f}".rstrip("0").rstrip(".")


def in_bytes(quantity: str) -> int:
    """Return a quantity of bytes: 536870912 for ``512Mi``."""
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", quantity)
    assert match is not None
    return int(Fraction(match[1]) * UNITS[match[2]])


def cores(quantity: str) -> float:
    """Return a quantity of processors: 0.5 for ``500m``."""
    return float(quantity.removesuffix("m")) / 1000 if quantity.endswith("m") else float(quantity)
