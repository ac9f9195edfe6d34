"""The reference of the pytest plugin: its options, settings, fixtures and hooks."""

from __future__ import annotations

import ast
from typing import Any

import griffe

from pytest_neo_daemons.names import CLIENTS
from pytest_neo_daemons.options import add_options
from pytest_neo_daemons.plugin import MARKER_HELP

from .source import code, find, markdown, one_line, table, text_of


class _Recorder:
    """Takes the place of pytest's parser, and of its group of options."""

    def __init__(self) -> None:
        self.options: list[tuple[str, dict[str, Any]]] = []
        self.settings: list[tuple[str, str, dict[str, Any]]] = []

    def getgroup(self, name: str, description: str = "") -> _Recorder:
        return self

    def addoption(self, name: str, **settings: Any) -> None:
        self.options.append((name, settings))

    def addini(self, name: str, help: str, **settings: Any) -> None:  # noqa: A002
        self.settings.append((name, help, settings))


def page() -> str:
    """Return the page."""
    recorder = _recorded()
    options = ((code(_option(name, stated)), one_line(stated["help"])) for name, stated in recorder.options)
    settings = (
        (code(name), stated.get("type", "string"), _default(stated["default"]), one_line(text))
        for name, text, stated in recorder.settings
    )
    marker, _, meaning = MARKER_HELP.partition(": ")
    return "\n\n".join(
        [
            "# pytest plugin",
            "Its options, settings, fixtures and hooks. [pytest](../pytest.md) explains them.",
            f"## Options\n\n{table(('option', 'meaning'), options).rstrip()}",
            f"## Settings\n\nIn the ini file:\n\n{table(('setting', 'type', 'default', 'meaning'), settings).rstrip()}",
            f"## Fixtures\n\n{table(('fixture', 'scope', 'what it does'), fixtures()).rstrip()}",
            f"## Marker\n\n{table(('marker', 'meaning'), [(code(marker), one_line(meaning))]).rstrip()}",
            f"## Hooks\n\n{_hooks()}",
        ]
    )


def _default(value: object) -> str:
    if value in ("", None, []):
        return "none"
    return code(str(value).lower() if isinstance(value, bool) else str(value))


def declared() -> tuple[list[str], list[str]]:
    """Return the names of the options, and those of the settings."""
    recorder = _recorded()
    return [name for name, _ in recorder.options], [name for name, *_ in recorder.settings]


def _recorded() -> _Recorder:
    recorder = _Recorder()
    parser: Any = recorder
    add_options(parser)
    return recorder


def _option(name: str, stated: dict[str, Any]) -> str:
    if stated.get("action") == "store_true":
        return name
    return f"{name} [{stated['metavar']}]" if stated.get("nargs") == "?" else f"{name} {stated['metavar']}"


def fixtures() -> list[tuple[str, str, str]]:
    """Return name, scope and meaning of each fixture."""
    module = "pytest_neo_daemons.fixtures"
    rows = [
        (code("NAME"), "session", "Return the daemon of that name, ready. There is one for each daemon of the run.")
    ]
    for name, factory in (("NAME_definition", "_definition"), ("NAME_seed", "_seed")):
        rows.append((code(name), "session", one_line(text_of(_inner(f"{module}.{factory}")))))
    for name in ("neo_daemons", *CLIENTS):
        source = "pytest_neo_daemons.asynchronous._chroma_async_client" if "async" in name else f"{module}.{name}"
        function = find(source)
        rows.append((code(name), _scope(function), one_line(text_of(function))))
    return rows


def _inner(path: str) -> griffe.Object:
    """Return the fixture in a function, which griffe does not descend into."""
    tree = ast.parse("\n".join(find(path).lines))
    (function,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "fixture")
    found = griffe.Function(path)
    found.docstring = griffe.Docstring(ast.get_docstring(function) or "")
    return found


def _scope(function: griffe.Object) -> str:
    decorators = " ".join(str(one.value) for one in getattr(function, "decorators", ()))
    return "session" if "session" in decorators else "function"


def _hooks() -> str:
    found = find("pytest_neo_daemons.hookspecs.HookSpecs")
    parts = []
    for hook in found.members.values():
        if isinstance(hook, griffe.Function):
            arguments = ", ".join(one.name for one in hook.parameters if one.name != "self")
            parts.append(f"### {hook.name}\n\n```python\n{hook.name}({arguments})\n```\n\n{markdown(text_of(hook))}")
    return "\n\n".join(parts)
