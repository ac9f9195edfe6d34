"""The command line, as far as services are concerned on macOS."""

from __future__ import annotations

import functools
import sys

from neo_daemons.cli import main, services

services.find = functools.partial(services.find, platform="darwin")
sys.exit(main())
