"""The options and ini settings, read once into a frozen object."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec import Struct

from neo_daemons.urls import redacted

from .plugin import ini_directory, stated_configuration

LONGEST_S = 7 * 86400.0


class Options(Struct, frozen=True, kw_only=True):
    """What the user asked for."""

    config: Path | None
    keep_s: float
    attach: str | None
    """State directory of a ``serve``; "" for the project's; None: a session of our own."""
    urls: tuple[tuple[str, str], ...]
    export_env: bool


def resolve(config: pytest.Config) -> Options:
    """Read them.

    Raises:
        pytest.UsageError: one of them makes no sense.
    """
    attach = config.getoption("--neo-daemons-attach")
    if attach is None and config.getini("neo_daemons_attach"):
        attach = str(ini_directory(config) / config.getini("neo_daemons_attach"))
    urls = config.getoption("--neo-daemons-url") or config.getini("neo_daemons_url")
    keep = config.getoption("--neo-daemons-keep") or config.getini("neo_daemons_keep")
    if attach is not None and urls:
        raise pytest.UsageError(
            "--neo-daemons-url together with --neo-daemons-attach: name the external daemon in the configuration "
            "of that serve instead"
        )
    named = [_url(text) for text in urls]
    for name, _ in named:
        if len({url for other, url in named if other == name}) > 1:
            raise pytest.UsageError(f"--neo-daemons-url {name}: given twice, with different URLs; give one")
    return Options(
        config=stated_configuration(config),
        keep_s=_duration_s(keep) if keep else 0.0,
        attach=attach,
        urls=tuple(named),
        export_env=config.getini("neo_daemons_export_env"),
    )


def _duration_s(text: str) -> float:
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text.strip())
    if match is None or not any(match.groups()):
        raise pytest.UsageError(f"--neo-daemons-keep {text:.80}: not a duration; write such as 90s, 10m or 1h30m")
    hours, minutes, seconds = (float(group or 0) for group in match.groups())
    duration_s = 3600.0 * hours + 60.0 * minutes + seconds
    if duration_s > LONGEST_S:
        raise pytest.UsageError(
            f"--neo-daemons-keep {text:.80}: longer than a week; use serve and --neo-daemons-attach"
        )
    return duration_s


def _url(text: str) -> tuple[str, str]:
    name, separator, url = text.partition("=")
    if not separator or not name or not url:
        raise pytest.UsageError(f"--neo-daemons-url {redacted(text)}: write NAME=URL, such as chroma=http://host:8000")
    return name.strip(), url.strip()
