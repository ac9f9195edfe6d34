"""Daemons from what a project is made of: its packages, its applications, and fixtures that start processes."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neo_daemons.references import escape

from .draft import Draft, is_installed, is_usable, name_of, read

REQUIREMENTS = ("pyproject.toml", "requirements*.txt", "requirements/*.txt", "setup.cfg", "Pipfile")
BUILTINS = {"chroma": ("chromadb", "chromadb"), "mlx": ("mlx-lm", "mlx_lm")}
"""A built-in daemon → the name of its package, and the module in it."""
SKIPPED = frozenset({"node_modules", "site-packages", "build", "dist", "tests", "test", "venv", "env", "__pycache__"})
INSTALLED = " is installed"
"""The end of what is said of a package that the project itself does not name."""
MAX_FILES = 2000
"""At most so many Python files are looked at."""
APPLICATION = re.compile(r"^(\w+)\s*(?::[^=\n]+)?=\s*(?:\w+\.)?(FastAPI|Starlette|Flask)\(", re.MULTILINE)


def drafts(root: Path) -> tuple[list[Draft], list[str]]:
    """Return the daemons that the project is likely to use, and what else is to be said."""
    packages, notes = _package_json(root)
    fixtures, more = _fixtures(root)
    return [*_builtins(root), *packages, *_applications(root), *fixtures], [*notes, *more]


def _builtins(root: Path) -> Iterator[Draft]:
    stated = {path.name: read(path) or "" for pattern in REQUIREMENTS for path in sorted(root.glob(pattern))}
    for name, (distribution, module) in BUILTINS.items():
        spelled = distribution.replace("-", "[-_]")
        mentions = re.compile(rf"(?<![\w-]){spelled}(?![\w-])|neo[-_]daemons\[[^\]]*\b{name}\b")
        where = [file for file, text in stated.items() if mentions.search(text)]
        imported = re.compile(rf"^\s*(import|from)\s+{module}\b", re.MULTILINE)
        if where:
            yield Draft(name=name, source=f"{where[0]} requires it")
        elif (path := next((one for one in _python_files(root) if imported.search(read(one) or "")), None)) is not None:
            yield Draft(name=name, source=f"{path.relative_to(root)} imports {module}")
        elif importlib.util.find_spec(module) is not None:
            yield Draft(name=name, source=f"{distribution}{INSTALLED}")


def _package_json(root: Path) -> tuple[list[Draft], list[str]]:
    try:
        content = json.loads(read(root / "package.json") or "{}")
    except (ValueError, RecursionError):
        return [], ["package.json was not read: it is not JSON"]
    if not isinstance(content, dict):
        return [], []
    found = []
    packages = [content.get(key) for key in ("dependencies", "devDependencies")]
    if content.get("name") == "neo.mjs" or any(isinstance(one, dict) and "neo.mjs" in one for one in packages):
        found.append(Draft(name="bridge", source="package.json names neo.mjs"))
    scripts = content.get("scripts")
    script = next((key for key in ("start", "dev") if isinstance(scripts, dict) and key in scripts), None)
    if isinstance(scripts, dict) and script is not None:
        draft = Draft(name="web", source=f"package.json, script {script}: {scripts[script]}")
        draft.table = {"command": ["npm", "run", script], "port": "auto", "env": {"PORT": "${port}"}}
        draft.leave_out("is it a server that listens on $PORT? Then use it")
        found.append(draft)
    return found, []


def _applications(root: Path) -> Iterator[Draft]:
    """Yield the applications that a server of Python runs."""
    for path in _python_files(root):
        text = read(path) or ""
        if "FastAPI" not in text and "Starlette" not in text and "Flask" not in text:
            continue
        if (match := APPLICATION.search(text)) is None:
            continue
        where = path.relative_to(root)
        *packages, module = where.with_suffix("").parts
        directory = ["src"] if packages[:1] == ["src"] else []
        dotted = ".".join([*packages[len(directory) :], *([module] if module != "__init__" else [])])
        if not re.fullmatch(r"\w+(\.\w+)*", dotted):
            continue
        target = f"{dotted}:{match[1]}"
        draft = Draft(name="api", source=f"{where} has a {match[2]} application")
        if match[2] == "Flask":
            command = ["flask", "--app", target, "run", "--host", "${host}", "--port", "${port}"]
        else:
            command = ["uvicorn", target, "--host", "${host}", "--port", "${port}"]
            command += ["--app-dir", "src"] if directory else []
        ready = {"type": "tcp"}
        draft.table = {"command": command, "port": "auto", "ready": ready}
        if match[2] == "Flask" and directory:
            draft.table["env"] = {"PYTHONPATH": "${project}/src"}
        draft.remarks.append('better: ready = { type = "http", path = "/…" }, with a path that answers once it works')
        if not is_installed(command[0], root):
            draft.remarks.append(f"{command[0]} is not installed here: pip install {command[0]}")
        yield draft
        return


def _python_files(root: Path) -> Iterator[Path]:
    count = 0
    for directory, below, files in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith(".") and name not in SKIPPED)
        below[:] = [name for name in below if not (Path(directory) / name / "pyvenv.cfg").exists()]
        for name in sorted(files):
            if name.endswith(".py"):
                count += 1
                yield Path(directory) / name
        if count > MAX_FILES:
            return


def _fixtures(root: Path) -> tuple[list[Draft], list[str]]:
    """Return what the fixtures in conftest.py files start by `subprocess.Popen`."""
    found, notes = list[Draft](), list[str]()
    for path in [root / "conftest.py", *sorted(root.glob("test*/**/conftest.py"))]:
        text = read(path)
        if text is None or "Popen" not in text:
            continue
        where = path.relative_to(root)
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError):
            notes.append(f"{where} was not read: it is not Python")
            continue
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and _is_fixture(function):
                calls = (node for node in ast.walk(function) if isinstance(node, ast.Call) and _is_popen(node))
                if (call := next(calls, None)) is not None:
                    found.append(_fixture(function, call, f"{where}, line {function.lineno}"))
    return found, notes


def _is_fixture(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("fixture" in ast.unparse(decorator) for decorator in function.decorator_list)


def _is_popen(call: ast.Call) -> bool:
    return ast.unparse(call.func).rpartition(".")[2] == "Popen"


def _fixture(function: ast.FunctionDef | ast.AsyncFunctionDef, call: ast.Call, source: str) -> Draft:
    draft = Draft(name=name_of(function.name) or "server", source=f"{source}: the fixture {function.name}")
    stated: Any = call.args[0] if call.args else None
    words = [_word(item) for item in stated.elts] if isinstance(stated, ast.List | ast.Tuple) else []
    usable = bool(words) and all(map(is_usable, words)) and bool(words[0].strip())
    draft.table = {"command": words if usable else ["…"]}
    if any("${port}" in word for word in words):
        draft.table["port"] = "auto"
    draft.remarks.append(f"it starts {' '.join(ast.unparse(stated).split()) if stated is not None else 'a process'}")
    draft.leave_out("docs/migrating.md shows how a daemon takes the place of such a fixture")
    return draft


def _word(item: ast.expr) -> str:
    if isinstance(item, ast.Constant) and isinstance(item.value, str):
        return escape(item.value)
    text = ast.unparse(item)
    if text == "sys.executable":
        return "${python}"
    return "${port}" if "port" in text.lower() else "…"
