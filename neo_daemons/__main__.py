"""``python -m neo_daemons``, and the console script ``neo-daemons``."""

import gc
import sys

from .interpreter import leave_out_unused_modules, prefer_installed_modules


def main() -> int:
    """Run one command and return its exit code."""
    # What is imported stays. To look for garbage in it would take a tenth of the time of a short command.
    gc.disable()
    prefer_installed_modules()
    leave_out_unused_modules()
    from .cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
