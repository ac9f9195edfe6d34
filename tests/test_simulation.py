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
RARELY_NOTICED = {
    "no_limit": 14,
    "age_by_the_wall_clock": 73,
    "intent_after_the_spawn": 69,
    "an_exit_is_ignored_when_degraded": 23,
    "a_stop_of_what_has_ended_is_forgotten": 50,
    "late_askers_share_a_look": 235,
    "looks_are_shared_for_a_second": 10,
    "adopted_daemons_leave_only_orphans_of_ours": 12,
    "one_holder_lets_all_go": 56,
    "inhibitors_keep_nothing_up": 44,
    "a_reload_changes_nothing_on_demand": 56,
    "nothing_below_is_started": 29,
    "a_need_waits_for_ever": 44,
    "a_need_knows_no_failure": 95,
    "a_follower_that_must_wait_is_forgotten": 75,
}
"""Mutation that few seeds notice → one that does. It is tried first, which saves seconds; the others still count."""
BREAKS = [
    *((mutation, None) for mutation in MUTATIONS),
    *((mutation, are_on_demand) for mutation in DEMAND_MUTATIONS),
    *((mutation, are_connected) for mutation in FOLLOWING_MUTATIONS),
]
"""The mutations, and which daemons a world must have for it to be worth a look."""


@pytest.mark.parametrize(
    "batch", [0, *(pytest.param(number, marks=pytest.mark.matrix) for number in range(1, BATCHES))]
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
    seeds.sort(key=lambda seed: seed != RARELY_NOTICED.get(mutation.__name__))
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
