"""The reference of the Python API, from the docstrings of its public names."""

from __future__ import annotations

import griffe

from .source import find, markdown, one_line, package, table, text_of

PACKAGES = {
    "neo_daemons": "The supervisor, and the client of one.",
    "neo_daemons.config": "Reading a configuration.",
    "neo_daemons.status": "What a supervisor reports.",
    "neo_daemons.health": "Observers, for programs that use a daemon but must not manage it.",
    "pytest_neo_daemons": "For tests: types for annotations, exceptions, and the decorator of seeds.",
}
NOT_SHOWN = {"EventName", "Cause"}
"""Enumerations that have a page of their own."""
LONG = 60
"""Longer parameters stand on lines of their own."""


def page() -> str:
    """Return the page."""
    parts = [
        "# Python API",
        "The public names, with their docstrings. [API](../api.md), [health observers](../health.md) and "
        "[pytest](../pytest.md) show how they are used.",
    ]
    for name, text in PACKAGES.items():
        parts += [f"## {name}", text]
        parts += [_described(thing) for thing in _public(name)]
    return "\n\n".join(part.rstrip() for part in parts)


def _public(name: str) -> list[griffe.Object]:
    module = package(name) if "." not in name else find(name)
    exports = module.exports or [
        member.name
        for member in module.members.values()
        if isinstance(member, griffe.Class) and member.name not in NOT_SHOWN
    ]
    names = [str(export) for export in exports if not str(export).startswith("__")]
    return [found for one in names if not isinstance(found := find(f"{name}.{one}"), griffe.Module)]


def _described(thing: griffe.Object) -> str:
    parts = [f"### {thing.name}", _signature(thing), markdown(text_of(thing))]
    if isinstance(thing, griffe.Class):
        attributes, methods = _fields(thing), _methods(thing)
        if attributes:
            parts.append(table(("attribute", "type", ""), attributes))
        parts += methods
    return "\n\n".join(part.rstrip() for part in parts if part)


def _signature(thing: griffe.Object) -> str:
    if isinstance(thing, griffe.Function):
        return _code(_call(thing))
    if isinstance(thing, griffe.Class):
        made = thing.members.get("__init__")
        if isinstance(made, griffe.Function):
            return _code(f"{thing.name}{_parameters(made)}")
    return ""


def _methods(thing: griffe.Class) -> list[str]:
    found = [
        member
        for member in thing.members.values()
        if isinstance(member, griffe.Function) and not member.name.startswith("_") and member.docstring is not None
    ]
    return [f"{_code(_call(method))}\n\n{markdown(text_of(method))}" for method in found]


def _fields(thing: griffe.Class) -> list[tuple[str, str, str]]:
    return [
        (
            f"`{member.name}`",
            f"`{member.annotation}`".replace("|", "\\|"),
            one_line(text_of(member)) if member.docstring else "",
        )
        for member in thing.members.values()
        if isinstance(member, griffe.Attribute) and not member.name.startswith("_") and member.annotation is not None
    ]


def _call(function: griffe.Function) -> str:
    returned = f" -> {function.returns}" if function.returns is not None else ""
    prefix = "async " if "async" in function.labels else ""
    return f"{prefix}{function.name}{_parameters(function)}{returned}"


def _parameters(function: griffe.Function) -> str:
    words, star = list[str](), False
    for parameter in function.parameters:
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is griffe.ParameterKind.keyword_only and not star:
            words, star = [*words, "*"], True
        star = star or parameter.kind is griffe.ParameterKind.var_positional
        prefix = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(
            parameter.kind or griffe.ParameterKind.positional_or_keyword, ""
        )
        annotation = f": {parameter.annotation}" if parameter.annotation is not None else ""
        default = f" = {parameter.default}" if parameter.default is not None and not prefix else ""
        words.append(f"{prefix}{parameter.name}{annotation}{default}")
    in_one_line = f"({', '.join(words)})"
    return in_one_line if len(in_one_line) < LONG else "(\n    " + ",\n    ".join(words) + ",\n)"


def _code(text: str) -> str:
    return f"```python\n{text}\n```"
