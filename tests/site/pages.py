"""Collects the pages of the site.

The Markdown files are written for GitHub, where a link may lead to any file of the repository. The site is to be whole
by itself. So what they link to becomes a page of it: the README is the first one, another document keeps its name in
lower case, and a source file is a page with its text.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
DOCUMENTS = {
    PurePosixPath("README.md"): PurePosixPath("index.md"),
    PurePosixPath("ARCHITECTURE.md"): PurePosixPath("architecture.md"),
    PurePosixPath("CONTRIBUTING.md"): PurePosixPath("contributing.md"),
    PurePosixPath("CHANGELOG.md"): PurePosixPath("changelog.md"),
    PurePosixPath("SECURITY.md"): PurePosixPath("security-policy.md"),
}
"""The documents outside `docs` → their pages."""
LANGUAGES = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".sh": "bash"}
LINK = re.compile(r"(\]\()([^)\s]+)(\))|((?:src|href)=\")([^\"\s]+)(\")")
FENCE = re.compile(r"(?ms)^(?P<indent> *)(`{3,})[^\n]*\n.*?^(?P=indent)\2[^\n]*$")


def collect(target: Path, root: Path = ROOT) -> list[PurePosixPath]:
    """Write all pages into `target`, which is replaced, and return their paths in it.

    Raises:
        FileNotFoundError: a link leads to a file that does not exist.
    """
    shutil.rmtree(target, ignore_errors=True)
    waiting = [*(path for path in DOCUMENTS if (root / path).exists()), *_documentation(root)]
    done: dict[PurePosixPath, PurePosixPath] = {}
    while waiting:
        source = waiting.pop()
        if source in done:
            continue
        done[source] = page_of(source)
        place = target / done[source]
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md" or not (root / source).is_file() or source.parts[0] != "docs":
            text, linked = _page(source, root)
            waiting += linked
            place.write_text(text, encoding="utf-8")
        else:
            shutil.copyfile(root / source, place)
    return sorted(done.values())


def page_of(source: PurePosixPath) -> PurePosixPath:
    """Return the path in the site of a file or directory of the repository."""
    if source in DOCUMENTS:
        return DOCUMENTS[source]
    if source.parts[:1] == ("docs",):
        return source.relative_to("docs")
    shown = PurePosixPath(*(part.lstrip(".") for part in source.parts))  # what is hidden is no page
    return PurePosixPath("files", f"{shown.with_suffix('') if shown.suffix == '.md' else shown}.md")


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Apply `change` to a Markdown text without its fenced blocks of code."""
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [change(text[end : fence.start()]), fence.group()]
        end = fence.end()
    return "".join([*parts, change(text[end:])])


def _documentation(root: Path) -> Iterator[PurePosixPath]:
    for path in sorted((root / "docs").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield PurePosixPath(path.relative_to(root))


def _page(source: PurePosixPath, root: Path) -> tuple[str, list[PurePosixPath]]:
    path = root / source
    if path.is_dir():
        return _directory(source, root)
    text = path.read_text(encoding="utf-8")
    if source.suffix == ".md":
        return _with_links_of_the_site(text, source, root)
    return f"# {source}\n\n{_code(path)}", []


def _directory(source: PurePosixPath, root: Path) -> tuple[str, list[PurePosixPath]]:
    """Make one page of an example: its README, then its files."""
    readme, linked = root / source / "README.md", list[PurePosixPath]()
    text = f"# {source}\n"
    if readme.exists():
        text, linked = _with_links_of_the_site(readme.read_text(encoding="utf-8"), source / "README.md", root, source)
    files = [path for path in _files(root / source) if path != readme]
    blocks = [f"### {path.relative_to(root / source)}\n\n{_code(path)}" for path in files]
    return "\n".join([text, "## Files", *blocks]), linked


def _files(directory: Path) -> Iterator[Path]:
    """Yield the files of an example, without what runs of it have left."""
    for path in sorted(directory.rglob("*")):
        inside = path.relative_to(directory).parent.parts
        if path.is_file() and not any(part.startswith((".", "__")) for part in inside):
            yield path


def _code(path: Path) -> str:
    text = path.read_text(encoding="utf-8").rstrip("\n")
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{ticks}{LANGUAGES.get(path.suffix, 'text')}\n{text}\n{ticks}\n"


def _with_links_of_the_site(
    text: str, source: PurePosixPath, root: Path, page: PurePosixPath | None = None
) -> tuple[str, list[PurePosixPath]]:
    """Return the text of a document with links to the pages of the site, and the files that it links to."""
    here = page_of(page or source).parent
    linked: list[PurePosixPath] = []

    def replaced(found: re.Match[str]) -> str:
        begin, link, end = (part for part in found.groups() if part is not None)
        file, mark, heading = link.partition("#")
        if not file or ":" in file:
            return found.group()
        target = PurePosixPath(os.path.normpath(source.parent / file))
        if not (root / target).exists():
            raise FileNotFoundError(f"{source}: {link}: {target} does not exist")
        linked.append(target)
        return f"{begin}{os.path.relpath(page_of(target), here)}{mark}{heading}{end}"

    return outside_code(text, lambda part: _with_bare_pipes(LINK.sub(replaced, part))), linked


def _with_bare_pipes(text: str) -> str:
    """Return a text whose code in tables has no escaped pipes. GitHub needs them; the site would show the backslash."""

    def bare(row: re.Match[str]) -> str:
        return re.sub(r"`[^`]+`", lambda code: code.group().replace("\\|", "|"), row.group())

    return re.sub(r"(?m)^\|.*$", bare, text)
