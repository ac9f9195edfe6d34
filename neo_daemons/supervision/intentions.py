"""What an operator wants to last: the holds. They are on the disk before the order is answered, if the disk lets us."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from neo_daemons import records
from neo_daemons.files import write_struct
from neo_daemons.records import DamagedRecord, Intentions
from neo_daemons.state_dir import StateDir


class Holds:
    """The daemons that an operator holds.

    Args:
        state_dir: where they are kept.
        may_write: False once the state directory has become another supervisor's.
    """

    def __init__(self, state_dir: StateDir, may_write: Callable[[], bool] = lambda: True) -> None:
        self._path = state_dir.intentions
        self._may_write = may_write
        self._names: set[str] = set()
        self._unsaved = False
        self.warning: str | None = None
        """What is wrong with the file, until the holds are saved again."""

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def load(self, configured: Iterable[str]) -> str | None:
        """Read the holds of configured daemons. A damaged file is set aside, and the fault returned."""
        try:
            intentions = records.read(self._path, Intentions)
        except DamagedRecord as error:
            aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns()}")
            self._path.replace(aside)
            return f"{error}; moved aside to {aside.name}"
        except OSError as error:
            self.warning = f"cannot read {self._path}: {error.strerror}"
            return None
        if intentions is not None:
            self._names = set(intentions.held) & set(configured)
        return None

    def hold(self, name: str) -> bool:
        """Hold a daemon; False if it is held already."""
        return self._change(name, held=True)

    def release(self, name: str) -> bool:
        """Release a daemon; False if it is not held."""
        return self._change(name, held=False)

    def _change(self, name: str, *, held: bool) -> bool:
        if held == (name in self._names):
            return False
        self._names.symmetric_difference_update({name})
        self.save()
        return True

    def forget(self, name: str) -> None:
        """Drop the hold of a daemon that is no longer configured; the file follows with the next change."""
        self._names.discard(name)

    def save(self) -> None:
        """Write the file. Where that fails `warning` says so, and `save_again` tries again."""
        if not self._may_write():
            return
        try:
            write_struct(self._path, Intentions(held=tuple(sorted(self._names))), sync=True)
            self.warning = None
            self._unsaved = False
        except OSError as error:
            self._unsaved = True
            self.warning = f"cannot write {self._path}, holds will be lost at exit: {error.strerror}"

    def save_again(self) -> None:
        """Write what could not be written before: the disk was full, most likely."""
        if self._unsaved:
            self.save()

    def restore(self) -> None:
        """Write the file again after the state directory was deleted."""
        if self._names:
            self.save()
