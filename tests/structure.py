"""Measure the structure of the source: import circles, large classes, long files.

``python -m tests.structure [CHECKOUT]`` prints what exceeds the limits. The file needs nothing but the standard
library, so a copy of it runs anywhere.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("neo_daemons", "pytest_neo_daemons")
MAX_ATTRIBUTES = 20
MAX_METHODS = 30
MAX_LINES = 400

EXCEPTIONS: dict[str, str] = {
    "attributes of neo_daemons.config.schema.Settings": (
        "Pure data: one field for each key that the table of a daemon may have in the configuration."
    ),
    "attributes of neo_daemons.definitions.Definition": (
        "Pure, frozen data: what the configuration says about a daemon, one field for each key."
    ),
    "attributes of neo_daemons.status.DaemonStatus": (
        "Pure data: the published status of a daemon, one field for each key of `status --json`."
    ),
}
"""What may exceed a limit, as `Excess.subject` names it, and why. An entry that is no longer needed is an error."""


class Excess(NamedTuple):
    """Something that exceeds a limit."""

    subject: str
    """What exceeds it; the key of an exception."""
    message: str
    """What was measured, and where."""


class Module(NamedTuple):
    """A parsed source file."""

    name: str
    """Dotted; a package's own name stands for its ``__init__``."""
    path: Path
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """What one leading dot of an import means here."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


class Size(NamedTuple):
    """The members of a class, without those that it inherits."""

    attributes: frozenset[str]
    """Declared in the body, or assigned on the instance (or the class) anywhere within."""
    methods: frozenset[str]
    """Overloads, and the getter and setter of a property, count once."""


def source_files(root: Path) -> Iterator[Path]:
    """The files that the limits hold for."""
    for package in PACKAGES:
        yield from sorted((root / package).rglob("*.py"))


def modules(root: Path) -> dict[str, Module]:
    """The modules of the packages under a checkout, by dotted name.

    Raises `FileNotFoundError` if there are none.
    """
    found = {}
    for path in source_files(root):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found[name] = Module(name, path, text, ast.parse(text, str(path)))
    if not found:
        raise FileNotFoundError(f"no module of {' or '.join(PACKAGES)} below {root}")
    return found


def imports(module: Module, known: Mapping[str, object]) -> frozenset[str]:
    """The modules among `known` that a module imports, wherever in its file it does.

    Importing a submodule counts for the submodule alone, although Python runs the ``__init__`` of its packages first.
    ``from package import name`` counts for ``package.name`` where that is a module, and for the package otherwise.
    """
    names: list[str] = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{_base(module, node)}.{alias.name}" for alias in node.names]
    nearest = {_nearest(name, known) for name in names}
    return frozenset(name for name in nearest if name not in ("", module.name))


def _base(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.package.split(".")
    parts = package[: len(package) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def _nearest(name: str, known: Mapping[str, object]) -> str:
    """A module's own name or that of the innermost module around it; empty if none is known."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def import_graph(found: Mapping[str, Module]) -> dict[str, frozenset[str]]:
    """For each module, those that it imports."""
    return {name: imports(module, found) for name, module in found.items()}


def circles(graph: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """One of the shortest circles for each group of modules that reach each other; its first module ends it too."""
    reach = {name: _reachable(graph, name) for name in graph}
    found = []
    seen: set[str] = set()
    for name in sorted(graph):
        group = {other for other in reach[name] if name in reach[other]}
        if group and name not in seen:
            seen |= group
            found.append(min((_shortest_circle(graph, member) for member in sorted(group)), key=len))
    return found


def _reachable(graph: Mapping[str, frozenset[str]], start: str) -> set[str]:
    found: set[str] = set()
    todo = list(graph[start])
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(graph[name])
    return found


def _shortest_circle(graph: Mapping[str, frozenset[str]], start: str) -> list[str]:
    """Breadth first, from a module that is known to be in a circle."""
    paths = [[start]]
    visited = set()
    for path in paths:
        for name in sorted(graph[path[-1]]):
            if name == start:
                return [*path, start]
            if name not in visited:
                visited.add(name)
                paths.append([*path, name])
    raise ValueError(f"{start} is in no circle")


def classes(module: Module) -> Iterator[tuple[str, ast.ClassDef]]:
    """Every class of a module with its dotted name, also those within classes and functions."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield f"{prefix}.{child.name}", child
                yield from walk(child, f"{prefix}.{child.name}")
            else:
                yield from walk(child, prefix)

    return walk(module.tree, module.name)


def is_enumeration(node: ast.ClassDef) -> bool:
    """Whether the names in a class are the members of an enumeration: values, not attributes of an instance."""
    return any(ast.unparse(base).endswith(("Enum", "Flag")) for base in node.bases)


def size(node: ast.ClassDef) -> Size:
    """Count the members of a class."""
    attributes: set[str] = set()
    methods: set[str] = set()
    for statement in _body(node):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            methods.add(statement.name)
            attributes |= _assigned_on_first_parameter(statement)
        elif isinstance(statement, ast.Assign):
            attributes |= {name.id for target in statement.targets for name in _names(target)}
        elif isinstance(statement, ast.AnnAssign):
            attributes |= {name.id for name in _names(statement.target)}
    declared = {name for name in attributes if not (name.startswith("__") and name.endswith("__"))}
    return Size(frozenset(declared), frozenset(methods))


def _body(node: ast.AST) -> Iterator[ast.AST]:
    """The statements of a class, also those under ``if`` and ``try``, without what is inside functions and classes."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _body(child)


def _names(target: ast.expr) -> Iterator[ast.Name]:
    return (node for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))


def _assigned_on_first_parameter(method: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    parameters = [*method.args.posonlyargs, *method.args.args]
    is_static = any(isinstance(name, ast.Name) and name.id == "staticmethod" for name in method.decorator_list)
    if not parameters or is_static:
        return set()
    return {
        node.attr
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == parameters[0].arg
    }


def circle_messages(found: Mapping[str, Module]) -> list[str]:
    """Each import circle, spelt out. There is no exception to these."""
    return [f"import circle: {' -> '.join(circle)}" for circle in circles(import_graph(found))]


def excesses(found: Mapping[str, Module]) -> list[Excess]:
    """What exceeds a limit, exceptions included."""
    result = []
    for module in found.values():
        lines = len(module.text.splitlines())
        if lines > MAX_LINES:
            subject = f"lines of {module.name}"
            result.append(Excess(subject, f"{subject}: {lines}, at most {MAX_LINES} ({module.path})"))
        for name, node in classes(module):
            counted = size(node)
            for what, members, limit in (
                ("attributes", frozenset() if is_enumeration(node) else counted.attributes, MAX_ATTRIBUTES),
                ("methods", counted.methods, MAX_METHODS),
            ):
                if len(members) > limit:
                    subject = f"{what} of {name}"
                    where = f"{module.path}:{node.lineno}"
                    message = f"{subject}: {len(members)}, at most {limit} ({where}): {', '.join(sorted(members))}"
                    result.append(Excess(subject, message))
    return result


def violations(found: Mapping[str, Module], exceptions: Mapping[str, str] = EXCEPTIONS) -> list[str]:
    """Import circles, excesses without an exception, and exceptions that nothing needs or that give no reason."""
    exceeding = excesses(found)
    subjects = {excess.subject for excess in exceeding}
    return [
        *circle_messages(found),
        *(excess.message for excess in exceeding if excess.subject not in exceptions),
        *(
            f"exception for {subject}: nothing exceeds this limit; delete it"
            for subject in exceptions.keys() - subjects
        ),
        *(f"exception for {subject}: gives no reason" for subject, reason in exceptions.items() if not reason.strip()),
    ]


def main() -> int:
    """Return 1 if anything was found, 0 otherwise."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    found = violations(modules(root))
    print("\n".join(found) or "no violation")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
