"""Everything that can be wrong with a file."""

from __future__ import annotations

from collections.abc import Mapping

from .wrong_daemons import BETWEEN_DAEMONS, FILES, PLACES, PROBES, REFERENCES
from .wrong_settings import UNKNOWN_KEYS, WRONG_TYPES, WRONG_VALUES

GROUPS: Mapping[str, Mapping[str, tuple[str | bytes, str]]] = {
    "unknown key": UNKNOWN_KEYS,
    "wrong type": WRONG_TYPES,
    "wrong value": WRONG_VALUES,
    "probe": PROBES,
    "reference": REFERENCES,
    "between daemons": BETWEEN_DAEMONS,
    "place": PLACES,
    "file": FILES,
}
BAD = {f"{group}: {case}": pair for group, cases in GROUPS.items() for case, pair in cases.items()}
