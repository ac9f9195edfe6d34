"""Whatever a configuration says is rendered to what the engine accepts, with the same strings, or is an error with its
key."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st

from neo_daemons.config.errors import ConfigError
from neo_daemons.render import TARGETS, render
from neo_daemons.render.yaml_text import document

from .project import stack
from .rules import broken
from .test_checkers import compose, validate

pytestmark = pytest.mark.real

KEY = re.compile(r"neo-daemons\.toml: daemons\.\S+[ :]")
YAML_WORDS = [
    "no",
    "Yes",
    "null",
    "~",
    "1e3",
    "0x1F",
    "012",
    "1_000",
    ".inf",
    "2001-01-01",
    "=",
    "<<",
    "- a",
    "a: b",
    "#",
    "",
]
ODD = ["$", "$$", "$(A)", "${A}", "a$", "'", '"', "\\", "\n", " a ", "a #b", "é\u2028\x85", "😀", "\t"]
TEXT = st.one_of(
    st.sampled_from([*YAML_WORDS, *ODD]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
)
NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True) | st.sampled_from(
    ["no", "a" * 53, "kustomization", "x-"]
)
VARIABLES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,5}", fullmatch=True) | st.sampled_from(["no", "a-b", "é", "1", "x}"])
SECONDS = st.floats(0.01, 1e6) | st.integers(1, 10**9) | st.just(1e15)
FEW = st.integers(1, 1000) | st.just(10**12)


def literal(text: str) -> str:
    """A string that refers to nothing."""
    return text.replace("$", "$$")


def pace() -> dict[str, st.SearchStrategy[Any]]:
    return {"interval_s": SECONDS, "timeout_s": SECONDS, "failures": FEW}


PROBES = st.one_of(
    st.fixed_dictionaries({"type": st.just("tcp")}, optional=pace()),
    st.fixed_dictionaries({"type": st.just("exec"), "command": st.lists(TEXT.map(literal), min_size=1, max_size=3)}),
    st.fixed_dictionaries({"type": st.just("log"), "pattern": st.just("up")}),
    st.fixed_dictionaries(
        {"type": st.just("file"), "path": st.sampled_from(["${data_dir}/a b", "/run/b'", "beat"])}, optional=pace()
    ),
    st.fixed_dictionaries(
        {"type": st.just("http"), "path": TEXT.map(lambda text: "/" + literal(text))},
        optional={
            **pace(),
            "body": st.sampled_from(["ok", "^a|b$", r"\d+", 'it\'s "x"', "(?i)ok"]),
            "status": st.lists(st.integers(200, 299), min_size=1, max_size=2, unique=True),
            "method": st.sampled_from(["GET", "HEAD", "POST"]),
            "headers": st.dictionaries(st.sampled_from(["Accept", "X-A"]), TEXT.map(literal), max_size=2),
            "json": st.dictionaries(st.just("a"), TEXT, max_size=1),
        },
    ),
)
DEPLOY = st.fixed_dictionaries(
    {"image": st.sampled_from(["api:1", "ghcr.io/a/b@sha256:0123", "localhost:5000/x"])},
    optional={
        "storage": st.sampled_from(["1Gi", "500M", "10", "1.5Gi", "0"]),
        "resources": st.fixed_dictionaries(
            {},
            optional={
                "cpu": st.sampled_from(["1", "0.5", "250m"]),
                "memory": st.sampled_from(["1Gi", "512M", "1.5Gi", "7"]),
                "gpus": st.integers(1, 8),
            },
        ),
        "replicas": st.integers(1, 3),
        "user": st.integers(0, 2**31 - 1),
        "probe_with": st.sampled_from(["sh", "bash", "curl", "wget", "python3", "neo-daemons"]),
        "data_dir": st.sampled_from(["/data", "/var/lib/a b", "/$x", "/é"]),
        "env": st.dictionaries(
            VARIABLES,
            TEXT.map(literal) | st.fixed_dictionaries({"secret": st.just("s-1"), "key": st.just("k.2")}),
            max_size=2,
        ),
        "command": st.lists(TEXT.map(literal).filter(str.strip), max_size=2),
    },
)
DAEMONS = st.fixed_dictionaries(
    {"command": st.lists(TEXT.map(literal), max_size=3).map(lambda rest: ["run", *rest])},
    optional={
        "deploy": DEPLOY,
        "env": st.dictionaries(VARIABLES, TEXT.map(literal), max_size=2),
        "exports": st.dictionaries(VARIABLES, TEXT.map(literal), max_size=2),
        "port": st.integers(1, 65535),
        "data_dir": st.just("data"),
        "ready": st.lists(PROBES, max_size=2),
        "live": PROBES,
        "restart": st.sampled_from(["always", "on-failure", "never"]),
        "stop": st.fixed_dictionaries(
            {"signal": st.sampled_from(["SIGINT", "SIGKILL", "SIGTERM"]), "grace_s": SECONDS}
        ),
        "start_grace_s": SECONDS,
        "max_rss_bytes": st.integers(1, 2**62),
        "oneshot": st.just(True),
        "max_runtime_s": SECONDS,
        "start": st.just("on-demand"),
        "log": st.fixed_dictionaries({"max_bytes": st.integers(4096, 2**40), "keep": st.integers(0, 100)}),
    },
)


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f") if value.isascii() else _quoted(value)
    return json.dumps(value)


def _quoted(text: str) -> str:
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text) + '"'


def text_of(daemons: dict[str, dict[str, Any]]) -> str:
    lines = []
    for number, (name, table) in enumerate(daemons.items()):
        lines.append(f"[daemons.{name}]")
        if number:
            lines.append(f"requires = {toml(list(daemons)[:number])}")
        lines += [f"{key} = {toml(item)}" for key, item in table.items()]
    return "\n".join(lines) + "\n"


@settings(derandomize=True, deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(daemons=st.dictionaries(NAMES, DAEMONS, min_size=1, max_size=3), target=st.sampled_from(TARGETS))
def test_a_configuration_is_rendered_or_refused_with_its_key(daemons: dict[str, Any], target: str) -> None:
    import yaml

    try:
        given = stack(text_of(daemons))
    except ConfigError:
        reject()
    faults: tuple[str, ...] = ()
    files: Mapping[str, str] = {}
    try:
        files = render(target, given)
    except ConfigError as error:
        faults = error.faults
    assert all(KEY.match(fault) for fault in faults), faults
    if faults:
        return
    assert files == render(target, given)
    if target == "kubernetes":
        texts = [text for path, text in files.items() if path != "kustomization.yaml"]
        everything = [one for text in texts for one in yaml.safe_load_all(text)]
        for one in everything:
            validate(one, "1.34")
        assert broken(everything) == []
        return
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "compose.yaml"
        file.write_text(files["compose.yaml"])
        secrets = re.findall(r"\$\{(\w+):\?", files["compose.yaml"])
        said = compose(file, **dict.fromkeys(secrets, "x"))
        assert (said.returncode, said.stderr) == (0, ""), files["compose.yaml"]


def read_by_compose(text: str) -> str:
    """A string as Compose gives it to a container, if it replaces nothing in it."""
    assert "$" not in text.replace("$$", ""), text
    return text.replace("$$", "$")


def read_by_kubernetes(text: str) -> str:
    """A string as Kubernetes gives it to a container, if it replaces nothing in it."""
    assert "$(" not in text.replace("$$", ""), text
    return re.sub(r"\$(.?)", lambda match: "$" if match[1] == "$" else match[0], text, flags=re.DOTALL)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    st.lists(TEXT, max_size=3),
    st.dictionaries(st.sampled_from(["A", "NO", "B1"]), TEXT | st.text("$({A})", max_size=6), min_size=1),
    st.dictionaries(st.sampled_from(["X", "Y"]), TEXT | st.text("$({A})", max_size=6), min_size=1),
)
def test_a_container_gets_the_strings_that_were_stated(
    words: list[str], env: dict[str, str], exports: dict[str, str]
) -> None:
    import yaml

    def escaped(table: dict[str, str]) -> dict[str, str]:
        return {key: literal(text) for key, text in table.items()}

    table = {"env": escaped(env), "command": ["run", *map(literal, words)], "exports": escaped(exports)}
    deploy = {"image": "a:1"}
    given = stack(text_of({"api": {**table, "deploy": deploy}, "web": {"command": ["web"], "deploy": deploy}}))
    services = yaml.safe_load(render("compose", given)["compose.yaml"])["services"]
    assert [read_by_compose(word) for word in services["api"]["entrypoint"]] == ["run", *words]
    assert {key: read_by_compose(text) for key, text in services["api"]["environment"].items()} == env
    assert {key: read_by_compose(text) for key, text in services["web"]["environment"].items()} == exports
    variables, deployment = yaml.safe_load_all(render("kubernetes", given)["api.yaml"])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert [read_by_kubernetes(word) for word in container["command"]] == ["run", *words]
    assert {one["name"]: read_by_kubernetes(one["value"]) for one in container["env"]} == env
    assert variables["data"] == exports


@settings(derandomize=True, deadline=None, max_examples=500)
@example(dict.fromkeys(YAML_WORDS, "x") | {"x": YAML_WORDS})
@given(st.recursive(TEXT | st.integers() | st.booleans(), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)))
def test_what_is_written_is_read_as_it_was(value: Any) -> None:
    import yaml

    assert yaml.safe_load(document({"value": value}, "head\u0085 line")) == {"value": value}
