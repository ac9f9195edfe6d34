"""The invariants hold in many simulated worlds; and the simulation notices when the core is broken on purpose."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from neo_daemons.definitions import Definition

from .simulation.daemons import are_connected, are_on_demand, definitions
from .simulation.demand_mutations import DEMAND_MUTATIONS, FOLLOWING_MUTATIONS
from .simulation.mutations import MUTATIONS, Mutation
from .simulation.scenario import live

BATCHES, SEEDS = 8, 100
"""What a run of the suite can afford; ``python -m tests.simulation`` goes through as many as one likes."""
ENOUGH = 300
"""Seeds within which every mutation is noticed."""
BREAKS = [
    *((mutation, None) for mutation in MUTATIONS),
    *((mutation, are_on_demand) for mutation in DEMAND_MUTATIONS),
    *((mutation, are_connected) for mutation in FOLLOWING_MUTATIONS),
]
"""The mutations, and which daemons a world must have for it to be worth a look."""


@pytest.mark.parametrize(
    "batch", [0, 1, *(pytest.param(number, marks=pytest.mark.matrix) for number in range(2, BATCHES))]
)
def test_no_seed_breaks_an_invariant(batch: int) -> None:
    for seed in range(batch * SEEDS, (batch + 1) * SEEDS):
        world = live(seed)
        assert world.violation is None, "\n".join([*world.log[-50:], str(world.violation)])


@pytest.mark.long
@pytest.mark.parametrize(("mutation", "concerns"), BREAKS, ids=[mutation.__name__ for mutation, _ in BREAKS])
def test_a_broken_core_is_noticed(
    mutation: Mutation, concerns: Callable[[Sequence[Definition]], bool] | None, tmp_path: Path
) -> None:
    seeds = [seed for seed in range(ENOUGH) if concerns is None or concerns(definitions(random.Random(seed), tmp_path))]
    with mutation():
        assert any(live(seed).violation is not None for seed in seeds)


def test_a_seed_decides_everything() -> None:
    program = "from tests.simulation.scenario import live; print('\\n'.join(live(7).log))"
    logs = set()
    for number in range(3):
        env = {**os.environ, "PYTHONHASHSEED": str(number)}
        logs.add(subprocess.run([sys.executable, "-c", program], env=env, check=True, capture_output=True).stdout)
    assert len(logs) == 1
    assert len(logs.pop()) > 1000
