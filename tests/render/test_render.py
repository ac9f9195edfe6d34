"""What is rendered for a project with a daemon of every kind, and what is refused."""

from __future__ import annotations

import pytest

from neo_daemons.config.errors import ConfigError
from neo_daemons.render import TARGETS, render

from .project import EXPECTED, PROJECT, stack

pytestmark = pytest.mark.long

API = '[daemons.api]\ncommand = ["api"]\n'
IMAGE = '[daemons.api.deploy]\nimage = "api:1"\n'
REFUSED = {
    "no image": (API, "compose", "daemons.api.deploy.image: missing; "),
    "no server in the place of mlx": (
        "[daemons.mlx]",
        "compose",
        "daemons.mlx.deploy.server: missing: mlx runs on macOS",
    ),
    "a server without a model": (
        '[daemons.mlx]\ndeploy = { server = "vllm" }',
        "compose",
        "daemons.mlx.model: missing: vllm has no model of its own; ",
    ),
    "a server of another daemon": (
        API + IMAGE + 'server = "vllm"',
        "compose",
        "daemons.api.deploy.server: only mlx has another server in its place; remove it",
    ),
    "a model of this machine": (
        '[daemons.mlx]\nmodel = "/models/x"\ndeploy = { server = "llama.cpp" }',
        "kubernetes",
        "daemons.mlx.model: is a directory of this machine; ",
    ),
    "no size of a claim": ("[daemons.chroma]", "kubernetes", "daemons.chroma.deploy.storage: missing: "),
    "an image to build": (
        '[daemons.bridge]\ndeploy = { storage = "1Gi" }',
        "kubernetes",
        "daemons.bridge.deploy.image: missing: nobody publishes one; build it from what `neo-daemons render compose",
    ),
    "two processes of one store": (
        '[daemons.chroma]\ndeploy = { storage = "1Gi", replicas = 2 }',
        "kubernetes",
        "daemons.chroma.deploy.replicas: one process at a time may use its data; remove it",
    ),
    "two of one store in Compose": (
        "[daemons.chroma]\ndeploy = { replicas = 2 }",
        "compose",
        "daemons.chroma.deploy.replicas: one process at a time may use its data; remove it",
    ),
    "a port of this machine": (
        API + 'port = "auto"\n' + IMAGE,
        "compose",
        'daemons.api.deploy.port: missing: "auto" is chosen on this machine; set it, e.g. to 8000',
    ),
    "a port of a daemon without": (
        API + IMAGE + "port = 1",
        "compose",
        "daemons.api.deploy.port: the daemon has no port",
    ),
    "an unknown port": (
        API + "ports = { a = 1, b = 2 }\n" + IMAGE + "ports = { c = 3 }",
        "compose",
        "daemons.api.deploy.ports.c: unknown port; use one of: a, b",
    ),
    "one port for two": (
        API + "ports = { a = 1, b = 2 }\n" + IMAGE + "ports = { b = 1 }",
        "compose",
        "daemons.api.deploy.ports.b: 1 is also a; use another",
    ),
    "the project's directory": (
        '[daemons.api]\ncommand = ["${project}/run"]\n' + IMAGE,
        "compose",
        "daemons.api.command[0]: ${project} is of this machine, and means nothing in a container; "
        "set daemons.api.deploy.command",
    ),
    "a variable of this machine": (
        API + 'env = { A = "${env.HOME}" }\n' + IMAGE,
        "kubernetes",
        "daemons.api.env.A: ${env.HOME} is of this machine, and means nothing in a container; "
        "set daemons.api.deploy.env.A",
    ),
    "a file of the project": (
        API + 'live = { type = "file", path = "beat" }\n' + IMAGE + 'probe_with = "sh"',
        "kubernetes",
        "daemons.api.live[0].path: ",
    ),
    "another's directory": (
        API + 'env = { A = "${daemons.chroma.data_dir}" }\n' + IMAGE + '[daemons.chroma]\ndeploy = { storage = "1Gi" }',
        "kubernetes",
        "daemons.api.env.A: ${daemons.chroma.data_dir} is a path in another container; set daemons.api.deploy.env.A",
    ),
    "what is left out": (
        API + 'env = { A = "${daemons.b.name}" }\n' + IMAGE + '[daemons.b]\ncommand = ["b"]\nenabled = false',
        "compose",
        "daemons.api.env.A: ${daemons.b.name} is not rendered; set daemons.api.deploy.env.A",
    ),
    "a probe without a program": (
        API + 'port = 1\nready = { type = "http" }\n' + IMAGE,
        "compose",
        "daemons.api.deploy.ready: needs a program of the image; set daemons.api.deploy.probe_with, ",
    ),
    "a body that only Python reads": (
        API + 'port = 1\nready = { type = "http", body = "\\\\d" }\n' + IMAGE + 'probe_with = "curl"',
        "compose",
        "daemons.api.deploy.ready: only Python knows the regular expression '\\\\d'; "
        'set daemons.api.deploy.probe_with to "python3", if the image has it',
    ),
    "a position in a database": (
        API + 'live = { type = "file", path = "p", database = "d", query = "q" }\n' + IMAGE + 'probe_with = "python3"',
        "kubernetes",
        "daemons.api.deploy.live: a position in a database cannot be asked by one command; ",
    ),
    "a password": (
        '[daemons.r]\nexternal = "http://u:secret@h"\nexports = { R = "${url}" }',
        "compose",
        "daemons.r.external: holds a password, which would be written into files; ",
    ),
    "a password in a variable": (
        API + 'env = { R = "${daemons.r.url}" }\n' + IMAGE + '[daemons.r]\nexternal = "http://u:secret@h"',
        "compose",
        "daemons.api.env.R: ${daemons.r.url} is not rendered; set daemons.api.deploy.env.R",
    ),
    "a size of no data": (
        API + IMAGE + 'storage = "1Gi"',
        "compose",
        "daemons.api.deploy.storage: the daemon has no data; remove it, or add data_dir",
    ),
    "a claim of nothing": (
        '[daemons.chroma]\ndeploy = { storage = "0" }',
        "kubernetes",
        "daemons.chroma.deploy.storage: is 0: its data needs some space; ",
    ),
    "several of what runs once": (
        API + "oneshot = true\n" + IMAGE + "replicas = 2",
        "kubernetes",
        "daemons.api.deploy.replicas: it runs once; remove it",
    ),
    "ports that become one": (
        API + "ports = { admin_http_server_1 = 1, admin_http_server_2 = 2 }\n" + IMAGE,
        "kubernetes",
        "daemons.api.ports.admin_http_server_2: becomes 'admin-http-serv', as does 'admin_http_server_1'; ",
    ),
    "a variable that no ConfigMap holds": (
        API + 'exports = { "é" = "x" }\n' + IMAGE,
        "kubernetes",
        "daemons.api.exports.é: the name cannot be that of a variable in Kubernetes; ",
    ),
    "a variable of an external one": (
        '[daemons.r]\nexternal = "http://h"\nexports = { "1" = "x" }',
        "kubernetes",
        "daemons.r.exports.1: the name cannot be that of a variable in Kubernetes; ",
    ),
    "a variable that no container has": (
        API + 'env = { "a$$b" = "x" }\n' + IMAGE,
        "kubernetes",
        "daemons.api.env.a$$b: the name cannot be that of a variable in Kubernetes; ",
    ),
    "a variable that Compose does not read": (
        API + IMAGE + 'env = { "a-b" = { secret = "s", key = "k" } }',
        "compose",
        "daemons.api.deploy.env.a-b: Compose reads no variable of this name; use letters, digits and _",
    ),
    "an external one with the name of another": (
        f"{API}{IMAGE}".replace("daemons.api", "daemons.a-b")
        + '[daemons.a_b]\nexternal = "http://h"\nexports = { A = "x" }',
        "kubernetes",
        "daemons.a_b: becomes 'a-b', as does 'a-b'; use another name",
    ),
    "names that become one": (
        f"{API}{IMAGE}".replace("api]", "a-b]").replace("api.deploy", "a-b.deploy")
        + f"{API}{IMAGE}".replace("api]", "a_b]").replace("api.deploy", "a_b.deploy"),
        "kubernetes",
        "daemons.a_b: becomes 'a-b', as does 'a-b'; use another name",
    ),
    "a name that is too long": (
        f"{API}{IMAGE}".replace("daemons.api", f"daemons.{'a' * 53}"),
        "kubernetes",
        f"daemons.{'a' * 53}: the name is longer than 52 characters; use a shorter one",
    ),
}


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_rendered_is_what_is_stored(target: str) -> None:
    """To renew it: ``python -m tests.render.project``; the difference is then in the commit."""
    stored = {
        str(path.relative_to(EXPECTED / target)): path.read_text()
        for path in (EXPECTED / target).rglob("*")
        if path.is_file()
    }
    assert dict(render(target, stack())) == stored


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_definitions_give_the_same_bytes(target: str) -> None:
    assert list(render(target, stack()).items()) == list(render(target, stack()).items())


@pytest.mark.parametrize("target", TARGETS)
def test_no_secret_is_in_what_is_rendered(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cr3t")
    assert "s3cr3t" not in str(render(target, stack(PROJECT)))


@pytest.mark.parametrize(("text", "target", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_said_to_an_engine_is_an_error_with_its_key(text: str, target: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        render(target, stack(text))
    faults = [fault.removeprefix("neo-daemons.toml: ") for fault in caught.value.faults]
    assert [fault for fault in faults if fault.startswith(said)], faults


def test_all_errors_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        render("kubernetes", stack("[daemons.chroma]\n[daemons.mlx]\n" + API))
    assert len(caught.value.faults) == 3


def test_what_kubernetes_counts_in_32_bits_stays_within() -> None:
    table = (
        'port = 1\nlive = { type = "tcp", interval_s = 1e12, timeout_s = 1e12, failures = 1000000000000 }\n'
        "start_grace_s = 1e15\nstop = { grace_s = 1e12 }\n"
    )
    (text,) = (text for path, text in render("kubernetes", stack(API + table + IMAGE)).items() if path == "api.yaml")
    numbers = {int(word) for word in text.split() if word.isdecimal()}
    assert max(numbers) == 2**31 - 1


def test_a_daemon_that_wants_sigkill_gets_it_without_a_hook() -> None:
    """Neither a process in its container nor a grace of nothing could do it: the one is ignored, the other not waited
    for."""
    text = render("kubernetes", stack(API + 'stop = { signal = "SIGKILL", grace_s = 30 }\n' + IMAGE))["api.yaml"]
    assert "preStop" not in text
    assert "terminationGracePeriodSeconds: 1\n" in text
    assert (
        "stop_signal: SIGKILL\n"
        in render("compose", stack(API + 'stop = { signal = "SIGKILL" }\n' + IMAGE))["compose.yaml"]
    )
