"""``python -m tests.screen.picture STATE_DIR`` draws the pictures of docs/watching.md from a running supervisor.

The pictures in docs/images show db, api, worker, mailer and reports of a project `notes`.
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from neo_daemons.cli.screen.app import Watch
from neo_daemons.control.client import Client

IMAGES = Path(__file__).parents[2] / "docs/images"
DRAWN_S = 40.0
"""Until the sparklines have something to show."""
PICTURES = {
    "watching": (100, 28, ("down", "down")),
    "watching-why": (80, 24, ("down", "down", "down", "w")),
    "watching-question": (80, 24, ("down", "x")),
}


async def draw(state_dir: Path, name: str) -> None:
    """Write one picture."""
    width, height, keys = PICTURES[name]
    app = Watch(Client(state_dir))
    async with app.run_test(size=(width, height)) as pilot:
        while not app.daemons:
            await pilot.pause(0.1)
        await pilot.pause(0.5)
        await pilot.press(*keys)
        await pilot.pause(DRAWN_S if name == "watching" else 3.0)
        drawn = app.export_screenshot(title="neo-daemons status --watch")
    # Textual would load its font from another host.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")
    lines = (line.rstrip() for line in drawn.splitlines())
    (IMAGES / f"{name}.svg").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for one in PICTURES:
        asyncio.run(draw(Path(sys.argv[1]), one))
