"""The reference of events and causes, from the enumerations."""

from __future__ import annotations

from .source import code, members_with_values, one_line, table


def page() -> str:
    """Return the page."""
    return "\n\n".join(
        [
            "# Events and causes",
            "The names in the [journal](../supervision.md#journal), in `neo-daemons events --json` and in "
            "`GET /v1/events`. [API](../api.md#journal-entries) describes the other fields of an entry. A later "
            "version may have more names.",
            "## Events",
            "In Python: `neo_daemons.status.EventName`.",
            _names("neo_daemons.status.EventName", "event"),
            "## Causes",
            "Why a run ended (in `exit`, and in the states that follow), or why the daemon came into its state. In "
            "Python: `neo_daemons.status.Cause`.",
            _names("neo_daemons.status.Cause", "cause"),
        ]
    )


def _names(enum: str, head: str) -> str:
    return table(
        (head, "meaning"), ((code(value), one_line(text)) for value, text in members_with_values(enum))
    ).rstrip()
