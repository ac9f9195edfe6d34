"""The daemons of a simulated world: their definitions, and how their programs behave."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import msgspec

from neo_daemons.definitions import Definition, HttpProbe, Port, Restart, Stop
from neo_daemons.supervision.platform import ExitStatus

from .kernel import Behaviour

GRACE_S = 1.0
INTERVAL_S = 0.5
TIMEOUT_S = 0.4
FAILURES = 3
REVIVE_S = 25.0
LIMIT, WINDOW_S = 6, 20.0
MAX_RUNTIME_S = 15.0
IDLE_STOPS_S = (0.0, 0.5, 2.0, 5.0, None)


def definitions(rng: random.Random, root: Path) -> list[Definition]:
    """From one to three daemons, each after those that it stands on."""
    made = []
    names = ["a", "b", "c"][: rng.randint(1, 3)]
    for number, name in enumerate(names):
        probe = (HttpProbe(interval_s=INTERVAL_S, timeout_s=TIMEOUT_S, failures=FAILURES),)
        earlier = names[:number]
        made.append(
            Definition(
                name=name,
                command=("program", "port=${port}"),
                cwd=str(root),
                ports={"main": Port(fixed=10_000 + number) if rng.random() < 0.3 else Port()},
                data_dir=str(root / "data" / name) if rng.random() < 0.5 else None,
                ready=probe,
                live=probe,
                start_grace_s=5.0,
                stop=Stop(grace_s=GRACE_S),
                requires=tuple(earlier[-1:]) if rng.random() < 0.3 else (),
                max_runtime_s=MAX_RUNTIME_S if rng.random() < 0.35 else None,
                after=tuple(earlier[:1]) if rng.random() < 0.3 else (),
                restart=Restart(
                    base_s=0.2,
                    ceiling_s=2.0,
                    stable_s=3.0,
                    limit=LIMIT,
                    window_s=WINDOW_S,
                    revive_s=REVIVE_S,
                    kills=20,
                ),
            )
        )
    return _on_demand(rng, _connected(rng, made))


def _connected(rng: random.Random, made: list[Definition]) -> list[Definition]:
    """Let some refer to the port of an earlier one, and some be restarted with it."""
    connected = made[:1]
    for number, definition in enumerate(made[1:], 1):
        if rng.random() < 0.5:
            other = rng.choice(made[:number]).name
            definition = msgspec.structs.replace(
                definition,
                env={f"PORT_OF_{other}": f"${{daemons.{other}.port}}"},
                after=tuple(dict.fromkeys((*definition.after, other))),
            )
        if rng.random() < 0.5:
            other = rng.choice(made[:number]).name
            requires = tuple(dict.fromkeys((*definition.requires, other)))
            definition = msgspec.structs.replace(definition, requires=requires, cascades=(other,))
        connected.append(definition)
    return connected


def _on_demand(rng: random.Random, made: list[Definition]) -> list[Definition]:
    """Let some run on demand, in half of the worlds."""
    if rng.random() < 0.5:
        return made
    return [flipped(rng, one) if rng.random() < 0.6 else one for one in made]


def flipped(rng: random.Random, definition: Definition) -> Definition:
    """Return a definition with the other rule by which it starts."""
    if definition.start == "on-demand":
        return msgspec.structs.replace(definition, start="always", idle_stop_s=None)
    return msgspec.structs.replace(definition, start="on-demand", idle_stop_s=rng.choice(IDLE_STOPS_S))


def are_on_demand(made: Sequence[Definition]) -> bool:
    """Whether any of these daemons is on demand."""
    return any(one.start == "on-demand" for one in made)


def are_connected(made: Sequence[Definition]) -> bool:
    """Whether any of these daemons stands on the port or the run of another one."""
    return any(one.cascades or references(one) for one in made)


def references(definition: Definition) -> list[str]:
    """Return the daemons that the environment of a daemon refers to."""
    return [key.removeprefix("PORT_OF_") for key in definition.env if key.startswith("PORT_OF_")]


def behaviour(rng: random.Random, failing: float) -> Behaviour:
    """How the program behaves that is started now. `failing` is the probability that it exits by itself."""
    made = Behaviour()
    made.boot_s = rng.choice((0.05, 0.3, 1.0))
    made.launcher = rng.random() < 0.15
    made.stray = rng.random() < 0.2
    made.term_s = rng.choice((0.01, 0.2, GRACE_S * 3, None))
    made.stray_term_s = rng.choice((0.01, 0.5, None))
    made.stray_has_lock = rng.random() < 0.6
    if failing and rng.random() < failing:
        made.ends_after_s = rng.choice((0.0, 0.02, 0.5, 4.0))
        made.exit = ExitStatus(code=rng.choice((0, 1))) if rng.random() < 0.7 else ExitStatus(signal="SIGSEGV")
    return made
