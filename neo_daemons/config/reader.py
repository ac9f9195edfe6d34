"""Converts raw tables to the types of the schema, and explains each error in one line: place, value, problem, remedy.

msgspec checks values against types, but it omits the keys of tables and uses the terms of JSON. The reader adds the
exact place, the value found there, and a remedy that follows from the type.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from msgspec import UNSET

from neo_daemons.similar import closest

from .errors import ConfigError
from .messages import ELSEWHERE, INVALID, REMEDIES, join, mask, may_be_secret, show, translate, wanted
from .schema_types import alternatives, element_types, fits, is_required, keys_of, structure_of, unconstrained
from .source import MAX_DEPTH

_MESSAGE = r"(?s)(.*?)(?: - at `((?:key` in `)?\$(?:\.\w+|\[[\d.]+\])*)`)?"
"""A message of msgspec: the problem and its place. The first part may quote any key of the file."""


MAY_BE_INFINITE = ".idle_stop_s"
"""The key for which ``inf`` has a meaning."""


class Reader:
    """Converts raw tables to typed ones and collects the errors of a whole file."""

    def __init__(self, source: str, prefix: str) -> None:
        self.source = source
        self.prefix = prefix
        self.faults: list[str] = []

    def fault(self, key: str, value: Any, problem: str, remedy: str) -> None:
        """Add an error: one line that says what is wrong with the value of a key."""
        shown = "" if value is UNSET else f" = {mask(value) if may_be_secret(key) else show(value)}"
        self.faults.append(f"{self.source}: {self.prefix}{key}{shown}: {problem}; {remedy}")

    def fault_of(self, daemon: str, key: str, value: Any, problem: str, remedy: str) -> None:
        """Add an error in the table of a daemon."""
        self.fault(f"daemons.{daemon}.{key}", value, problem, remedy)

    def raise_faults(self) -> None:
        """Raise the errors found so far.

        Raises:
            ConfigError: there are errors.
        """
        if self.faults:
            raise ConfigError(*dict.fromkeys(self.faults))

    def refuse_unusable(self, value: Any, key: str = "", depth: int = 0) -> bool:
        """Add an error for each value that no key can have, and return whether there was none."""
        before = len(self.faults)
        if depth > MAX_DEPTH:
            self.fault(key, UNSET, "nested too deeply", f"at most {MAX_DEPTH} levels are allowed")
            return False
        unlimited = value == math.inf and key.endswith(MAY_BE_INFINITE)
        if isinstance(value, float) and not math.isfinite(value) and not unlimited:
            self.fault(key, value, "not a finite number", "use an ordinary number, or remove the key")
        if isinstance(value, int) and value.bit_length() > 63:
            self.fault(key, UNSET, "the number does not fit into 64 bits", "use a smaller one")
        if isinstance(value, str) and "\0" in value:
            self.fault(key, value, "contains a NUL character", "remove it")
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for name, item in items:
            self.refuse_unusable(item, join(key, name), depth + 1)
        return len(self.faults) == before

    def convert(self, raw: Any, kind: type[Any], key: str, known: Mapping[str, Any] | None = None) -> Any:
        """Convert a table to a structure, leaving out everything that has an error.

        Args:
            kind: the structure; all of its fields have defaults.
            key: the key of the table.
            known: the keys that the table may have, if there are more than the fields of the structure.

        Raises:
            ConfigError: the whole table has the wrong type.
        """
        rest = raw
        while True:
            try:
                return msgspec.convert(rest, kind)
            except msgspec.ValidationError as error:
                match = re.fullmatch(_MESSAGE, str(error))
                message, path = match.groups("") if match is not None else (str(error), "")
            # msgspec stops at the first error: leave that part out and check the rest again.
            rest = copy.deepcopy(rest) if rest is raw else rest
            steps = self._explain(rest, kind, key, message, path, known)
            if not steps:  # the error concerns the whole table
                self.raise_faults()
            _remove(rest, steps)

    def _explain(
        self, raw: Any, kind: Any, key: str, message: str, path: str, known: Mapping[str, Any] | None
    ) -> list[str | int]:
        """Add the error that msgspec found in `raw`: `message` at `path`, which omits the keys of tables.

        Returns:
            The keys and indexes that lead to the smallest part that can be left out because of it.
        """
        where, value, owner, remedy = key, raw, kind, ""
        steps: list[str | int] = []
        needed = 0
        """The number of steps to the innermost part that can be left out without causing another error."""
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
            self.fault(join(where, step), value[step], "invalid name", get_args(kind)[1].description)
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
                remedy = "put it in quotes" + ("" if may_be_secret(where) else f': "{show(value)}"')
            elif value == "":
                remedy = "set a value, or remove the key"
        problem, remedy = translate(message), remedy or f"use {wanted(kind, self.prefix + where)}"
        if problem == INVALID:
            remedy = re.sub('^use (?=")', "expected one of ", remedy).replace("use ", "expected ", 1)
        self.fault(where, value, problem, remedy)
        return steps[:needed]

    def _unknown(self, where: str, name: str, value: Any, allowed: list[str]) -> None:
        close = ELSEWHERE[name] if ELSEWHERE.get(name) in allowed else closest(name, allowed)
        if close:
            remedy = f"did you mean {close!r}?"
        elif where == "" and isinstance(value, dict):
            remedy = f"did you mean [{self.prefix}{join('daemons', name)}]?"
        else:
            remedy = f"remove it, or use one of: {', '.join(sorted(allowed))}"
        self.fault(join(where, name), value, "unknown key", remedy)


def _remove(value: Any, steps: list[str | int]) -> None:
    """Remove the part that the steps lead to from nested tables and lists."""
    *way, last = steps
    for step in way:
        value = value[step]
    del value[last]
