"""Writing files that are whole or absent, whatever is killed in between."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

import msgspec


def write_whole(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Replace the file by one with `data`. `sync` makes it outlast a power cut, not only the death of a process.

    Raises:
        OSError: nothing was changed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    if sync:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def write_struct(path: Path, value: msgspec.Struct, *, sync: bool = False) -> None:
    """As `write_whole`, with `value` as indented JSON."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n", sync=sync)


def remove_leftover_temporaries(directory: Path) -> None:
    """Remove what `write_whole` leaves when it is killed. Only for who owns the directory alone."""
    for path in directory.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()
