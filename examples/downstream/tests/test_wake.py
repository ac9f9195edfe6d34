"""The bridge checks for messages every three seconds."""

from pathlib import Path

import pytest

from downstream_example.wake import Sleeper


@pytest.fixture
def sleeper(bridge):
    def sleeper(agent):
        return Sleeper(Path(bridge.env["NEO_AI_DAEMON_DIR"]), agent)

    return sleeper


def test_a_message_wakes_the_one_it_is_for(bridge_graph, sleeper):
    ada, bob = bridge_graph.subscribe(), bridge_graph.subscribe()
    for_ada, for_bob = sleeper(ada), sleeper(bob)
    bridge_graph.send(ada, "wake up")
    for_ada.sleep(timeout_s=30)
    assert not for_bob.is_woken()


def test_without_a_message_one_sleeps_on(bridge_graph, sleeper):
    with pytest.raises(TimeoutError):
        sleeper(bridge_graph.subscribe()).sleep(timeout_s=0.5)
