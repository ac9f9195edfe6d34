"""The property list of a supervisor says to launchd what it is meant to say. No macOS was there to ask."""

from __future__ import annotations

import plistlib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neo_daemons.render.installation import HEADER, Installation, NotExpressible
from neo_daemons.render.launchd import render

from .test_systemd import PATHS, TEXT, installation

KEYS: Mapping[str, type | dict[str, type]] = {
    "Label": str,
    "Program": str,
    "ProgramArguments": list,
    "EnvironmentVariables": dict,
    "WorkingDirectory": str,
    "UserName": str,
    "GroupName": str,
    "RunAtLoad": bool,
    "KeepAlive": {"SuccessfulExit": bool, "Crashed": bool, "PathState": dict, "OtherJobEnabled": dict},
    "AbandonProcessGroup": bool,
    "ProcessType": str,
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "StandardInPath": str,
    "StandardOutPath": str,
    "StandardErrorPath": str,
    "Umask": int,
    "Nice": int,
    "LimitLoadToSessionType": str,
    "SoftResourceLimits": dict,
    "HardResourceLimits": dict,
}
"""What launchd.plist(5) documents, as far as it concerns a program that runs all the time."""
PROCESS_TYPES = ("Background", "Standard", "Adaptive", "Interactive")


def faults(content: dict[str, Any]) -> list[str]:
    """Return what launchd would refuse or silently ignore."""
    found = [f"{key} is missing" for key in ("Label", "ProgramArguments") if not content.get(key)]
    for key, value in content.items():
        kind = KEYS.get(key)
        if kind is None:
            found.append(f"{key} is no key")
        elif isinstance(kind, dict):
            if not isinstance(value, bool) and not (
                isinstance(value, dict)
                and all(isinstance(of, kind.get(name, type(None))) for name, of in value.items())
            ):
                found.append(f"{key}: {value!r}")
        elif type(value) is not kind:
            found.append(f"{key}: {value!r}")
    if content.get("ProcessType", "Standard") not in PROCESS_TYPES:
        found.append(f"ProcessType: {content['ProcessType']}")
    strings = [*content.get("ProgramArguments", []), *content.get("EnvironmentVariables", {}).values()]
    found += [f"{value!r} is no string" for value in strings if not isinstance(value, str)]
    return found


def text(one: Installation) -> str:
    ((name, text),) = render(one).items()
    assert name == f"{one.name}.plist"
    return text


def content(one: Installation) -> dict[str, Any]:
    found: dict[str, Any] = plistlib.loads(text(one).encode())
    return found


@pytest.mark.long
@given(root=PATHS, state_dir=PATHS, config=st.none() | PATHS, interpreter=PATHS, value=TEXT)
@settings(derandomize=True, deadline=None, max_examples=200)
def test_every_value_reaches_launchd_unchanged(
    root: str, state_dir: str, config: str | None, interpreter: str, value: str
) -> None:
    found = content(
        installation(root=root, state_dir=state_dir, config=config, interpreter=interpreter, env={"A": value})
    )
    options = ["--state-dir", state_dir, *(["--config", config] if config is not None else [])]
    assert found["ProgramArguments"] == [interpreter, "-P", "-m", "neo_daemons", "serve", *options]
    assert found["WorkingDirectory"] == root
    assert found["EnvironmentVariables"] == {"A": value}
    assert found["StandardOutPath"] == found["StandardErrorPath"] == f"{state_dir}/supervisor.log"


@pytest.mark.parametrize("env", [{}, {"A": "1"}])
def test_only_documented_keys_with_values_of_their_types(env: dict[str, str]) -> None:
    found = content(installation(env=env))
    assert faults(found) == []
    assert found.get("EnvironmentVariables", {}) == env


@pytest.mark.parametrize(
    "wrong",
    [
        {"Label": ""},
        {"ProgramArguments": "serve"},
        {"KeepAlive": {"SuccessfullExit": False}},
        {"KeepAlive": {"SuccessfulExit": "false"}},
        {"ProcessType": "Fast"},
        {"ExitTimeOut": "300"},
        {"ExitTimeout": 300},
        {"EnvironmentVariables": {"A": 1}},
    ],
)
def test_a_fault_would_be_seen(wrong: dict[str, Any]) -> None:
    assert faults({**content(installation()), **wrong})


def test_daemons_outlive_a_crash_and_a_stop_is_no_crash() -> None:
    found = content(installation())
    assert found["AbandonProcessGroup"] is True
    assert found["KeepAlive"] == {"SuccessfulExit": False}


def test_the_file_bears_our_mark_and_is_the_same_each_time() -> None:
    one = installation(env={"B": "2", "A": "1"})
    assert f"<!-- {HEADER} -->" in text(one).split("\n")[:4]
    assert text(one) == text(installation(env={"A": "1", "B": "2"}))


def test_what_xml_cannot_hold_is_refused() -> None:
    with pytest.raises(NotExpressible, match="cannot hold"):
        installation(root="/a\x00b")
