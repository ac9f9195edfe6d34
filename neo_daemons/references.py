"""References in a definition's strings: ``${port}``, ``${data_dir}``, ``${daemons.chroma.url}``, ``${env.HOME}``, ….

The syntax is `string.Template`'s with dotted names; ``$$`` is a dollar sign.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from .definitions import Definition


class UnknownReference(ValueError):
    """A reference is unknown. ``str()`` is the message, `name` the reference."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        known_here = ", ".join(sorted(other for other in known if not other.startswith("env.")))
        super().__init__(f"unknown reference ${{{name}}}; use one of: {known_here}")


LITERAL_FIELDS = frozenset({"pattern", "body", "query", "name"})
"""Fields that cannot hold references: in a regular expression, a dollar sign is an anchor."""


class _Template(string.Template):
    idpattern = r"(?!)"  # only the braced form: a bare $HOME is data, or more often a mistake
    braceidpattern = r"[a-z][a-zA-Z0-9_-]*(?:\.[a-zA-Z0-9_-]+)*"


def names(text: str) -> list[str]:
    """Return the references in `text`, in order.

    Raises:
        ValueError: a ``$`` that is neither ``$$`` nor a ``${reference}``.
    """
    template = _Template(text)
    if not template.is_valid():
        raise ValueError(f"invalid reference in {text!r}; use ${{name}}, or $$ for a dollar sign")
    return template.get_identifiers()


def expand(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with its references replaced by `values`.

    Raises:
        UnknownReference: a reference is not among `values`.
        ValueError: as `names`.
    """
    for name in names(text):
        if name not in values:
            raise UnknownReference(name, values)
    return _Template(text).substitute(values)


def escape(text: str) -> str:
    """Escape `text` so that it expands to itself."""
    return text.replace("$", "$$")


def expand_all(value: Any, values: Mapping[str, str]) -> Any:
    """Expand every string in structures, tuples and dictionaries; types are kept."""
    if isinstance(value, str):
        return expand(value, values)
    if isinstance(value, tuple | list):
        return type(value)(expand_all(item, values) for item in value)
    if isinstance(value, dict):
        return {key: expand_all(item, values) for key, item in value.items()}
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(
            value, **{name: expand_all(getattr(value, name), values) for name in _fields(value)}
        )
    return value


def texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield the place and the text of every string that `expand_all` would expand: ``("env.HOME", "${data_dir}")``."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, tuple | list):
        for number, item in enumerate(value):
            yield from texts(item, f"{place}[{number}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(item, f"{place}.{key}")
    elif isinstance(value, msgspec.Struct):
        for field in _fields(value):
            yield from texts(getattr(value, field), f"{place}.{field}")


def own_values(definition: Definition, *, log_path: str, ports: Mapping[str, int]) -> dict[str, str]:
    """Return the properties of a daemon by reference name, all but its URL, which may refer to them.

    Args:
        log_path: the path of its log.
        ports: the numbers of its ports by name, the main one first.
    """
    values = {"name": definition.name, "host": definition.host, "log_path": log_path}
    for name, number in ports.items():
        values.setdefault("port", str(number))
        values[f"ports.{name}"] = str(number)
    if definition.data_dir is not None:
        values["data_dir"] = definition.data_dir
    return values


def of_daemon(name: str, key: str) -> str:
    """Return the reference name of a property of another daemon, e.g. ``daemons.chroma.url``."""
    return f"daemons.{name}.{key}"


def split(reference: str) -> tuple[str, str] | None:
    """Return the daemon and the property in a reference to another daemon; None for any other reference."""
    kind, _, rest = reference.partition(".")
    name, _, key = rest.partition(".")
    return (name, key) if kind == "daemons" and name else None


def _fields(value: msgspec.Struct) -> Iterable[str]:
    return (name for name in value.__struct_fields__ if name not in LITERAL_FIELDS)
