"""Only the platform starts processes and signals them: also by calls that no import shows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLATFORM = "neo_daemons/supervision/platform/"
STARTS = ("fork", "forkpty", "posix_spawn", "posix_spawnp", "popen", "system", "startfile")
SIGNALS = ("kill", "killpg", "pidfd_send_signal", "send_signal", "terminate", "raise_signal")
WITHIN_A_LOOP = ("create_subprocess_exec", "create_subprocess_shell", "subprocess_exec", "subprocess_shell")


def calls(source: str) -> list[str]:
    """The calls in a module that start or signal a process, each with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            name = node.attr
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "signal", "asyncio"):
            name = " ".join(alias.name for alias in node.names)
        else:
            continue
        if any(is_telling(one) for one in name.split()):
            found.append(f"{node.lineno}: {name}")
    return found


def is_telling(name: str) -> bool:
    return name in (*STARTS, *SIGNALS, *WITHIN_A_LOOP) or name.startswith(("spawnv", "spawnl", "execv", "execl"))


def test_only_the_platform_starts_or_signals_a_process() -> None:
    modules = [path for package in ("neo_daemons", "pytest_neo_daemons") for path in (ROOT / package).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): calls(path.read_text(encoding="utf-8")) for path in modules}
    assert {name for name, lines in found.items() if lines and not name.startswith(PLATFORM)} == set()
    assert any(lines for name, lines in found.items() if name.startswith(PLATFORM))


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.fork()",
        "import os as system\nsystem.posix_spawn('/bin/x', [], {})",
        "from os import kill",
        "import os\ndef f(pid):\n    os.killpg(pid, 9)",
        "async def f():\n    await asyncio.create_subprocess_exec('x')",
        "def f(process):\n    process.terminate()",
        "import os\nos.execvpe('x', [], {})",
    ],
)
def test_each_way_of_doing_so_is_noticed(source: str) -> None:
    assert calls(source)
