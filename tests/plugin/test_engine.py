"""Daemons that an engine runs, used by tests: by a tunnel to a cluster, inside of one, and under Docker Compose."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neo_daemons.definitions import Definition, ExecProbe, HttpProbe, Port
from neo_daemons.ephemeral.questions import ask
from pytest_neo_daemons.engine import deploy
from tests.harness import PATIENCE_S, TOY, Child, free_port, until

from .cluster import Cluster
from .inner import HTTP, LIVE, MODES, PARALLEL, Inner, accepts, messages, refused, results

USES = """
    from helpers import get

    def test_use(api):
        assert get(api.url) == 200
        assert api.external
"""
HANG = """
    import os, pathlib, pytest, urllib.request
    from helpers import get

    def test_hang(api):
        cluster = pathlib.Path(os.environ["FAKE_CLUSTER"])
        (cluster / f"hang-{(cluster / 'starts').read_text().split()[-2]}").touch()
        with pytest.raises(OSError):
            urllib.request.urlopen(api.url, timeout=60)

    def test_next(api):
        assert get(api.url) == 200
"""
AWAY = """
    import json, os, pathlib, threading, time
    from helpers import get

    CLUSTER = pathlib.Path(os.environ["FAKE_CLUSTER"])

    def has(**settings):
        services = {"default": {"api": {"8000": int(os.environ["PORT"])}}}
        new = CLUSTER / "cluster.new"
        new.write_text(json.dumps({"services": services, **settings}))
        new.replace(CLUSTER / "cluster.json")

    def starts():
        return [line.split()[0] for line in (CLUSTER / "starts").read_text().splitlines()]

    def come_back():
        while len(starts()) < 6:
            time.sleep(0.02)
        has()

    def test_away(api):
        has(unreachable=True)
        threading.Thread(target=come_back, daemon=True).start()
        os.kill(int(starts()[-1]), 9)
        while len(starts()) < 2:
            time.sleep(0.02)

    def test_next(api):
        assert get(api.url) == 200
"""
SETTING_UP = """
    import pathlib, pytest

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(item):
        pathlib.Path(f"setting-up-{item.name}").touch()
"""
BACK = """
    import pathlib, time
    from helpers import get
    from neo_daemons import Client

    def test_away(api, neo_daemons):
        pathlib.Path("in-test").touch()
        while Client(neo_daemons.state_dir).status().daemon("api").ready:
            time.sleep(0.02)

    def test_next(api):
        assert get(api.url) == 200
"""
INSIDE = """
    def test_http(api):
        pass

    def test_tcp(neo_daemons):
        daemon = neo_daemons["socket"]
        assert (daemon.url, daemon.host, daemon.port) == ("tcp://socket.staging.svc:9000", "socket.staging.svc", 9000)
"""
LONG = """
    import pathlib, pytest, time

    @pytest.mark.parametrize("number", range(2))
    def test_long(api, number):
        pathlib.Path("in-test").touch()
        time.sleep(600)
"""
DOCKER = "import sys\nassert sys.argv[1:] == ['compose', 'port', 'api', '8000'], sys.argv\n{says}\n"
"""A docker that knows one port; to be formatted."""
ADVISES = """print("a\\nb\\n\\nRun 'docker --help' for more information")"""
KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
contexts: [{{name: c, context: {{cluster: c, user: ""}}}}]
current-context: c
"""
"""To be formatted."""


@pytest.fixture
def cluster(inner: Inner) -> Cluster:
    """A cluster for the runs of `inner`."""
    return Cluster(inner)


@pytest.fixture
def deployed() -> Iterator[int]:
    """The port of a daemon that runs already."""
    port = free_port()
    with Child([*TOY, f"port={port}"]) as process:
        try:
            until(lambda: accepts(port), "the toy's port")
            yield port
        finally:
            process.kill()


def api(inner: Inner, **settings: Any) -> dict[str, Any]:
    """The definition of the daemon that is deployed as ``api``."""
    return inner.toy(**{"deploy": {"port": 8000}, "live": LIVE, **settings})


@MODES
def test_tests_use_a_deployed_daemon_through_one_tunnel_and_cannot_disturb_it(
    inner: Inner, cluster: Cluster, deployed: int, mode: tuple[str, ...]
) -> None:
    cluster.has({"api": {"8000": deployed}}, "staging")
    inner.configure(
        api=api(inner, exports={"API_URL": "${url}/x"}),
        migrations={"command": ["false"], "oneshot": True},
        quiet=inner.toy("quiet"),
    )
    inner.write("helpers.py", HTTP)
    inner.env["DEPLOYED"] = str(deployed)
    inner.copy("deployed.py", "test_deployed.py")
    outcome = inner.run("--neo-daemons-engine=kubernetes=staging", *mode)
    wanted = {f"test_same[{number}]": "passed" for number in range(4)}
    wanted |= {f"test_refused[{fault}]": "passed" for fault in ("kill", "pause", "stop", "restart")}
    wanted |= dict.fromkeys(("test_done", "test_where"), "passed")
    wanted |= dict.fromkeys(("test_new", "test_quiet", "test_seed"), "error")
    assert results(outcome) == wanted, outcome.text
    said = messages(outcome)
    runs_it = "Kubernetes (namespace staging) runs it, where others may be using it"
    assert f"new_daemon('api') is not possible: {runs_it}" in said["test_new"]
    assert f"cannot clone the seed docs: {runs_it}" in said["test_seed"]
    assert "quiet is not available from Kubernetes (namespace staging): it has no port" in said["test_quiet"]
    assert len(cluster.starts()) == 1
    assert cluster.tunnels() == []
    assert inner.starts() == 0
    assert "service/api:8000  of Kubernetes (namespace staging)" in outcome.text
    if not mode:
        assert "api, migrations, quiet, run by Kubernetes (namespace staging)" in outcome.text


def test_a_service_that_is_not_there_is_one_error_with_the_words_of_kubectl(inner: Inner, cluster: Cluster) -> None:
    inner.configure(api=api(inner))
    inner.write("helpers.py", HTTP)
    inner.write("test_use.py", USES + "\n    def test_again(api): pass\n")
    outcome = inner.run("--neo-daemons-engine", "kubernetes")
    assert outcome.counts() == {"error": 2}, outcome.text
    for text in messages(outcome).values():
        assert "api is not available from Kubernetes (the namespace of the current context)" in text
        assert 'Error from server (NotFound): services "api" not found' in text
    assert len(cluster.starts()) == 1


@pytest.mark.parametrize(("setting", "result"), [("fail", "error"), ("skip", "skipped")])
def test_without_kubectl_tests_fail_or_are_skipped(inner: Inner, setting: str, result: str) -> None:
    inner.configure(api=api(inner))
    inner.write("test_use.py", "def test_use(api): pass\n")
    inner.env["PATH"] = "/nowhere"
    outcome = inner.run("--neo-daemons-engine=kubernetes", "-o", f"neo_daemons_unavailable={setting}")
    assert outcome.counts() == {result: 1}, outcome.text
    assert "kubectl was not found" in messages(outcome)["test_use"]


def test_a_tunnel_that_hangs_is_restarted_even_if_it_ignores_sigterm(
    inner: Inner, cluster: Cluster, deployed: int
) -> None:
    cluster.has({"api": {"8000": deployed}}, ignores_term=True)
    inner.configure(api=api(inner))
    inner.write("helpers.py", HTTP)
    inner.write("test_hang.py", HANG)
    outcome = inner.run("--neo-daemons-engine=kubernetes")
    assert outcome.counts() == {"passed": 2}, outcome.text
    assert len(cluster.starts()) == 2
    assert cluster.tunnels() == []
    assert "the tunnel to api broke at" in outcome.text
    assert "tunnel restarted once" in outcome.text


def test_tests_wait_for_a_cluster_that_cannot_be_reached_for_a_while(
    inner: Inner, cluster: Cluster, deployed: int
) -> None:
    cluster.has({"api": {"8000": deployed}})
    inner.configure(api=api(inner))
    inner.write("helpers.py", HTTP)
    inner.write("test_away.py", AWAY)
    inner.env["PORT"] = str(deployed)
    outcome = inner.run("--neo-daemons-engine=kubernetes")
    assert outcome.counts() == {"passed": 2}, outcome.text
    assert len(cluster.starts()) >= 6


@pytest.mark.parametrize("killed", ["controller", "all"])
def test_no_tunnel_outlives_a_run_that_is_killed(inner: Inner, cluster: Cluster, deployed: int, killed: str) -> None:
    cluster.has({"api": {"8000": deployed}}, ignores_term=True)
    inner.configure(api=api(inner))
    inner.write("test_long.py", LONG)
    run = inner.popen("--neo-daemons-engine=kubernetes", *PARALLEL)
    inner.reaches("in-test")
    assert len(cluster.tunnels()) == 1
    if killed == "controller":
        run.kill()
    else:
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    until(lambda: not cluster.tunnels(), "the end of the tunnel")
    inner.wait_until_nothing_is_left()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--neo-daemons-engine=nomad"], ("'nomad'", "unknown engine; use kubernetes")),
        (["--neo-daemons-engine=kubernetes=A_b"], ("'kubernetes=A_b'", "not the name of a namespace")),
        (["--neo-daemons-engine=compose=x"], ("'compose=x'", "only kubernetes has namespaces")),
        (["--neo-daemons-engine="], ("--neo-daemons-engine", "empty value")),
        (["-o", "neo_daemons_engine=podman"], ("-o neo_daemons_engine =", "'podman'")),
        (["--neo-daemons-engine=compose", "--neo-daemons-attach"], ("mutually exclusive",)),
        (["--neo-daemons-engine=compose", "--neo-daemons-keep=9"], ("mutually exclusive", "nothing to keep")),
    ],
)
def test_an_engine_that_cannot_be_used_is_refused(inner: Inner, arguments: list[str], words: tuple[str, ...]) -> None:
    inner.write("test_on.py", "def test_on(chroma): pass\n")
    refused(inner, inner.run(*arguments), words)


def test_a_url_takes_the_place_of_one_daemon_of_the_engine(inner: Inner, cluster: Cluster, deployed: int) -> None:
    inner.configure(api=api(inner))
    inner.write("helpers.py", HTTP)
    inner.write("test_use.py", USES)
    outcome = inner.run(f"--neo-daemons-url=api=http://127.0.0.1:{deployed}", "-o", "neo_daemons_engine=kubernetes")
    assert outcome.counts() == {"passed": 1}, outcome.text
    assert cluster.starts() == []


# Docker Compose


def test_compose_tells_where_a_port_is_published(inner: Inner, cluster: Cluster, deployed: int) -> None:
    cluster.install("docker", DOCKER.format(says=f"print('0.0.0.0:{deployed}')"))
    inner.configure(api=api(inner, exports={"PORT": "${port}"}))
    inner.write("helpers.py", HTTP)
    inner.write("test_use.py", USES + f"        assert api.env['PORT'] == '{deployed}'\n")
    outcome = inner.run("--neo-daemons-engine=compose", "-v")
    assert outcome.counts() == {"passed": 1}, outcome.text
    assert "api, run by Docker Compose" in outcome.text


def test_tests_wait_for_a_daemon_that_compose_restarts(inner: Inner, cluster: Cluster) -> None:
    port = free_port()
    cluster.install("docker", DOCKER.format(says=f"print('127.0.0.1:{port}')"))
    inner.configure(api=api(inner))
    inner.write("helpers.py", HTTP)
    inner.write("conftest.py", SETTING_UP)
    inner.write("test_back.py", BACK)
    with Child([*TOY, f"port={port}"]) as process:
        until(lambda: accepts(port), "the toy's port")
        run = inner.popen("--neo-daemons-engine=compose")
        inner.reaches("in-test")
        process.kill()
    inner.reaches("setting-up-test_next")
    with Child([*TOY, f"port={port}"]) as process:
        outcome = inner.end(run)
        process.kill()
    assert outcome.counts() == {"passed": 2}, outcome.text


def test_a_port_that_compose_does_not_publish_is_an_error_that_says_how(inner: Inner, cluster: Cluster) -> None:
    cluster.install("docker", DOCKER.format(says="sys.exit('no port 8000/tcp for container x: <nil>')"))
    inner.configure(api=api(inner))
    inner.write("test_use.py", "def test_use(api): pass\n")
    outcome = inner.run("--neo-daemons-engine=compose", "-o", "neo_daemons_unavailable=skip")
    assert outcome.counts() == {"error": 1}, outcome.text
    said = messages(outcome)["test_use"]
    assert "`docker compose port api 8000` says: no port 8000/tcp for container x" in said
    assert 'add ports: ["127.0.0.1::8000"] to the service api' in said


def test_a_docker_that_does_not_answer_is_ended(tmp_path: Path) -> None:
    began = time.monotonic()
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    commands = [(sys.executable, "-c", script), (sys.executable, "-c", ADVISES), ("/nowhere/docker",)]
    late, early, absent = ask(commands, os.environ, tmp_path, timeout_s=3.0)
    assert (late.succeeded, late.line) == (False, "no answer in 3 s")
    assert (early.succeeded, early.line) == (True, "b")
    assert (absent.succeeded, absent.missing) == (False, True)
    assert time.monotonic() - began < PATIENCE_S


# What the definitions become


def test_inside_of_a_cluster_daemons_are_where_its_dns_says(tmp_path: Path) -> None:
    stated = Definition(
        name="my_api",
        command=("api",),
        ports={"main": Port(fixed=9000), "admin": Port(preferred=9001)},
        exports={
            "URL": "${url}/v1",
            "HOST": "${host}",
            "ADMIN": "${ports.admin}",
            "TOKEN": "${env.TOKEN}$$",
            "DATA": "${data_dir}",
        },
        data_dir="/data",
        ready=(HttpProbe(path="/ready"),),
        live=(HttpProbe(path="/live", port="admin"), ExecProbe(command=("true",))),
    )
    found, deployed = deploy(
        "kubernetes", "staging", {"my_api": stated}, tmp_path, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    )
    assert found["my_api"] == Definition(
        name="my_api",
        host="my-api.staging.svc",
        external="http://my-api.staging.svc:9000",
        exports={
            "URL": "http://my-api.staging.svc:9000/v1",
            "HOST": "my-api.staging.svc",
            "ADMIN": "9001",
            "TOKEN": "${env.TOKEN}$$",
        },
        live=(HttpProbe(url="http://my-api.staging.svc:9001", path="/live", interval_s=1.0),),
    )
    assert deployed.tunnels == frozenset()


def test_inside_of_a_cluster_what_does_not_answer_is_an_error(inner: Inner) -> None:
    inner.env["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
    socket = inner.toy(deploy={"port": 9000}, ready={"type": "tcp"})
    inner.configure(api=api(inner), socket=socket)
    inner.write("test_use.py", INSIDE)
    outcome = inner.run("--neo-daemons-engine=kubernetes=staging")
    assert results(outcome) == {"test_http": "error", "test_tcp": "passed"}, outcome.text
    assert "http://api.staging.svc:8000 is not usable" in messages(outcome)["test_http"]
    assert "run by Kubernetes (namespace staging)" in outcome.text


@pytest.mark.parametrize(
    ("definition", "why"),
    [
        (Definition(name="d", command=("d",)), "it has no port"),
        (Definition(name="d", command=("d",), ports={"main": Port()}), "set daemons.d.deploy.port"),
        (Definition(name="d", command=("d",), ports={"main": Port(fixed=1)}, enabled=False), "enabled = false"),
        (Definition(name="d", command=("d",), ports={"main": Port(fixed=1)}, share=False), "share = false"),
    ],
)
def test_what_no_engine_can_offer_says_why(definition: Definition, why: str, tmp_path: Path) -> None:
    found, deployed = deploy("kubernetes", None, {"d": definition}, tmp_path, {})
    assert found == {}
    assert why in deployed.unreachable["d"].why


def test_a_port_that_strings_name_by_its_number_is_the_same_here(tmp_path: Path) -> None:
    literal = Definition(name="d", command=("d",), ports={"main": Port(fixed=9000)}, url="redis://127.0.0.1:9000/0")
    free = Definition(name="e", command=("e",), ports={"main": Port(fixed=9001)}, url="redis://127.0.0.1:${port}/0")
    (tmp_path / "kubectl").touch(0o700)
    found, _ = deploy("kubernetes", None, {"d": literal, "e": free}, tmp_path, {"PATH": str(tmp_path)})
    assert found["d"].ports == {"main": Port(fixed=9000)}
    assert found["e"].ports == {"main": Port()}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_the_real_kubectl_understands_our_command(tmp_path: Path) -> None:
    stated = Definition(name="d", command=("d",), ports={"main": Port(fixed=9000), "b": Port(fixed=9001)})
    found, _ = deploy("kubernetes", "staging", {"d": stated}, tmp_path, {})
    command = [re.sub(r"\$\{.*?\}", "40000", word) for word in found["d"].command]
    config = tmp_path / "config"
    config.write_text(KUBECONFIG.format(port=free_port()))
    answer = subprocess.run(
        command, env={**os.environ, "KUBECONFIG": str(config)}, capture_output=True, text=True, timeout=60
    )
    assert "connection to the server 127.0.0.1" in answer.stderr.splitlines()[-1], answer
    assert answer.returncode == 1
