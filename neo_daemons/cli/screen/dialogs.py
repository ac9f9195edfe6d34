"""The dialogs of the view: a question before a process is ended, and the keys."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

STYLE = """
    {name} {{ align: center middle; }}
    {name} Vertical {{ width: auto; max-width: 76; height: auto; max-height: 90%; border: round $foreground;
        padding: 0 2; background: $background; overflow-y: auto; }}
    {name} Static {{ width: auto; height: auto; }}
"""


class Question(ModalScreen[bool]):
    """Asks yes or no. Only `y` means yes."""

    DEFAULT_CSS = STYLE.format(name="Question")
    BINDINGS: ClassVar[list[BindingType]] = [("y", "answer(True)", "yes"), ("n,escape,q", "answer(False)", "no")]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(self._text))
            yield Static(Text("\ny yes    n no", style="bold"))

    def action_answer(self, said: bool) -> None:
        """Close the dialog with this answer."""
        self.dismiss(said)


class Help(ModalScreen[None]):
    """Shows the keys."""

    DEFAULT_CSS = STYLE.format(name="Help")
    BINDINGS: ClassVar[list[BindingType]] = [("escape,q,question_mark,enter", "dismiss", "close")]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(self._text))
