"""Renders a project for Docker Compose: one file, and what images are built from."""

from __future__ import annotations

import re
from typing import Any

from neo_daemons.definitions import Definition, LogProbe, Secret

from . import probing
from .probing import CannotAsk
from .quantities import cores, in_bytes, seconds
from .stack import Faults
from .workload import Need, Plan, Workload
from .yaml_text import Comment, comments, document

FILE = "compose.yaml"
CONDITIONS = {
    "ready": "service_healthy",
    "started": "service_started",
    "done": "service_completed_successfully",
}
RESTART = {"always": "unless-stopped", "on-failure": "on-failure", "never": "no"}
LONGEST_S = 2**31 - 1
"""The longest time, in seconds: those of Compose end with 292 years."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Names of the variables that Compose replaces."""
START_INTERVAL_S = 1
"""How often a container that starts is asked."""
HEAD = (
    "Ports are reachable by other services, not from outside: add `ports` to publish one.",
    "Compose restarts daemons at its own pace, and it tells of one that runs but is not alive without restarting it.",
)


def render(plan: Plan, head: tuple[str, ...], faults: Faults) -> dict[str, str]:
    """Return the files, path → content, or add errors to `faults`."""
    services: dict[str, Any] = {}
    volumes: dict[str, None] = {}
    for workload in plan.workloads.values():
        services[workload.name] = _service(plan, workload, faults)
        if workload.image.data_dir is not None:
            volumes[workload.name] = None
    content: dict[str, Any] = {"name": project_name(plan.stack.name), "services": services}
    if volumes:
        content["volumes"] = {name: {} for name in volumes}
    lines = (*head, *HEAD, *plan.notes)
    files = {FILE: document(content, *lines)}
    for workload in plan.workloads.values():
        files |= workload.image.files
    return files


def project_name(text: str) -> str:
    """Return the name of a project as Compose allows it: lower case letters, digits, dashes and underscores."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in text.lower()).lstrip("-_")
    return kept or "project"


def _service(plan: Plan, workload: Workload, faults: Faults) -> dict[str | Comment, Any]:
    definition, deploy, image = workload.definition, workload.deploy, workload.image
    service: dict[str | Comment, Any] = {**comments(*_notes(workload))}
    if image.build is not None:
        service["build"] = f"./{image.build}"
    else:
        service["image"] = _escape(image.name)
    if workload.entrypoint is not None:
        service["entrypoint"] = [_escape(word) for word in workload.entrypoint]
    if workload.arguments is not None:
        service["command"] = [_escape(word) for word in workload.arguments]
    if deploy.user is not None:
        service["user"] = str(deploy.user)
    environment = _environment(plan, workload, faults)
    if environment:
        service["environment"] = environment
    if image.ports:
        service["expose"] = [str(number) for number in image.ports.values()]
    if image.data_dir is not None:
        if deploy.replicas > 1:
            faults.add(workload.name, "deploy.replicas", "one process at a time may use its data", "remove it")
        service["volumes"] = [f"{workload.name}:{_escape(image.data_dir)}"]
    needs = {
        need.name: _dependency(plan.workloads[need.name], need)
        for need in workload.needs
        if need.name in plan.workloads
    }
    if needs:
        service["depends_on"] = needs
    check = None if definition.oneshot else _healthcheck(workload, faults)
    if check is not None:
        service["healthcheck"] = check
    service["restart"] = (
        "on-failure" if definition.oneshot and definition.restart.when != "never" else RESTART[definition.restart.when]
    )
    if definition.stop.signal != "SIGTERM":
        service["stop_signal"] = definition.stop.signal
    service["stop_grace_period"] = _duration(definition.stop.grace_s)
    service |= _limits(definition, workload)
    service["logging"] = {
        "driver": "json-file",
        "options": {"max-size": f"{definition.log.max_bytes}", "max-file": f"{definition.log.keep + 1}"},
    }
    return service


def _duration(number: float) -> str:
    """Return a number of seconds as Compose reads it."""
    return f"{seconds(min(number, LONGEST_S))}s"


def _escape(text: str) -> str:
    """Return a string in which Compose replaces nothing."""
    return text.replace("$", "$$")


def _environment(plan: Plan, workload: Workload, faults: Faults) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for exports in plan.exports_for(workload).values():
        found |= {name: _escape(value) for name, value in exports.items()}
    for name, value in workload.env.items():
        if isinstance(value, Secret):
            if not VARIABLE.fullmatch(name):
                problem, remedy = "Compose reads no variable of this name", "use letters, digits and _"
                faults.add(workload.name, f"deploy.env.{name}", problem, remedy)
            said = f"the key {value.key} of the secret {value.secret}; set it in the environment or in .env"
            found[name] = f"${{{name}:?{said}}}"
        else:
            found[name] = _escape(value)
    return found


def _dependency(other: Workload, need: Need) -> dict[str | Comment, Any]:
    until = need.until
    found: dict[str | Comment, Any] = {}
    if until == "ready" and not _is_asked(other):
        found |= comments(f"{other.name} has nothing that shows whether it is ready")
        until = "started"
    if other.definition.oneshot and until == "started":
        until = "done"
    found["condition"] = CONDITIONS[until]
    if need.cascades:
        found["restart"] = True
    return found


def _is_asked(workload: Workload) -> bool:
    return workload.image.probe_command is not None or any(
        not isinstance(probe, LogProbe) for probe in (*workload.ready, *workload.live)
    )


def _healthcheck(workload: Workload, faults: Faults) -> dict[str, Any] | None:
    """Return the check that tells Compose that a container is ready."""
    key = "ready" if any(not isinstance(probe, LogProbe) for probe in workload.ready) else "live"
    probes = [probe for probe in getattr(workload, key) if not isinstance(probe, LogProbe)]
    if not probes and workload.image.probe_command is None:
        return None
    try:
        command = probing.command(workload, probes)
    except CannotAsk as error:
        faults.add(workload.name, f"deploy.{key}", str(error), error.remedy.format(name=workload.name))
        return None
    asked = probes or list(workload.live)
    regular = (*workload.live, *probes)
    return {
        "test": ["CMD", *(_escape(word) for word in command)],
        "interval": _duration(min((probe.interval_s for probe in regular), default=10.0)),
        "timeout": _duration(sum(probe.timeout_s for probe in asked) or 5.0),
        "retries": max((probe.failures for probe in regular), default=3),
        "start_period": _duration(workload.start_grace_s),
        "start_interval": f"{START_INTERVAL_S}s",
    }


def _limits(definition: Definition, workload: Workload) -> dict[str, Any]:
    resources = workload.deploy.resources
    found: dict[str, Any] = {}
    if resources.memory is not None:
        found["mem_limit"] = _memory(resources.memory)
    elif definition.max_rss_bytes is not None:
        found["mem_limit"] = f"{definition.max_rss_bytes}b"
    if resources.cpu is not None:
        found["cpus"] = cores(resources.cpu)
    deploy: dict[str, Any] = {}
    if workload.deploy.replicas > 1:
        deploy["replicas"] = workload.deploy.replicas
    if resources.gpus is not None:
        device = {"driver": "nvidia", "count": resources.gpus, "capabilities": ["gpu"]}
        deploy["resources"] = {"reservations": {"devices": [device]}}
    if deploy:
        found["deploy"] = deploy
    return found


def _memory(quantity: str) -> str:
    """Return a quantity as Compose writes it, whose units are binary without saying so."""
    number, unit = quantity[:-2], quantity[-2:]
    if number.isdecimal() and unit in ("Ki", "Mi", "Gi"):
        return f"{number}{unit[0].lower()}"
    return f"{in_bytes(quantity)}b"


def _notes(workload: Workload) -> list[str]:
    """Return what the reader of a service should know, among it what Compose has no counterpart of."""
    definition, notes = workload.definition, list(workload.image.notes)
    if any(isinstance(probe, LogProbe) for probe in workload.ready):
        notes.append("not rendered: a probe of its log, which Compose does not read")
    if definition.max_runtime_s is not None:
        notes.append(f"not rendered: max_runtime_s = {seconds(definition.max_runtime_s)}")
    if definition.start == "on-demand":
        notes.append("it is on demand elsewhere; here it always runs")
    if definition.watch or definition.inputs:
        notes.append("not rendered: it is not restarted when files change; they are in the image")
    if definition.user is not None and workload.deploy.user is None:
        notes.append(f"it runs as the user of the image; deploy.user names another than {definition.user}")
    return notes
