"""What changes a definition's fingerprint, and what does not."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from neo_daemons.definitions import (
    Definition,
    HttpProbe,
    Launch,
    Log,
    Port,
    Restart,
    Stop,
    TcpProbe,
    fingerprint,
)

DEFINITION = Definition(
    name="api", command=("api",), cwd="/x", env={"A": "1"}, ports={"main": Port(fixed=1)}, data_dir="/data"
)
LAUNCH = Launch(command=("/bin/api",), env={"B": "2"}, version="1.0")


def test_a_fingerprint_is_the_same_for_the_same_in_any_order() -> None:
    one = msgspec.structs.replace(DEFINITION, env={"A": "1", "C": "3"})
    other = msgspec.structs.replace(DEFINITION, env={"C": "3", "A": "1"})
    assert fingerprint(one, LAUNCH) == fingerprint(other, LAUNCH)
    assert re.fullmatch(r"[0-9a-f]{16}", fingerprint(DEFINITION, LAUNCH))


@pytest.mark.parametrize(
    "change",
    [
        {"env": {"A": "2"}},
        {"env": {}},
        {"cwd": "/y"},
        {"host": "0.0.0.0"},
        {"ports": {"main": Port(fixed=2)}},
        {"ports": {"main": Port(preferred=1)}},
        {"ports": {"http": Port(fixed=1)}},
        {"data_dir": "/other"},
        {"data_dir": None},
        {"external": "http://host"},
    ],
    ids=str,
)
def test_what_only_a_new_process_can_take_over_changes_the_fingerprint(change: dict[str, Any]) -> None:
    changed = msgspec.structs.replace(DEFINITION, **change)
    assert fingerprint(changed, LAUNCH) != fingerprint(DEFINITION, LAUNCH)


@pytest.mark.parametrize(
    "change", [{"command": ("/bin/api", "-v")}, {"version": "1.1"}, {"version": None}, {"env": {}}], ids=str
)
def test_another_program_changes_the_fingerprint(change: dict[str, Any]) -> None:
    changed = msgspec.structs.replace(LAUNCH, **change)
    assert fingerprint(DEFINITION, changed) != fingerprint(DEFINITION, LAUNCH)


@pytest.mark.parametrize(
    "change",
    [
        {"ready": (HttpProbe(),)},
        {"live": (TcpProbe(),)},
        {"restart": Restart(when="never", limit=1)},
        {"stop": Stop(signal="SIGINT")},
        {"log": Log(max_bytes=5000)},
        {"start_grace_s": 1.0},
        {"max_runtime_s": 1.0},
        {"max_rss_bytes": 1},
        {"after": ("db",)},
        {"requires": ("db",)},
        {"exports": {"A": "1"}},
        {"url": "http://${host}"},
        {"watch": ("*.py",)},
        {"enabled": False},
    ],
    ids=str,
)
def test_a_policy_that_a_living_daemon_can_take_over_does_not(change: dict[str, Any]) -> None:
    changed = msgspec.structs.replace(DEFINITION, **change)
    assert changed != DEFINITION
    assert fingerprint(changed, LAUNCH) == fingerprint(DEFINITION, LAUNCH)


def test_fingerprints_stay_the_same_from_version_to_version() -> None:
    """Otherwise an update would restart every daemon."""
    assert fingerprint(DEFINITION, LAUNCH) == "6cf86057580210e1"


def test_a_note_or_another_way_of_making_it_does_not_change_the_fingerprint() -> None:
    changed = msgspec.structs.replace(LAUNCH, note="a note", stale_files=("x",))
    assert fingerprint(DEFINITION, changed) == fingerprint(DEFINITION, LAUNCH)
