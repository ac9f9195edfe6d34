"""Run a module of Python on a machine whose wall clock is off by what a file says, from one moment to the next.

usage: python stepped_clock.py FILE PYTHON -m MODULE ARGUMENT...
"""

import runpy
import sys
import time
from pathlib import Path

from psutil import _pslinux

offset, (module, *arguments) = Path(sys.argv[1]), sys.argv[4:]
wall, wall_ns, boot_time = time.time, time.time_ns, _pslinux.boot_time


def offset_s() -> float:
    return float(offset.read_text())


time.time = lambda: wall() + offset_s()
time.time_ns = lambda: wall_ns() + int(offset_s() * 1e9)
_pslinux.boot_time = lambda: boot_time() + offset_s()  # the kernel reckons it from the wall clock
sys.argv = [module, *arguments]
sys.path[0] = ""
runpy.run_module(module, run_name="__main__", alter_sys=True)
