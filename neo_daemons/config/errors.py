"""The exception that a configuration raises if it cannot be used."""

from __future__ import annotations


class ConfigError(Exception):
    """The configuration cannot be used. ``str()`` has one line for each error (file, key, value, remedy), after a line
    with their number if there are several."""

    def __init__(self, *faults: str) -> None:
        # Keys and file names may hold line ends and terminal sequences.
        self.faults = tuple("".join(c if c.isprintable() else repr(c)[1:-1] for c in fault) for fault in faults)
        head = [f"the configuration has {len(faults)} errors:"] if len(faults) > 1 else []
        super().__init__("\n".join([*head, *self.faults]))
