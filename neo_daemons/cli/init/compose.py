"""Daemons from the services of a compose file, as far as they can run without containers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from neo_daemons.config.source import FILE_NAME
from neo_daemons.definitions import SignalName
from neo_daemons.references import escape

from .draft import Draft, is_installed, is_usable, name_of, read

FILE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
REDIS = ["--port", "${port}", "--bind", "${host}", "--dir", "${data_dir}"]
IMAGES: Mapping[str, list[str]] = {
    "redis": ["redis-server", *REDIS],
    "valkey": ["valkey-server", *REDIS],
    "nats": ["nats-server", "-a", "${host}", "-p", "${port}"],
}
"""The last part of an image's name → the command of its program, for what runs without an image as well."""
HINTS = dict.fromkeys(("postgres", "pgvector"), 'docs/configuration.md, "Another user", has a table for postgres')
VARIABLE = re.compile(r"\$(?:\$|\{([A-Za-z_]\w*)(?::?-([^}]*))?[^}]*\}|([A-Za-z_]\w*))")
DURATION = re.compile(r"(?:(\d+)m)?(?:(\d+)s)?")
RESTARTS = {"no": "never", "False": "never", "on-failure": "on-failure"}


class Variable(ValueError):
    """A value needs a variable that has no default; ``str()`` is its name."""


def drafts(root: Path) -> tuple[list[Draft], list[str]]:
    """Return the daemons of the project's compose file, and what else is to be said of it."""
    path = next((root / name for name in FILE_NAMES if (root / name).is_file()), None)
    text = read(path) if path is not None else None
    if path is None or text is None:
        return [], []
    try:
        content = _parse(text)
    except ImportError:
        remedy = f"pip install pyyaml, remove {FILE_NAME}, and run init again"
        return [], [f"{path.name} was not read, which takes PyYAML: {remedy}"]
    except ValueError as error:
        return [], [f"{path.name} was not read: {str(error).splitlines()[0] if str(error) else 'invalid YAML'}"]
    services = content.get("services") if isinstance(content, dict) else None
    if not isinstance(services, dict):
        return [], [f"{path.name} was not read: it has no services"]
    services_of, notes = dict[str, Draft](), list[str]()
    names = {str(service) for service in services}
    for service, stated in services.items():
        name = name_of(str(service))
        if name is None or not isinstance(stated, dict):
            notes.append(f"{path.name}: not carried over: the service {service!s}")
        else:
            services_of[str(service)] = _Service(name, stated, path, names - {str(service)}).draft
    renamed = {name_of(service): draft.name for service, draft in services_of.items()}
    for draft in services_of.values():
        for key in ("requires", "after"):
            if key in draft.table:
                draft.table[key] = [renamed.get(name, name) for name in draft.table[key]]
    if others := [str(key) for key in content if key not in ("services", "version", "name")]:
        notes.append(f"{path.name}: not carried over: {', '.join(others)}")
    return [*services_of.values()], notes


def _parse(text: str) -> Any:
    """Parse YAML.

    Raises:
        ImportError: no parser is installed.
        ValueError: it is no YAML.
    """
    try:
        import yaml
    except ImportError:
        from ruamel.yaml import YAML, YAMLError  # type: ignore[import-not-found,unused-ignore]

        try:
            return YAML(typ="safe").load(text)
        except YAMLError as error:
            raise ValueError(str(error)) from None
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from None


class _Service:
    """Makes the draft of one service.

    Args:
        others: the names of the other services.
    """

    def __init__(self, name: str, stated: Mapping[Any, Any], path: Path, others: set[str]) -> None:
        self.draft = Draft(name=name, source=f"{path.name}, service {name}")
        self._stated = dict(stated)
        self._root = path.parent
        self._others = others
        self._table = self.draft.table
        self._carry_over()

    def _remark(self, key: str, why: str = "") -> None:
        self.draft.remarks.append(f"not carried over: {key}{': ' if why else ''}{why}")

    def _carry_over(self) -> None:
        image = str(self._stated.pop("image", ""))
        program = re.split("[@:]", image.rpartition("/")[2])[0]
        if program == "chroma" and not self._stated.get("command"):
            self.draft.name = "chroma"
            self.draft.remarks.append(f"chroma is built in; the image was {image}")
            self._pass_over("build", "command", "entrypoint", "environment", "healthcheck", "working_dir", "ports")
        else:
            self._carry_over_command(image, program)
            self._carry_over_environment()
            self._carry_over_ports()
            self._carry_over_healthcheck()
        self._carry_over_order()
        self._carry_over_rules()
        self._pass_over(*map(str, self._stated))

    def _pass_over(self, *keys: str) -> None:
        if left := [key for key in keys if key in self._stated]:
            self._remark(", ".join(left))
        for key in left:
            del self._stated[key]

    def _carry_over_command(self, image: str, program: str) -> None:
        stated: list[str] = []
        self._stated.pop("build", None)
        try:
            for key in ("entrypoint", "command"):
                stated += _words(self._stated.pop(key, None))
        except ValueError as error:
            self._table["command"] = ["…"]
            self.draft.leave_out(f"its command needs {error}, which Compose takes from the shell or .env")
            return
        if not stated and program in IMAGES:
            stated, self._table["port"] = IMAGES[program], "auto"
            if "${data_dir}" in stated:
                self._table["data_dir"] = "${state_dir}/data/" + self.draft.name
        else:
            stated = [escape(word) for word in stated]
        if not stated or not stated[0].strip() or not all(map(is_usable, stated)):
            self._table["command"] = ["…"]
            self.draft.leave_out(f"what the image {image} runs has to be said here" if image else "it has no command")
            if program in HINTS:
                self.draft.remarks.append(HINTS[program])
            return
        self._table["command"] = stated
        if not is_installed(stated[0], self._root):
            self.draft.leave_out(f"{stated[0]} is not installed here" + (f"; the image was {image}" if image else ""))
        if (directory := self._stated.pop("working_dir", None)) is not None:
            self._remark(f"working_dir: {directory}")

    def _carry_over_environment(self) -> None:
        stated = self._stated.pop("environment", None) or {}
        if isinstance(stated, list):
            stated = dict(str(one).partition("=")[::2] if "=" in str(one) else (str(one), None) for one in stated)
        if not isinstance(stated, dict):
            self._remark("environment")
            return
        env = {}
        for key, value in stated.items():
            name = str(key)
            try:
                text = _interpolated(_text(value))
            except Variable as error:
                self._remark(f"the variable {name}, which needs {error}: use ${{env.{error}}} if it is always set")
                continue
            if value is None:
                self.draft.remarks.append(f"the variable {name} comes from the shell that starts the daemons")
            elif not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or not is_usable(text):
                self._remark(f"the variable {name}")
            else:
                env[name] = escape(text)
                for other in sorted(self._others):
                    if re.search(rf"(//|@){re.escape(other)}\b", text):
                        self.draft.remarks.append(
                            f"{name} names {other}, a host of Compose: use ${{host}} or ${{daemons.{other}.url}}"
                        )
        if env:
            self._table["env"] = env

    def _carry_over_ports(self) -> None:
        numbers: list[int] = []
        stated = self._stated.pop("ports", None) or []
        for one in stated if isinstance(stated, list) else [stated]:
            target = str(one.get("target", "")) if isinstance(one, dict) else str(one).rpartition(":")[2]
            try:
                number = int(_interpolated(target).removesuffix("/tcp"))
            except ValueError:
                number = 0
            if not 0 < number < 65536:
                self._remark(f"ports: {one}")
            elif number not in numbers:
                numbers.append(number)
        if len(numbers) == 1 and "port" not in self._table:
            self._table["port"] = numbers[0]
        elif len(numbers) > 1 and "port" not in self._table:
            self._table["ports"] = {
                ("main" if number == numbers[0] else f"port-{number}"): number for number in numbers
            }

    def _carry_over_healthcheck(self) -> None:
        stated = self._stated.pop("healthcheck", None)
        test = stated.get("test") if isinstance(stated, dict) else None
        if not isinstance(stated, dict) or not test or test == ["NONE"]:
            if stated is not None:
                self._remark("healthcheck")
            return
        kind, *words = [str(word) for word in test] if isinstance(test, list) else ["CMD-SHELL", str(test)]
        command = ["sh", "-c", *words[:1]] if kind == "CMD-SHELL" else words
        try:
            command = [escape(_interpolated(word)) for word in command]
        except Variable as error:
            self._remark(f"healthcheck, which needs {error}")
            return
        if (
            kind not in ("CMD", "CMD-SHELL")
            or not command
            or not command[0].strip()
            or not all(map(is_usable, command))
        ):
            self._remark("healthcheck")
            return
        self._table["ready"] = {"type": "exec", "command": command}
        if left := sorted(str(key) for key in stated if key != "test"):
            self._remark(f"{', '.join(left)} of healthcheck")

    def _carry_over_order(self) -> None:
        stated = self._stated.pop("depends_on", None) or []
        for other in stated if isinstance(stated, list | dict) else [stated]:
            how = stated[other] if isinstance(stated, dict) else None
            key = "after" if isinstance(how, dict) and how.get("required") is False else "requires"
            name = name_of(str(other))
            if name is None:
                self._remark(f"depends_on {other}")
            elif name not in self._table.setdefault(key, []):
                self._table[key].append(name)

    def _carry_over_rules(self) -> None:
        rule = str(self._stated.pop("restart", "always")).partition(":")[0]
        if rule in RESTARTS:
            self._table["restart"] = RESTARTS[rule]
        stop: dict[str, Any] = {}
        signal = str(self._stated.get("stop_signal"))
        if signal in get_args(SignalName):
            stop["signal"] = self._stated.pop("stop_signal")
        grace_s = _seconds(str(self._stated.get("stop_grace_period", "")))
        if grace_s:
            stop["grace_s"] = grace_s
            del self._stated["stop_grace_period"]
        if stop:
            self._table["stop"] = stop
        profiles = self._stated.get("profiles")
        if isinstance(profiles, list) and (groups := [name for one in profiles if (name := name_of(str(one)))]):
            self._table |= {"groups": list(dict.fromkeys(groups)), "enabled": False}
            del self._stated["profiles"]
        self._stated.pop("container_name", None)


def _words(stated: Any) -> list[str]:
    """Return a command as a list.

    Raises:
        ValueError: it needs a variable, or has an open quote.
    """
    if stated is None:
        return []
    words = [_text(word) for word in stated] if isinstance(stated, list) else shlex.split(_text(stated))
    return [_interpolated(word) for word in words]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def _interpolated(text: str) -> str:
    """Return what Compose makes of a value.

    Raises:
        Variable: it needs a variable.
    """

    def replace(match: re.Match[str]) -> str:
        name, default = match[1] or match[3], match[2]
        if match[0] == "$$":
            return "$"
        if default is None:
            raise Variable(f"{name}")
        return str(default)

    return VARIABLE.sub(replace, text)


def _seconds(text: str) -> int:
    match = DURATION.fullmatch(text)
    return int(match[1] or 0) * 60 + int(match[2] or 0) if match is not None else 0
