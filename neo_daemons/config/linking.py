"""References in a file's strings: whether each can be resolved, and which daemons follow from them.

Values are not looked at: most of them are known at a daemon's start only.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from neo_daemons.definitions import Definition
from neo_daemons.environment import PREFIX
from neo_daemons.references import names, of_daemon, own_values, split, texts

from .builtins import BUILTINS
from .checks import find_cycle, probes
from .reader import Reader


class Linker:
    """Checks the references between the daemons of one file.

    Args:
        reader: keeps the faults.
        tables: what the file says of its daemons, by name.
        common: what every daemon can refer to.
        observing: nobody needs the values of environment variables.
    """

    def __init__(
        self, reader: Reader, tables: Mapping[str, dict[str, Any]], common: Mapping[str, str], *, observing: bool
    ) -> None:
        self._reader = reader
        self._tables = tables
        self._common = common
        self._observing = observing
        self._reasons: dict[tuple[str, str], str] = {}
        """Why a daemon depends on another: the key that says so."""

    def check(self, name: str, place: str, text: str, known: Mapping[str, str]) -> list[str] | None:
        """The references in a string of a daemon, if all of them are known."""
        try:
            found = names(text)
        except ValueError:
            remedy = "write ${name} for a reference, $$ for a dollar sign"
            self._reader.fault_of(name, place, text, "a $ that begins no reference", remedy)
            return None
        unknown = [reference for reference in found if reference not in known and not self._may_be(reference)]
        for reference in dict.fromkeys(unknown):
            if _is_variable(reference) and self._common.keys() <= known.keys():
                variable = reference.removeprefix(PREFIX)
                near = difflib.get_close_matches(reference, filter(_is_variable, known), n=1, cutoff=0.7)
                problem = f"the environment has no variable {variable}"
                remedy = f"did you mean ${{{near[0]}}}?" if near else f"set {variable}, or write a value here"
            else:
                problem, remedy = f"unknown reference ${{{reference}}}", self._remedy(name, reference, known)
            self._reader.fault_of(name, place, text, problem, remedy)
        return None if unknown else found

    def _may_be(self, reference: str) -> bool:
        """Whether a reference that is not known can be right: it is to a daemon that has a fault itself, or nobody
        needs its value."""
        if self._observing and _is_variable(reference):
            return True
        other = split(reference)
        return other is not None and other[0] in self._tables and bool(self._reader.faults)

    def _remedy(self, name: str, reference: str, known: Mapping[str, str]) -> str:
        """What to do about a reference that is not `known`."""
        other, _ = split(reference) or (name, "")
        if other in BUILTINS and other not in self._tables:
            return f"add a table [{self._reader.prefix}daemons.{other}]"
        stem, external = re.sub("(port|url)$", "", reference), "external" in self._tables.get(other, ())
        if external and f"{stem}url" in known:
            return f"it is external: use ${{{stem}url}}"
        if not external and stem != reference and f"{stem}host" in known and f"{stem}port" not in known:
            return f'add port = "auto" to [{self._reader.prefix}daemons.{other}]'
        if f"{PREFIX}{reference}" in known:
            return f"did you mean ${{{PREFIX}{reference}}}?"
        listed = sorted(other for other in known if not _is_variable(other))
        near = difflib.get_close_matches(reference, listed, n=1)
        return f"did you mean ${{{near[0]}}}?" if near else f"use one of: {', '.join(listed)}"

    def connect(self, definition: Definition, all_: Mapping[str, Definition]) -> Definition:
        """Check every reference of a daemon; one to another daemon means: after that one."""
        name = definition.name
        self._check_named(definition)
        before_url = {**self._common, **_own(definition)}
        known = {**before_url, **_url(definition)}
        for other in all_.values():
            if other.name != name:
                theirs = {**_own(other), **_url(other)}
                known |= {of_daemon(other.name, key): value for key, value in theirs.items()}
        after = list(definition.after)
        strings = [(key, getattr(definition, key)) for key in ("command", "env", "url", "exports")]
        for key, value in (*strings, *probes(definition)):
            for place, text in texts(value, key):
                for reference in self.check(name, place, text, before_url if key == "url" else known) or ():
                    if (to := split(reference)) is not None:
                        self._reasons.setdefault((name, to[0]), place)
                        if to[0] not in after:
                            after.append(to[0])
        return msgspec.structs.replace(definition, after=tuple(after))

    def _check_named(self, definition: Definition) -> None:
        """Check that the daemons which one is to start after are there."""
        for key in ("after", "requires"):
            for number, other in enumerate(getattr(definition, key)):
                if other not in self._tables:
                    near = difflib.get_close_matches(other, self._tables, n=1)
                    table = f"add a table [{self._reader.prefix}daemons.{other}]" if other in BUILTINS else ""
                    remedy = f"did you mean {near[0]!r}?" if near else f"name one of: {', '.join(self._tables)}"
                    self._reader.fault_of(definition.name, f"{key}[{number}]", other, "no such daemon", table or remedy)
                self._reasons.setdefault((definition.name, other), f"{key}[{number}]")

    def check_cycle(self, definitions: Mapping[str, Definition]) -> None:
        """Check that no daemons wait for each other; they have been connected."""
        cycle = find_cycle(definitions.values())
        if cycle:
            name, other = cycle[:2]
            problem = f"a cycle: {' → '.join(cycle)}"
            self._reader.fault_of(name, self._reasons[name, other], other, problem, "remove one of these dependencies")


def _own(definition: Definition) -> dict[str, str]:
    return own_values(definition, log_path="", ports=dict.fromkeys(definition.ports, 0))


def _url(definition: Definition) -> dict[str, str]:
    """Its URL, if it has one."""
    return {"url": ""} if definition.url or definition.external or definition.ports else {}


def _is_variable(reference: str) -> bool:
    return reference.startswith(PREFIX)
