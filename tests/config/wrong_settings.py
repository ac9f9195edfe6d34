"""Errors in single settings → the message: place, value, problem; remedy. One file each."""

from __future__ import annotations

from .reading import (
    API,
    EXPECTED_PORT,
    EXPECTED_RESTART,
    EXPECTED_SIGNAL,
    HTTP,
    NO_NAME,
    NOT_FINITE,
    WRITE_COMMAND,
    WRITE_HOST,
    WRITE_PORT,
    WRITE_PROBE,
    WRITE_RESTART,
    WRITE_SIGNAL,
)

UNKNOWN_KEYS = {
    "at the top": ("daemon = 3", "daemon = 3: unknown key; did you mean 'daemons'?"),
    "at the top, like none": ("x = 3", "x = 3: unknown key; remove it, or use one of: daemons, parallel, state_dir"),
    "a daemon's table at the top": (
        '[api]\ncommand = ["api"]',
        "api = {'command': ['api']}: unknown key; did you mean [daemons.api]?",
    ),
    "of a daemon": (API + "comand = 1", "daemons.api.comand = 1: unknown key; did you mean 'command'?"),
    "of a daemon, of a compose file": (
        API + "depends_on = ['db']",
        "daemons.api.depends_on = ['db']: unknown key; did you mean 'requires'?",
    ),
    "of a daemon, as its state is called": (
        API + "on_demand = true",
        "daemons.api.on_demand = true: unknown key; did you mean 'start'?",
    ),
    "of a daemon, like none": (
        API + "x = 1",
        "daemons.api.x = 1: unknown key; remove it, or use one of: after, command, cwd, data_dir, deploy, enabled, "
        "env, exports, external, groups, host, idle_stop_s, inputs, live, log, max_rss_bytes, max_runtime_s, oneshot, "
        "port, ports, ready, requires, restart, share, start, start_grace_s, stop, url, user, watch",
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
        "daemons.api.x = {}: unknown key; remove it, or use one of: after, …, watch",
    ),
    "of the second probe": (
        API + 'port = 1\nlive = [{ type = "http" }, { type = "tcp", path = "/" }]',
        "daemons.api.live[1].path = '/': unknown key; "
        "remove it, or use one of: failures, interval_s, port, timeout_s, type",
    ),
    "of deploy": (
        API + 'deploy = { imag = "a:1" }',
        "daemons.api.deploy.imag = 'a:1': unknown key; did you mean 'image'?",
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
    "deploy": (
        API + "deploy = 3",
        'daemons.api.deploy = 3: expected table, got integer; use a table, e.g. { image = "ghcr.io/me/api:1.0" }',
    ),
    "a variable of deploy": (
        API + "deploy = { env = { A = 3 } }",
        "daemons.api.deploy.env.A = ***: expected string or table, got integer; put it in quotes",
    ),
    "a secret without its key": (
        API + 'deploy = { env = { A = { secret = "s" } } }',
        "daemons.api.deploy.env.A.key: missing; add it: a string of letters, digits, -, _ and .",
    ),
    "a secret's name": (
        API + 'deploy = { env = { A = { secret = "My_Secret", key = "k" } } }',
        "daemons.api.deploy.env.A.secret = '***': invalid value; "
        "expected a string of lower case letters, digits, - and .",
    ),
    "a secret's key": (
        API + 'deploy = { env = { A = { secret = "s", key = "a/b" } } }',
        "daemons.api.deploy.env.A.key = '***': invalid value; expected a string of letters, digits, -, _ and .",
    ),
    "daemons": ("daemons = 3", "daemons = 3: expected table, got integer; add a table …, e.g. [daemons.chroma]"),
    "a daemon": (
        "daemons.chroma = 3",
        "daemons.chroma = 3: expected table, got integer; use a table [daemons.chroma]",
    ),
    "a daemon as array of tables": (
        '[[daemons.api]]\ncommand = ["api"]',
        "daemons.api = [{'command': ['api']}]: expected table, got list; use a table [daemons.api]",
    ),
    "state_dir": ("state_dir = 3", 'state_dir = 3: expected string, got integer; put it in quotes: "3"'),
    "parallel": ("parallel = true", "parallel = true: expected integer, got boolean; use a whole number, 1 or more"),
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
        'daemons.api.env = ***: expected table, got list; use a table of strings, e.g. { LEVEL = "3" }',
    ),
    "a variable": (
        API + 'env = { A = "1", B = true }',
        "daemons.api.env.B = true: expected string, got boolean; put it in quotes",
    ),
    "ports": (
        API + "ports = [1, 2]",
        "daemons.api.ports = [1, 2]: expected table, got list; "
        'use a table of names and numbers, e.g. { http = 8000, admin = "auto" }',
    ),
    "after": (
        API + 'after = "chroma"',
        "daemons.api.after = 'chroma': expected list, got string; use a list of strings, e.g. [\"chroma\"]",
    ),
    "groups": (
        API + 'groups = "db"',
        "daemons.api.groups = 'db': expected list, got string; "
        'use a list of names of a-z, 0-9, - and _, starting with a letter, e.g. ["db"]',
    ),
    "enabled": (API + "enabled = 1", "daemons.api.enabled = 1: expected boolean, got integer; use true or false"),
    "ready": (
        API + 'ready = "http"',
        f"daemons.api.ready = 'http': expected table or list, got string; {WRITE_PROBE}",
    ),
    "a probe": (API + "ready = [3]", f"daemons.api.ready[0] = 3: expected table, got integer; {WRITE_PROBE}"),
    "a header": (
        HTTP + ", headers = { X-A = 1 } }",
        "daemons.api.ready.headers.X-A = ***: expected string, got integer; put it in quotes",
    ),
    "statuses": (
        HTTP + ", status = 200 }",
        "daemons.api.ready.status = 200: expected list, got integer; use a list, e.g. [200]",
    ),
    "a probe's port": (
        HTTP + ", port = 1 }",
        "daemons.api.ready.port = 1: expected string, got integer; "
        'use the name of one of the daemon\'s ports, e.g. "main", or remove it',
    ),
    "a probe's command": (
        API + 'ready = { type = "exec", command = "test -e x" }',
        "daemons.api.ready.command = 'test -e x': expected list, got string; "
        'use a list of strings, e.g. ["test", "-e", "done"]; there is no shell',
    ),
    "stop": (
        API + 'stop = "SIGINT"',
        "daemons.api.stop = 'SIGINT': expected table, got string; "
        'use a table, e.g. { signal = "SIGINT", grace_s = 5 }',
    ),
    "log": (
        API + "log = false",
        "daemons.api.log = false: expected table, got boolean; use a table, e.g. { max_bytes = 1000000, keep = 1 }",
    ),
    "restart": (
        API + "restart = 3",
        f"daemons.api.restart = 3: expected string or table, got integer; {WRITE_RESTART}",
    ),
    "a duration": (
        API + "start_grace_s = 1979-05-27",
        "daemons.api.start_grace_s = 1979-05-27: expected number, got date; use a number of seconds, more than 0",
    ),
    "a size": (
        API + 'max_rss_bytes = "1G"',
        "daemons.api.max_rss_bytes = '1G': expected integer, got string; use a whole number of bytes, 1 or more",
    ),
    "an option": (
        "[daemons.mlx]\nmodel = 3",
        "daemons.mlx.model = 3: expected a string; "
        "set it to the directory of a model, or its Hugging Face repository id",
    ),
}


WRONG_VALUES = {
    "storage with a space": (
        API + 'deploy = { storage = "10 Gi" }',
        'daemons.api.deploy.storage = \'10 Gi\': invalid value; expected a number and a unit, e.g. "512Mi" or "10Gi"',
    ),
    "processors in words": (
        API + 'deploy = { resources = { cpu = "two" } }',
        "daemons.api.deploy.resources.cpu = 'two': invalid value; "
        'expected cores, e.g. "2", or thousandths, e.g. "500m"',
    ),
    "a relative directory of a container": (
        API + 'deploy = { data_dir = "data" }',
        "daemons.api.deploy.data_dir = 'data': invalid value; expected an absolute path without a colon",
    ),
    "a program that no probe uses": (
        API + 'deploy = { probe_with = "zsh" }',
        "daemons.api.deploy.probe_with = 'zsh': invalid value; "
        'expected one of "sh", "bash", "curl", "wget", "python3" or "neo-daemons"',
    ),
    "a reference of deploy": (
        API + 'deploy = { command = ["${prt}"] }',
        "daemons.api.deploy.command[0] = '${prt}': unknown reference ${prt}; did you mean ${project}?",
    ),
    "no daemon": (
        "[daemons]",
        "daemons = {}: defines no daemon; add a table, e.g. [daemons.chroma], or remove it",
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
    "empty host": (API + 'host = ""', "daemons.api.host = '': is empty; set a value, or remove the key"),
    "empty option": (
        '[daemons.bridge]\nhome = ""',
        "daemons.bridge.home = '': is empty; set it to the directory of a neo.mjs checkout",
    ),
    "name with a capital": ('[daemons.Api]\ncommand = ["api"]', f"daemons.Api: {NO_NAME}"),
    "name that is a path": ('[daemons."../api"]\ncommand = ["api"]', f'daemons."../api": {NO_NAME}'),
    "name with a line end": ('[daemons."api\\n"]\ncommand = ["api"]', f'daemons."api\\n": {NO_NAME}'),
    "empty name": ('[daemons.""]\ncommand = ["api"]', f'daemons."": {NO_NAME}'),
    "long name": (f'[daemons.{"a" * 64}]\ncommand = ["api"]', f"daemons.{'a' * 64}: {NO_NAME}"),
    "group with its mark": (
        API + 'groups = ["db", "@all"]',
        "daemons.api.groups[1] = '@all': invalid value; "
        'expected a list of names of a-z, 0-9, - and _, starting with a letter, e.g. ["db"]',
    ),
    "port 0": (API + "port = 0", f"daemons.api.port = 0: out of range; {WRITE_PORT}"),
    "port 65536": (API + "port = 65536", f"daemons.api.port = 65536: out of range; {WRITE_PORT}"),
    "port word": (API + 'port = "any"', f"daemons.api.port = 'any': {EXPECTED_PORT}"),
    "named port out of range": (
        API + "ports = { http = 80, admin = 99999 }",
        f"daemons.api.ports.admin = 99999: out of range; {WRITE_PORT}",
    ),
    "port's name": (
        API + 'ports = { http = 2, "a b" = 1 }',
        'daemons.api.ports."a b" = 1: invalid name; use letters, digits, - and _',
    ),
    "variable's name": (
        API + 'env = { "A=B" = "1" }',
        "daemons.api.env.\"A=B\" = '***': invalid name; use a name without = and spaces",
    ),
    "variable's name with a space": (
        API + 'env = { "A B" = "1" }',
        "daemons.api.env.\"A B\" = '***': invalid name; use a name without = and spaces",
    ),
    "variable without a name": (
        API + 'exports = { "" = "1" }',
        "daemons.api.exports.\"\" = '***': invalid name; use a name without = and spaces",
    ),
    "program": (
        '[daemons.api]\ncommand = ["", "-x"]',
        "daemons.api.command[0] = '': is not a program; put the name or path of the program first",
    ),
    "program of blanks": (
        '[daemons.api]\ncommand = [" "]',
        "daemons.api.command[0] = ' ': is not a program; put the name or path of the program first",
    ),
    "external": (
        '[daemons.chroma]\nexternal = ""',
        "daemons.chroma.external = '': is empty; use the URL of the daemon, e.g. \"http://host:8000\"",
    ),
    "URL": (
        API + 'url = "nourl"',
        "daemons.api.url = 'nourl': not a URL; use e.g. \"http://${host}:${port}/path\"",
    ),
    "host that is a URL": (
        API + 'host = "http://127.0.0.1"',
        f"daemons.api.host = 'http://127.0.0.1': {WRITE_HOST}",
    ),
    "host of blanks": (API + 'host = " "', f"daemons.api.host = ' ': {WRITE_HOST}"),
    "host with an impossible address": (API + 'host = "999.1.1.1"', f"daemons.api.host = '999.1.1.1': {WRITE_HOST}"),
    "host in brackets": (API + 'host = "[::1]"', f"daemons.api.host = '[::1]': {WRITE_HOST}"),
    "both port and ports": (
        API + "port = 1\nports = { http = 2 }",
        "daemons.api.port = 1: port and ports are mutually exclusive; keep one of the two",
    ),
    "both port and ports of a built-in": (
        "[daemons.chroma]\nport = 1\nports = { http = 2 }",
        "daemons.chroma.port = 1: port and ports are mutually exclusive; keep one of the two",
    ),
    "a probe of a oneshot": (
        API + 'oneshot = true\nready = { type = "exec", command = ["true"] }',
        "daemons.api.ready = {'type': 'exec', 'command': ['true']}: not allowed for a oneshot; "
        "remove it: it is done when its command has ended with exit code 0",
    ),
    "the grace period of a oneshot": (
        API + "oneshot = true\nstart_grace_s = 60",
        "daemons.api.start_grace_s = 60: not allowed for a oneshot; use max_runtime_s, after which it counts as failed",
    ),
    "a port of a oneshot": (
        API + "oneshot = true\nport = 80",
        "daemons.api.port = 80: not allowed for a oneshot; remove it: a oneshot serves nobody",
    ),
    "a oneshot that watches": (
        API + 'oneshot = true\nwatch = ["neo-daemons.toml"]',
        "daemons.api.watch = ['neo-daemons.toml']: not allowed for a oneshot; "
        "use inputs: it runs again when they change",
    ),
    "inputs of a daemon": (
        API + 'inputs = ["neo-daemons.toml"]',
        "daemons.api.inputs = ['neo-daemons.toml']: only a oneshot has inputs; add oneshot = true, or use watch",
    ),
    "inputs that are missing": (
        API + 'oneshot = true\ninputs = ["*.sql"]',
        "daemons.api.inputs[0] = '*.sql': no file in …",
    ),
    "a built-in as another user": (
        '[daemons.chroma]\nuser = "postgres"',
        "daemons.chroma.user = 'postgres': a built-in daemon runs as the user of its supervisor; "
        "remove it, or give it a command",
    ),
    "a built-in as a oneshot": (
        "[daemons.chroma]\noneshot = true",
        "daemons.chroma.oneshot: a built-in daemon runs on; remove it, or give it a command",
    ),
    "an external daemon that is not shared": (
        '[daemons.api]\nexternal = "http://127.0.0.1:1"\nshare = false',
        "daemons.api.external = 'http://127.0.0.1:1': not allowed with share = false; remove it, or remove share",
    ),
    "a oneshot that is not shared": (
        API + "oneshot = true\nshare = false",
        "daemons.api.oneshot = true: not allowed with share = false; remove it, or remove share",
    ),
    "watched files of what is not shared": (
        API + 'watch = ["neo-daemons.toml"]\nshare = false',
        "daemons.api.watch = ['neo-daemons.toml']: not allowed with share = false; "
        "remove it: a restart would take the process away from its client",
    ),
    "exports of what is not shared": (
        API + 'exports = { API = "x" }\nshare = false',
        "daemons.api.exports = ***: not allowed with share = false; "
        "remove it: there is no address that all programs could use",
    ),
    "an idle time of what is not shared": (
        API + "idle_stop_s = 5\nshare = false",
        "daemons.api.idle_stop_s = 5: not allowed with share = false; remove it: each process ends with its client",
    ),
    "a data directory of what is not shared": (
        API + 'data_dir = "data"\nshare = false',
        "daemons.api.data_dir = 'data': not allowed with share = false; "
        "put a path into command: a data directory has one user at a time",
    ),
    "what is not shared, always": (
        API + 'start = "always"\nshare = false',
        "daemons.api.start = 'always': not allowed with share = false; remove it: clients start it",
    ),
    "a fixed port of what is not shared": (
        API + "port = 80\nshare = false",
        'daemons.api.port = 80: not allowed with share = false; use "auto": each process has its own',
    ),
    "a fixed port among those of what is not shared": (
        API + 'ports = { http = "auto", admin = 80 }\nshare = false',
        'daemons.api.ports.admin = 80: not allowed with share = false; use "auto": each process has its own',
    ),
    "a probe of what speaks stdio": (
        API + 'ready = { type = "exec", command = ["true"] }\nshare = false',
        "daemons.api.ready = {'type': 'exec', 'command': ['true']}: "
        "not allowed with share = false and without a port; remove it, or add port",
    ),
    "a URL of what speaks stdio": (
        API + 'url = "http://127.0.0.1:80"\nshare = false',
        "daemons.api.url = 'http://127.0.0.1:80': not allowed with share = false and without a port; "
        'add port = "auto"',
    ),
    "a restart rule of what speaks stdio": (
        API + 'restart = "always"\nshare = false',
        "daemons.api.restart = 'always': not allowed with share = false and without a port; "
        "remove it: its client starts a new one",
    ),
    "another user of what speaks stdio": (
        API + 'user = "nobody"\nshare = false',
        "daemons.api.user = 'nobody': not allowed with share = false and without a port; "
        "remove it: its socket is private to the user of the supervisor",
    ),
    "a built-in that is not shared": (
        "[daemons.chroma]\nshare = false",
        "daemons.chroma.share = false: a built-in daemon is shared; remove it, or give it a command",
    ),
    "a long name of what is not shared": (
        f"[daemons.{'a' * 59}]\ncommand = ['x']\nshare = false",
        f"daemons.{'a' * 59}.share = false: the daemon's name is too long for it; "
        "use at most 58 characters: the name of each process is longer",
    ),
    "the name of a process": (
        API + 'share = false\n[daemons.api-2]\ncommand = ["x"]',
        "daemons.api-2: could be the name of a process of api, which has share = false; "
        "choose another name, e.g. without the number",
    ),
    "what requires what is not shared": (
        API + 'share = false\n[daemons.x]\ncommand = ["x"]\nrequires = ["api"]',
        "daemons.x.requires = 'api': api has a process for each client (share = false), and none for other daemons; "
        "remove it, or remove share there",
    ),
    "what refers to what is not shared": (
        API + 'share = false\nport = "auto"\n[daemons.x]\ncommand = ["x", "${daemons.api.port}"]',
        "daemons.x.after = 'api': api has a process for each client (share = false), and none for other daemons; "
        "remove it, or remove share there",
    ),
    "restart word": (
        API + 'restart = "sometimes"',
        f"daemons.api.restart = 'sometimes': {EXPECTED_RESTART}",
    ),
    "restart word in a table": (
        API + 'restart = { when = "sometimes" }',
        'daemons.api.restart.when = \'sometimes\': invalid value; expected one of "always", "on-failure" or "never"',
    ),
    "jitter": (
        API + "restart = { jitter = 2 }",
        "daemons.api.restart.jitter = 2: out of range; use a number from 0 to 1",
    ),
    "signal": (
        API + 'stop = { signal = "TERM" }',
        f"daemons.api.stop.signal = 'TERM': {EXPECTED_SIGNAL}",
    ),
    "signal's number": (
        API + "stop = { signal = 15 }",
        f"daemons.api.stop.signal = 15: expected string, got integer; {WRITE_SIGNAL}",
    ),
    "negative duration": (
        API + "start_grace_s = -1",
        "daemons.api.start_grace_s = -1: out of range; use a number of seconds, more than 0",
    ),
    "negative duration in a table": (
        API + "stop = { grace_s = -0.5 }",
        "daemons.api.stop.grace_s = -0.5: out of range; use a number of seconds, more than 0",
    ),
    "negative idle time": (
        API + 'start = "on-demand"\nidle_stop_s = -inf',
        f"daemons.api.idle_stop_s = -inf: {NOT_FINITE}",
    ),
    "duration nan": (API + "start_grace_s = nan", f"daemons.api.start_grace_s = nan: {NOT_FINITE}"),
    "duration inf": (API + "restart = { window_s = inf }", f"daemons.api.restart.window_s = inf: {NOT_FINITE}"),
    "small log": (
        API + "log = { max_bytes = 1 }",
        "daemons.api.log.max_bytes = 1: out of range; use a whole number of bytes, 4096 or more",
    ),
    "parallel 0": ("parallel = 0", "parallel = 0: out of range; use a whole number, 1 or more"),
    "huge number": (
        API + f"port = {9**30}",
        "daemons.api.port: the number does not fit into 64 bits; use a smaller one",
    ),
    "NUL": (
        '[daemons.api]\ncommand = ["a\\u0000b"]',
        "daemons.api.command[0] = 'a\\x00b': contains a NUL character; remove it",
    ),
    "long value": (
        API + f'host = ["{"x" * 1000}"]',
        f"daemons.api.host = ['{'x' * 75}...: expected string, got list; use a string in quotes",
    ),
}
