"""Init containers that wait for other daemons, and the account with which they ask."""

from __future__ import annotations

from collections.abc import Iterator

from neo_daemons.render.workload import Need, Plan, Workload
from neo_daemons.render.yaml_text import comments

from .names import Object, labels, name_of

WAITER = "busybox:1.37"
"""What waits for a port: it has nc."""
KUBECTL = "registry.k8s.io/kubectl:v1.34.1"
"""What waits for a Job, or for a pod without a port: it asks the API."""
ACCOUNT = "neo-daemons-waits"


def waits(plan: Plan, workload: Workload) -> Iterator[Object]:
    """Yield the containers that wait for what a daemon needs."""
    for need in workload.needs:
        other = plan.workloads.get(need.name)
        if other is not None:
            yield from _wait(other, need)


def asks_the_api(plan: Plan, workload: Workload) -> bool:
    """Return whether a daemon waits for what only the API knows."""
    return any(wait["image"] == KUBECTL for wait in waits(plan, workload))


def _wait(other: Workload, need: Need) -> Iterator[Object]:
    name = name_of(need.name)
    start: Object = {"name": _container_name(f"wait-for-{name}")}
    if other.definition.oneshot:
        yield from _wait_by_the_api(name, f"job/{name}", "complete")
    elif other.image.ports:
        number = next(iter(other.image.ports.values()))
        yield {
            **comments(f"Its service accepts connections as soon as {name} is ready."),
            **start,
            "image": WAITER,
            "command": ["sh", "-c", f"until nc -z -w 2 {name} {number}; do sleep 1; done"],
        }
    elif need.until == "ready":
        if other.image.data_dir is not None:
            yield from _wait_by_the_api(name, f"pod/{name}-0", "ready")
        else:
            yield from _wait_by_the_api(name, f"deployment/{name}", "available")


def _wait_by_the_api(name: str, what: str, condition: str) -> Iterator[Object]:
    """Yield what waits for an object and then for its condition: `kubectl wait` fails for what does not exist yet."""
    for start, state in ((f"wait-until-{name}-exists", "create"), (f"wait-for-{name}", f"condition={condition}")):
        command = ["kubectl", "wait", f"--for={state}", "--timeout=-1s", what]
        yield {"name": _container_name(start), "image": KUBECTL, "command": command}


def _container_name(text: str) -> str:
    return text[:63].rstrip("-")


def account(project: str) -> list[Object]:
    """Return the account with which a pod asks the API whether what it waits for is there."""
    metadata = {"name": ACCOUNT, "labels": labels(project)}
    group = "rbac.authorization.k8s.io"
    verbs = ["get", "list", "watch"]
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": verbs},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": verbs},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": verbs},
    ]
    return [
        {
            **comments("With this account a pod asks whether what it waits for is there."),
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata,
        },
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT}],
        },
    ]
