"""``render``: write what another engine needs to run the daemons of this project."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping
from pathlib import Path

from neo_daemons.config.configuration import Configuration, load
from neo_daemons.config.source import key_prefix
from neo_daemons.render import MARK, SERVICE_MANAGERS, render, render_service
from neo_daemons.render.installation import Installation, NotExpressible, name_of
from neo_daemons.render.stack import Stack

from .codes import DONE, FAILED
from .requirements import announce
from .streams import complain

HEAD = 1024
"""Our mark is within so many characters."""


def run(options: argparse.Namespace) -> int:
    """Render for one engine: print the files, write them, or compare them with those that are there."""
    configuration = announce(load(options.config, state_dir=options.state_dir, observing=True))
    try:
        files = _render(options, configuration)
    except NotExpressible as error:
        return complain(str(error), FAILED)
    if options.output is None:
        if options.check:
            return complain("--check needs the directory to compare with: add -o DIR", FAILED)
        _print(files)
        return DONE
    if options.check:
        return _compare(files, options.output)
    return _write(files, options.output)


def _render(options: argparse.Namespace, configuration: Configuration) -> Mapping[str, str]:
    root, state = configuration.project.root, configuration.state.path
    if options.target in SERVICE_MANAGERS:
        installation = Installation(
            name=name_of(state),
            root=str(root),
            state_dir=str(state),
            interpreter=sys.executable,
            config=str(options.config.resolve()) if options.config is not None else None,
        )
        return render_service(options.target, installation)
    stack = Stack(
        name=root.name,
        root=str(root),
        definitions=configuration.definitions,
        source=str(configuration.source or "built-in defaults"),
        prefix=key_prefix(configuration.source),
    )
    return render(options.target, stack)


def _print(files: Mapping[str, str]) -> None:
    """Print the files; several are each after a line with its path."""
    for path, text in files.items():
        if len(files) > 1:
            print(f"# {'-' * 3} {path}")
        print(text, end="")


def _write(files: Mapping[str, str], directory: Path) -> int:
    for path, text in files.items():
        if MARK in text and _is_foreign(directory / path):
            return complain(
                f"{directory / path} was not written by neo-daemons; move it away, or choose another directory with -o",
                FAILED,
            )
    for path, text in files.items():
        target = directory / path
        if _read(target) == text:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        print(f"wrote {target}")
    for target in _stale(files, directory):
        target.unlink()
        print(f"removed {target}: nothing is rendered into it any more")
    return DONE


def _compare(files: Mapping[str, str], directory: Path) -> int:
    """Print the difference between what is there and what would be written, and fail if there is one."""
    differs = False
    for path, text in files.items():
        target = directory / path
        found = _read(target)
        if found != text:
            differs = True
            old, new = (found or "").splitlines(keepends=True), text.splitlines(keepends=True)
            sys.stdout.writelines(difflib.unified_diff(old, new, str(target), f"{target} (rendered)"))
    for target in _stale(files, directory):
        differs = True
        print(f"{target}: nothing is rendered into it any more")
    if differs:
        return complain(f"{directory} is not up to date; render again, without --check", FAILED)
    return DONE


def _read(path: Path) -> str | None:
    """Return the text of a file; None if it is missing. What is no text differs from every text."""
    try:
        with path.open(encoding="utf-8", errors="backslashreplace", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _is_foreign(path: Path) -> bool:
    found = _read(path)
    return found is not None and MARK not in found[:HEAD]


def _stale(files: Mapping[str, str], directory: Path) -> list[Path]:
    """Return the files of an earlier rendering that are no longer among `files`."""
    found = sorted(directory.glob("*.yaml")) if any(path.endswith(".yaml") for path in files) else []
    first = {text.partition("\n")[0] for text in files.values() if MARK in text}
    return [path for path in found if path.name not in files and (_read(path) or "").partition("\n")[0] in first]
