"""Reading configurations: what each fault is told as, and what a good one comes to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neo_daemons.config import ConfigError, Configuration, find_state_dir, load
from neo_daemons.config.builtins import BUILTINS
from neo_daemons.config.external import external
from neo_daemons.config.schema import Settings
from neo_daemons.config.source import MAX_FILE_BYTES
from neo_daemons.definitions import Definition, ExecProbe, FileProbe, HttpProbe, Port, Restart, Stop, TcpProbe
from neo_daemons.references import expand_all
from neo_daemons.state_dir import ENVIRONMENT_VARIABLE

from .harness import toml

API = '[daemons.api]\ncommand = ["api"]\n'
WEB = '[daemons.web]\ncommand = ["web"]\n'
HTTP = '[daemons.api]\ncommand = ["api"]\nport = 1\nready = { type = "http"'

WRITE_COMMAND = 'write a list of strings, e.g. ["python", "-m", "http.server"]; there is no shell'
WRITE_PORT = 'write a whole number from 1 to 65535 or "auto"'
WRITE_PROBE = 'write a table, e.g. { type = "http", path = "/" }, or a list of such'
WRITE_PROBE_TYPE = 'write "http", "tcp", "exec", "file" or "log"'
WRITE_RESTART = 'write "always", "on-failure", "never", or a table such as { limit = 5, window_s = 600 }'
WRITE_SIGNAL = 'write "SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2" or "SIGKILL"'
WRITE_DOLLAR = "a $ that begins no reference; write ${name} for a reference, $$ for a dollar sign"
WRITE_URL = 'not a URL; write one such as "http://host:8000/path"'
NO_NAME = "not a name for a daemon; use a-z, 0-9, - and _, a letter first, 63 characters at most"
NO_HOME = "there is no such home directory"
NOT_FINITE = "not a finite number; write an ordinary number, or remove the key"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a file, a directory and a link to it; the working directory, and a home, are elsewhere."""
    root = tmp_path / "project"
    for directory in (root / "real", tmp_path / "home", tmp_path / "elsewhere"):
        directory.mkdir(parents=True)
    (root / "a-file").touch()
    (root / "link").symlink_to("real")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return root


def read(root: Path, text: str, name: str = "neo-daemons.toml", **environ: str) -> Configuration:
    """The configuration in a file of this content."""
    (root / name).write_text(text)
    return load(root / name, environ=environ)


def fault(root: Path, text: str | bytes, name: str = "neo-daemons.toml") -> str:
    """What is said of a file of this content, without the file's name, which begins it."""
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


# What is wrong → how it is said: place, value, problem; remedy. One file each.

UNKNOWN_KEYS = {
    "at the top": ("daemon = 3", "daemon = 3: unknown key; did you mean 'daemons'?"),
    "at the top, like none": ("x = 3", "x = 3: unknown key; remove it, or use one of: daemons, parallel, state_dir"),
    "a daemon's table at the top": (
        '[api]\ncommand = ["api"]',
        "api = {'command': ['api']}: unknown key; did you mean [daemons.api]?",
    ),
    "of a daemon": (API + "comand = 1", "daemons.api.comand = 1: unknown key; did you mean 'command'?"),
    "of a daemon, like none": (
        API + "x = 1",
        "daemons.api.x = 1: unknown key; remove it, or use one of: after, command, cwd, data_dir, enabled, env, "
        "exports, external, host, live, log, max_rss_bytes, max_runtime_s, port, ports, ready, requires, restart, "
        "start_grace_s, stop, url",
    ),
    "of a built-in": ("[daemons.chroma]\nprot = 1", "daemons.chroma.prot = 1: unknown key; did you mean 'port'?"),
    "an option of a built-in": (
        '[daemons.mlx]\nmodle = "x"',
        "daemons.mlx.modle = 'x': unknown key; did you mean 'model'?",
    ),
    "an option of another built-in": (
        '[daemons.bridge]\nmodel = "x"',
        "daemons.bridge.model = 'x': unknown key; remove it, or use one of: after, command, cwd, data_dir, database, …",
    ),
    "of a disabled daemon": (
        "[daemons.chroma]\nenabled = false\nprot = 1",
        "daemons.chroma.prot = 1: unknown key; did you mean 'port'?",
    ),
    "of a probe": (HTTP + ', pth = "/" }', "daemons.api.ready.pth = '/': unknown key; did you mean 'path'?"),
    "of a daemon, a table": (
        API + "[daemons.api.x]",
        "daemons.api.x = {}: unknown key; remove it, or use one of: after, …, url",
    ),
    "of the second probe": (
        API + 'port = 1\nlive = [{ type = "http" }, { type = "tcp", path = "/" }]',
        "daemons.api.live[1].path = '/': unknown key; "
        "remove it, or use one of: failures, interval_s, port, timeout_s, type",
    ),
    "of restart": (
        API + "restart = { limits = 3 }",
        "daemons.api.restart.limits = 3: unknown key; did you mean 'limit'?",
    ),
    "of stop": (
        API + "[daemons.api.stop]\nafter = 3",
        "daemons.api.stop.after = 3: unknown key; remove it, or use one of: grace_s, signal",
    ),
    "of log": (
        API + "log = { size = 3 }",
        "daemons.api.log.size = 3: unknown key; remove it, or use one of: keep, max_bytes",
    ),
    "with a line end": (
        API + 'ready = { type = "log", pattern = "x", "a\\nb" = 1 }',
        'daemons.api.ready."a\\nb" = 1: unknown key; '
        "remove it, or use one of: failures, interval_s, pattern, timeout_s, type",
    ),
    "with a terminal sequence": ('"\\u001b[2J" = 1', '"\\u001b[2J" = 1: unknown key; remove it, or …'),
}

WRONG_TYPES = {
    "daemons": ("daemons = 3", "daemons = 3: expected table, got integer; write one table …, e.g. [daemons.chroma]"),
    "a daemon": (
        "daemons.chroma = 3",
        "daemons.chroma = 3: expected table, got integer; write a table [daemons.chroma]",
    ),
    "a daemon as array of tables": (
        '[[daemons.api]]\ncommand = ["api"]',
        "daemons.api = [{'command': ['api']}]: expected table, got list; write a table [daemons.api]",
    ),
    "state_dir": ("state_dir = 3", 'state_dir = 3: expected string, got integer; write it in quotes: "3"'),
    "parallel": ("parallel = true", "parallel = true: expected integer, got boolean; write a whole number, 1 or more"),
    "command": (
        '[daemons.api]\ncommand = "python -m api"',
        f"daemons.api.command = 'python -m api': expected list, got string; {WRITE_COMMAND}",
    ),
    "an argument": (
        '[daemons.api]\ncommand = ["sleep", 3]',
        f"daemons.api.command[1] = 3: expected string, got integer; {WRITE_COMMAND}",
    ),
    "env": (
        API + 'env = ["A=1"]',
        'daemons.api.env = ***: expected table, got list; write a table of strings, e.g. { LEVEL = "3" }',
    ),
    "a variable": (
        API + 'env = { A = "1", B = true }',
        "daemons.api.env.B = true: expected string, got boolean; write it in quotes",
    ),
    "ports": (
        API + "ports = [1, 2]",
        "daemons.api.ports = [1, 2]: expected table, got list; "
        'write a table of names and numbers, e.g. { http = 8000, admin = "auto" }',
    ),
    "after": (
        API + 'after = "chroma"',
        "daemons.api.after = 'chroma': expected list, got string; write a list of strings, e.g. [\"chroma\"]",
    ),
    "enabled": (API + "enabled = 1", "daemons.api.enabled = 1: expected boolean, got integer; write true or false"),
    "ready": (
        API + 'ready = "http"',
        f"daemons.api.ready = 'http': expected table | list, got string; {WRITE_PROBE}",
    ),
    "a probe": (API + "ready = [3]", f"daemons.api.ready[0] = 3: expected table, got integer; {WRITE_PROBE}"),
    "a header": (
        HTTP + ", headers = { X-A = 1 } }",
        "daemons.api.ready.headers.X-A = ***: expected string, got integer; write it in quotes",
    ),
    "statuses": (
        HTTP + ", status = 200 }",
        "daemons.api.ready.status = 200: expected list, got integer; write a list, e.g. [200]",
    ),
    "a probe's port": (
        HTTP + ", port = 1 }",
        "daemons.api.ready.port = 1: expected string, got integer; "
        'write the name of one of the daemon\'s ports, e.g. "main", or remove it',
    ),
    "a probe's command": (
        API + 'ready = { type = "exec", command = "test -e x" }',
        "daemons.api.ready.command = 'test -e x': expected list, got string; "
        'write a list of strings, e.g. ["test", "-e", "done"]; there is no shell',
    ),
    "stop": (
        API + 'stop = "SIGINT"',
        "daemons.api.stop = 'SIGINT': expected table, got string; "
        'write a table, e.g. { signal = "SIGINT", grace_s = 5 }',
    ),
    "log": (
        API + "log = false",
        "daemons.api.log = false: expected table, got boolean; write a table, e.g. { max_bytes = 1000000, keep = 1 }",
    ),
    "restart": (API + "restart = 3", f"daemons.api.restart = 3: expected string | table, got integer; {WRITE_RESTART}"),
    "a duration": (
        API + "start_grace_s = 1979-05-27",
        "daemons.api.start_grace_s = 1979-05-27: expected number, got date; write a number of seconds, more than 0",
    ),
    "a size": (
        API + 'max_rss_bytes = "1G"',
        "daemons.api.max_rss_bytes = '1G': expected integer, got string; write a whole number of bytes, 1 or more",
    ),
    "an option": (
        "[daemons.mlx]\nmodel = 3",
        "daemons.mlx.model = 3: expected a string; "
        "write in quotes the directory of a model, or its Hugging Face repository id",
    ),
}

WRONG_VALUES = {
    "no daemon": (
        "[daemons]",
        "daemons = {}: names no daemon; add a table such as [daemons.chroma], or remove it",
    ),
    "no command": (
        "[daemons.api]\nport = 1",
        'daemons.api.command: missing; add one, e.g. command = ["python", "-m", "http.server"]',
    ),
    "no command, for a misspelt name": (
        "[daemons.chrome]",
        'daemons.chrome.command: missing; add one, e.g. command = ["python", "-m", "http.server"], '
        "or did you mean [daemons.chroma]?",
    ),
    "empty command": ("[daemons.api]\ncommand = []", f"daemons.api.command = []: is empty; {WRITE_COMMAND}"),
    "empty host": (API + 'host = ""', "daemons.api.host = '': is empty; fill it, or remove the key"),
    "empty option": (
        '[daemons.bridge]\nhome = ""',
        "daemons.bridge.home = '': is empty; write in quotes the directory of a neo.mjs checkout",
    ),
    "name with a capital": ('[daemons.Api]\ncommand = ["api"]', f"daemons.Api: {NO_NAME}"),
    "name that is a path": ('[daemons."../api"]\ncommand = ["api"]', f'daemons."../api": {NO_NAME}'),
    "name with a line end": ('[daemons."api\\n"]\ncommand = ["api"]', f'daemons."api\\n": {NO_NAME}'),
    "empty name": ('[daemons.""]\ncommand = ["api"]', f'daemons."": {NO_NAME}'),
    "long name": (f'[daemons.{"a" * 64}]\ncommand = ["api"]', f"daemons.{'a' * 64}: {NO_NAME}"),
    "port 0": (API + "port = 0", f"daemons.api.port = 0: expected integer >= 1; {WRITE_PORT}"),
    "port 65536": (API + "port = 65536", f"daemons.api.port = 65536: expected integer <= 65535; {WRITE_PORT}"),
    "port word": (API + 'port = "any"', f"daemons.api.port = 'any': not one of the words known here; {WRITE_PORT}"),
    "named port out of range": (
        API + "ports = { http = 80, admin = 99999 }",
        f"daemons.api.ports.admin = 99999: expected integer <= 65535; {WRITE_PORT}",
    ),
    "port's name": (
        API + 'ports = { http = 2, "a b" = 1 }',
        'daemons.api.ports."a b" = 1: not a usable name; use letters, digits, - and _',
    ),
    "variable's name": (
        API + 'env = { "A=B" = "1" }',
        "daemons.api.env.\"A=B\" = '***': not a usable name; write a name without =",
    ),
    "both port and ports": (
        API + "port = 1\nports = { http = 2 }",
        "daemons.api.port = 1: given together with ports; keep one of the two",
    ),
    "both port and ports of a built-in": (
        "[daemons.chroma]\nport = 1\nports = { http = 2 }",
        "daemons.chroma.port = 1: given together with ports; keep one of the two",
    ),
    "restart word": (
        API + 'restart = "sometimes"',
        f"daemons.api.restart = 'sometimes': not one of the words known here; {WRITE_RESTART}",
    ),
    "restart word in a table": (
        API + 'restart = { when = "sometimes" }',
        "daemons.api.restart.when = 'sometimes': not one of the words known here; "
        'write "always", "on-failure" or "never"',
    ),
    "jitter": (
        API + "restart = { jitter = 2 }",
        "daemons.api.restart.jitter = 2: expected number <= 1.0; write a number from 0 to 1",
    ),
    "signal": (
        API + 'stop = { signal = "TERM" }',
        f"daemons.api.stop.signal = 'TERM': not one of the words known here; {WRITE_SIGNAL}",
    ),
    "signal's number": (
        API + "stop = { signal = 15 }",
        f"daemons.api.stop.signal = 15: expected string, got integer; {WRITE_SIGNAL}",
    ),
    "negative duration": (
        API + "start_grace_s = -1",
        "daemons.api.start_grace_s = -1: expected number > 0.0; write a number of seconds, more than 0",
    ),
    "negative duration in a table": (
        API + "stop = { grace_s = -0.5 }",
        "daemons.api.stop.grace_s = -0.5: expected number > 0.0; write a number of seconds, more than 0",
    ),
    "duration nan": (API + "start_grace_s = nan", f"daemons.api.start_grace_s = nan: {NOT_FINITE}"),
    "duration inf": (API + "restart = { window_s = inf }", f"daemons.api.restart.window_s = inf: {NOT_FINITE}"),
    "small log": (
        API + "log = { max_bytes = 1 }",
        "daemons.api.log.max_bytes = 1: expected integer >= 4096; write a whole number of bytes, 4096 or more",
    ),
    "parallel 0": ("parallel = 0", "parallel = 0: expected integer >= 1; write a whole number, 1 or more"),
    "huge number": (
        API + f"port = {9**30}",
        "daemons.api.port: a number of more than 64 bits; write a smaller one",
    ),
    "NUL": (
        '[daemons.api]\ncommand = ["a\\u0000b"]',
        "daemons.api.command[0] = 'a\\x00b': holds a NUL character; remove that",
    ),
    "long value": (
        API + f'host = ["{"x" * 1000}"]',
        f"daemons.api.host = ['{'x' * 75}...: expected string, got list; write a string in quotes",
    ),
}

PROBES = {
    "without a type": (API + 'ready = { path = "/" }', f"daemons.api.ready.type: missing; {WRITE_PROBE_TYPE}"),
    "of unknown type": (
        API + 'ready = { type = "htpp" }',
        f"daemons.api.ready.type = 'htpp': not one of the words known here; {WRITE_PROBE_TYPE}",
    ),
    "http without a port": (
        API + 'ready = { type = "http" }',
        "daemons.api.ready = 'http': needs a port, and the daemon has none; add port = \"auto\"",
    ),
    "tcp without a port": (
        API + 'live = { type = "tcp" }',
        "daemons.api.live = 'tcp': needs a port, and the daemon has none; add port = \"auto\"",
    ),
    "of an external daemon without a URL": (
        '[daemons.api]\nexternal = "http://host"\nready = { type = "tcp" }',
        "daemons.api.ready = 'tcp': needs a port, and the daemon has none; use an http probe with a url",
    ),
    "naming a missing port": (
        API + 'ports = { http = 1, rpc = 2 }\nready = [{ type = "tcp" }, { type = "http", port = "admin" }]',
        "daemons.api.ready[1].port = 'admin': no such port; name one of: http, rpc",
    ),
    "with a bad pattern": (
        API + 'ready = { type = "log", pattern = "(" }',
        "daemons.api.ready.pattern = '(': not a regular expression (…); "
        "correct it, or escape special characters with a backslash",
    ),
    "with a bad body": (HTTP + ', body = "[" }', "daemons.api.ready.body = '[': not a regular expression (…backslash"),
    "with an overlong pattern": (
        API + f'ready = {{ type = "log", pattern = "a{{{9**20}}}" }}',
        f"daemons.api.ready.pattern = 'a{{{9**20}}}': not a regular expression (…backslash",
    ),
    "log without a pattern": (
        API + 'ready = { type = "log" }',
        "daemons.api.ready.pattern: missing; add it: a string in quotes",
    ),
    "exec with an empty command": (
        API + 'ready = { type = "exec", command = [] }',
        "daemons.api.ready.command = []: is empty; "
        'write a list of strings, e.g. ["test", "-e", "done"]; there is no shell',
    ),
    "log as liveness": (
        API + 'live = { type = "log", pattern = "x" }',
        "daemons.api.live = 'log': a line once written stays written; use another type for live",
    ),
    "file with half a database": (
        API + 'live = { type = "file", path = "x", query = "SELECT 1" }',
        "daemons.api.live = 'file': database and query belong together; give both or none",
    ),
    "file with a bad path": (
        API + 'live = { type = "file", path = "~nobody-here/x" }',
        f"daemons.api.live.path = '~nobody-here/x': {NO_HOME}; name another path",
    ),
    "http with an unknown method": (
        HTTP + ', method = "PUT" }',
        'daemons.api.ready.method = \'PUT\': not one of the words known here; write "GET", "HEAD" or "POST"',
    ),
    "http with an impossible status": (
        HTTP + ", status = [99] }",
        "daemons.api.ready.status[0] = 99: expected integer >= 100; write a whole number from 100 to 599",
    ),
    "http with a relative path": (
        HTTP + ', path = "health" }',
        "daemons.api.ready.path = 'health': does not begin with /; write '/health'",
    ),
    "http with a bad URL": (HTTP + ', url = "localhost:80" }', f"daemons.api.ready.url = 'localhost:80': {WRITE_URL}"),
    "http with a date as JSON": (
        HTTP + ", json = { day = 1979-05-27 } }",
        "daemons.api.ready.json = ***: holds a date or time, which JSON has not; write it in quotes",
    ),
    "with a negative timeout": (
        HTTP + ", timeout_s = -1 }",
        "daemons.api.ready.timeout_s = -1: expected number > 0.0; write a number of seconds, more than 0",
    ),
    "with no failures": (
        HTTP + ", failures = 0 }",
        "daemons.api.ready.failures = 0: expected integer >= 1; write a whole number, 1 or more",
    ),
}

REFERENCES = {
    "unknown": (
        API + 'env = { A = "${nope}" }',
        "daemons.api.env.A = '${nope}': unknown reference ${nope}; "
        "use one of: cache_dir, host, log_path, name, project, python, state_dir",
    ),
    "misspelt": (
        API + 'port = 1\nenv = { A = "x", B = "${prot}" }',
        "daemons.api.env.B = '${prot}': unknown reference ${prot}; did you mean ${port}?",
    ),
    "to a port that is not there": (
        '[daemons.api]\ncommand = ["api", "${port}"]',
        "daemons.api.command[1] = '${port}': unknown reference ${port}; add port = \"auto\" to [daemons.api]",
    ),
    "to the URL of one without a port": (
        WEB + API + 'env = { A = "${daemons.web.url}" }',
        "daemons.api.env.A = '${daemons.web.url}': unknown reference ${daemons.web.url}; "
        'add port = "auto" to [daemons.web]',
    ),
    "to its URL in its URL": (
        API + 'port = 1\nurl = "${url}/x"',
        "daemons.api.url = '${url}/x': unknown reference ${url}; use one of: …state_dir",
    ),
    "to a variable that is not set": (
        API + 'env = { A = "${env.TOKEN}" }',
        "daemons.api.env.A = '${env.TOKEN}': the environment has no variable TOKEN; set TOKEN, or write a value here",
    ),
    "to a misspelt variable": (
        API + 'env = { A = "${env.PAHT}" }',
        "daemons.api.env.A = '${env.PAHT}': the environment has no variable PAHT; did you mean ${env.PATH}?",
    ),
    "to a port that another has not": (
        WEB + API + 'env = { A = "${daemons.web.port}" }',
        "daemons.api.env.A = '${daemons.web.port}': unknown reference ${daemons.web.port}; "
        'add port = "auto" to [daemons.web]',
    ),
    "to a built-in that is not configured": (
        API + 'exports = { A = "${daemons.chroma.url}" }',
        "daemons.api.exports.A = '${daemons.chroma.url}': unknown reference ${daemons.chroma.url}; "
        "add a table [daemons.chroma]",
    ),
    "to the port of an external daemon": (
        '[daemons.web]\nexternal = "http://host"\n' + API + 'env = { A = "${daemons.web.port}" }',
        "daemons.api.env.A = '${daemons.web.port}': unknown reference ${daemons.web.port}; "
        "it is external: use ${daemons.web.url}",
    ),
    "of an external daemon to its port": (
        '[daemons.web]\nexternal = "http://host"\nexports = { A = "${port}" }',
        "daemons.web.exports.A = '${port}': unknown reference ${port}; it is external: use ${url}",
    ),
    "to a daemon that is nowhere": (
        API + 'env = { A = "${daemons.nobody.url}" }',
        "daemons.api.env.A = '${daemons.nobody.url}': unknown reference ${daemons.nobody.url}; use one of: …state_dir",
    ),
    "of a built-in, unknown": (
        '[daemons.chroma]\nenv = { A = "${nope}" }',
        "daemons.chroma.env.A = '${nope}': unknown reference ${nope}; use one of: cache_dir, data_dir, …",
    ),
    "to another daemon in url": (
        WEB + API + 'url = "${daemons.web.url}"',
        "daemons.api.url = '${daemons.web.url}': unknown reference ${daemons.web.url}; use one of: …state_dir",
    ),
    "to a port in cwd": (
        API + 'port = 1\ncwd = "${port}"',
        "daemons.api.cwd = '${port}': unknown reference ${port}; use one of: cache_dir, project, state_dir",
    ),
    "bare": (API + 'env = { A = "x: $HOME" }', f"daemons.api.env.A = '***': {WRITE_DOLLAR}"),
    "bare in an argument": (
        '[daemons.api]\ncommand = ["sh", "-c", "ls $HOME"]',
        f"daemons.api.command[2] = 'ls $HOME': {WRITE_DOLLAR}",
    ),
    "bare in a path": (API + 'data_dir = "$HOME/x"', f"daemons.api.data_dir = '$HOME/x': {WRITE_DOLLAR}"),
    "environment variable": (
        API + 'env = { A = "${HOME}" }',
        "daemons.api.env.A = '${HOME}': unknown reference ${HOME}; use one of: …state_dir",
    ),
    "environment variable that is there": (
        API + 'env = { A = "${PATH}" }',
        "daemons.api.env.A = '${PATH}': unknown reference ${PATH}; did you mean ${env.PATH}?",
    ),
    "deep in a probe": (
        HTTP + ', json = { a = [{ b = "${nope}" }] } }',
        "daemons.api.ready.json.a[0].b = '${nope}': unknown reference ${nope}; use one of: …state_dir, url",
    ),
    "in the second probe": (
        API + 'port = 1\nready = [{ type = "tcp" }, { type = "http", path = "/$x" }]',
        f"daemons.api.ready[1].path = '/$x': {WRITE_DOLLAR}",
    ),
}

BETWEEN_DAEMONS = {
    "after nobody": (
        API + 'after = ["nobody"]',
        "daemons.api.after[0] = 'nobody': no such daemon; name one of: api",
    ),
    "requires a misspelt one": (
        WEB + API + 'requires = ["web", "wbe"]',
        "daemons.api.requires[1] = 'wbe': no such daemon; did you mean 'web'?",
    ),
    "after a built-in that is not configured": (
        API + 'after = ["chroma"]',
        "daemons.api.after[0] = 'chroma': no such daemon; add a table [daemons.chroma]",
    ),
    "cycle of one": (
        API + 'after = ["api"]',
        "daemons.api.after[0] = 'api': a cycle: api → api; remove one of these dependencies",
    ),
    "cycle of two": (
        API + 'after = ["web"]\n' + WEB + 'after = ["api"]',
        "daemons.api.after[0] = 'web': a cycle: api → web → api; remove one of these dependencies",
    ),
    "cycle of three, of all kinds": (
        API + 'requires = ["web"]\n' + WEB + 'after = ["db"]\n'
        '[daemons.db]\ncommand = ["db"]\nenv = { API = "${daemons.api.name}" }',
        "daemons.api.requires[0] = 'web': a cycle: api → web → db → api; remove one of these dependencies",
    ),
    "cycle of references": (
        API + 'env = { WEB = "${daemons.web.name}" }\n' + WEB + 'env = { API = "${daemons.api.name}" }',
        "daemons.api.env.WEB = '***': a cycle: api → web → api; remove one of these dependencies",
    ),
    "port of two daemons": (
        API + "port = 8001\n" + WEB + "ports = { main = 8001 }",
        'daemons.web.ports.main = 8001: also that of daemons.api.port; choose another, or "auto"',
    ),
    "port of one daemon twice": (
        API + "ports = { http = 8001, admin = 8001 }",
        'daemons.api.ports.admin = 8001: also that of daemons.api.ports.http; choose another, or "auto"',
    ),
    "data directory": (
        API + 'data_dir = "data"\n' + WEB + 'data_dir = "data"',
        "daemons.web.data_dir = 'data': is …/project/data, also that of daemons.api; "
        "give each daemon a directory of its own",
    ),
    "data directory in another spelling": (
        API + 'data_dir = "data"\n' + WEB + 'data_dir = "${project}/real/.././data/"',
        "daemons.web.data_dir = '${project}/real/.././data/': is …/project/data, also that of daemons.api; "
        "give each daemon a directory of its own",
    ),
    "data directory by a link": (
        API + 'data_dir = "real/data"\n' + WEB + 'data_dir = "link/data"',
        "daemons.web.data_dir = 'link/data': is …/real/data, also that of daemons.api; "
        "give each daemon a directory of its own",
    ),
    "data directory of a built-in": (
        API + 'data_dir = "${state_dir}/data/chroma"\n[daemons.chroma]',
        "daemons.chroma.data_dir: is …/data/chroma, also that of daemons.api; give each daemon a directory of its own",
    ),
}

PLACES = {
    "cwd missing": (
        API + 'cwd = "nowhere"',
        "daemons.api.cwd = 'nowhere': is not a directory; make it, or name one that exists",
    ),
    "cwd a file": (
        API + 'cwd = "a-file"',
        "daemons.api.cwd = 'a-file': is not a directory; make it, or name one that exists",
    ),
    "cwd impossibly long": (
        API + f'cwd = "{"x" * 70}/{"y" * 300}"',
        f"daemons.api.cwd = '{'x' * 70}/yyyyy...: is not a directory; make it, or name one that exists",
    ),
    "cwd of an unknown user": (
        API + 'cwd = "~nobody-here"',
        f"daemons.api.cwd = '~nobody-here': {NO_HOME}; name another path",
    ),
    "data_dir a file": (
        API + 'data_dir = "a-file"',
        "daemons.api.data_dir = 'a-file': is not a directory; name a directory, or a new one",
    ),
    "state_dir of an unknown user": (
        'state_dir = "~nobody-here/x"',
        f"state_dir = '~nobody-here/x': {NO_HOME}; name a directory, or a new one",
    ),
    "model of an unknown user": (
        '[daemons.mlx]\nmodel = "~nobody-here/x"',
        f"daemons.mlx.model = '~nobody-here/x': {NO_HOME}; name another path",
    ),
    "external no URL": (
        '[daemons.api]\nexternal = "localhost:8000"',
        f"daemons.api.external = 'localhost:8000': {WRITE_URL}",
    ),
    "external of another scheme": (
        '[daemons.api]\nexternal = "ftp://host"',
        f"daemons.api.external = 'ftp://host': {WRITE_URL}",
    ),
    "external without a host": (
        '[daemons.api]\nexternal = "http:///x"',
        f"daemons.api.external = 'http:///x': {WRITE_URL}",
    ),
    "external with a space": (
        '[daemons.api]\nexternal = "http://ho st"',
        f"daemons.api.external = 'http://ho st': {WRITE_URL}",
    ),
    "external with a port out of range": (
        '[daemons.api]\nexternal = "http://host:99999"',
        f"daemons.api.external = 'http://host:99999': {WRITE_URL}",
    ),
    "external with a line end": (
        '[daemons.api]\nexternal = "http://host/\\nx"',
        f"daemons.api.external = 'http://host/\\nx': {WRITE_URL}",
    ),
    "external and command": (
        API + 'external = "http://host:8000"',
        "daemons.api.command = ['api']: an external daemon has none; remove this, or external",
    ),
    "external and port": (
        '[daemons.chroma]\nexternal = "http://host:8000"\nport = 8000',
        "daemons.chroma.port = 8000: an external daemon has none; remove this, or external",
    ),
}

FILES: dict[str, tuple[str | bytes, str]] = {
    "no TOML": ("x =", "not valid TOML: …; mend it there"),
    "a key twice": (API + 'command = ["x"]', "not valid TOML: …; mend it there"),
    "not UTF-8": (b'state_dir = "\xff"', "byte 13 is not UTF-8; save the file as UTF-8"),
    "far too large": ("#" * (MAX_FILE_BYTES + 1), "larger than 1000000 bytes; name a configuration with --config"),
    "lists nested beyond Python": ("x = " + "[" * 50_000, "nested too deeply; keep to 32 levels"),
    "lists nested too deeply": (
        "x = " + "[" * 40 + "]" * 40,
        f"x{'[0]' * 32}: nested too deeply; keep to 32 levels",
    ),
    "tables nested too deeply": (
        f"[{'.'.join('a' * 3000)}]",
        f"{'.'.join('a' * 33)}: nested too deeply; keep to 32 levels",
    ),
    "a number beyond Python": ("x = " + "9" * 5000, "holds a number of thousands of digits; write a smaller one"),
}

GROUPS: Mapping[str, Mapping[str, tuple[str | bytes, str]]] = {
    "unknown key": UNKNOWN_KEYS,
    "wrong type": WRONG_TYPES,
    "wrong value": WRONG_VALUES,
    "probe": PROBES,
    "reference": REFERENCES,
    "between daemons": BETWEEN_DAEMONS,
    "place": PLACES,
    "file": FILES,
}
BAD = {f"{group}: {case}": pair for group, cases in GROUPS.items() for case, pair in cases.items()}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('[daemons.api]\nexternal = "http://me:s3cret@host:99999"', "external = 'http://***@host:99999'"),
        ('[daemons.api]\nexternal = "me:s3cret@host:80"', "external = '***@host:80'"),
        ('[daemons.api]\nexternal = ["http://me:s3cret@host"]', "external = ['http://***@host']"),
        ('[daemons.api]\nexternl = "http://me:s3cret@host"', "externl = 'http://***@host'"),
        (HTTP + ', url = "http://me:s3cret@host:99999" }', "ready.url = 'http://***@host:99999'"),
        (API + 'url = "http://me:s3cret@${hots}"', "url = 'http://***@${hots}'"),
        ('[daemons.api]\ncommand = ["api", "pg://me:s3cret@h/${nix}"]', "command[1] = 'pg://***@h/${nix}'"),
        (f'[daemons.api]\nexternl = "http://me:{"s3cret" * 20}@host"', "externl = 'http://***@host'"),
    ],
)
def test_no_fault_shows_the_credentials_in_a_url(root: Path, text: str, shown: str) -> None:
    said = fault(root, text)
    assert f"daemons.api.{shown}: " in said
    assert "s3cret" not in said


def test_a_daemon_whose_table_is_none_is_still_a_daemon_for_the_others(root: Path) -> None:
    text = "[daemons]\nx = 3\n" + API + 'after = ["x"]\nenv = { X = "${daemons.x.port}" }'
    assert fault(root, text) == "daemons.x = 3: expected table, got integer; write a table [daemons.x]"


@pytest.mark.parametrize(
    "other",
    ["colour = 1", "env = 3", 'ready = { type = "tcp", port = "x" }', 'ready = { type = "log", pattern = "(" }'],
)
def test_what_two_daemons_share_is_told_beside_their_other_faults(root: Path, other: str) -> None:
    text = f'{API}port = 8001\ndata_dir = "d"\n{WEB}ports = {{ main = 8001 }}\ndata_dir = "./d"\n{other}\n'
    with pytest.raises(ConfigError) as caught:
        read(root, text)
    said = str(caught.value)
    assert len(caught.value.faults) == 3
    assert 'daemons.web.ports.main = 8001: also that of daemons.api.port; choose another, or "auto"' in said
    assert f"daemons.web.data_dir = './d': is {root}/d, also that of daemons.api" in said


@pytest.mark.parametrize("place", ["${nowhere}", "~no-such-user/x", "a-file"])
def test_a_data_directory_that_cannot_be_is_not_called_shared(root: Path, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(root, f'{API}data_dir = "{place}"\n{WEB}data_dir = "{place}"\n')
    assert len(caught.value.faults) == 2
    assert "also that of" not in str(caught.value)


def test_the_port_of_an_external_daemon_is_one_fault(root: Path) -> None:
    text = API + 'port = 8001\n[daemons.web]\nexternal = "http://host"\nport = 8001'
    assert fault(root, text).startswith("daemons.web.port = 8001: an external daemon has none")


@pytest.mark.parametrize("url", ["http://me:s3cret@host:99999", "me:s3cret@host"])
def test_no_fault_of_an_external_daemon_shows_credentials(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        external("api", url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(("text", "expected"), BAD.values(), ids=BAD)
def test_a_fault_is_one_line_with_file_key_value_and_remedy(root: Path, text: str | bytes, expected: str) -> None:
    assert_says(fault(root, text), expected)


MANY = """
state_dir = 3
paralel = 2

[daemons.Api]
command = ["api"]

[daemons.web]
command = "web"
prot = 80
env = { LEVEL = 3, DEBUG = true, ok = "x" }
restart = { limits = 1, jitter = 7 }
ready = [{ type = "http", pth = "/" }, { type = "htpp" }, { type = "tcp", timeout_s = 0 }]

[daemons.db]
command = ["db", "${prot}", "$HOME"]
data_dir = "a-file"
cwd = "nowhere"
start_grace_s = inf

[daemons.queue]
command = ["queue", "${prot}", "$HOME", "${env.TOKEN}", "${daemons.web.port}"]
after = ["db", "nobody"]

[daemons.index]
command = ["index"]
ready = [{ type = "tcp" }, { type = "log", pattern = "(" }]
cwd = "nowhere"
data_dir = "a-file"
"""


def test_all_faults_of_a_file_are_told_at_once_each_with_its_key(root: Path) -> None:
    file = root / "neo-daemons.toml"
    file.write_text(MANY)
    with pytest.raises(ConfigError) as caught:
        load(file, environ={})
    head, *lines = str(caught.value).splitlines()
    assert head == f"the configuration has {len(lines)} faults:"
    keys = [re.split(" = |: ", without_file(line, file))[0] for line in lines]
    assert sorted(keys) == sorted(
        [
            "state_dir",
            "paralel",
            "daemons.Api",
            "daemons.web.command",
            "daemons.web.prot",
            "daemons.web.env.LEVEL",
            "daemons.web.env.DEBUG",
            "daemons.web.restart.limits",
            "daemons.web.restart.jitter",
            "daemons.web.ready[0].pth",
            "daemons.web.ready[1].type",
            "daemons.db.start_grace_s",
            "daemons.queue.command[1]",
            "daemons.queue.command[2]",
            "daemons.queue.command[3]",
            "daemons.queue.after[1]",
            "daemons.index.ready[0]",
            "daemons.index.ready[1].pattern",
            "daemons.index.cwd",
            "daemons.index.data_dir",
        ]
    )


def test_a_fault_makes_no_others(root: Path) -> None:
    text = (
        API + 'port = "x"\nready = { type = "http" }\n' + WEB + 'env = { API = "${daemons.api.port}" }\nafter = ["api"]'
    )
    assert fault(root, text).startswith("daemons.api.port = 'x': ")
    text = "parallel = 0\n" + API + 'after = ["web"]\n' + WEB + "port = 0"
    with pytest.raises(ConfigError) as caught:
        read(root, text)
    assert [re.split(" = ", without_file(line, root / "neo-daemons.toml"))[0] for line in caught.value.faults] == [
        "parallel",
        "daemons.web.port",
    ]


def test_serve_says_all_faults_and_ends_with_2(root: Path) -> None:
    (root / "neo-daemons.toml").write_text(API + "port = 0\ncmd = 1\n" + WEB + 'cwd = "nowhere"')
    ended = command_line("serve", cwd=root)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert [
        re.sub(": .*", "", line.replace(f"{root}/neo-daemons.toml: ", "")) for line in ended.stderr.splitlines()
    ] == [
        "neo-daemons",
        "daemons.api.port = 0",
        "daemons.api.cmd = 1",
        "daemons.web.cwd = 'nowhere'",
    ]


def test_observers_need_no_variable_of_the_supervisor(root: Path) -> None:
    (root / "neo-daemons.toml").write_text(API + 'env = { A = "${env.TOKEN}" }')
    (definition,) = load(root / "neo-daemons.toml", environ={}, observing=True).definitions
    assert definition.env == {"A": "${env.TOKEN}"}
    assert load(root / "neo-daemons.toml", environ={"TOKEN": "x"}).definitions == (definition,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[tool.other]\nx = 1", "has no table [tool.neo_daemons]; add one, or name another file with --config"),
        ("tool = 3", "has no table [tool.neo_daemons]; add one, or name another file with --config"),
        ("[tool]\nneo_daemons = 3", "has no table [tool.neo_daemons]; add one, or name another file with --config"),
        (
            "[tool.neo_daemons.daemons.api]\nport = 0",
            f"tool.neo_daemons.daemons.api.port = 0: expected integer >= 1; {WRITE_PORT}",
        ),
        (
            "[tool.neo_daemons.daemons]",
            "tool.neo_daemons.daemons = {}: names no daemon; "
            "add a table such as [tool.neo_daemons.daemons.chroma], or remove it",
        ),
        (
            "[tool.neo_daemons]\ndaemons = 3",
            "tool.neo_daemons.daemons = 3: expected table, got integer; "
            "write one table for each daemon, e.g. [tool.neo_daemons.daemons.chroma]",
        ),
        (
            "[tool.neo_daemons.chroma]",
            "tool.neo_daemons.chroma = {}: unknown key; did you mean [tool.neo_daemons.daemons.chroma]?",
        ),
        (
            '[tool.neo_daemons]\nstate_dir = "~nobody-here"',
            f"tool.neo_daemons.state_dir = '~nobody-here': {NO_HOME}; name a directory, or a new one",
        ),
    ],
)
def test_in_a_pyproject_keys_and_remedies_are_those_below_its_table(root: Path, text: str, expected: str) -> None:
    assert_says(fault(root, text, "pyproject.toml"), expected)


KEYS = [field.encode_name for field in msgspec.structs.fields(Settings)]
WORDS = ["http", "log", "auto", "never", "api", "${port}", "${daemons.api.url}", "$x", "", "~nobody/x", "http://h", "("]
SCALARS = (
    st.booleans() | st.integers(-1, 70_000) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3)
)
THINGS = st.recursive(
    SCALARS | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from([*KEYS, "type", "path", "pattern", "\n"]), inner, max_size=3)
    ),
    max_leaves=6,
)
TABLES = st.dictionaries(st.sampled_from([*KEYS, "model", "x"]), THINGS, max_size=4)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(["api", "web", "chroma", "mlx", "a\n"]), TABLES | THINGS, max_size=3))
def test_whatever_a_file_says_it_is_a_configuration_or_faults_of_one_line_each(
    tmp_path_factory: pytest.TempPathFactory, daemons: dict[str, Any]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(f"daemons = {toml(daemons)}")
    try:
        assert names_of(load(file, environ={})) == list(daemons)
    except ConfigError as error:
        faults = error.faults
    else:
        faults = ()
    assert len(set(faults)) == len(faults)
    for line in faults:
        without_file(line, file)


def test_a_file_that_cannot_be_read_is_said_with_the_reason(root: Path) -> None:
    (root / "loop").symlink_to("loop")
    for name, reason in (("missing.toml", "No such file or directory"), ("real", "Is a directory")):
        with pytest.raises(ConfigError) as caught:
            load(root / name, environ={})
        expected = f"cannot be read: {reason}; name a readable file with --config"
        assert without_file(str(caught.value), root / name) == expected
    with pytest.raises(ConfigError, match=r"loop.*; name a readable file with --config"):
        load(root / "loop", environ={})


def test_a_file_name_with_a_line_end_does_not_break_the_line(root: Path) -> None:
    (root / "a\nb.toml").write_text("x = 1")
    with pytest.raises(ConfigError) as caught:
        load(root / "a\nb.toml", environ={})
    assert str(caught.value).startswith(f"{root}/a\\nb.toml: x = 1: unknown key")


def test_variables_that_name_no_directory_are_said(root: Path) -> None:
    for name, remedy in (
        (ENVIRONMENT_VARIABLE, "name a directory, or a new one"),
        ("NEO_DAEMONS_CACHE_DIR", "set it…"),
    ):
        with pytest.raises(ConfigError) as caught:
            read(root, API, **{name: "~nobody-here"})
        assert_says(str(caught.value), f"{name}=~nobody-here: {NO_HOME}; {remedy}")
    with pytest.raises(ConfigError) as caught:
        load(state_dir=Path("~nobody-here"), environ={})
    assert_says(str(caught.value), f"--state-dir ~nobody-here: {NO_HOME}; name a directory, or a new one")


# The command line


def command_line(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("NEO_")}
    return subprocess.run(
        [sys.executable, "-m", "neo_daemons", *map(str, arguments)],
        cwd=cwd,
        env=env,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "case",
    [
        "unknown key: with a line end",
        "wrong type: daemons",
        "wrong value: duration nan",
        "probe: with a bad pattern",
        "between daemons: cycle of three, of all kinds",
        "place: cwd of an unknown user",
        "file: no TOML",
        "file: not UTF-8",
        "file: tables nested too deeply",
    ],
)
def test_serve_ends_with_2_says_one_line_and_leaves_nothing(root: Path, case: str) -> None:
    text, expected = BAD[case]
    file = root / "bad.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    before = sorted(root.rglob("*"))
    ended = command_line("serve", "--config", file, "--state-dir", root / "state", cwd=root)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert_says(without_file(line.removeprefix("neo-daemons: "), file), expected)
    assert sorted(root.rglob("*")) == before


def test_serve_with_a_file_that_is_not_there_leaves_nothing(root: Path) -> None:
    before = sorted(root.rglob("*"))
    ended = command_line("serve", "--config", "gone.toml", "--state-dir", root / "state", cwd=root)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"neo-daemons: {root}/gone.toml: cannot be read: No such file or directory; "
        "name a readable file with --config\n"
    )
    assert sorted(root.rglob("*")) == before


def test_requiring_nobody_that_is_configured_is_wrong_usage(root: Path) -> None:
    (root / "neo-daemons.toml").write_text(API + WEB)
    before = sorted(root.rglob("*"))
    ended = command_line("serve", "--require", "nobody", "--state-dir", root / "state", cwd=root)
    assert ended.returncode == 2
    assert ended.stderr == "neo-daemons: --require nobody: no such daemon; configured: api, web\n"
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["frobnicate"], "'frobnicate'"),
        (["serve", "--frobnicate"], "--frobnicate"),
        (["serve", "--conf", "x.toml"], "--conf"),
        ([], "COMMAND"),
    ],
)
def test_wrong_usage_ends_with_2_and_names_the_fault_last(root: Path, arguments: list[str], fault: str) -> None:
    before = sorted(root.rglob("*"))
    ended = command_line(*arguments, cwd=root)
    assert (ended.returncode, ended.stdout) == (2, "")
    *usage, last = ended.stderr.splitlines()
    assert fault in last
    assert all(line.startswith(("usage: ", " ")) for line in usage)
    assert sorted(root.rglob("*")) == before


# Where a configuration is found, and what is where


def names_of(configuration: Configuration) -> list[str]:
    return [definition.name for definition in configuration.definitions]


def only(configuration: Configuration) -> Definition:
    (definition,) = configuration.definitions
    return definition


def test_without_any_file_chroma_bridge_and_mlx_run(root: Path) -> None:
    configuration = load(directory=root, environ={})
    assert names_of(configuration) == ["chroma", "bridge", "mlx"]
    assert configuration.source is None
    assert configuration.parallel is None
    assert configuration.project.root == root
    assert configuration.state.path == root / ".neo-daemons"
    assert all(d.builtin == d.name and d.enabled and d.cwd == str(root) for d in configuration.definitions)
    chroma, bridge, mlx = configuration.definitions
    assert chroma.ports == {"main": Port(preferred=8000)}
    assert chroma.data_dir == f"{root}/.neo-daemons/data/chroma"
    assert bridge.ports == {}
    assert bridge.data_dir == f"{root}/.neo-daemons/data/bridge"
    assert mlx.ports == {"main": Port(preferred=8080)}
    assert mlx.data_dir is None


def test_a_file_without_daemons_means_the_default_ones(root: Path) -> None:
    assert names_of(read(root, "parallel = 2")) == ["chroma", "bridge", "mlx"]


def test_a_file_with_daemons_means_these_in_their_order(root: Path) -> None:
    assert names_of(read(root, WEB + "[daemons.chroma]\n" + API)) == ["web", "chroma", "api"]


def test_every_built_in_can_be_configured_by_an_empty_table(root: Path) -> None:
    configuration = read(root, "".join(f"[daemons.{name}]\n" for name in BUILTINS))
    assert [d.builtin for d in configuration.definitions] == list(BUILTINS)


def test_a_table_in_pyproject_is_a_configuration(root: Path) -> None:
    (root / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.neo_daemons.daemons.api]\ncommand = ["api"]\n')
    configuration = load(directory=root, environ={})
    assert names_of(configuration) == ["api"]
    assert configuration.source == root / "pyproject.toml"


def test_the_nearest_configuration_from_below_is_taken(root: Path) -> None:
    below = root / "real" / "a" / "b"
    below.mkdir(parents=True)
    (root.parent / "neo-daemons.toml").write_text(WEB)
    (root / "neo-daemons.toml").write_text(API)
    (root / "real" / "pyproject.toml").write_text('[project]\nname = "mentions-neo_daemons-only"\n')
    configuration = load(directory=below, environ={})
    assert configuration.source == root / "neo-daemons.toml"
    assert configuration.project.root == root
    assert configuration.state.path == root / ".neo-daemons"


def test_a_file_of_its_own_goes_before_pyproject(root: Path) -> None:
    (root / "pyproject.toml").write_text('[tool.neo_daemons.daemons.web]\ncommand = ["web"]\n')
    (root / "neo-daemons.toml").write_text(API)
    assert names_of(load(directory=root, environ={})) == ["api"]


def test_a_broken_pyproject_matters_only_if_it_speaks_of_us(root: Path) -> None:
    (root / "pyproject.toml").write_text("[broken\n")
    assert names_of(load(directory=root, environ={})) == ["chroma", "bridge", "mlx"]
    (root / "pyproject.toml").write_text("tool = 'neo_daemons'\n")
    assert names_of(load(directory=root, environ={})) == ["chroma", "bridge", "mlx"]
    (root / "pyproject.toml").write_text("[tool.neo_daemons\n")
    with pytest.raises(ConfigError, match=r"pyproject\.toml: not valid TOML: .*; mend it there"):
        load(directory=root, environ={})


def test_without_a_file_a_project_that_was_supervised_is_found_from_below(root: Path) -> None:
    (root / ".neo-daemons").mkdir()
    (root / ".neo-daemons" / "journal.jsonl").touch()
    configuration = load(directory=root / "real", environ={})
    assert configuration.project.root == root
    assert configuration.source is None


def test_a_byte_order_mark_is_no_fault(root: Path) -> None:
    (root / "neo-daemons.toml").write_bytes(b"\xef\xbb\xbf" + API.encode())
    assert names_of(load(root / "neo-daemons.toml", environ={})) == ["api"]


def test_the_state_directory_is_argument_then_variable_then_file_then_default(root: Path) -> None:
    file = root / "neo-daemons.toml"
    file.write_text('state_dir = "of-file"\n')
    variable = {ENVIRONMENT_VARIABLE: str(root / "of-variable")}
    assert load(file, state_dir=root / "of-argument", environ=variable).state.path == root / "of-argument"
    assert load(file, environ=variable).state.path == root / "of-variable"
    assert load(file, environ={ENVIRONMENT_VARIABLE: ""}).state.path == root / "of-file"
    assert load(directory=root / "real", environ={}).state.path == root / "of-file"
    file.write_text("")
    assert load(file, environ={}).state.path == root / ".neo-daemons"


def test_commands_find_the_same_state_directory_even_if_the_daemons_are_wrong(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = root / "neo-daemons.toml"
    file.write_text('state_dir = "of-file"\n[daemons.api]\nport = "wrong"\n')
    monkeypatch.chdir(root / "real")
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    assert find_state_dir().path == root / "of-file"
    assert find_state_dir(file=file).path == root / "of-file"
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "")
    assert find_state_dir().path == root / "of-file"
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "of-variable")
    assert find_state_dir().path == root / "real" / "of-variable"
    assert find_state_dir(Path("of-argument")).path == root / "real" / "of-argument"
    monkeypatch.delenv(ENVIRONMENT_VARIABLE)
    file.write_text("state_dir = 3")
    assert find_state_dir().path == root / ".neo-daemons"
    file.write_text("state_dir =")
    with pytest.raises(ConfigError, match="not valid TOML"):
        find_state_dir()
    assert find_state_dir(root / "of-argument").path == root / "of-argument"
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(root / "of-variable"))
    assert find_state_dir().path == root / "of-variable"


def test_paths_are_absolute_and_real_wherever_one_stands(root: Path, tmp_path: Path) -> None:
    text = """
    state_dir = "link/state"
    [daemons.api]
    command = ["api"]
    cwd = "link"
    data_dir = "${state_dir}/api"
    [daemons.web]
    command = ["web"]
    data_dir = "~/web"
    live = { type = "file", path = "link/beat" }
    [daemons.bridge]
    home = "link/../neo"
    database = "~/graph.sqlite"
    [daemons.mlx]
    model = "./model"
    """
    configuration = read(root, text)
    api, web, bridge, mlx = configuration.definitions
    assert configuration.state.path == root / "real" / "state"
    assert api.cwd == f"{root}/real"
    assert api.data_dir == f"{root}/real/state/api"
    assert web.cwd == str(root)
    assert web.data_dir == f"{tmp_path}/home/web"
    assert web.live == (FileProbe(path=f"{root}/real/beat"),)
    assert bridge.options == {"home": f"{root}/neo", "database": f"{tmp_path}/home/graph.sqlite"}
    assert mlx.options == {"model": f"{root}/model"}


def test_a_dollar_in_the_project_s_own_path_is_no_reference(tmp_path: Path) -> None:
    root = tmp_path / "$HOME" / "${port}"
    root.mkdir(parents=True)
    bridge, api = read(
        root,
        '[daemons.bridge]\ndatabase = "graph"\n' + API + 'live = { type = "file", path = "${name}.beat" }\n'
        'ready = { type = "file", path = "beat" }\nenv = { A = "${project}" }',
    ).definitions
    (live,) = bridge.live
    assert expand_all(live, {"data_dir": "/data"}) == msgspec.structs.replace(
        live, path="/data/wake-daemon/lastSyncId", database=f"{root}/graph"
    )
    assert bridge.data_dir == f"{root}/.neo-daemons/data/bridge"
    assert api.live == (FileProbe(path="${name}.beat"),)
    assert expand_all(api.ready, {}) == (FileProbe(path=f"{root}/beat"),)


def test_a_file_probe_that_begins_with_a_reference_is_left_to_it(root: Path) -> None:
    text = API + 'data_dir = "data"\nlive = { type = "file", path = "${data_dir}/../beat" }'
    assert only(read(root, text)).live == (FileProbe(path="${data_dir}/../beat"),)


def test_a_data_directory_may_be_there_already_or_not(root: Path) -> None:
    assert only(read(root, API + 'data_dir = "real"')).data_dir == f"{root}/real"
    assert only(read(root, API + 'data_dir = "new/er"')).data_dir == f"{root}/new/er"
    assert not (root / "new").exists()


def test_a_model_is_a_path_if_it_looks_like_one_or_is_there(root: Path) -> None:
    for stated, model in (
        ("org/name", "org/name"),
        ("real", f"{root}/real"),
        ("../models/x", f"{root.parent}/models/x"),
        ("/models/x", "/models/x"),
    ):
        assert only(read(root, f'[daemons.mlx]\nmodel = "{stated}"')).options == {"model": model}


# What settings come to


def test_a_daemon_with_a_command_has_the_documented_defaults(root: Path) -> None:
    assert only(read(root, API)) == Definition(name="api", command=("api",), cwd=str(root))


def test_a_port_is_fixed_any_or_the_built_in_s_preferred(root: Path) -> None:
    def ports(settings: str) -> dict[str, Port]:
        return only(read(root, f"[daemons.chroma]\n{settings}")).ports

    assert ports("") == {"main": Port(preferred=8000)}
    assert ports("port = 8123") == {"main": Port(fixed=8123)}
    assert ports('port = "auto"') == {"main": Port()}
    assert ports('ports = { http = 8123, admin = "auto" }') == {"http": Port(fixed=8123), "admin": Port()}


def test_the_same_port_may_be_preferred_by_one_and_fixed_for_another(root: Path) -> None:
    chroma, api = read(root, "[daemons.chroma]\n" + API + "port = 8000").definitions
    assert (chroma.ports["main"], api.ports["main"]) == (Port(preferred=8000), Port(fixed=8000))


def test_settings_of_a_built_in_are_overridden_key_by_key(root: Path) -> None:
    standard = only(read(root, "[daemons.neural-link]"))
    text = """
    [daemons.neural-link]
    host = "::1"
    env = { LEVEL = "3" }
    exports = { MINE = "${name}" }
    ready = { type = "exec", command = ["true"] }
    stop = { grace_s = 3 }
    """
    changed = only(read(root, text))
    assert standard.stop == Stop(signal="SIGINT")
    assert changed.stop == Stop(signal="SIGINT", grace_s=3.0)
    assert changed.env == {"LEVEL": "3"}
    assert changed.exports == {**standard.exports, "MINE": "${name}"}
    assert changed.ready == (ExecProbe(command=("true",)),)
    assert (changed.host, changed.live, changed.url) == ("::1", standard.live, "ws://[${host}]:${port}")


def test_an_exported_variable_of_a_built_in_can_be_changed(root: Path) -> None:
    changed = only(read(root, '[daemons.chroma]\nexports = { CHROMA_URL = "http://proxy" }'))
    assert changed.exports == {"CHROMA_HOST": "${host}", "CHROMA_PORT": "${port}", "CHROMA_URL": "http://proxy"}


def test_probes_of_a_built_in_can_be_taken_away(root: Path) -> None:
    changed = only(read(root, "[daemons.chroma]\nready = []\nlive = []"))
    assert (changed.ready, changed.live) == ((), ())


def test_a_model_from_the_hub_has_been_fetched_before_its_grace_begins(root: Path) -> None:
    here = only(read(root, '[daemons.mlx]\nmodel = "real"'))
    hub = only(read(root, '[daemons.mlx]\nmodel = "org/name"'))
    stated = only(read(root, '[daemons.mlx]\nmodel = "org/name"\nstart_grace_s = 5'))
    assert (here.start_grace_s, hub.start_grace_s, stated.start_grace_s) == (120.0, 120.0, 5.0)


@pytest.mark.parametrize(
    ("setting", "restart"),
    [
        ('"never"', Restart(when="never")),
        ('{ when = "on-failure", limit = 3, window_s = 30 }', Restart(when="on-failure", limit=3, window_s=30.0)),
        ("{}", Restart()),
    ],
)
def test_restart_is_a_word_or_a_table(root: Path, setting: str, restart: Restart) -> None:
    assert only(read(root, f"{API}restart = {setting}")).restart == restart


@pytest.mark.parametrize("setting", ['{ type = "tcp", timeout_s = 1 }', '[{ type = "tcp", timeout_s = 1 }]'])
def test_one_probe_is_the_same_as_a_list_of_it(root: Path, setting: str) -> None:
    definition = only(read(root, f"{API}port = 1\nready = {setting}\nlive = {setting}"))
    assert definition.ready == definition.live == (TcpProbe(timeout_s=1.0),)


def test_several_probes_keep_their_order_and_name_their_ports(root: Path) -> None:
    text = API + 'ports = { a = 1, b = 2 }\nready = [{ type = "tcp", port = "b" }, { type = "http", path = "/x" }]'
    assert only(read(root, text)).ready == (TcpProbe(port="b"), HttpProbe(path="/x"))


@pytest.mark.parametrize(
    "setting",
    [
        'env = { DB = "${daemons.db.url}" }',
        'exports = { DB = "${daemons.db.host}" }',
        'ready = { type = "exec", command = ["ping", "${daemons.db.port}"] }',
        'live = { type = "http", url = "${daemons.db.url}" }',
        'live = { type = "http", url = "http://x", json = { at = ["${daemons.db.ports.main}"] } }',
    ],
)
def test_a_reference_to_another_daemon_means_after_it(root: Path, setting: str) -> None:
    db = '[daemons.db]\ncommand = ["db"]\nport = "auto"\n'
    api, _, _ = read(root, f'{API}after = ["web"]\n{setting}\n{WEB}{db}').definitions
    assert api.after == ("web", "db")
    assert api.requires == ()


def test_a_daemon_that_is_stated_and_referred_to_is_named_once(root: Path) -> None:
    api, _ = read(
        root, API + 'after = ["web"]\nenv = { A = "${daemons.web.name}${daemons.web.host}" }\n' + WEB
    ).definitions
    assert api.after == ("web",)


def test_references_to_oneself_and_to_places_are_left_for_later(root: Path) -> None:
    text = API + 'port = 1\ndata_dir = "d"\nenv = { A = "${port}${ports.main}${data_dir}${project}${cache_dir}$$" }'
    definition = only(read(root, text))
    assert definition.env == {"A": "${port}${ports.main}${data_dir}${project}${cache_dir}$$"}
    assert definition.after == ()


def test_an_external_daemon_is_observed_at_its_url(root: Path) -> None:
    url = "https://host:8000/base?price=$1"
    external = only(read(root, f'[daemons.chroma]\nexternal = "{url}"'))
    assert (external.external, external.builtin, external.ports, external.command) == (url, None, {}, ())
    (probe,) = external.live
    assert isinstance(probe, HttpProbe)
    assert probe.url == url.replace("$", "$$")
    assert {200, 404, 499} <= set(probe.status)
    assert not {199, 500} & set(probe.status)


def test_an_external_daemon_can_have_probes_of_its_own(root: Path) -> None:
    probes = (HttpProbe(url="http://host/health"),)
    for key, other in (("ready", "live"), ("live", "ready")):
        text = f'{key} = {{ type = "http", url = "http://host/health" }}'
        external = only(read(root, f'[daemons.api]\nexternal = "http://host"\n{text}'))
        assert (getattr(external, key), getattr(external, other)) == (probes, ())


def test_others_can_refer_to_an_external_daemon(root: Path) -> None:
    text = '[daemons.chroma]\nexternal = "http://host"\n' + API + 'env = { URL = "${daemons.chroma.url}" }'
    assert read(root, text).definitions[1].after == ("chroma",)


def test_a_daemon_can_be_disabled_and_starts_can_be_limited(root: Path) -> None:
    configuration = read(root, "parallel = 2\n" + API + "enabled = false")
    assert not only(configuration).enabled
    assert configuration.parallel == 2


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("start_grace_s", "5", 5.0),
        ("max_runtime_s", "0.5", 0.5),
        ("max_rss_bytes", "1_000_000", 1_000_000),
        ("url", '"tcp://${host}"', "tcp://${host}"),
        ("host", '"0.0.0.0"', "0.0.0.0"),
        ("requires", '["web"]', ("web",)),
    ],
)
def test_a_setting_arrives_in_the_definition(root: Path, key: str, value: str, expected: Any) -> None:
    api, _ = read(root, f"{API}{key} = {value}\n{WEB}").definitions
    assert getattr(api, key) == expected


def test_the_environment_is_that_of_the_caller_and_names_the_cache(root: Path) -> None:
    environ = {"NEO_DAEMONS_CACHE_DIR": "cache", "A": "1"}
    configuration = read(root, API, **environ)
    assert configuration.project.environ == environ
    assert configuration.project.cache == Path.cwd() / "cache"
