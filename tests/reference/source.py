"""Reads docstrings and signatures from the source, without importing it; and writes Markdown."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[2]


class Undocumented(Exception):
    """Something public has no docstring."""


@functools.cache
def package(name: str) -> griffe.Module:
    """Return a package as its source says it is."""
    loaded = griffe.load(name, search_paths=[ROOT], allow_inspection=False)
    assert isinstance(loaded, griffe.Module)
    return loaded


def find(path: str) -> griffe.Object:
    """Return the object at a dotted path, through aliases."""
    first, _, rest = path.partition(".")
    found = package(first)[rest]
    return found.final_target if isinstance(found, griffe.Alias) else found


def text_of(thing: griffe.Object | griffe.Alias) -> str:
    """Return the docstring of something public.

    Raises:
        Undocumented: it has none.
    """
    if thing.docstring is None:
        raise Undocumented(f"{thing.path} has no docstring; the reference needs one")
    return thing.docstring.value


def members_with_values(enum: str) -> Iterator[tuple[str, str]]:
    """Yield the values of an enumeration, or of constants in a module, and what their docstrings say."""
    for member in find(enum).members.values():
        if isinstance(member, griffe.Attribute) and member.name.isupper() and member.value is not None:
            yield str(member.value).strip("'\""), one_line(text_of(member))


def markdown(docstring: str) -> str:
    """Return a docstring, whose names are in single backticks or in double ones, as Markdown."""
    parts = []
    for section in griffe.Docstring(re.sub(r"``([^`]+)``", r"`\1`", docstring).strip()).parse("google", warnings=False):
        if isinstance(section, griffe.DocstringSectionText):
            parts.append(section.value)
        elif isinstance(section, griffe.DocstringSectionParameters):
            parts.append(_list("Arguments", ((one.name, one.description) for one in section.value)))
        elif isinstance(section, griffe.DocstringSectionRaises):
            parts.append(_list("Raises", ((str(one.annotation), one.description) for one in section.value)))
        else:
            raise Undocumented(f"a section of a docstring that the reference does not know: {section.kind}")
    return "\n\n".join(parts)


def _list(title: str, entries: Iterable[tuple[str, str]]) -> str:
    lines = [f"* `{name}`: {' '.join(text.split())}" for name, text in entries]
    return "\n".join([f"{title}:", "", *lines])


def one_line(text: str) -> str:
    """Return a text for a cell of a table."""
    return " ".join(markdown(text).split()).replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def code(text: str) -> str:
    """Return a text in backticks."""
    return f"`{text}`".replace("|", "\\|")
