"""Renders a project for Kubernetes: a file for each daemon, and a kustomization that names them."""

from __future__ import annotations

from neo_daemons.render.stack import Faults
from neo_daemons.render.workload import Plan
from neo_daemons.render.yaml_text import document

from . import waiting
from .names import Object, check_names, check_variables
from .objects import exports, objects

KUSTOMIZATION = "kustomization.yaml"
WAITING = "_waiting.yaml"
"""No daemon has a name that begins so."""
HEAD = (
    "Kubernetes restarts daemons at its own pace and rotates their logs itself, whatever the definitions say of both.",
)


def render(plan: Plan, head: tuple[str, ...], faults: Faults) -> dict[str, str]:
    """Return the files, path → content, or add errors to `faults`."""
    external = [name for name, variables in plan.external.items() if variables]
    check_names([*plan.workloads, *external], faults)
    for name in external:
        check_variables(name, "exports", plan.external[name], faults)
    rendered = {f"{name}.yaml": list(objects(plan, workload, faults)) for name, workload in plan.workloads.items()}
    rendered |= {f"{name}.yaml": [exports(plan, name, plan.external[name])] for name in external}
    if any(waiting.asks_the_api(plan, workload) for workload in plan.workloads.values()):
        rendered[WAITING] = waiting.account(plan.stack.name)
    index: Object = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    index["resources"] = sorted(rendered)
    files = {path: _file(found, head[0]) for path, found in rendered.items()}
    return {KUSTOMIZATION: document(index, *head, *HEAD, *plan.notes), **files}


def _file(found: list[Object], head: str) -> str:
    first, *rest = found
    return "---\n".join([document(first, head), *map(document, rest)])
