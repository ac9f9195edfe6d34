"""``init``: write a first configuration file, from what the project says about its daemons."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from neo_daemons.config.configuration import load
from neo_daemons.config.errors import ConfigError
from neo_daemons.config.json_schema import FILE as SCHEMA
from neo_daemons.config.locate import find_source
from neo_daemons.config.source import FILE_NAME

from ..codes import DONE, FAILED
from ..streams import complain, say
from . import compose, procfile, sources
from .draft import Draft, settle
from .writing import text

NEXT = """next:
  neo-daemons doctor      what is missing on this machine
  neo-daemons up          start the daemons, and wait until they are ready
  neo-daemons status      see them
  pytest --neo-daemons    run tests with them"""


def init(options: argparse.Namespace) -> int:
    """Write the file, and say what was found and what comes next. Nothing is overwritten."""
    source, root = find_source()
    if source is not None:
        return complain(f"this project has a configuration already: {source}; edit it, or remove it first", FAILED)
    drafts, notes = survey(root)
    content = text(drafts, notes, SCHEMA.name)
    if options.dry_run:
        print(content, end="")
        _summarize(drafts, notes, say)
        return complain(f"nothing was written; without --dry-run this would be {root / FILE_NAME}", DONE)
    target = root / FILE_NAME
    _create(target, content)
    print(f"wrote {target}")
    try:
        _create(root / SCHEMA.name, SCHEMA.read_text(encoding="utf-8"))
    except FileExistsError:
        print(f"left {root / SCHEMA.name} as it is")
    else:
        print(f"wrote {root / SCHEMA.name}, with which editors check it")
    _summarize(drafts, notes, print)
    try:
        load(target)
    except ConfigError as error:
        return complain(f"to be corrected: {error}", FAILED)
    print(NEXT)
    return DONE


def survey(root: Path) -> tuple[list[Draft], list[str]]:
    """Return the daemons that a project seems to have, and what could not be carried over."""
    found = [source.drafts(root) for source in (procfile, compose, sources)]
    drafts = [draft for some, _ in found for draft in some]
    if any(draft.active and not draft.source.endswith(sources.INSTALLED) for draft in drafts):
        for draft in drafts:
            if draft.source.endswith(sources.INSTALLED):
                draft.leave_out("nothing in the project names it: use it if the project does")
    return settle(drafts), [note for _, some in found for note in some]


def _create(path: Path, content: str) -> None:
    """Create a file.

    Raises:
        FileExistsError: there is one; it was not touched.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _summarize(drafts: list[Draft], notes: list[str], write: Callable[[str], None]) -> None:
    for draft in drafts:
        if draft.active:
            write(f"  {draft.name}: {draft.source}")
    for draft in drafts:
        if not draft.active:
            write(f"  {draft.name}, as a comment: {draft.source}")
    if not drafts:
        write("  no daemon was found, so chroma, bridge and mlx run, as without the file")
    left = sum("not carried over" in remark for draft in drafts for remark in draft.remarks) + len(notes)
    if left:
        write(f"  not carried over: {left} thing{'s' if left > 1 else ''}, which its comments name")
