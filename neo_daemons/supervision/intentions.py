"""The holds of operators, which outlast the supervisor. They are written to disk before the order is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from neo_daemons import records
from neo_daemons.files import write_struct
from neo_daemons.records import DamagedRecord, Intentions
from neo_daemons.state_dir import StateDir

from .jobs import Timer

RETRY_S = 1.0
"""Seconds until a failed save is retried. Most likely the disk was full."""


class Holds:
    """The set of daemons that operators hold.

    Args:
        state_dir: where they are stored.
        may_write: False once another supervisor owns the state directory.
    """

    def __init__(self, state_dir: StateDir, may_write: Callable[[], bool] = lambda: True) -> None:
        self._path = state_dir.intentions
        self._may_write = may_write
        self._names: set[str] = set()
        self._retry = Timer()
        self.warning: str | None = None
        """What is wrong with the file, until the next successful save."""

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def load(self, configured: Iterable[str]) -> str | None:
        """Read the holds of configured daemons. Move a damaged file aside and return the error."""
        try:
            intentions = records.read(self._path, Intentions)
        except DamagedRecord as error:
            return records.move_aside(error)
        except OSError as error:
            self.warning = f"cannot read {self._path}: {error.strerror}"
            return None
        if intentions is not None:
            self._names = set(intentions.held) & set(configured)
        return None

    def hold(self, name: str) -> bool:
        """Hold a daemon. Returns False if it is already held."""
        return self._change(name, held=True)

    def release(self, name: str) -> bool:
        """Release a daemon. Returns False if it is not held."""
        return self._change(name, held=False)

    def _change(self, name: str, *, held: bool) -> bool:
        if held == (name in self._names):
            return False
        self._names.symmetric_difference_update({name})
        self.save()
        return True

    def forget(self, name: str) -> None:
        """Drop the hold of a daemon that is no longer configured. The next change updates the file."""
        self._names.discard(name)

    def save(self) -> None:
        """Write the file. If that fails, `warning` says so, and it is retried."""
        if not self._may_write():
            return
        try:
            write_struct(self._path, Intentions(held=tuple(sorted(self._names))), sync=True)
            self.warning = None
            self._retry.cancel()
        except OSError as error:
            self._retry.start(RETRY_S, self.save)
            self.warning = f"cannot write {self._path}, holds will be lost at exit: {error.strerror}"

    def restore(self) -> None:
        """Write the file again after the state directory was deleted."""
        if self._names:
            self.save()

    def close(self) -> None:
        """Retry no more."""
        self._retry.cancel()
