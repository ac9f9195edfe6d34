"""How the program behaves when a daemon fails. Each test disturbs its own instance."""

import pytest

from downstream_example.assistant import Assistant, Unreachable


@pytest.mark.neo_daemons("chroma", isolated=True)
def test_what_was_acknowledged_survives_a_crash_of_chroma(chroma, memory):
    for number in range(20):
        memory.remember(f"{number}", f"note number {number}")
    pid = chroma.pid
    chroma.kill()
    chroma.wait_ready(timeout_s=60)
    assert chroma.pid != pid
    assert len(memory) == 20
    assert memory.recall("number 17") == "note number 17"


@pytest.mark.neo_daemons("mlx", isolated=True)
def test_a_model_that_hangs_is_unreachable_until_it_goes_on(mlx, mlx_client):
    impatient = Assistant(mlx_client.with_options(timeout=1))
    mlx.pause()
    with pytest.raises(Unreachable):
        impatient.ask("are you there?")
    mlx.resume()
    assert Assistant(mlx_client).ask("are you there?")


@pytest.mark.neo_daemons("mlx", isolated=True)
def test_a_model_that_is_down_is_unreachable_until_it_is_up(mlx, mlx_client):
    assistant = Assistant(mlx_client)
    mlx.stop()
    with pytest.raises(Unreachable):
        assistant.ask("are you there?")
    mlx.start()
    assert assistant.ask("are you there?")
