"""Runs ``python -m neo_daemons.ephemeral STATE_DIR``, which `launch` starts. Users do not run it."""

import gc
import sys

from neo_daemons.interpreter import leave_out_unused_modules, prefer_installed_modules

if __name__ == "__main__":
    gc.disable()  # what is imported stays
    prefer_installed_modules()
    leave_out_unused_modules()
    from neo_daemons.state_dir import keep_own_rights

    from .supervise import main

    keep_own_rights()
    sys.exit(main(*sys.argv[1:]))
