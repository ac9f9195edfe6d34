"""Run the rest of the command line, ``PYTHON -m MODULE ARGUMENT…``, in a process that has the shim of kqueue."""

import runpy
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])
from tests import kqueue_shim  # noqa: E402

del sys.path[0]
kqueue_shim.install()
_, _, option, module, *arguments = sys.argv
assert option == "-m"
sys.argv[1:] = arguments
runpy.run_module(module, run_name="__main__", alter_sys=True)
