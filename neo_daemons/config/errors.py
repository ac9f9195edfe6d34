"""The exception that a configuration raises if it cannot be used."""

from __future__ import annotations


class ConfigError(Exception):
    """A configuration that cannot be used. ``str()`` is one line for each fault (file, key, value, remedy), after a
    line with their number where there are several."""

    def __init__(self, *faults: str) -> None:
        # Keys and file names may hold line ends and terminal sequences.
        self.faults = tuple("".join(c if c.isprintable() else repr(c)[1:-1] for c in fault) for fault in faults)
        head = [f"the configuration has {len(faults)} faults:"] if len(faults) > 1 else []
        super().__init__("\n".join([*head, *self.faults]))
