"""What a command of ours costs as a whole process, beside an interpreter that imports what any such client needs."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from .cost import spend
from .fleet import fleet
from .peers import Ours
from .results import OURS, Results
from .victims import build

BASE = "python -c"
IMPORTS = "import http.client, json"


def measure(results: Results, *, quick: bool, repeat: int) -> None:
    """`status` of three daemons, and the bare interpreter, in turns."""
    with tempfile.TemporaryDirectory() as directory, results.part("command", quick=quick):
        victim = build(Path(directory).resolve())
        with fleet(Ours, 3, victim) as made:
            made.up()
            root = made.peer.root
            status = [sys.executable, "-m", "neo_daemons", "status", "--state-dir", str(root / "state")]
            for number in range(1 + repeat):
                for who, command in ((OURS, status), (BASE, [sys.executable, "-c", IMPORTS])):
                    cost = spend(command, root)
                    if number:  # the first one fills the caches
                        results.add("status, as a whole process", who, 3, 1e3 * cost.wall_s, "ms")
                        results.add("status, as a whole process: CPU time", who, 3, 1e3 * cost.cpu_s, "ms")
            made.down()
