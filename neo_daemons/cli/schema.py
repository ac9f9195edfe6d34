"""``schema``: print the JSON schema of configuration files."""

from __future__ import annotations

import argparse
import json
import sys

from neo_daemons.config.json_schema import schema
from neo_daemons.config.source import FILE_NAME, PYPROJECT
from neo_daemons.files import write_whole

from .codes import DONE


def print_schema(options: argparse.Namespace) -> int:
    """Print the schema, or write it into a file."""
    content = json.dumps(schema(PYPROJECT if options.pyproject else FILE_NAME), indent=1, ensure_ascii=False) + "\n"
    if options.output is not None:
        write_whole(options.output, content.encode())
    else:
        sys.stdout.write(content)
    return DONE
