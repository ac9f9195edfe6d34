"""The picture of the table that `neo-daemons status` shows on a terminal, as SVG."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from neo_daemons import Client
from neo_daemons.cli.display import table

WIDTH = 112


def of_status(state_dir: Path) -> str:
    """Return a picture of the daemons of a running supervisor.

    Raises:
        NoSupervisor: none is running.
    """
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print("[bold]$ neo-daemons status")
    console.print(table(Client(state_dir).status(), WIDTH))
    drawn = console.export_svg(title="neo-daemons", theme=MONOKAI, unique_id="status")
    # rich would load its font from another host.
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")
