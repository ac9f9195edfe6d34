"""Adds sections and properties to the reports of tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from .incidents import Incident

PROPERTY = "neo_daemons"
TITLE = "neo-daemons"


def add_section(report: pytest.TestReport | pytest.CollectReport, title: str, text: str) -> None:
    """Add a section to a failing report, where the terminal, JUnit XML and an xdist controller find it."""
    longrepr: Any = report.longrepr
    if hasattr(longrepr, "addsection"):
        longrepr.addsection(title, text, "-")
    elif isinstance(longrepr, str):
        report.longrepr = f"{longrepr}\n\n{f' {title} ':-^80}\n{text}"
    else:
        report.sections.append((title, text))


def set_properties(item: pytest.Item, report: pytest.TestReport, incidents: Iterable[Incident]) -> None:
    """Set the incidents as properties of a report."""
    others = [entry for entry in item.user_properties if entry[0] != PROPERTY]
    item.user_properties[:] = [*others, *((PROPERTY, str(incident)) for incident in incidents)]
    report.user_properties = list(item.user_properties)
