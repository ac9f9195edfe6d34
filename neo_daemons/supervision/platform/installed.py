"""psutil as it is installed. A test process searches the tests' directories first, where a ``psutil.py`` may be."""

from __future__ import annotations

from neo_daemons.interpreter import installed_modules

with installed_modules():
    import psutil

__all__ = ["psutil"]
