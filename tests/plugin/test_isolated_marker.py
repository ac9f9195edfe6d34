"""Daemons of a test's own, asked for by the marker ``neo_daemons(…, isolated=True)``."""

from __future__ import annotations

import pytest

from .inner import COLOURED, MODES, OVERRIDE, Inner, lines, results

pytestmark = pytest.mark.long


@pytest.mark.oldest
@MODES
def test_an_isolated_test_has_its_own_daemon_which_ends_with_it(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(api=inner.toy(data_dir="data"))
    inner.copy("isolated.py", "test_marker.py")
    if not mode:  # with workers, others' tests end meanwhile
        inner.copy("outlived_conftest.py", "conftest.py")
    outcome = inner.run(*mode)
    assert outcome.counts() == {"passed": 12}, outcome.text
    assert {name for name in results(outcome) if name.startswith(("test_i", "test_an"))} == {
        "test_isolated",
        "test_another[0]",
        "test_another[1]",
    }
    own, shared = lines(inner.root / "own"), set(lines(inner.root / "shared"))
    assert len(shared) == 1
    for column in range(4):  # pid, port, data directory, log
        values = {line.split()[column] for line in (*own, *shared)}
        assert len(values) == (4 if column != 1 else len(values))
    ports = {line.split()[1] for line in own}
    assert not ports & {line.split()[1] for line in shared}
    assert not (inner.root / "outlived").exists()
    assert not (inner.root / "data").exists()
    assert inner.starts() == 1 + 3 + 3  # kill, restart and start of the first


def test_an_isolated_test_uses_the_definition_overridden_in_its_directory(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    plain = "'TMPDIR=' + __import__('os').environ['TMPDIR']"
    inner.write("a/test_first.py", COLOURED.format(expected=plain))
    inner.write("b/conftest.py", OVERRIDE.format(colour="'blue'"))
    over = COLOURED.format(expected="'COLOUR=blue'").replace(
        "@", '@pytest.mark.neo_daemons("api", isolated=True)\n    @'
    )
    inner.write("b/test_over.py", over)
    inner.write("c/test_last.py", COLOURED.format(expected=plain))
    assert inner.run().counts() == {"passed": 12}, inner.output()
    assert inner.starts() == 1 + 4


def test_an_isolated_instance_has_a_unique_name(inner: Inner) -> None:
    names = [f"api-main-{number}" for number in (1, 2)]
    inner.configure(api=inner.toy(), **{name: inner.toy() for name in names})
    inner.copy("isolated_names.py", "test_names.py")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 4}, outcome.text
    assert inner.starts() == 4
