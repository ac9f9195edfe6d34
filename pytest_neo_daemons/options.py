"""The options and ini settings: added to pytest's, and read once into a frozen object."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from .config_files import ini_directory, stated_configuration

IMPLYING = ("--neo-daemons-keep", "--neo-daemons-attach", "--neo-daemons-url")
"""Options that switch the plugin on by themselves."""
LONGEST_S = 7 * 86400.0


class Options(NamedTuple):  # a dataclass costs every run four times as much, also one without daemons
    """What the user asked for."""

    config: Path | None
    keep_s: float
    attach: str | None
    """State directory of a ``serve``; "" for the project's; None: a session of our own."""
    urls: tuple[tuple[str, str], ...]
    export_env: bool


def add_options(parser: pytest.Parser) -> None:
    """Add ours to those of pytest."""
    group = parser.getgroup("neo-daemons", "real background daemons as fixtures")
    group.addoption(
        "--neo-daemons", action="store_true", default=False, help="start the daemons that the selected tests use"
    )
    group.addoption(
        "--neo-daemons-config",
        metavar="FILE",
        default=None,
        help="configuration to use instead of neo-daemons.toml or [tool.neo_daemons] of pyproject.toml",
    )
    group.addoption(
        "--neo-daemons-keep",
        metavar="DURATION",
        default=None,
        help="keep the daemons that long after the run, for the next one: seconds, or such as 90s, 10m, 1h30m",
    )
    group.addoption(
        "--neo-daemons-attach",
        metavar="STATE_DIR",
        nargs="?",
        const="",
        default=None,
        help="use the daemons of a running serve, by default this project's; they are never stopped",
    )
    group.addoption(
        "--neo-daemons-url",
        metavar="NAME=URL",
        action="append",
        default=None,
        help="use a daemon that somebody else runs: it is observed, never controlled (may be given repeatedly)",
    )
    parser.addini("neo_daemons", "as --neo-daemons", type="bool", default=False)
    parser.addini("neo_daemons_config", "as --neo-daemons-config; relative to this file", default="")
    parser.addini("neo_daemons_keep", "as --neo-daemons-keep", default="")
    parser.addini("neo_daemons_attach", "as --neo-daemons-attach; relative to this file", default="")
    parser.addini("neo_daemons_url", "as --neo-daemons-url, one a line", type="linelist", default=[])
    parser.addini("neo_daemons_required", "without --neo-daemons, fail instead of skip", type="bool", default=False)
    parser.addini("neo_daemons_export_env", "set the variables that clients read", type="bool", default=False)


def is_on(config: pytest.Config) -> bool:
    """Whether daemons are asked for: by the flag or its setting, or by an option that makes no sense without it."""
    return (
        config.getoption("--neo-daemons")
        or config.getini("neo_daemons")
        or any(config.getoption(option) is not None for option in IMPLYING)
    )


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
        from neo_daemons.urls import redacted  # a run without daemons imports nothing of it

        raise pytest.UsageError(f"--neo-daemons-url {redacted(text)}: write NAME=URL, such as chroma=http://host:8000")
    return name.strip(), url.strip()
