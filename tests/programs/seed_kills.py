"""Kills a process that seals a seed at each of its file operations, and looks at what is left.

usage: python seed_kills.py STORE SOURCE
"""

import os
import signal
import sys
from pathlib import Path

from neo_daemons.seeds.store import Held, Limits, Store

KEY = "0" * 16
OLD = "1" * 16
WATCHED = ("open", "os.", "shutil.", "fcntl.")


def build(root: Path, source: Path) -> None:
    store = Store(root)
    with store.building("docs"):
        held = store.hold("docs", KEY)
        if isinstance(held, Held):
            held.close()
            return
        held = store.seal(source, name="docs", key=KEY, daemon="api", counts={"records": 2}, counted=("records",))
        held.close()
        store.evict(Limits(max_bytes=held.manifest.size))


def killed_at(number: int, root: Path, source: Path) -> bool:
    """Whether a child that is killed at its operation of this number gets that far."""
    child = os.fork()
    if child == 0:
        seen = 0

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal seen
            if event.startswith(WATCHED):
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            build(root, source)
        except BaseException as error:
            print(f"step {number}: {error!r}", flush=True)
            os._exit(3)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def main() -> None:
    root, source = Path(sys.argv[1]), Path(sys.argv[2])
    found = {"absent": 0, "whole": 0}
    number = 0
    while True:
        number += 1
        store = Store(root / str(number))
        with store.building("docs"):
            store.seal(source, name="docs", key=OLD, daemon="api").close()
        os.utime(store.root / f"docs-{OLD}" / "manifest.json", (1, 1))
        killed = killed_at(number, store.root, source)
        held = store.hold("docs", KEY)
        assert held is None or isinstance(held, Held), f"step {number}: half-made: {held}"
        found["absent" if held is None else "whole"] += 1
        if isinstance(held, Held):
            held.close()
        build(store.root, source)
        held = store.hold("docs", KEY)
        assert isinstance(held, Held), f"step {number}: {held}"
        held.close()
        with store.building("docs"):
            pass
        left = {path.name for path in store.root.iterdir()} - {f"docs-{OLD}"}
        assert left == {"docs.lock", f"docs-{KEY}"}, f"step {number}: left {left}"
        if not killed:
            break
    print(number, found)


main()
