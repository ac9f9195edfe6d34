"""Adds the command-line options and ini settings to pytest's, and decides whether the plugin is enabled.

`settings` reads the rest of them. A run without daemons does not import it.
"""

from __future__ import annotations

import os

import pytest

IMPLYING = ("--neo-daemons-keep", "--neo-daemons-attach", "--neo-daemons-url", "--neo-daemons-engine")
"""Options that enable the plugin without ``--neo-daemons``."""
FLAG = "--neo-daemons"
REPORT = "--neo-daemons-report"
ARTIFACTS = "--neo-daemons-artifacts"
LOG_LINES = "neo_daemons_log_lines"
UNNEEDED = frozenset(
    [
        "--neo-daemons-keep",
        "--neo-daemons-attach",
        "--help",
        "-h",
        "--version",
        "-V",
        "--markers",
        "--fixtures",
        "--funcargs",
        "--fixtures-per-test",
        "--collect-only",
        "--co",
        "--setup-plan",
        "--cache-show",
    ]
)
"""Options with which a run starts no supervisor, or probably finds one that was kept warm."""


def add_options(parser: pytest.Parser) -> None:
    """Add the plugin's options to pytest's."""
    group = parser.getgroup("neo-daemons", "real background daemons as fixtures")
    group.addoption(FLAG, action="store_true", default=False, help="start the daemons that the selected tests use")
    group.addoption(
        "--neo-daemons-config",
        metavar="FILE",
        default=None,
        help="configuration file to use instead of neo-daemons.toml or [tool.neo_daemons] in pyproject.toml",
    )
    group.addoption(
        "--neo-daemons-keep",
        metavar="DURATION",
        default=None,
        help="keep the daemons running for this long after the run so that the next run can reuse them "
        "(seconds, or e.g. 90s, 10m, 1h30m)",
    )
    group.addoption(
        "--neo-daemons-attach",
        metavar="STATE_DIR",
        nargs="?",
        const="",
        default=None,
        help="use the daemons of a running supervisor (default: this project's); the run never stops them",
    )
    group.addoption(
        "--neo-daemons-url",
        metavar="NAME=URL",
        action="append",
        default=None,
        help="use an external daemon at this URL; it is only probed, never started or stopped (repeatable)",
    )
    group.addoption(
        "--neo-daemons-engine",
        metavar="ENGINE",
        default=None,
        help="use the daemons that an engine runs: kubernetes, kubernetes=NAMESPACE or compose; the run never starts, "
        "changes or stops them",
    )
    group.addoption(
        REPORT,
        metavar="FILE",
        default=None,
        help="write a page of the run: daemons and tests over time, with their logs",
    )
    group.addoption(
        ARTIFACTS,
        metavar="DIR",
        default=None,
        help="if the run fails, keep logs, journal, definitions and the page of the run in this directory",
    )
    parser.addini(LOG_LINES, "how many lines of a daemon's log the report of a failure shows; 0: none", default="40")
    parser.addini("neo_daemons", "same as --neo-daemons", type="bool", default=False)
    parser.addini("neo_daemons_config", "same as --neo-daemons-config; relative to this file", default="")
    parser.addini("neo_daemons_keep", "same as --neo-daemons-keep", default="")
    parser.addini("neo_daemons_attach", "same as --neo-daemons-attach; relative to this file", default="")
    parser.addini("neo_daemons_engine", "same as --neo-daemons-engine", default="")
    parser.addini("neo_daemons_url", "same as --neo-daemons-url, one per line", type="linelist", default=[])
    parser.addini(
        "neo_daemons_required",
        "without --neo-daemons, fail the tests that need daemons instead of skipping them",
        type="bool",
        default=False,
    )
    parser.addini("neo_daemons_seeds_max_bytes", "keep at most this much of sealed seeds, e.g. 500M", default="4G")
    parser.addini("neo_daemons_seeds_max_days", "remove sealed seeds after so many days without use", default="30")
    parser.addini(
        "neo_daemons_export_env",
        "set the environment variables that tell clients where the daemons are",
        type="bool",
        default=False,
    )
    parser.addini(
        "neo_daemons_unavailable",
        "what happens to tests whose daemon is not installed: fail or skip",
        default="fail",
    )
    parser.addini(
        "neo_daemons_fence",
        "keep tests away from the daemons of running supervisors (default: with --neo-daemons)",
        type="bool",
        default=None,
    )
    parser.addini(
        "neo_daemons_fence_allow",
        "daemons, or state directories of supervisors, that tests may use all the same, one per line",
        type="linelist",
        default=[],
    )


def is_on(config: pytest.Config) -> bool:
    """Return whether the plugin is enabled: by its flag or setting, or by an option that implies it."""
    return (
        config.getoption(FLAG)
        or flag(config, "neo_daemons")
        or any(config.getoption(option) is not None for option in IMPLYING)
    )


def refuse_without_flag(config: pytest.Config) -> None:
    """Refuse options that would have no effect because the plugin is not enabled. In `addopts` they stand for the runs
    that enable it.

    Raises:
        pytest.UsageError: there is such an option in the command.
    """
    stated = {str(argument).partition("=")[0] for argument in config.invocation_params.args}
    for option in (REPORT, ARTIFACTS):
        if option in stated and config.getoption(option) is not None:
            raise pytest.UsageError(f"{option} has no effect without {FLAG}; pass both, or neither")


def is_fenced(config: pytest.Config, *, on: bool) -> bool:
    """Return whether the tests are kept away from production: with daemons of their own, or if the setting says so.

    Raises:
        pytest.UsageError: the setting is neither true nor false.
    """
    return on if _unset(config, "neo_daemons_fence") else flag(config, "neo_daemons_fence")


def will_be_fenced(config: pytest.Config) -> bool | None:
    """Return whether the fence can be raised before conftest.py files are loaded, when pytest has not parsed all of its
    arguments yet: None if not, else whether the run has daemons of its own."""
    stated = config.known_args_namespace
    names = [option.removeprefix("--").replace("-", "_") for option in (FLAG, *IMPLYING)]
    try:
        on = bool(config.getini("neo_daemons")) or any(getattr(stated, name, None) for name in names)
        attached = getattr(stated, "neo_daemons_attach", None) is not None or config.getini("neo_daemons_attach")
        fenced = on if _unset(config, "neo_daemons_fence") else bool(config.getini("neo_daemons_fence"))
    except (ValueError, TypeError, pytest.UsageError):  # it is reported when the options are read
        return None
    return on if fenced and not attached else None


def _unset(config: pytest.Config, setting: str) -> bool:
    try:
        return config.getini(setting) is None
    except (ValueError, TypeError, pytest.UsageError):
        return False


def will_need_supervisor(config: pytest.Config) -> bool:
    """Return whether this run will probably start a supervisor. Pytest has not parsed its arguments yet."""
    try:
        arguments = {
            *config.getini("addopts"),
            *os.environ.get("PYTEST_ADDOPTS", "").split(),
            *map(str, config.invocation_params.args),
        }
        if FLAG not in arguments and not config.getini("neo_daemons"):
            return False
        elsewhere = config.getini("neo_daemons_keep") or config.getini("neo_daemons_attach")
    except (ValueError, TypeError, pytest.UsageError):  # it is reported when the options are read
        return False
    in_worker = "PYTEST_XDIST_WORKER" in os.environ
    return not elsewhere and not in_worker and UNNEEDED.isdisjoint(word.partition("=")[0] for word in arguments)


def flag(config: pytest.Config, setting: str) -> bool:
    """Return the value of an ini setting that is true or false.

    Raises:
        pytest.UsageError: it is neither.
    """
    try:
        return bool(config.getini(setting))
    except (TypeError, ValueError, pytest.UsageError) as error:  # which of them depends on the version of pytest
        raise pytest.UsageError(f"{place_of(config, setting)} {error}; use true or false") from None


def place_of(config: pytest.Config, setting: str) -> str:
    """Return how messages name an ini setting, up to its value."""
    overrides = [text.partition("=")[0].strip() for text in config.getoption("override_ini") or ()]
    file = f"{config.inipath}: " if config.inipath is not None else ""
    return f"{'-o ' if setting in overrides else file}{setting} ="
