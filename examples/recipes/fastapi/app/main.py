"""Notes, in a file."""

import os
from pathlib import Path

from fastapi import FastAPI

NOTES = Path(os.environ["NOTES"])
GREETING = "hello"
api = FastAPI()


@api.get("/ready")
def ready() -> dict[str, str]:
    """Say that requests are answered."""
    return {"greeting": GREETING}


@api.get("/notes")
def notes() -> list[str]:
    """Return all notes."""
    return NOTES.read_text().splitlines() if NOTES.exists() else []


@api.post("/notes", status_code=201)
def add(note: str) -> None:
    """Add a note."""
    with NOTES.open("a") as file:
        file.write(f"{note}\n")
