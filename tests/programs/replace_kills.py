"""Kills a process at each step of the exchange of two directories, and looks at what is left.

usage: python replace_kills.py DIRECTORY
"""

import os
import signal
import sys
from pathlib import Path

from neo_daemons.seeds import replacing

WATCHED = ("open", "os.", "shutil.", "ctypes.")


def killed_at(number: int, data: Path, new: Path) -> bool:
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
        replacing.replace(data, new)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def main() -> None:
    if "fallback" in sys.argv:
        vars(replacing)["exchange"] = lambda one, other: False
    number, found = 0, {"old": 0, "new": 0, "missing": 0}
    while True:
        number += 1
        root = Path(sys.argv[1]) / str(number)
        data, new = root / "data", root / ".data.restore-00000000.partial"
        for directory, text in ((data, "old"), (new, "new")):
            directory.mkdir(parents=True)
            (directory / "file").write_text(text)
        killed = killed_at(number, data, new)
        texts = sorted(path.read_text() for path in root.glob("*/file"))
        assert texts == ["new", "old"], (number, texts)
        now = (data / "file").read_text() if data.exists() else "missing"
        found[now] += 1
        replacing.finish(data)
        replacing.sweep(root, "data")
        replacing.finish(data)
        then = (data / "file").read_text()
        assert then == ("new" if now == "missing" else now), (number, now, then)
        left = {path.name.partition("-")[0]: path for path in root.iterdir() if path != data}
        if new.exists():  # swept by its own name
            left.pop(new.name.partition("-")[0])
        if then == "new":
            assert [*left] == ["data.before"], (number, left)
            assert (left["data.before"] / "file").read_text() == "old", number
        else:
            assert not left, (number, left)
        assert [path.name for path in data.iterdir()] == ["file"], number
        if not killed:
            break
    print(found)


main()
