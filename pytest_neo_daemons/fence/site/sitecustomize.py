"""Puts a Python process that a test has started behind the fence; then the site's own ``sitecustomize`` runs.

Python imports this at its start because tests behind the fence have its directory in ``PYTHONPATH``.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing is not imported
if TYPE_CHECKING:
    from typing import Any


def _stand() -> None:
    import json
    from importlib.machinery import SourceFileLoader  # importlib.util takes longer to import than all of this

    place = os.environ["NEO_DAEMONS_FENCE"]
    parent = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

    def load(name: str) -> Any:
        loader = SourceFileLoader(f"_neo_daemons_fence_{name}", os.path.join(parent, f"{name}.py"))
        module = type(sys)(loader.name)
        sys.modules[loader.name] = module
        loader.exec_module(module)
        return module

    wall = load("wall")
    with open(os.path.join(place, "plan.json"), encoding="utf-8") as file:
        plan = wall.plan_of(json.load(file))

    def tell(text: str) -> None:
        descriptor = os.open(os.path.join(place, "hits"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, (text.replace("\n", " ") + "\n").encode("utf-8", "backslashreplace"))
        finally:
            os.close(descriptor)

    def subject() -> str:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0] or "the test run"
        return f"{test}: its process {os.getpid()} ({' '.join(getattr(sys, 'orig_argv', sys.argv))[:200]})"

    behind = wall.Wall(tell, subject)
    behind.stand(plan)
    load("embedded").guard(behind)


def _go_on() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or os.curdir) != here]
    ours = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # type: ignore[import-not-found] # noqa: F401 - the site's own
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        if ours is not None:
            sys.modules["sitecustomize"] = ours


try:
    if "NEO_DAEMONS_FENCE" in os.environ:
        _stand()
except Exception:  # noqa: S110 - the run may be over, and its directory gone
    pass
_go_on()
