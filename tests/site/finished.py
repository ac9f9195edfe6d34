"""Checks the finished site: it loads nothing from other hosts, and each link leads to a page and a heading of it."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href", "use": "href"}
"""What a browser fetches by itself: tag → attribute."""
NOT_LOADED = {"canonical", "next", "prev", "alternate"}
"""Relations of a ``link`` that a browser does not fetch."""


class _Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.links, self.loaded, self.text = path, list[str](), list[str](), list[str]()
        self.ids: set[str] = set()
        self._code = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        stated = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := stated.get(name))}
        if tag == "a" and (link := stated.get("href")):
            self.links.append(link)
        elif (loaded := stated.get(LOADED.get(tag, ""))) and stated.get("rel") not in NOT_LOADED:
            self.loaded.append(loaded)
        self._code += tag in ("code", "pre", "script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in ("code", "pre", "script", "style")

    def handle_data(self, data: str) -> None:
        if not self._code:
            self.text.append(data)


def faults(site: Path) -> list[str]:
    """Return what is wrong with the site, one line each."""
    pages = {path: _Page(path) for path in sorted(site.rglob("*.html"))}
    if not pages:
        return [f"{site}: there are no pages"]
    found = [f"{page.path.relative_to(site)}: {fault}" for page in pages.values() for fault in _faults(page, pages)]
    return [*found, *_styles(site)]


def _faults(page: _Page, pages: dict[Path, _Page]) -> Iterator[str]:
    for address in page.loaded:
        if urlsplit(address).netloc:
            yield f"loads {address} from another host"
    text = "".join(page.text)
    if "```" in text:
        yield "a block of code is not rendered: indent it by four spaces in a list"
    if "\n* " in text:
        yield "a list is not rendered: put an empty line before it"
    if page.path.name == "404.html":  # its links begin with the path of the site
        return
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
        target = target / "index.html" if target.is_dir() else target
        if not target.exists():
            yield f"{link} leads nowhere"
        elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
            yield f"{link}: there is no such heading"


def _styles(site: Path) -> Iterator[str]:
    for style in sorted(site.rglob("*.css")):
        text = style.read_text(encoding="utf-8")
        if "url(http" in text or "url(//" in text or "@import" in text:
            yield f"{style.relative_to(site)}: loads from another host"
