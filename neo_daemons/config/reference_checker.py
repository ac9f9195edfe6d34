"""Checks that references in a file's strings are known, and derives the start order from them.

It ignores their values: most are known only when a daemon starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from neo_daemons.definitions import Definition
from neo_daemons.environment import PREFIX
from neo_daemons.references import names, of_daemon, own_values, split, texts
from neo_daemons.similar import closest

from .builtins import BUILTINS
from .checks import find_cycle, probes
from .reader import Reader

PROPERTIES = frozenset({"name", "host", "port", "ports", "url", "data_dir", "log_path"})
"""The properties of a daemon to which references lead, without the names of ports."""
NOT_ALLOWED = {"cwd": PROPERTIES, "data_dir": PROPERTIES, "url": frozenset({"url"})}
"""Keys in which references to other daemons are not allowed, nor those to these properties of the daemon itself."""


class ReferenceChecker:
    """Checks the references between the daemons of one file.

    Args:
        reader: collects the errors.
        tables: the file's tables, by the name of the daemon.
        common: the references that every daemon can use.
        observing: accept references to environment variables that are not set.
    """

    def __init__(
        self, reader: Reader, tables: Mapping[str, dict[str, Any]], common: Mapping[str, str], *, observing: bool
    ) -> None:
        self._reader = reader
        self._tables = tables
        self._common = common
        self._observing = observing
        self._reasons: dict[tuple[str, str], str] = {}
        """For each daemon and one that it depends on, the key of the dependency."""

    def check_text(self, name: str, place: str, text: str, known: Mapping[str, str]) -> list[str] | None:
        """Return the references in a string of a daemon, or None after adding an error for each unknown one."""
        try:
            found = names(text)
        except ValueError:
            remedy = "use ${name} for a reference, $$ for a dollar sign"
            self._reader.fault_of(name, place, text, '"$" is not followed by a reference', remedy)
            return None
        unknown = [reference for reference in found if reference not in known and not self._may_be(reference)]
        for reference in dict.fromkeys(unknown):
            if _is_variable(reference) and self._common.keys() <= known.keys():
                variable = reference.removeprefix(PREFIX)
                near = closest(reference, filter(_is_variable, known), cutoff=0.7)
                problem = f"the environment variable {variable} is not set"
                remedy = f"did you mean ${{{near}}}?" if near else f"set {variable}, or put the value here"
            else:
                problem, remedy = self._explain(name, place, reference, known)
            self._reader.fault_of(name, place, text, problem, remedy)
        return None if unknown else found

    def _may_be(self, reference: str) -> bool:
        """Return whether an unknown reference may be correct: the daemon that it names has an error, or its value is
        not needed."""
        if self._observing and _is_variable(reference):
            return True
        other = split(reference)
        return other is not None and other[0] in self._tables and bool(self._reader.faults)

    def _explain(self, name: str, place: str, reference: str, known: Mapping[str, str]) -> tuple[str, str]:
        """Return the problem with a reference that is not `known` at a key of a daemon, and the remedy."""
        listed = f"use one of: {', '.join(sorted(other for other in known if not _is_variable(other)))}"
        other, key = split(reference) or (name, "")
        if other not in self._tables and other not in BUILTINS:
            near = closest(other, self._tables)
            remedy = f"did you mean ${{{of_daemon(near, key)}}}?" if near else f"use one of: {', '.join(self._tables)}"
            return f"unknown daemon {other!r}", remedy
        if (
            place in NOT_ALLOWED
            and other in self._tables
            and (key or reference.partition(".")[0] in NOT_ALLOWED[place])
        ):
            return f"${{{reference}}} is not allowed here", listed
        return f"unknown reference ${{{reference}}}", self._remedy(name, reference, known)

    def _remedy(self, name: str, reference: str, known: Mapping[str, str]) -> str:
        """Return the remedy for a reference that is not `known`."""
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
        near = closest(reference, listed)
        return f"did you mean ${{{near}}}?" if near else f"use one of: {', '.join(listed)}"

    def check(self, definitions: Mapping[str, Definition]) -> dict[str, Definition]:
        """Check every reference of these daemons.

        Returns:
            The definitions, each with the daemons that it refers to in ``after``.
        """
        values = {name: {**_own(definition), **_url(definition)} for name, definition in definitions.items()}
        return {name: self._check(definition, values) for name, definition in definitions.items()}

    def _check(self, definition: Definition, values: Mapping[str, Mapping[str, str]]) -> Definition:
        name = definition.name
        self._check_named(definition)
        before_url = {**self._common, **_own(definition)}
        known = _Known(name, {**before_url, **_url(definition)}, values)
        after = list(definition.after)
        strings = [(key, getattr(definition, key)) for key in ("command", "env", "url", "exports")]
        for key, value in (*strings, *probes(definition)):
            for place, text in texts(value, key):
                for reference in self.check_text(name, place, text, before_url if key == "url" else known) or ():
                    if (to := split(reference)) is not None:
                        self._reasons.setdefault((name, to[0]), place)
                        if to[0] not in after:
                            after.append(to[0])
        for place, text in texts(definition.deploy, "deploy"):
            self.check_text(name, place, text, known)
        return msgspec.structs.replace(definition, after=tuple(after))

    def _check_named(self, definition: Definition) -> None:
        """Check that the daemons in ``after`` and ``requires`` exist."""
        for key in ("after", "requires"):
            for number, other in enumerate(getattr(definition, key)):
                if other not in self._tables:
                    near = closest(other, self._tables)
                    table = f"add a table [{self._reader.prefix}daemons.{other}]" if other in BUILTINS else ""
                    remedy = f"did you mean {near!r}?" if near else f"use one of: {', '.join(self._tables)}"
                    self._reader.fault_of(definition.name, f"{key}[{number}]", other, "unknown daemon", table or remedy)
                elif key == "requires" and other in definition.cascades and self._tables[other].get("external"):
                    problem = "cascade has no effect: restarts of an external daemon are not seen"
                    self._reader.fault_of(definition.name, f"{key}[{number}].cascade", True, problem, "remove it")
                self._reasons.setdefault((definition.name, other), f"{key}[{number}]")

    def check_cycle(self, definitions: Mapping[str, Definition]) -> None:
        """Check that there is no dependency cycle. Call this after `check`, which completes the order."""
        cycle = find_cycle(definitions.values())
        if cycle:
            name, other = cycle[:2]
            problem = f"dependency cycle: {' → '.join(cycle)}"
            self._reader.fault_of(name, self._reasons[name, other], other, problem, "remove one of these dependencies")


class _Known(Mapping[str, str]):
    """The references that one daemon can use: its own, and those to others, which may be many.

    Args:
        values: the values of each daemon, by its name.
    """

    def __init__(self, name: str, own: Mapping[str, str], values: Mapping[str, Mapping[str, str]]) -> None:
        self._name = name
        self._own = own
        self._values = values

    def __getitem__(self, reference: str) -> str:
        if reference in self._own:
            return self._own[reference]
        other, key = split(reference) or (self._name, "")
        if other == self._name:
            raise KeyError(reference)
        return self._values[other][key]

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        for other, values in self._values.items():
            if other != self._name:
                yield from (of_daemon(other, key) for key in values)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _own(definition: Definition) -> dict[str, str]:
    return own_values(definition, log_path="", ports=dict.fromkeys(definition.ports, 0))


def _url(definition: Definition) -> dict[str, str]:
    """Return the reference to the daemon's URL, if it has one."""
    return {"url": ""} if definition.url or definition.external or definition.ports else {}


def _is_variable(reference: str) -> bool:
    return reference.startswith(PREFIX)
