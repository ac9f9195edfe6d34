"""An image, and how a daemon runs from it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from neo_daemons.definitions import AnyProbe


class Image(Struct, frozen=True, kw_only=True):
    """An image, and what is said to it. Strings may hold references."""

    name: str
    entrypoint: tuple[str, ...] | None = None
    """The program and its arguments; None: that of the image."""
    arguments: tuple[str, ...] | None = None
    """Arguments for the program of the image; None: those of the image."""
    env: Mapping[str, str] = {}
    ports: Mapping[str, int] = {}
    url: str | None = None
    exports: Mapping[str, str] = {}
    data_dir: str | None = None
    probe_with: str | None = None
    ready: tuple[AnyProbe, ...] = ()
    live: tuple[AnyProbe, ...] = ()
    probe_command: tuple[str, ...] | None = None
    """What asks in place of probes that only the supervisor can make."""
    build: str | None = None
    """The directory that the image is built from."""
    files: Mapping[str, str] = {}
    """The files in it: path → content."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""
