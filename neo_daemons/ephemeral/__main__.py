"""``python -m neo_daemons.ephemeral STATE_DIR``: started by `launch`, not by people."""

from __future__ import annotations

import sys

from .supervise import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
