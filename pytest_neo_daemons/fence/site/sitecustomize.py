"""Puts a Python process that a test has started behind the fence; then the site's own ``sitecustomize`` runs.

Python imports this at its start because tests behind the fence have its directory in ``PYTHONPATH``. So every version
of Python has to understand it, back to 2.7. The fence itself needs 3.8.
"""

import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))

if sys.version_info >= (3, 8) and "NEO_DAEMONS_FENCE" in os.environ:
    try:
        from importlib.machinery import SourceFileLoader  # importlib.util takes longer to import than all of this

        _loader = SourceFileLoader("_neo_daemons_fence_child", os.path.join(os.path.dirname(_here), "child.py"))
        _child = type(sys)(_loader.name)
        _loader.exec_module(_child)
        _child.stand(os.environ["NEO_DAEMONS_FENCE"], os.path.dirname(_here))
    except Exception:  # noqa: S110 - the run may be over, and its directory gone
        pass

sys.path[:] = [_path for _path in sys.path if os.path.abspath(_path or os.curdir) != _here]
_ours = sys.modules.pop("sitecustomize", None)
try:
    import sitecustomize  # type: ignore[import-not-found] # noqa: F401 - the site's own
except ImportError as _error:
    if getattr(_error, "name", "sitecustomize") != "sitecustomize":
        raise
    if _ours is not None:
        sys.modules["sitecustomize"] = _ours
