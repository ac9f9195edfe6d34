"""The objects of one daemon: its variables, its service, and what runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from neo_daemons.definitions import LogProbe, Secret
from neo_daemons.render.quantities import in_bytes, seconds
from neo_daemons.render.stack import Faults
from neo_daemons.render.workload import Plan, Workload
from neo_daemons.render.yaml_text import comments

from .names import Object, check_ports, check_variables, labels, literal, name_of, port_name, whole
from .probes import probes
from .waiting import ACCOUNT, asks_the_api, waits


def exports(plan: Plan, name: str, variables: Mapping[str, str]) -> Object:
    """Return the variables by which others find a daemon."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{name_of(name)}-exports", "labels": labels(plan.stack.name, name)},
        **comments("For programs that use it: envFrom a configMapRef of this name."),
        "data": dict(variables),
    }


def objects(plan: Plan, workload: Workload, faults: Faults) -> Iterator[Object]:
    """Yield all objects of a daemon, or add errors to `faults`."""
    keeps_data, oneshot = workload.image.data_dir is not None, workload.definition.oneshot
    if keeps_data:
        _check_data(workload, faults)
    check_ports(workload.name, workload.image.ports, faults)
    check_variables(workload.name, "env", workload.env, faults)
    check_variables(workload.name, "exports", workload.exports, faults)
    if workload.exports:
        yield exports(plan, workload.name, workload.exports)
    if not oneshot and (workload.image.ports or keeps_data):
        yield _object(plan, workload, "v1", "Service", _service(workload))
    pod = _pod(plan, workload, faults)
    if oneshot:
        if keeps_data:
            metadata = {"name": f"{name_of(workload.name)}-data", "labels": labels(plan.stack.name, workload.name)}
            yield {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": _claim(workload)}
        yield _object(plan, workload, "batch/v1", "Job", _job(workload, pod))
    elif keeps_data:
        yield _object(plan, workload, "apps/v1", "StatefulSet", _stateful_set(workload, pod))
    else:
        yield _object(plan, workload, "apps/v1", "Deployment", _deployment(workload, pod))


def _object(plan: Plan, workload: Workload, version: str, kind: str, spec: Object) -> Object:
    notes = comments(*_notes(workload)) if kind != "Service" else {}
    metadata = {"name": name_of(workload.name), "labels": labels(plan.stack.name, workload.name)}
    return {**notes, "apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _check_data(workload: Workload, faults: Faults) -> None:
    if workload.deploy.replicas > 1:
        faults.add(workload.name, "deploy.replicas", "one process at a time may use its data", "remove it")
    if workload.deploy.storage is None:
        problem = "missing: its data needs a claim of some size"
        faults.add(workload.name, "deploy.storage", problem, 'set it, e.g. to "10Gi"')
    elif in_bytes(workload.deploy.storage) == 0:
        faults.add(workload.name, "deploy.storage", "is 0: its data needs some space", 'set it, e.g. to "10Gi"')


def _selector(workload: Workload) -> Object:
    return {"app.kubernetes.io/name": name_of(workload.name)}


def _service(workload: Workload) -> Object:
    ports = [{"name": port_name(name), "port": number} for name, number in workload.image.ports.items()]
    if ports:
        return {"selector": _selector(workload), "ports": ports}
    said = comments("It has no port; a StatefulSet needs a service for the names of its pods.")
    return {"selector": _selector(workload), **said, "clusterIP": "None"}


def _job(workload: Workload, pod: Object) -> Object:
    definition = workload.definition
    spec: Object = {}
    if definition.max_runtime_s is not None:
        spec["activeDeadlineSeconds"] = whole(definition.max_runtime_s)
    spec["backoffLimit"] = 0 if definition.restart.when == "never" else whole(definition.restart.limit)
    return {**spec, "template": pod}


def _deployment(workload: Workload, pod: Object) -> Object:
    selector = {"matchLabels": _selector(workload)}
    return {"replicas": workload.deploy.replicas, "selector": selector, "template": pod}


def _stateful_set(workload: Workload, pod: Object) -> Object:
    return {
        "replicas": 1,
        "serviceName": name_of(workload.name),
        "selector": {"matchLabels": _selector(workload)},
        "template": pod,
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": _claim(workload)}],
    }


def _claim(workload: Workload) -> Object:
    claim: Object = {**comments("One pod at a time may use it: one process per store.")}
    claim["accessModes"] = ["ReadWriteOncePod"]
    if workload.deploy.storage_class is not None:
        claim["storageClassName"] = workload.deploy.storage_class
    claim["resources"] = {"requests": {"storage": workload.deploy.storage}}
    return claim


def _pod(plan: Plan, workload: Workload, faults: Faults) -> Object:
    definition, deploy = workload.definition, workload.deploy
    spec: Object = {**comments("Else each service would set variables like CHROMA_PORT to an address.")}
    spec["enableServiceLinks"] = False
    if asks_the_api(plan, workload):
        spec["serviceAccountName"] = ACCOUNT
    else:
        spec["automountServiceAccountToken"] = False
    if deploy.user is not None:
        spec["securityContext"] = {"runAsUser": deploy.user, "fsGroup": deploy.user}
    if definition.stop.signal == "SIGKILL":
        spec |= comments("The daemon wants SIGKILL, which comes after this; 0 would not wait for its end.")
        spec["terminationGracePeriodSeconds"] = 1
    else:
        spec["terminationGracePeriodSeconds"] = whole(definition.stop.grace_s)
    if definition.oneshot:
        spec["restartPolicy"] = "Never" if definition.restart.when == "never" else "OnFailure"
    else:
        spec["restartPolicy"] = "Always"
    waiting = list(waits(plan, workload))
    if waiting:
        spec["initContainers"] = waiting
    spec["containers"] = [_container(plan, workload, faults)]
    if definition.oneshot and workload.image.data_dir is not None:
        spec["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": f"{name_of(workload.name)}-data"}}]
    return {"metadata": {"labels": labels(plan.stack.name, workload.name)}, "spec": spec}


def _container(plan: Plan, workload: Workload, faults: Faults) -> Object:
    image = workload.image
    container: Object = {"name": name_of(workload.name), "image": image.name}
    if image.build is not None:
        remedy = f"build it from what `neo-daemons render compose -o DIR` puts into {image.build}/, and name it here"
        faults.add(workload.name, "deploy.image", "missing: nobody publishes one", remedy)
    if workload.entrypoint is not None:
        container["command"] = [literal(word) for word in workload.entrypoint]
    if workload.arguments is not None:
        container["args"] = [literal(word) for word in workload.arguments]
    used = [{"configMapRef": {"name": f"{name_of(name)}-exports"}} for name in plan.exports_for(workload)]
    if used:
        container["envFrom"] = used
    env = [_variable(name, value) for name, value in workload.env.items()]
    if env:
        container["env"] = env
    if image.ports:
        ports = image.ports.items()
        container["ports"] = [{"name": port_name(name), "containerPort": number} for name, number in ports]
    container |= probes(workload, faults)
    container |= _stop(workload)
    container |= _resources(workload)
    if image.data_dir is not None:
        container["volumeMounts"] = [{"name": "data", "mountPath": image.data_dir}]
    return container


def _variable(name: str, value: str | Secret) -> Object:
    if isinstance(value, Secret):
        return {"name": name, "valueFrom": {"secretKeyRef": {"name": value.secret, "key": value.key}}}
    return {"name": name, "value": literal(value)}


def _stop(workload: Workload) -> Object:
    stop = workload.definition.stop
    if stop.signal in ("SIGTERM", "SIGKILL"):
        return {}
    script = f"kill -{stop.signal.removeprefix('SIG')} 1; while kill -0 1; do sleep 0.2; done"
    return {
        **comments(f"Kubernetes sends SIGTERM; the daemon wants {stop.signal}, and the time to end."),
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", script]}}},
    }


def _resources(workload: Workload) -> Object:
    resources, limit = workload.deploy.resources, workload.definition.max_rss_bytes
    memory = resources.memory or (str(limit) if limit is not None else None)
    requests = {name: text for name, text in (("cpu", resources.cpu), ("memory", memory)) if text is not None}
    limits = {"memory": memory} if memory is not None else {}
    if resources.gpus is not None:
        limits["nvidia.com/gpu"] = str(resources.gpus)
    found = {name: table for name, table in (("requests", requests), ("limits", limits)) if table}
    return {"resources": found} if found else {}


def _notes(workload: Workload) -> list[str]:
    """Return what a reader should know, among it what Kubernetes has no counterpart of."""
    definition, notes = workload.definition, list(workload.image.notes)
    if any(isinstance(probe, LogProbe) for probe in workload.ready) and workload.image.probe_command is None:
        notes.append("not rendered: a probe of its log, which Kubernetes does not read")
    if definition.oneshot:
        notes.append("a Job runs once; to run it again, delete it and apply this file")
        return notes
    if definition.restart.when != "always":
        notes.append(f'not rendered: restart = "{definition.restart.when}"; its pods are always restarted')
    if definition.max_runtime_s is not None:
        notes.append(f"not rendered: max_runtime_s = {seconds(definition.max_runtime_s)}")
    if definition.cascades:
        notes.append(f"not rendered: it is not restarted with {', '.join(definition.cascades)}")
    if definition.start == "on-demand":
        notes.append("it is on demand elsewhere; here it always runs")
    if definition.watch:
        notes.append("not rendered: it is not restarted when files change; they are in the image")
    if definition.user is not None and workload.deploy.user is None:
        notes.append(f"it runs as the user of the image; deploy.user names another than {definition.user}")
    return notes
