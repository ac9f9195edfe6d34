"""The source has no import circle, no large class and no long file; and what measures this counts what it should."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from . import structure

ROOT = Path(__file__).parents[1]

Write = Callable[[dict[str, str]], dict[str, structure.Module]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files of a `neo_daemons` package and return its modules."""

    def write(files: dict[str, str]) -> dict[str, structure.Module]:
        for name, text in {"__init__.py": "", **files}.items():
            path = tmp_path / "neo_daemons" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return structure.modules(tmp_path)

    return write


def test_source_keeps_within_the_limits() -> None:
    found = structure.violations(structure.modules(ROOT))

    assert not found, "\n".join(found)


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_paths_in_the_documents_for_contributors_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = re.findall(r"[`( ]((?:neo_daemons|pytest_neo_daemons|tests|docs)/[\w*./-]*)", text)
    links = re.findall(r"\]\(([\w./-]+)\)", text)

    assert [path for path in [*named, *links] if "NAME" not in path and not list(ROOT.glob(path.rstrip(".")))] == []


def test_every_module_has_a_line_in_the_architecture() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    modules = [str(path.relative_to(ROOT)) for path in structure.source_files(ROOT)]
    lines = [f"* `{module.removesuffix('__init__.py')}`: " for module in modules]

    assert [line for line in lines if text.count(f"\n{line}") != 1] == []


def headings(path: Path) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    text = re.sub(r"(?ms)^```.*?^```", "", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"(?m)^#+ (.*)$", text)}


@pytest.mark.parametrize("path", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda path: path.name)
def test_links_of_a_document_lead_to_files_and_headings(path: Path) -> None:
    text = re.sub(r"(?ms)^```.*?^```", "", path.read_text(encoding="utf-8"))
    broken = []
    for link in re.findall(r"\]\(([^)\s:]+)\)", text):
        file, _, heading = link.partition("#")
        target = path.parent / file if file else path
        if not target.exists() or (heading and heading not in headings(target)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize(
    "text",
    [
        "from . import b",
        "from .b import B",
        "import neo_daemons.b",
        "import neo_daemons.b as other",
        "from neo_daemons import b",
        "from neo_daemons.b import *",
        "if TYPE_CHECKING:\n    from .b import B",
        "def later():\n    from .b import B",
        "class A:\n    def later(self):\n        if x:\n            from neo_daemons import b",
    ],
)
def test_circle_is_named_wherever_the_import_is_written(write: Write, text: str) -> None:
    found = write({"a.py": text, "b.py": "from .a import A"})

    assert structure.violations(found, {}) == ["import circle: neo_daemons.a -> neo_daemons.b -> neo_daemons.a"]


def test_shortest_circle_of_each_group_is_named(write: Write) -> None:
    found = write(
        {
            "a.py": "from . import b",
            "b.py": "from . import c",
            "c.py": "from . import a, b",
            "x.py": "from . import y",
            "y.py": "from . import x",
            "z.py": "from . import a, x",
        }
    )

    assert structure.circles(structure.import_graph(found)) == [
        ["neo_daemons.b", "neo_daemons.c", "neo_daemons.b"],
        ["neo_daemons.x", "neo_daemons.y", "neo_daemons.x"],
    ]


def test_package_is_a_module_of_its_own(write: Write) -> None:
    found = write(
        {
            "__init__.py": "from .sub.a import A",  # no circle: a imports the submodule b, not neo_daemons
            "sub/__init__.py": "",
            "sub/a.py": "from . import b\nfrom .. import c\nfrom neo_daemons.sub import b",
            "sub/b.py": "",
            "c.py": "",
        }
    )

    assert structure.import_graph(found) == {
        "neo_daemons": {"neo_daemons.sub.a"},
        "neo_daemons.sub": frozenset(),
        "neo_daemons.sub.a": {"neo_daemons.sub.b", "neo_daemons.c"},
        "neo_daemons.sub.b": frozenset(),
        "neo_daemons.c": frozenset(),
    }
    assert structure.violations(found, {}) == []


def test_name_taken_from_a_package_is_an_import_of_its_init(write: Write) -> None:
    found = write({"sub/__init__.py": "from .a import A\nNAME = 1", "sub/a.py": "from . import NAME"})

    assert structure.violations(found, {}) == ["import circle: neo_daemons.sub -> neo_daemons.sub.a -> neo_daemons.sub"]


def test_imports_of_other_projects_do_not_count(write: Write) -> None:
    found = write({"a.py": "import os.path\nfrom neo_daemons_extra import a\nfrom json import a"})

    assert structure.import_graph(found)["neo_daemons.a"] == frozenset()


def test_attributes_are_counted_wherever_they_are_assigned(write: Write) -> None:
    found = write(
        {
            "a.py": """
class A(Base):
    __slots__ = ("slotted",)
    declared: int
    constant, other = 1, 2
    if True:
        conditional = 3

    def __init__(this, given):
        this.plain = given.not_ours
        this.annotated: int = 1
        this.counted += 1
        this.one, (this.two, *this.rest) = given
        given.elsewhere = 1
        local = this.read

        def inner():
            with given as this.context:
                for this.each in given:
                    this.plain = 2

    @classmethod
    def made(cls):
        cls.shared = 1

    @staticmethod
    def static(given):
        given.elsewhere = 1
"""
        }
    )
    ((name, node),) = structure.classes(found["neo_daemons.a"])

    assert name == "neo_daemons.a.A"
    assert structure.size(node).attributes == {
        *("declared", "constant", "other", "conditional", "plain", "annotated", "counted", "one", "two", "rest"),
        *("context", "each", "shared"),
    }


def test_property_and_overloads_count_as_one_method(write: Write) -> None:
    found = write(
        {
            "a.py": """
class A:
    @property
    def p(self): ...
    @p.setter
    def p(self, value): ...
    if TYPE_CHECKING:
        @overload
        def f(self, x: int): ...
        @overload
        def f(self, x: str): ...
    async def f(self, x):
        def local(): ...
    class Inner:
        def g(self): ...
"""
        }
    )
    sizes = {name: structure.size(node).methods for name, node in structure.classes(found["neo_daemons.a"])}

    assert sizes == {"neo_daemons.a.A": {"p", "f"}, "neo_daemons.a.A.Inner": {"g"}}


def large_class(attributes: int, methods: int, base: str = "") -> str:
    return f"class A({base}):\n" + "\n".join(
        [*(f"    a{n} = {n}" for n in range(attributes)), *(f"    def m{n}(self): ..." for n in range(methods))]
    )


def test_limits_are_the_last_values_allowed(write: Write) -> None:
    found = write({"a.py": large_class(20, 30), "b.py": "\n" * 400, "c.py": large_class(21, 31), "d.py": "\n" * 401})

    assert [excess.subject for excess in structure.excesses(found)] == [
        "attributes of neo_daemons.c.A",
        "methods of neo_daemons.c.A",
        "lines of neo_daemons.d",
    ]


def test_members_of_an_enumeration_are_not_attributes(write: Write) -> None:
    assert structure.excesses(write({"a.py": large_class(21, 1, "enum.StrEnum")})) == []


def test_exception_needs_a_reason_and_something_that_exceeds(write: Write) -> None:
    found = write({"a.py": large_class(21, 1)})
    subject = "attributes of neo_daemons.a.A"

    assert structure.violations(found, {subject: "Pure data."}) == []
    assert structure.violations(found, {subject: " "}) == [f"exception for {subject}: gives no reason"]
    assert structure.violations(found, {subject: "Pure data.", "lines of neo_daemons.a": "Once long."}) == [
        "exception for lines of neo_daemons.a: nothing exceeds this limit; delete it"
    ]


def test_checkout_without_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no module of neo_daemons or pytest_neo_daemons below"):
        structure.modules(tmp_path)
