"""Read valid and invalid files; the remedies that several messages share."""

from __future__ import annotations

from pathlib import Path

import pytest

from neo_daemons.config import ConfigError, Configuration, load
from neo_daemons.definitions import Definition

from .accepted import objections

API = '[daemons.api]\ncommand = ["api"]\n'
WEB = '[daemons.web]\ncommand = ["web"]\n'
HTTP = '[daemons.api]\ncommand = ["api"]\nport = 1\nready = { type = "http"'
WRITE_COMMAND = 'use a list of strings, e.g. ["python", "-m", "http.server"]; there is no shell'
WRITE_PORT = 'use a whole number from 1 to 65535 or "auto"'
WRITE_PROBE = 'use a table, e.g. { type = "http", path = "/" }, or a list of such tables'
WRITE_PROBE_TYPE = 'use "http", "tcp", "exec", "file" or "log"'
WRITE_RESTART = 'use "always", "on-failure", "never", or a table, e.g. { limit = 5, window_s = 600 }'
WRITE_SIGNAL = 'use "SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2" or "SIGKILL"'
WRITE_DOLLAR = '"$" is not followed by a reference; use ${name} for a reference, $$ for a dollar sign'
WRITE_URL = 'not a URL; use e.g. "http://host:8000/path"'
WRITE_HOST = 'not a host name or an IP address; use e.g. "127.0.0.1"'
EXPECTED_PORT = WRITE_PORT.replace("use", "invalid value; expected")
EXPECTED_PROBE_TYPE = WRITE_PROBE_TYPE.replace("use", "invalid value; expected one of")
EXPECTED_RESTART = WRITE_RESTART.replace("use", "invalid value; expected one of")
EXPECTED_SIGNAL = WRITE_SIGNAL.replace("use", "invalid value; expected one of")
NO_NAME = "not a valid daemon name; use a-z, 0-9, - and _, starting with a letter, at most 63 characters"
NO_HOME = "the home directory is unknown"
NOT_FINITE = "not a finite number; use an ordinary number, or remove the key"


def read(root: Path, text: str, name: str = "neo-daemons.toml", **environ: str) -> Configuration:
    """Return the configuration in a file with this content, which its JSON schema accepts, too."""
    (root / name).write_text(text)
    configuration = load(root / name, environ=environ)
    assert objections(text, name) == []
    return configuration


def fault(root: Path, text: str | bytes, name: str = "neo-daemons.toml") -> str:
    """Return the error for a file with this content, without the file's name at its beginning."""
    file = root / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load(file, environ={})
    return without_file(str(caught.value), file)


def without_file(message: str, file: Path) -> str:
    assert message.isprintable(), f"more than a line: {message!r}"
    assert message.startswith(f"{file}: ")
    return message.removeprefix(f"{file}: ")


def assert_says(message: str, expected: str) -> None:
    """The message is the expected one; "…" stands for words that are not ours (of Python or the TOML parser)."""
    start, dots, end = expected.partition("…")
    assert (message.startswith(start) and message.endswith(end)) if dots else message == expected, message


def names_of(configuration: Configuration) -> list[str]:
    return [definition.name for definition in configuration.definitions]


def only(configuration: Configuration) -> Definition:
    (definition,) = configuration.definitions
    return definition
