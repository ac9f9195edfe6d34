"""Raises the wall in a Python process that a test has started. Only `site/sitecustomize.py` executes this.

Like `wall`, it needs the standard library alone, no Python later than 3.8, and few modules.
"""

from __future__ import annotations

import marshal
import os
import sys
from importlib.machinery import SourceFileLoader

TYPE_CHECKING = False  # typing is not imported
if TYPE_CHECKING:
    from typing import Any


def stand(place: str, code: str) -> None:
    """Fence what the plan in the directory `place` says, by the modules in the directory `code`.

    Raises:
        OSError: the run is over, and its directory gone.
    """
    wall = _load(code, "wall")
    with open(os.path.join(place, "plan.marshal"), "rb") as file:
        plan = _plan_of(wall, marshal.loads(file.read()))  # noqa: S302 - our own file

    def tell(text: str) -> None:
        try:
            descriptor = os.open(os.path.join(place, "hits"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError:
            return  # the run is over; what is refused stays refused
        try:
            os.write(descriptor, (text.replace("\n", " ") + "\n").encode("utf-8", "backslashreplace"))
        except OSError:
            pass
        finally:
            os.close(descriptor)

    def subject() -> str:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0] or "the test run"
        return f"{test}: its process {os.getpid()} ({' '.join(getattr(sys, 'orig_argv', sys.argv))[:200]})"

    behind = wall.Wall(tell, subject, lambda number, owner: _still_has(plan.places, number, owner))
    behind.stand(plan)
    _load(code, "embedded").guard(behind)


def _load(code: str, name: str) -> Any:
    loader = SourceFileLoader(f"_neo_daemons_fence_{name}", os.path.join(code, f"{name}.py"))
    module = type(sys)(loader.name)
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


def _plan_of(wall: Any, data: dict[str, Any]) -> Any:
    """Return the plan that `equipment` has written."""
    owner = wall.Owner
    return wall.Plan(
        {
            int(number): tuple(wall.Port(host, owner(*of)) for host, of in ports)
            for number, ports in data["ports"].items()
        },
        tuple(wall.Zone(path, owner(*of), is_open) for path, of, is_open in data["zones"]),
        {path: owner(*of) for path, of in data["sockets"].items()},
        tuple(data["places"]),
    )


def _still_has(places: tuple[str, ...], number: int, owner: Any) -> bool:
    """Return whether the registry still says that a port is the owner's; True if it cannot be read."""
    import json

    is_readable = False
    for place in places:
        try:
            names = os.listdir(place)
        except OSError:
            continue
        is_readable = True
        for name in names:
            if name.endswith(".json"):
                try:
                    with open(os.path.join(place, name), encoding="utf-8") as file:
                        entry = json.load(file)
                    if entry["state_dir"] == owner.state_dir and number in _ports(entry, owner.daemon):
                        return True
                except (OSError, ValueError, KeyError, TypeError):
                    continue  # it was removed meanwhile, or is a later version's
    return not is_readable


def _ports(entry: Any, name: str | None) -> list[int]:
    if name is None:
        return [port for _, port in [entry.get("control") or ("", 0)]]
    daemons = [daemon for daemon in entry.get("daemons", ()) if daemon["name"] == name]
    return [port for daemon in daemons for port in daemon.get("ports", {}).values()]
