"""What is rendered is read by the engines' own rules: published schemas, kubectl's kustomize, Compose's parser.

Each row of the table in docs/rendering.md is also broken on purpose, to show that these rules see it.
"""

from __future__ import annotations

import copy
import importlib.resources
import os
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neo_daemons.render import TARGETS

from .project import EXPECTED
from .rules import broken as broken_rules

pytestmark = pytest.mark.real
EXAMPLE = Path(__file__).parents[2] / "examples" / "downstream"
BIN = Path(sys.executable).parent
VERSIONS = ("1.29", "1.34")
"""Of Kubernetes; the claim that one pod at a time can use is stable from 1.29 on."""


def documents(path: Path) -> Iterator[dict[str, Any]]:
    import yaml

    yield from yaml.safe_load_all(path.read_text())


def validate(document: dict[str, Any], version: str) -> None:
    """Raises what the schema of this version says against the document."""
    import kubernetes_validate

    kubernetes_validate.validate(document, version, strict=True)


def compose(path: Path, **secrets: str) -> subprocess.CompletedProcess[str]:
    """What Compose says of a file, with these variables set."""
    # The program of that name on PATH is a script that loses the exit code.
    program = importlib.resources.files("compose") / "docker-compose"
    command = [str(program), "-f", str(path), "config", "--quiet"]
    return subprocess.run(command, env={**os.environ, **secrets}, capture_output=True, text=True, check=False)


def objects(directory: Path = EXPECTED / "kubernetes") -> list[dict[str, Any]]:
    """All objects in the files that are rendered for Kubernetes."""
    files = sorted(directory.glob("*.yaml"))
    return [one for path in files if path.name != "kustomization.yaml" for one in documents(path)]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_each_object(version: str) -> None:
    for one in (*objects(), *objects(EXAMPLE / "deploy" / "kubernetes")):
        validate(one, version)
    kinds = {"ConfigMap", "Service", "StatefulSet", "Deployment", "Job", "ServiceAccount", "Role", "RoleBinding"}
    assert {one["kind"] for one in objects()} == kinds


def test_kubectl_builds_the_kustomization() -> None:
    command = [str(BIN / "kubectl"), "kustomize", str(EXPECTED / "kubernetes")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert built.stdout.count("\nkind: ") == len(objects())


@pytest.mark.parametrize("target", TARGETS)
def test_the_example_is_up_to_date(target: str) -> None:
    command = [sys.executable, "-m", "neo_daemons", "render", target, "-o", f"deploy/{target}", "--check"]
    checked = subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_compose_accepts_the_example() -> None:
    said = compose(EXAMPLE / "deploy" / "compose" / "compose.yaml")
    assert (said.returncode, said.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit_of_the_example(tmp_path: Path) -> None:
    (unit,) = of_example("systemd", tmp_path)
    verify = ["systemd-analyze", "verify", "--man=no", str(unit)]
    said = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert unit.name not in said.stderr, said.stderr
    assert said.returncode == 0, said.stderr
    unit.write_text(unit.read_text().replace("Type=notify", "Type=ready"))
    said = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert "Failed to parse service type" in said.stderr, "it looks"


def test_the_agent_of_the_example_is_a_property_list(tmp_path: Path) -> None:
    (agent,) = of_example("launchd", tmp_path)
    found = plistlib.loads(agent.read_bytes())
    assert found["WorkingDirectory"] == str(EXAMPLE)
    assert found["ProgramArguments"][1:5] == ["-P", "-m", "neo_daemons", "serve"]


def of_example(target: str, directory: Path) -> list[Path]:
    """What is rendered for the example into an empty directory."""
    command = [sys.executable, "-m", "neo_daemons", "render", target, "-o", str(directory)]
    subprocess.run(command, cwd=EXAMPLE, capture_output=True, check=True)
    return list(directory.iterdir())


def test_compose_accepts_the_file() -> None:
    said = compose(EXPECTED / "compose" / "compose.yaml", TOKEN="x")
    assert (said.returncode, said.stderr) == (0, "")


Break = Callable[[dict[str, Any]], None]


def put(*way: str | int, value: Any) -> Break:
    """Put a value at a place of a document."""

    def change(document: dict[str, Any]) -> None:
        where: Any = document
        for step in way[:-1]:
            where = where[step]
        where[way[-1]] = value

    return change


def drop(*way: str | int) -> Break:
    """Remove what is at a place of a document."""

    def change(document: dict[str, Any]) -> None:
        where: Any = document
        for step in way[:-1]:
            where = where[step]
        del where[way[-1]]

    return change


POD = ("spec", "template", "spec")
CONTAINER = (*POD, "containers", 0)
CLAIM = ("spec", "volumeClaimTemplates", 0, "spec")
BROKEN_OBJECTS = {
    "requires: a container that waits without an image": ("api", "Deployment", drop(*POD, "initContainers", 0, "name")),
    "ready: a probe that asks nothing": ("api", "Deployment", put(*CONTAINER, "readinessProbe", "httpGet", value={})),
    "start_grace_s: in words": ("api", "Deployment", put(*CONTAINER, "startupProbe", "failureThreshold", value="60s")),
    "live: a probe with an unknown key": ("api", "Deployment", put(*CONTAINER, "livenessProbe", "retries", value=3)),
    "restart: a word of Compose": ("migrate", "Job", put("spec", "backoffLimit", value="on-failure")),
    "stop: with a unit": ("api", "Deployment", put(*POD, "terminationGracePeriodSeconds", value="20s")),
    "stop: an unknown hook": (
        "api",
        "Deployment",
        put(*CONTAINER, "lifecycle", "preStop", "run", value=[]),
    ),
    "data_dir: a mode in one word": (
        "chroma",
        "StatefulSet",
        put(*CLAIM, "accessModes", value="ReadWriteOncePod"),
    ),
    "data_dir: a mount without a path": ("chroma", "StatefulSet", drop(*CONTAINER, "volumeMounts", 0, "mountPath")),
    "oneshot: a job without a pod": ("migrate", "Job", drop("spec", "template")),
    "exports: a number": ("chroma", "ConfigMap", put("data", "CHROMA_PORT", value=8000)),
    "limits: an unknown table": ("api", "Deployment", put(*CONTAINER, "resources", "limit", value={})),
    "ports: in words": ("chroma", "Service", put("spec", "ports", 0, "port", value="http")),
    "secrets: by value": ("api", "Deployment", put(*CONTAINER, "env", 3, "valueFrom", value="s3cr3t")),
}
SERVICES = ("services", "api")
BROKEN_SERVICES = {
    "requires: an unknown condition": put(*SERVICES, "depends_on", "chroma", "condition", value="service_ready"),
    "requires: an unknown service": put(*SERVICES, "depends_on", "nobody", value={"condition": "service_started"}),
    "ready: a check in one word": put(*SERVICES, "healthcheck", "test", value=3),
    "start_grace_s: without a unit": put(*SERVICES, "healthcheck", "start_period", value="60 seconds"),
    "restart: a table": put(*SERVICES, "restart", value={"policy": "always"}),
    "stop: without a unit": put(*SERVICES, "stop_grace_period", value="twenty"),
    "data_dir: a volume that nobody declares": put("services", "chroma", "volumes", value=["nobody:/data"]),
    "exports: a table": put(*SERVICES, "environment", "CHROMA_URL", value={"url": "x"}),
    "limits: with a unit of Kubernetes": put(*SERVICES, "mem_limit", value="512Mi"),
    "logging: a list": put(*SERVICES, "logging", "options", value=["max-size"]),
    "cascade: in words": put(*SERVICES, "depends_on", "chroma", "restart", value="yes, please"),
}


@pytest.mark.parametrize(("name", "kind", "broken"), BROKEN_OBJECTS.values(), ids=BROKEN_OBJECTS)
def test_kubernetes_refuses_a_broken_object(name: str, kind: str, broken: Break) -> None:
    import kubernetes_validate

    found = next(one for one in documents(EXPECTED / "kubernetes" / f"{name}.yaml") if one["kind"] == kind)
    changed = copy.deepcopy(found)
    broken(changed)
    assert changed != found
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(changed, VERSIONS[-1])


@pytest.mark.parametrize("broken", BROKEN_SERVICES.values(), ids=BROKEN_SERVICES)
def test_compose_refuses_a_broken_service(broken: Break, tmp_path: Path) -> None:
    import yaml

    (changed,) = documents(EXPECTED / "compose" / "compose.yaml")
    broken(changed)
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(changed))
    said = compose(tmp_path / "compose.yaml", TOKEN="x")
    assert said.returncode != 0
    assert said.stderr


BROKEN_RULES: dict[str, tuple[str, str, Break]] = {
    "requires: an account that is not there": ("api", "Deployment", put(*POD, "serviceAccountName", value="nobody")),
    "requires: two containers of one name": ("api", "Deployment", put(*POD, "initContainers", 0, "name", value="api")),
    "ready: a probe without a question": ("api", "Deployment", drop(*CONTAINER, "readinessProbe", "httpGet")),
    "start_grace_s: 0 tries": ("api", "Deployment", put(*CONTAINER, "startupProbe", "failureThreshold", value=0)),
    "live: a negative interval": ("api", "Deployment", put(*CONTAINER, "livenessProbe", "periodSeconds", value=-5)),
    "live: an interval of ages": ("api", "Deployment", put(*CONTAINER, "livenessProbe", "periodSeconds", value=10**12)),
    "live: two questions": ("api", "Deployment", put(*CONTAINER, "livenessProbe", "tcpSocket", value={"port": 1})),
    "restart: an unknown word": ("migrate", "Job", put(*POD, "restartPolicy", value="Sometimes")),
    "restart: a job that always is": ("migrate", "Job", put(*POD, "restartPolicy", value="Always")),
    "stop: a negative grace": ("api", "Deployment", put(*POD, "terminationGracePeriodSeconds", value=-1)),
    "stop: a hook without a handler": ("api", "Deployment", put(*CONTAINER, "lifecycle", "preStop", value={})),
    "data_dir: an unknown mode": ("chroma", "StatefulSet", put(*CLAIM, "accessModes", value=["ReadOnce"])),
    "data_dir: a claim of nothing": (
        "chroma",
        "StatefulSet",
        put(*CLAIM, "resources", "requests", "storage", value="0"),
    ),
    "data_dir: a service that is not there": ("chroma", "StatefulSet", put("spec", "serviceName", value="nobody")),
    "data_dir: a mount of nothing": ("chroma", "StatefulSet", put(*CONTAINER, "volumeMounts", 0, "name", value="x")),
    "exports: a key with a blank": ("chroma", "ConfigMap", put("data", "A B", value="x")),
    "exports: of nobody": ("api", "Deployment", put(*CONTAINER, "envFrom", 0, "configMapRef", "name", value="x")),
    "limits: with a unit of Compose": (
        "api",
        "Deployment",
        put(*CONTAINER, "resources", "limits", "memory", value="5g"),
    ),
    "ports: a long name": ("chroma", "Service", put("spec", "ports", 0, "name", value="a-name-too-long-")),
    "labels: other pods": ("api", "Deployment", put("spec", "selector", "matchLabels", value={"app": "x"})),
    "secrets: a name with a capital": (
        "api",
        "Deployment",
        put(*CONTAINER, "env", 3, "valueFrom", "secretKeyRef", "name", value="Api"),
    ),
}


def test_no_rule_beyond_the_schemas_is_broken() -> None:
    assert broken_rules(objects()) == []


@pytest.mark.parametrize(("name", "kind", "broken"), BROKEN_RULES.values(), ids=BROKEN_RULES)
def test_the_rules_beyond_the_schemas_see_a_broken_object(name: str, kind: str, broken: Break) -> None:
    everything = objects()
    # The name of the object is that of its file, or begins so.
    (changed,) = (one for one in everything if one["kind"] == kind and one["metadata"]["name"].split("-")[0] == name)
    broken(changed)
    validate(changed, VERSIONS[-1])  # the schema does not see it
    assert len(broken_rules(everything)) == 1
