"""What the API server of Kubernetes refuses although the published schemas, which hold types only, accept it.

The rules are those of the API reference for the fields that are rendered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

SERVICE = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
VARIABLE = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
KEY = re.compile(r"[A-Za-z0-9_.-]{1,253}")
PORT = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?([KMGT]i|[mkMGT])?")
HANDLERS = {"httpGet", "tcpSocket", "exec", "grpc"}
MODES = {"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"}
POLICIES = {"Deployment": {"Always"}, "StatefulSet": {"Always"}, "Job": {"OnFailure", "Never"}}
MOST = 2**31 - 1


def broken(objects: Iterable[dict[str, Any]]) -> list[str]:
    """The rules that objects break, each as a line."""
    everything = list(objects)
    there = [(one["kind"], one["metadata"]["name"]) for one in everything]
    lines = [f"{kind} {name}: twice" for kind, name in set(there) if there.count((kind, name)) > 1]
    for one in everything:
        place = f"{one['kind']} {one['metadata']['name']}"
        lines += [f"{place}: {line}" for line in _broken(one, set(there))]
    return lines


def _broken(one: dict[str, Any], there: set[tuple[str, str]]) -> Iterator[str]:
    kind, name, spec = one["kind"], one["metadata"]["name"], one.get("spec", {})
    if not (SERVICE if kind == "Service" else SUBDOMAIN).fullmatch(name):
        yield "its name"
    yield from _labels(one["metadata"].get("labels", {}))
    yield from (f"the key {key}" for key in one.get("data", {}) if not KEY.fullmatch(key) or key in (".", ".."))
    if kind == "Service":
        yield from _ports(spec.get("ports", []), "port")
    if kind == "PersistentVolumeClaim":
        yield from _claim(spec)
    for claim in spec.get("volumeClaimTemplates", []):
        yield from _claim(claim["spec"])
    if kind in POLICIES:
        pod = spec["template"]
        yield from _labels(pod["metadata"]["labels"])
        if kind != "Job" and not spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items():
            yield "it selects other pods"
        if kind == "StatefulSet" and ("Service", spec.get("serviceName")) not in there:
            yield "no service has its serviceName"
        if not 0 <= spec.get("backoffLimit", 0) <= MOST or spec.get("activeDeadlineSeconds", 1) < 1:
            yield "a limit of a job"
        if pod["spec"].get("restartPolicy") not in POLICIES[kind]:
            yield "restartPolicy"
        volumes = {one["name"] for one in pod["spec"].get("volumes", [])}
        volumes |= {one["metadata"]["name"] for one in spec.get("volumeClaimTemplates", [])}
        yield from _pod(pod["spec"], volumes, there)


def _labels(labels: dict[str, str]) -> Iterator[str]:
    yield from (f"the label {key}" for key, value in labels.items() if not LABEL.fullmatch(value))


def _claim(spec: dict[str, Any]) -> Iterator[str]:
    if not spec["accessModes"] or not set(spec["accessModes"]) <= MODES:
        yield "accessModes"
    size = spec["resources"]["requests"]["storage"]
    if not QUANTITY.fullmatch(size) or not re.search("[1-9]", size):
        yield "the size of its claim"


def _ports(ports: list[dict[str, Any]], key: str) -> Iterator[str]:
    names = [port["name"] for port in ports]
    if len(set(names)) < len(names) or not all(map(PORT.fullmatch, names)):
        yield "the names of its ports"
    if not all(1 <= port[key] <= 65535 for port in ports):
        yield "the number of a port"


def _pod(spec: dict[str, Any], volumes: set[str], there: set[tuple[str, str]]) -> Iterator[str]:
    if not 0 <= spec.get("terminationGracePeriodSeconds", 0) <= MOST:
        yield "terminationGracePeriodSeconds"
    if "serviceAccountName" in spec and ("ServiceAccount", spec["serviceAccountName"]) not in there:
        yield "serviceAccountName"
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    names = [one["name"] for one in containers]
    if len(set(names)) < len(names) or not all(map(SERVICE.fullmatch, names)):
        yield "the names of its containers"
    for one in containers:
        if not one.get("image"):
            yield "no image"
        yield from (f"the variable {v['name']}" for v in one.get("env", []) if not VARIABLE.fullmatch(v["name"]))
        for variable in one.get("env", []):
            secret = variable.get("valueFrom", {}).get("secretKeyRef")
            if secret and not (SUBDOMAIN.fullmatch(secret["name"]) and KEY.fullmatch(secret["key"])):
                yield "the name of a secret"
        for used in one.get("envFrom", []):
            if ("ConfigMap", used["configMapRef"]["name"]) not in there:
                yield f"no ConfigMap {used['configMapRef']['name']}"
        yield from _ports(one.get("ports", []), "containerPort")
        for mount in one.get("volumeMounts", []):
            if mount["name"] not in volumes or ":" in mount["mountPath"]:
                yield "a mount"
        for table in one.get("resources", {}).values():
            yield from (f"the quantity of {key}" for key, text in table.items() if not QUANTITY.fullmatch(text))
        for key in ("startupProbe", "readinessProbe", "livenessProbe"):
            if key in one:
                yield from _probe(key, one[key])
        if "lifecycle" in one and len(one["lifecycle"]["preStop"]) != 1:
            yield "preStop"


def _probe(key: str, probe: dict[str, Any]) -> Iterator[str]:
    if len(HANDLERS & set(probe)) != 1:
        yield f"{key} asks nothing, or twice"
    numbers = [probe[name] for name in ("periodSeconds", "failureThreshold", "timeoutSeconds")]
    if not all(1 <= number <= MOST for number in numbers):
        yield f"a number of {key}"
    if "exec" in probe and not probe["exec"]["command"]:
        yield f"{key} runs nothing"
    if "httpGet" in probe and not probe["httpGet"]["path"]:
        yield f"{key} asks no path"
