"""How wide help is, told to argparse, which would import shutil in each command to measure the terminal."""

from __future__ import annotations

import argparse
import os
import sys

NO_TERMINAL = 80
MARGIN = 2
"""Columns that help leaves free, as argparse does."""


def plain_help(prog: str) -> argparse.HelpFormatter:
    """Return a formatter that fills descriptions."""
    return argparse.HelpFormatter(prog, width=_width())


def command_help(prog: str) -> argparse.HelpFormatter:
    """Return a formatter that leaves the lines of descriptions and examples as they are."""
    return argparse.RawDescriptionHelpFormatter(prog, width=_width())


def _width() -> int:
    """Return the same as argparse would use: by ``COLUMNS``, or else by the terminal."""
    try:
        columns = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        columns = 0
    if columns <= 0:
        try:
            columns = os.get_terminal_size(sys.__stdout__.fileno()).columns  # type: ignore[union-attr]
        except (AttributeError, ValueError, OSError):  # it is closed, or no terminal
            columns = 0
    return (columns or NO_TERMINAL) - MARGIN
