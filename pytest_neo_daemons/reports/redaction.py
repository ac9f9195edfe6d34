"""Hides secrets in what leaves the machine: pages and artifacts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from neo_daemons.urls import redacted_within

MASK = "***"
SHORTEST = 4
"""Characters. A shorter value is not searched for, because it could occur in any text."""
DISTINCT = 12
"""Characters. A shorter value, or one of letters only, may be an ordinary word: it is hidden as a whole word only."""
HARMLESS = frozenset({"true", "false", "none", "null", "default", "str", "bytes", "int"})
"""Values that say nothing, and types in the code of functions."""
STRONG = r"SECRET|TOKEN|PASSW(?:OR)?D|PASSPHRASE|CREDENTIALS?|AUTHORIZATION|COOKIE|API_?KEY"
COUNTED = re.compile(r"TOKEN|COOKIE", re.IGNORECASE)
COUNT = re.compile(r"\d{1,7}")
"""What a name of these says in the logs of models: ``max_tokens=8``, ``prompt_tokens: 12``."""
LOOKS_SECRET = re.compile(rf"{STRONG}|(?<![A-Z])(?:PASS|DSN|KEYS?|PAT)(?![A-Z])", re.IGNORECASE)
IN_TEXT = rf"(?:{STRONG}|[_-]KEY)"
"""In any text, `key` alone says nothing."""
BEARER = re.compile(r"\b(Bearer|Authorization[\"']?[ \t]*[:=][ \t]*[\"']?Basic)([ \t]+)[\w.~+/=-]{8,}", re.IGNORECASE)
STATED = re.compile(
    rf"(?<![\w.-])(?P<name>[\w.-]{{0,60}}{IN_TEXT}[\w.-]{{0,60}})"
    r"(?P<between>[\"']?[ \t]*[=:](?!=)[ \t]*)(?P<quote>[\"']?)"
    r"(?P<value>[^\s\"',;&)\]}<]+)",
    re.IGNORECASE,
)
"""``NAME=value``, ``"name": "value"`` and the like in any text."""
OPTION = re.compile(rf"(--[\w-]{{0,60}}{IN_TEXT}[\w-]{{0,60}})([ \t]+)(?!-)(\S+)", re.IGNORECASE)


def looks_secret(name: str) -> bool:
    """Return whether the value of a variable, header, option or key of this name may be a secret."""
    return LOOKS_SECRET.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)) is not None


class Redactor:
    """Hides the values of names that look secret, wherever these values occur, and credentials in URLs.

    Args:
        variables: environment variables, and the like.
    """

    def __init__(self, variables: Iterable[Mapping[str, str]]) -> None:
        found = {
            line
            for mapping in variables
            for name, value in mapping.items()
            if looks_secret(name) and "${" not in value
            for line in value.splitlines()
            if len(line) >= SHORTEST and line.lower() not in HARMLESS
        }
        words = {value for value in found if len(value) < DISTINCT or value.isalpha()}
        self._distinct = _any_of(found - words)
        self._words = _any_of(words, within=r"(?<!\w)(?:{})(?!\w)")

    def known(self, text: str) -> str:
        """Hide the known secrets that cannot be ordinary words: for names of tests and the like."""
        return self._distinct.sub(MASK, text) if self._distinct is not None else text

    def text(self, text: str) -> str:
        """Hide the known secrets, and whatever else the text itself calls a secret."""
        text = redacted_within(self.known(text))
        text = self._words.sub(MASK, text) if self._words is not None else text
        text = BEARER.sub(rf"\1\2{MASK}", text)
        text = OPTION.sub(rf"\1\2{MASK}", text)
        return STATED.sub(_hidden, text)

    def structure(self, value: Any, name: str = "") -> Any:
        """Return plain data in which texts are redacted, and those under a name that looks secret are hidden."""
        if isinstance(value, dict):
            return {key: self.structure(item, str(key)) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return self._items(value, name)
        if isinstance(value, str):
            return MASK if name and looks_secret(name) and "${" not in value else self.text(value)
        return value

    def _items(self, items: Iterable[Any], name: str) -> list[Any]:
        """Hide what follows an option that looks secret in a command, too."""
        found, after = list[Any](), ""
        for item in items:
            found.append(self.structure(item, after or name))
            option = isinstance(item, str) and item.startswith("-") and "=" not in item
            after = item.lstrip("-") if option else ""
        return found


def _any_of(values: Iterable[str], within: str = "{}") -> re.Pattern[str] | None:
    longest_first = sorted(values, key=lambda value: (-len(value), value))
    return re.compile(within.format("|".join(map(re.escape, longest_first)))) if longest_first else None


def _hidden(found: re.Match[str]) -> str:
    name, value = found["name"], found["value"]
    if value.lower() in HARMLESS or (COUNTED.search(name) and COUNT.fullmatch(value)):
        return found[0]
    return f"{name}{found['between']}{found['quote']}{MASK}"
