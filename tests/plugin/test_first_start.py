"""Daemons that a run is known to need are started before their supervisor can be asked for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from neo_daemons.config import load
from neo_daemons.ephemeral import session as sessions
from neo_daemons.ephemeral.launch import Owned, own
from neo_daemons.status import Status
from pytest_neo_daemons.sessions import OwnSession

from .inner import Inner

pytestmark = pytest.mark.long

Wanted = Callable[[Owned], None]


@pytest.fixture
def first_status(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> Callable[[Wanted], Status]:
    """Return the first status of a supervisor that found what `wanted` has written when it started."""
    inner.configure(api=inner.toy(), after=inner.toy(after=["api"]), unused=inner.toy())
    monkeypatch.setattr("tempfile.tempdir", str(inner.tmp))

    def first(wanted: Wanted) -> Status:
        spawn = Owned.spawn

        def spawn_later(owned: Owned) -> None:
            wanted(owned)
            spawn(owned)

        monkeypatch.setattr(Owned, "spawn", spawn_later)
        owned = own(inner.root, None, warm=False)
        configuration = load(state_dir=owned.state_dir.path, directory=inner.root, isolated=True)
        owned.begin(configuration, keep_s=0.0)
        session = OwnSession(owned, [definition.name for definition in configuration.definitions], found=False)
        try:
            session.need_supervisor()
            status = session.client.status()
            assert not (owned.state_dir.path / sessions.WANTED).exists()
            return status
        finally:
            session.close()

    return first


def down(status: Status) -> set[str]:
    return {daemon.name for daemon in status.daemons if daemon.state == "idle"}


def test_what_is_wanted_is_on_its_way_when_the_supervisor_answers(first_status: Callable[[Wanted], Status]) -> None:
    assert down(first_status(lambda owned: sessions.want(owned.state_dir, ["after", "no such daemon"]))) == {"unused"}


@pytest.mark.parametrize("content", [b"", b"{", b'"api"', b"[1]"])
def test_a_damaged_list_of_wanted_daemons_starts_nothing(
    first_status: Callable[[Wanted], Status], content: bytes
) -> None:
    def damage(owned: Owned) -> None:
        (owned.state_dir.path / sessions.WANTED).write_bytes(content)

    assert down(first_status(damage)) == {"api", "after", "unused"}


def test_a_list_that_comes_too_late_for_the_start_is_forgotten(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_on.py",
        """
        def test_one(neo_daemons, api):
            assert not (neo_daemons.state_dir / "wanted.json").exists()
        """,
    )
    inner.write("conftest.py", "def pytest_collection_modifyitems(config, items):\n    import time; time.sleep(1)\n")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 1}, outcome.text
    assert inner.starts() == 1
