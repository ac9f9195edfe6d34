"""Errors in daemons and in whole files → the message: place, value, problem; remedy. One file each."""

from __future__ import annotations

from neo_daemons.config.source import MAX_FILE_BYTES

from .reading import API, EXPECTED_PROBE_TYPE, HTTP, NO_HOME, WEB, WRITE_DOLLAR, WRITE_PROBE_TYPE, WRITE_URL

PROBES = {
    "without a type": (API + 'ready = { path = "/" }', f"daemons.api.ready.type: missing; {WRITE_PROBE_TYPE}"),
    "of unknown type": (
        API + 'ready = { type = "htpp" }',
        f"daemons.api.ready.type = 'htpp': {EXPECTED_PROBE_TYPE}",
    ),
    "http without a port": (
        API + 'ready = { type = "http" }',
        "daemons.api.ready.type = 'http': requires a port, but the daemon has none; add port = \"auto\"",
    ),
    "tcp without a port": (
        API + 'live = { type = "tcp" }',
        "daemons.api.live.type = 'tcp': requires a port, but the daemon has none; add port = \"auto\"",
    ),
    "of an external daemon without a URL": (
        '[daemons.api]\nexternal = "http://host"\nready = { type = "tcp" }',
        "daemons.api.ready.type = 'tcp': requires a port, but the daemon has none; use an http probe with a url",
    ),
    "naming a missing port": (
        API + 'ports = { http = 1, rpc = 2 }\nready = [{ type = "tcp" }, { type = "http", port = "admin" }]',
        "daemons.api.ready[1].port = 'admin': unknown port; use one of: http, rpc",
    ),
    "with a bad pattern": (
        API + 'ready = { type = "log", pattern = "(" }',
        "daemons.api.ready.pattern = '(': invalid regular expression (…); "
        "correct it, or escape special characters with a backslash",
    ),
    "with a bad body": (
        HTTP + ', body = "[" }',
        "daemons.api.ready.body = '[': invalid regular expression (…backslash",
    ),
    "with an overlong pattern": (
        API + f'ready = {{ type = "log", pattern = "a{{{9**20}}}" }}',
        f"daemons.api.ready.pattern = 'a{{{9**20}}}': invalid regular expression (…backslash",
    ),
    "log without a pattern": (
        API + 'ready = { type = "log" }',
        "daemons.api.ready.pattern: missing; add it: a string in quotes",
    ),
    "exec with an empty command": (
        API + 'ready = { type = "exec", command = [] }',
        "daemons.api.ready.command = []: is empty; "
        'use a list of strings, e.g. ["test", "-e", "done"]; there is no shell',
    ),
    "exec without a program": (
        API + 'ready = { type = "exec", command = ["", "x"] }',
        "daemons.api.ready.command[0] = '': is not a program; put the name or path of the program first",
    ),
    "file without a path": (
        API + 'live = { type = "file", path = "" }',
        "daemons.api.live.path = '': is empty; set a value, or remove the key",
    ),
    "http with a bad header": (
        HTTP + ', headers = { "A B" = "x" } }',
        "daemons.api.ready.headers.\"A B\" = '***': invalid name; use letters, digits and -, as in Accept-Language",
    ),
    "log as liveness": (
        API + 'live = { type = "log", pattern = "x" }',
        "daemons.api.live.type = 'log': log probes work only for ready, not for live, because a line that has "
        "matched keeps matching; use another type",
    ),
    "file with half a database": (
        API + 'live = { type = "file", path = "x", query = "SELECT 1" }',
        "daemons.api.live.type = 'file': database and query must be set together; set both or neither",
    ),
    "file with a bad path": (
        API + 'live = { type = "file", path = "~nobody-here/x" }',
        f"daemons.api.live.path = '~nobody-here/x': {NO_HOME}; use another path",
    ),
    "http with an unknown method": (
        HTTP + ', method = "PUT" }',
        'daemons.api.ready.method = \'PUT\': invalid value; expected one of "GET", "HEAD" or "POST"',
    ),
    "http with an impossible status": (
        HTTP + ", status = [99] }",
        "daemons.api.ready.status[0] = 99: out of range; use a whole number from 100 to 599",
    ),
    "http with a relative path": (
        HTTP + ', path = "health" }',
        "daemons.api.ready.path = 'health': does not begin with /; use '/health'",
    ),
    "http with a bad URL": (HTTP + ', url = "localhost:80" }', f"daemons.api.ready.url = 'localhost:80': {WRITE_URL}"),
    "http with a date as JSON": (
        HTTP + ", json = { day = 1979-05-27 } }",
        "daemons.api.ready.json = ***: contains a date or time, which JSON does not support; put it in quotes",
    ),
    "with a negative timeout": (
        HTTP + ", timeout_s = -1 }",
        "daemons.api.ready.timeout_s = -1: out of range; use a number of seconds, more than 0",
    ),
    "with no failures": (
        HTTP + ", failures = 0 }",
        "daemons.api.ready.failures = 0: out of range; use a whole number, 1 or more",
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
        "daemons.api.url = '${url}/x': ${url} is not allowed here; use one of: …state_dir",
    ),
    "to a variable that is not set": (
        API + 'env = { A = "${env.TOKEN}" }',
        "daemons.api.env.A = '${env.TOKEN}': the environment variable TOKEN is not set; "
        "set TOKEN, or put the value here",
    ),
    "to a misspelt variable": (
        API + 'env = { A = "${env.PAHT}" }',
        "daemons.api.env.A = '${env.PAHT}': the environment variable PAHT is not set; did you mean ${env.PATH}?",
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
        "daemons.api.env.A = '${daemons.nobody.url}': unknown daemon 'nobody'; use one of: api",
    ),
    "of a built-in, unknown": (
        '[daemons.chroma]\nenv = { A = "${nope}" }',
        "daemons.chroma.env.A = '${nope}': unknown reference ${nope}; use one of: cache_dir, data_dir, …",
    ),
    "to another daemon in url": (
        WEB + API + 'url = "${daemons.web.url}"',
        "daemons.api.url = '${daemons.web.url}': ${daemons.web.url} is not allowed here; use one of: …state_dir",
    ),
    "to a misspelt daemon": (
        WEB + API + 'env = { A = "${daemons.wev.port}" }',
        "daemons.api.env.A = '${daemons.wev.port}': unknown daemon 'wev'; did you mean ${daemons.web.port}?",
    ),
    "to a port that it has not, in url": (
        API + 'url = "http://h:${port}"',
        "daemons.api.url = 'http://h:${port}': unknown reference ${port}; add port = \"auto\" to [daemons.api]",
    ),
    "to another daemon in cwd": (
        WEB + API + 'cwd = "${daemons.web.data_dir}"',
        "daemons.api.cwd = '${daemons.web.data_dir}': ${daemons.web.data_dir} is not allowed here; "
        "use one of: cache_dir, project, state_dir",
    ),
    "to a port in cwd": (
        API + 'port = 1\ncwd = "${port}"',
        "daemons.api.cwd = '${port}': ${port} is not allowed here; use one of: cache_dir, project, state_dir",
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
        "daemons.api.after[0] = 'nobody': unknown daemon; use one of: api",
    ),
    "requires a misspelt one": (
        WEB + API + 'requires = ["web", "wbe"]',
        "daemons.api.requires[1] = 'wbe': unknown daemon; did you mean 'web'?",
    ),
    "after a built-in that is not configured": (
        API + 'after = ["chroma"]',
        "daemons.api.after[0] = 'chroma': unknown daemon; add a table [daemons.chroma]",
    ),
    "cycle of one": (
        API + 'after = ["api"]',
        "daemons.api.after[0] = 'api': dependency cycle: api → api; remove one of these dependencies",
    ),
    "cycle of two": (
        API + 'after = ["web"]\n' + WEB + 'after = ["api"]',
        "daemons.api.after[0] = 'web': dependency cycle: api → web → api; remove one of these dependencies",
    ),
    "cycle of three, of all kinds": (
        API + 'requires = ["web"]\n' + WEB + 'after = ["db"]\n'
        '[daemons.db]\ncommand = ["db"]\nenv = { API = "${daemons.api.name}" }',
        "daemons.api.requires[0] = 'web': dependency cycle: api → web → db → api; remove one of these dependencies",
    ),
    "cycle of references": (
        API + 'env = { WEB = "${daemons.web.name}" }\n' + WEB + 'env = { API = "${daemons.api.name}" }',
        "daemons.api.env.WEB = '***': dependency cycle: api → web → api; remove one of these dependencies",
    ),
    "port of two daemons": (
        API + "port = 8001\n" + WEB + "ports = { main = 8001 }",
        'daemons.web.ports.main = 8001: already used by daemons.api.port; choose another, or "auto"',
    ),
    "port of one daemon twice": (
        API + "ports = { http = 8001, admin = 8001 }",
        'daemons.api.ports.admin = 8001: already used by daemons.api.ports.http; choose another, or "auto"',
    ),
    "data directory": (
        API + 'data_dir = "data"\n' + WEB + 'data_dir = "data"',
        "daemons.web.data_dir = 'data': is …/project/data, already used by daemons.api; "
        "give each daemon its own directory",
    ),
    "data directory in another spelling": (
        API + 'data_dir = "data"\n' + WEB + 'data_dir = "${project}/real/.././data/"',
        "daemons.web.data_dir = '${project}/real/.././data/': is …/project/data, already used by daemons.api; "
        "give each daemon its own directory",
    ),
    "data directory by a link": (
        API + 'data_dir = "real/data"\n' + WEB + 'data_dir = "link/data"',
        "daemons.web.data_dir = 'link/data': is …/real/data, already used by daemons.api; "
        "give each daemon its own directory",
    ),
    "data directory of a built-in": (
        API + 'data_dir = "${state_dir}/data/chroma"\n[daemons.chroma]',
        "daemons.chroma.data_dir: is …/data/chroma, already used by daemons.api; give each daemon its own directory",
    ),
}


PLACES = {
    "cwd missing": (
        API + 'cwd = "nowhere"',
        "daemons.api.cwd = 'nowhere': is not a directory; create it, or use an existing directory",
    ),
    "cwd a file": (
        API + 'cwd = "a-file"',
        "daemons.api.cwd = 'a-file': is not a directory; create it, or use an existing directory",
    ),
    "cwd impossibly long": (
        API + f'cwd = "{"x" * 70}/{"y" * 300}"',
        f"daemons.api.cwd = '{'x' * 70}/yyyyy...: is not a directory; create it, or use an existing directory",
    ),
    "cwd of an unknown user": (
        API + 'cwd = "~nobody-here"',
        f"daemons.api.cwd = '~nobody-here': {NO_HOME}; use another path",
    ),
    "data_dir a file": (
        API + 'data_dir = "a-file"',
        "daemons.api.data_dir = 'a-file': is not a directory; use an existing directory or a new path",
    ),
    "state_dir of an unknown user": (
        'state_dir = "~nobody-here/x"',
        f"state_dir = '~nobody-here/x': {NO_HOME}; use an existing directory or a new path",
    ),
    "model of an unknown user": (
        '[daemons.mlx]\nmodel = "~nobody-here/x"',
        f"daemons.mlx.model = '~nobody-here/x': {NO_HOME}; use another path",
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
        "daemons.api.command = ['api']: not allowed for an external daemon; remove it, or remove external",
    ),
    "external and port": (
        '[daemons.chroma]\nexternal = "http://host:8000"\nport = 8000',
        "daemons.chroma.port = 8000: not allowed for an external daemon; remove it, or remove external",
    ),
}


FILES: dict[str, tuple[str | bytes, str]] = {
    "no TOML": ("x =", "invalid TOML: …"),
    "a key twice": (API + 'command = ["x"]', "invalid TOML: …"),
    "not UTF-8": (b'state_dir = "\xff"', "byte 13 is not UTF-8; save the file as UTF-8"),
    "far too large": ("#" * (MAX_FILE_BYTES + 1), "larger than 1000000 bytes; pass a configuration file"),
    "lists nested beyond Python": ("x = " + "[" * 50_000, "nested too deeply; at most 32 levels are allowed"),
    "lists nested too deeply": (
        "x = " + "[" * 40 + "]" * 40,
        f"x{'[0]' * 32}: nested too deeply; at most 32 levels are allowed",
    ),
    "tables nested too deeply": (
        f"[{'.'.join('a' * 300)}]",  # Python 3.14 itself refuses 3000
        f"{'.'.join('a' * 33)}: nested too deeply; at most 32 levels are allowed",
    ),
    "a number beyond Python": ("x = " + "9" * 5000, "contains a number with thousands of digits; use a smaller one"),
}
