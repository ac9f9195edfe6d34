"""What a run reports beyond pytest's own output: lines of logs, a page, artifacts."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from msgspec import Struct

from ..options import ARTIFACTS, LOG_LINES, REPORT, place_of

MAX_LOG_LINES = 200
STEP_SUMMARY = "GITHUB_STEP_SUMMARY"
SHOWING_LOGS = ("all", "log")
"""The values of ``--show-capture`` with which failure reports show the logs of daemons. The sections have ``log`` in
their titles, and this is how pytest itself chooses the sections that it shows."""


class ReportOptions(Struct, frozen=True):
    """What the user wants reported."""

    log_lines: int
    """How many lines of each log a failure report shows; 0: none."""
    page: Path | None
    artifacts: Path | None
    step_summary: Path | None
    """The summary of a step of GitHub Actions, to append to."""

    @property
    def keeps(self) -> bool:
        """Whether tests and logs have to be kept until the end of the run."""
        return self.page is not None or self.artifacts is not None

    @property
    def wants_any(self) -> bool:
        """Whether anything is to be written."""
        return self.keeps or self.step_summary is not None


def resolve_reports(config: pytest.Config, *, writes: bool) -> ReportOptions:
    """Read the options.

    Args:
        writes: this process writes the files, so that it has to be able to.

    Raises:
        pytest.UsageError: an option is invalid, or a file could not be written.
    """
    lines = _log_lines(config)
    shown = config.getoption("showcapture", "all") in SHOWING_LOGS
    page, artifacts = _path(config, REPORT), _path(config, ARTIFACTS)
    if writes and page is not None:
        _try_file(page)
    if writes and artifacts is not None:
        _try_directory(artifacts)
    step = os.environ.get(STEP_SUMMARY)
    return ReportOptions(lines if shown else 0, page, artifacts, Path(step) if step else None)


def _log_lines(config: pytest.Config) -> int:
    text = str(config.getini(LOG_LINES)).strip()
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= MAX_LOG_LINES):
        raise pytest.UsageError(
            f"{place_of(config, LOG_LINES)} {text:.80}: expected a number of lines from 0 (none) to {MAX_LOG_LINES}"
        )
    return int(text)


def _path(config: pytest.Config, option: str) -> Path | None:
    stated = config.getoption(option)
    if stated is None:
        return None
    if not stated:
        raise pytest.UsageError(f"{option}: empty value")
    return Path(config.invocation_params.dir, str(stated))


def _try_file(path: Path) -> None:
    """Find out now whether the file can be written, and not after a long run."""
    nearest = next(parent for parent in path.parents if parent.exists())
    try:
        if not nearest.is_dir():
            raise NotADirectoryError(20, f"{nearest} is not a directory")
        if path.is_dir():
            raise IsADirectoryError(21, "it is a directory; name a file in it")
        if path.exists() and not path.is_file():
            raise OSError(22, "it is not a regular file")
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise pytest.UsageError(f"{REPORT} {path}: cannot be written: {error.strerror}") from None


def _try_directory(path: Path) -> None:
    """Find out whether the directory can be created, without creating it: a run that passes leaves nothing."""
    nearest = next(parent for parent in (path, *path.parents) if parent.exists())
    if not nearest.is_dir():
        raise pytest.UsageError(f"{ARTIFACTS} {path}: {nearest} is not a directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise pytest.UsageError(f"{ARTIFACTS} {path}: cannot be written: {nearest} is not writable")
