"""Names and strings as Kubernetes allows them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from neo_daemons.render.stack import Faults
from neo_daemons.render.yaml_text import Comment

Object = dict[str | Comment, Any]
"""An object of Kubernetes, or a part of one."""
MOST = 2**31 - 1
"""The highest number of seconds, or of tries."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,252}")
"""Names of variables, which are also keys of a ConfigMap."""
LONGEST = 52
"""The longest name of a workload, in characters: labels of its pods hold it and eleven more, and at most 63."""


def name_of(daemon: str) -> str:
    """Return the name of a daemon's objects: names of services hold no underscores."""
    return daemon.replace("_", "-")


def check_names(daemons: Iterable[str], faults: Faults) -> None:
    """Add an error for each daemon whose name cannot be that of a service of its own."""
    seen: dict[str, str] = {}
    for daemon in daemons:
        name = name_of(daemon)
        if len(name) > LONGEST:
            faults.add(daemon, "", f"the name is longer than {LONGEST} characters", "use a shorter one")
        if name == "kustomization":
            faults.add(daemon, "", "is the name of the file that names all others", "use another name")
        if name.endswith("-"):
            faults.add(daemon, "", "the name of a service ends with a letter or digit", "use another name")
        if seen.setdefault(name, daemon) != daemon:
            faults.add(daemon, "", f"becomes {name!r}, as does {seen[name]!r}", "use another name")


def labels(project: str, daemon: str | None = None) -> dict[str | Comment, str]:
    """Return the labels of an object that belongs to a project, and to one of its daemons."""
    own = {"app.kubernetes.io/name": name_of(daemon)} if daemon is not None else {}
    return {**own, "app.kubernetes.io/part-of": _label(project)}


def _label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:63].strip("._-") or "project"


def port_name(name: str) -> str:
    """Return the name of a port: at most 15 lower case letters, digits and single dashes, and one letter or more."""
    kept = re.sub(r"[^a-z0-9]+", "-", name.lower())[:15].strip("-")
    return kept if re.search("[a-z]", kept) else f"p-{kept}"[:15].strip("-")


def check_ports(daemon: str, ports: Iterable[str], faults: Faults) -> None:
    """Add an error for each port whose name becomes that of another."""
    seen: dict[str, str] = {}
    for port in ports:
        if seen.setdefault(port_name(port), port) != port:
            problem = f"becomes {port_name(port)!r}, as does {seen[port_name(port)]!r}"
            faults.add(daemon, f"ports.{port}", problem, "use another name")


def check_variables(daemon: str, key: str, names: Iterable[str], faults: Faults) -> None:
    """Add an error for each variable whose name Kubernetes does not allow."""
    for name in names:
        if not VARIABLE.fullmatch(name):
            remedy = "use letters, digits, _, - and ., and no digit at its start"
            faults.add(daemon, f"{key}.{name}", "the name cannot be that of a variable in Kubernetes", remedy)


def whole(number: float) -> int:
    """Return a number of seconds, or of tries, as Kubernetes takes it."""
    return min(math.ceil(number), MOST)


def literal(text: str) -> str:
    """Return a string in which Kubernetes replaces nothing: it knows ``$(NAME)``, and ``$$`` for a dollar sign."""
    return re.sub(r"\$(?=[($])", "$$", text)
