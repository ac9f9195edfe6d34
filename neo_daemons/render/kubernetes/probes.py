"""The probes of a container: of its start, of its readiness, and whether it is alive."""

from __future__ import annotations

from collections.abc import Sequence

from neo_daemons.definitions import AnyProbe, ExecProbe, HttpProbe, LogProbe, TcpProbe
from neo_daemons.render import probing
from neo_daemons.render.probing import CannotAsk
from neo_daemons.render.stack import Faults
from neo_daemons.render.workload import Workload
from neo_daemons.render.yaml_text import comments

from .names import Object, literal, whole

STARTUP_PROBES = 60
"""How many times a start is asked at most; the time between two is a second or more."""


def probes(workload: Workload, faults: Faults) -> Object:
    """Return the probes of a daemon's container."""
    if workload.definition.oneshot:
        return {}
    found: Object = {}
    ready, live = _probe(workload, "ready", faults), _probe(workload, "live", faults)
    start = ready or live
    if start is not None:
        period = max(1, whole(workload.start_grace_s / STARTUP_PROBES))
        count = max(1, whole(workload.start_grace_s / period))
        found["startupProbe"] = {**start, "periodSeconds": period, "failureThreshold": count}
    if ready is not None:
        found["readinessProbe"] = ready
    if live is not None:
        found["livenessProbe"] = live
    return found


def _probe(workload: Workload, key: str, faults: Faults) -> Object | None:
    stated: tuple[AnyProbe, ...] = getattr(workload, key)
    asked = [probe for probe in stated if not isinstance(probe, LogProbe)]
    if not asked and workload.image.probe_command is None:
        return None
    pace: Object = {
        "periodSeconds": whole(min((probe.interval_s for probe in asked), default=10.0)),
        "failureThreshold": whole(max((probe.failures for probe in asked), default=3)),
        "timeoutSeconds": whole(sum(probe.timeout_s for probe in asked) or 5.0),
    }
    own = _own_question(workload, asked)
    if own is not None:
        return {**own, **pace}
    try:
        command = probing.command(workload, asked)
    except CannotAsk as error:
        faults.add(workload.name, f"deploy.{key}", str(error), error.remedy.format(name=workload.name))
        return None
    return {"exec": {"command": [literal(word) for word in command]}, **pace}


def _own_question(workload: Workload, asked: Sequence[AnyProbe]) -> Object | None:
    """Return a probe that Kubernetes makes itself, without a process in the container; None if there is none.

    It compares no bodies, so one that does is left to the program that `deploy.probe_with` names.
    """
    if len(asked) != 1:
        return None
    match asked[0]:
        case HttpProbe(url=None, method="GET", json=None, status=(), body=None) as probe:
            return _http_get(workload, probe)
        case HttpProbe(url=None, method="GET", json=None, status=()) as probe if workload.deploy.probe_with is None:
            said = comments(f"The body is not compared with {probe.body!r}: for that, set deploy.probe_with.")
            return {**said, **_http_get(workload, probe)}
        case TcpProbe() as probe:
            return {"tcpSocket": {"port": probing.port_of(workload, probe)}}
        case ExecProbe() as probe:
            return {"exec": {"command": [literal(word) for word in probe.command]}}
    return None


def _http_get(workload: Workload, probe: HttpProbe) -> Object:
    found: Object = {"path": probe.path, "port": probing.port_of(workload, probe)}
    if probe.headers:
        found["httpHeaders"] = [{"name": name, "value": value} for name, value in probe.headers.items()]
    return {"httpGet": found}
