"""The pages of the site: each file that a document links to is one, and each page can be found."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from . import finished
from .pages import DOCUMENTS, ROOT, collect, outside_code

NOT_IN_THE_MENU = {"benchmarks/results.md"}
"""Pages that others link to."""


def repository(root: Path, **files: str) -> Path:
    for name, text in {"README.md": "# Home\n", "docs/page.md": "# Page\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def in_menu(nav: list[dict[str, Any]]) -> list[str]:
    pages = list[str]()
    for entry in nav:
        for value in entry.values():
            pages += [value] if isinstance(value, str) else in_menu(value)
    return pages


def test_each_page_is_in_the_menu_once() -> None:
    with (ROOT / "zensical.toml").open("rb") as file:
        listed = in_menu(tomllib.load(file)["project"]["nav"])
    written = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(listed) == sorted((written | {str(page) for page in DOCUMENTS.values()}) - NOT_IN_THE_MENU)


def test_links_lead_to_pages_of_the_site(tmp_path: Path) -> None:
    root = repository(
        tmp_path / "root",
        **{
            "README.md": "[page](docs/page.md#head) [code](examples/app) ![picture](docs/images/a.svg)\n",
            "docs/page.md": "[home](../README.md#top) [test](../tests/test_a.py) [ci](../.github/ci.yml) <https://example.org>\n",
            "docs/images/a.svg": "<svg/>",
            "examples/app/README.md": "# App\n[page](../../docs/page.md)\n",
            "examples/app/main.py": "print(1)\n",
            "tests/test_a.py": "x = 1\n",
            ".github/ci.yml": "on: push\n",
        },
    )
    site = tmp_path / "site"
    files = [str(path) for path in collect(site, root)]

    assert files == [
        "files/examples/app.md",
        "files/github/ci.yml.md",
        "files/tests/test_a.py.md",
        "images/a.svg",
        "index.md",
        "page.md",
    ]
    assert (
        site / "index.md"
    ).read_text() == "[page](page.md#head) [code](files/examples/app.md) ![picture](images/a.svg)\n"
    assert (
        (site / "page.md")
        .read_text()
        .startswith("[home](index.md#top) [test](files/tests/test_a.py.md) [ci](files/github/ci.yml.md) <https:")
    )
    assert "[page](../../page.md)" in (site / "files/examples/app.md").read_text()
    assert "### main.py\n\n```python\nprint(1)\n```" in (site / "files/examples/app.md").read_text()


def test_code_is_left_as_it_is() -> None:
    text = "[a](b)\n\n```text\n[a](b)\n```\n\n    ```\n    [a](b)\n    ```\n[a](b)\n"
    assert outside_code(text, lambda part: part.replace("(b)", "(c)")).count("(b)") == 2


def test_pipes_in_the_code_of_a_table_are_bare(tmp_path: Path) -> None:
    root = repository(tmp_path / "root", **{"docs/page.md": "| `a \\| b` | c \\| d |\n\n`a \\| b`\n"})
    collect(tmp_path / "site", root)
    assert (tmp_path / "site" / "page.md").read_text() == "| `a | b` | c \\| d |\n\n`a \\| b`\n"


def test_a_link_to_nothing_is_an_error(tmp_path: Path) -> None:
    root = repository(tmp_path / "root", **{"docs/page.md": "[gone](gone.md)\n"})
    with pytest.raises(FileNotFoundError, match=r"docs/page\.md: gone\.md: docs/gone\.md does not exist"):
        collect(tmp_path / "site", root)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<script src="https://cdn.example/a.js"></script>', "loads https://cdn.example/a.js from another host"),
        ('<link rel="stylesheet" href="//fonts.example/a">', "loads //fonts.example/a from another host"),
        ('<a href="gone/">', "gone/ leads nowhere"),
        ('<a href="#gone">', "#gone: there is no such heading"),
        ('<a href="other/#gone">', "other/#gone: there is no such heading"),
        ("<p>These:\n* one</p>", "a list is not rendered: put an empty line before it"),
        ("<p>```python</p>", "a block of code is not rendered: indent it by four spaces in a list"),
        (
            '<a href="other/#head"><a href="https://example.org"><pre>```</pre><link rel="canonical" href="https://x">',
            None,
        ),
    ],
)
def test_what_is_wrong_with_a_site_is_found(tmp_path: Path, body: str, fault: str | None) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text('<h1 id="head">')
    (tmp_path / "index.html").write_text(body)
    assert finished.faults(tmp_path) == ([f"index.html: {fault}"] if fault else [])


def test_a_style_that_loads_a_font_is_found(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("")
    (tmp_path / "a.css").write_text("@font-face { src: url(https://fonts.example/a) }")
    assert finished.faults(tmp_path) == ["a.css: loads from another host"]


def test_a_site_without_pages_is_not_whole(tmp_path: Path) -> None:
    assert finished.faults(tmp_path) == [f"{tmp_path}: there are no pages"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").rglob("*.md")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_of_the_examples_lead_to_files(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s:]+)\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / PurePosixPath(link.partition("#")[0])).exists()] == []


def test_no_document_has_the_marks_of_a_merge() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    marked = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)
    assert [path for path in documents if marked.search(path.read_text(encoding="utf-8"))] == []
