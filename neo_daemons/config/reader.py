"""What is wrong with a configuration: for each fault a line that says where it is and what to do.

msgspec checks values against types, but leaves out the keys of tables and speaks of JSON. Here its findings become the
exact place, the value found there, and a remedy that follows from the type.
"""

from __future__ import annotations

import copy
import difflib
import math
import re
from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from msgspec import UNSET

from .errors import ConfigError
from .kinds import alternatives, element_types, fits, is_required, keys_of, structure_of, unconstrained
from .source import MAX_DEPTH
from .wording import REMEDIES, join, mask, may_be_secret, show, translate, wanted

_TOLD = re.compile(r"(.*?)(?: - at `((?:key` in `)?\$(?:\.\w+|\[[\d.]+\])*)`)?", re.DOTALL)
"""What msgspec says of a value: what is wrong, and where. The first may quote any key of the file."""


class Reader:
    """Turns raw tables into typed ones, and collects the faults of a whole file, each with where it is."""

    def __init__(self, source: str, prefix: str) -> None:
        self.source = source
        self.prefix = prefix
        self.faults: list[str] = []

    def fault(self, key: str, value: Any, problem: str, remedy: str) -> None:
        """Keep the line that says what is wrong with the value of a key."""
        shown = "" if value is UNSET else f" = {mask(value) if may_be_secret(key) else show(value)}"
        self.faults.append(f"{self.source}: {self.prefix}{key}{shown}: {problem}; {remedy}")

    def fault_of(self, daemon: str, key: str, value: Any, problem: str, remedy: str) -> None:
        """As `fault`, for a key in the table of a daemon."""
        self.fault(f"daemons.{daemon}.{key}", value, problem, remedy)

    def raise_faults(self) -> None:
        """Raise what has been found.

        Raises:
            ConfigError: there is something.
        """
        if self.faults:
            raise ConfigError(*dict.fromkeys(self.faults))

    def refuse_unusable(self, value: Any, key: str = "", depth: int = 0) -> bool:
        """Look for values that no key can have; whether there are none."""
        before = len(self.faults)
        if depth > MAX_DEPTH:
            self.fault(key, UNSET, "nested too deeply", f"keep to {MAX_DEPTH} levels")
            return False
        if isinstance(value, float) and not math.isfinite(value):
            self.fault(key, value, "not a finite number", "write an ordinary number, or remove the key")
        if isinstance(value, int) and value.bit_length() > 63:
            self.fault(key, UNSET, "a number of more than 64 bits", "write a smaller one")
        if isinstance(value, str) and "\0" in value:
            self.fault(key, value, "holds a NUL character", "remove that")
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for name, item in items:
            self.refuse_unusable(item, join(key, name), depth + 1)
        return len(self.faults) == before

    def convert(self, raw: Any, kind: type[Any], key: str, known: Mapping[str, Any] | None = None) -> Any:
        """`raw` as a `kind`, all of whose fields have defaults; without what is at fault, and is kept as such.
        `known` are the keys that it may have, where these are more than the fields."""
        rest = raw
        while True:
            try:
                return msgspec.convert(rest, kind)
            except msgspec.ValidationError as error:
                told = _TOLD.fullmatch(str(error))
                message, path = told.groups("") if told is not None else (str(error), "")
            # msgspec stops at the first: it is left out, and the rest looked at again.
            rest = copy.deepcopy(rest) if rest is raw else rest
            steps = self._explain(rest, kind, key, message, path, known)
            if not steps:  # it is all of it
                self.raise_faults()
            _remove(rest, steps)

    def _explain(
        self, raw: Any, kind: Any, key: str, message: str, path: str, known: Mapping[str, Any] | None
    ) -> list[str | int]:
        """Keep the fault that msgspec finds in `raw`: `message` at `path`, which leaves out the keys of tables.
        Returns the steps to the least that is to be left out for it."""
        where, value, owner, remedy = key, raw, kind, ""
        steps: list[str | int] = []
        needed = 0
        """So many of the steps lead to the innermost thing that can be left out without another fault."""
        for name, index in re.findall(r"\.(\w+)|\[([\d.]+)\]", path):
            if name:
                owner = structure_of(kind, value)
                kind = next((f.type for f in msgspec.structs.fields(owner) if f.encode_name == name), None)
                remedy = REMEDIES.get(name if kind is None else f"{owner.__name__}.{name}", "")
                remedy = remedy.replace("[daemons.", f"[{self.prefix}daemons.")
                step: str | int = name
                if kind is not None and not is_required(owner, name):
                    needed = len(steps) + 1
            elif index == "...":
                kind = element_types(kind, dict)[1]
                step = next(k for k, item in value.items() if not fits(item, kind))
                remedy = ""
                needed = len(steps) + 1
            else:
                kind, step = element_types(kind, tuple)[0], int(index)
            steps.append(step)
            where, value = join(where, step), value[step] if name == "" else value.get(name, UNSET)
        if path.startswith("key` in "):
            kind = element_types(kind, dict)[0]
            step = next(k for k in value if not fits(k, kind))
            self.fault(join(where, step), value[step], "not a usable name", get_args(kind)[1].description)
            return [*steps, step]
        field = re.search(r"field `(.*)`", message, re.DOTALL)
        if field and "unknown" in message:
            allowed = list(known) if known is not None and value is raw else keys_of(structure_of(kind, value))
            self._unknown(where, field[1], value[field[1]], allowed)
            return [*steps, field[1]]
        if field:
            fields = {f.encode_name: f.type for f in msgspec.structs.fields(structure_of(kind, value))}
            stated = fields.get(field[1])
            add = f"add it: {wanted(stated, field[1])}" if stated is not None else REMEDIES["type"]
            self.fault(join(where, field[1]), UNSET, "missing", add)
            return steps[:needed]
        if not remedy and str in map(unconstrained, alternatives(kind)):
            if isinstance(value, int | float):
                remedy = "write it in quotes" + ("" if may_be_secret(where) else f': "{show(value)}"')
            elif value == "":
                remedy = "fill it, or remove the key"
        self.fault(where, value, translate(message), remedy or f"write {wanted(kind, self.prefix + where)}")
        return steps[:needed]

    def _unknown(self, where: str, name: str, value: Any, allowed: list[str]) -> None:
        close = difflib.get_close_matches(name, allowed, n=1)
        if close:
            remedy = f"did you mean {close[0]!r}?"
        elif where == "" and isinstance(value, dict):
            remedy = f"did you mean [{self.prefix}{join('daemons', name)}]?"
        else:
            remedy = f"remove it, or use one of: {', '.join(sorted(allowed))}"
        self.fault(join(where, name), value, "unknown key", remedy)


def _remove(value: Any, steps: list[str | int]) -> None:
    """Remove what the steps lead to from nested tables and lists."""
    *way, last = steps
    for step in way:
        value = value[step]
    del value[last]
