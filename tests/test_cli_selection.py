"""The daemons that names and groups mean."""

from __future__ import annotations

import pytest

from neo_daemons.cli.selection import chosen_of, names_of
from neo_daemons.config.errors import ConfigError
from neo_daemons.definitions import Definition

DAEMONS = (
    Definition(name="db", groups=("storage",)),
    Definition(name="cache", groups=("storage", "fast")),
    Definition(name="api"),
    Definition(name="tool", share=False, groups=("fast",)),
)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((), []),
        (("api", "db"), ["api", "db"]),
        (("@storage",), ["db", "cache"]),
        (("cache", "@storage", "@fast"), ["cache", "db", "tool"]),
        (("nobody",), ["nobody"]),
    ],
)
def test_a_group_is_its_daemons_each_once(words: tuple[str, ...], names: list[str]) -> None:
    assert names_of(DAEMONS, words) == names


def test_of_a_group_what_has_no_process_of_its_own_is_not_started() -> None:
    assert chosen_of(DAEMONS, ["@fast", "api"]) == ["cache", "api"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("@storag", "unknown group '@storag'; configured groups: @fast, @storage; did you mean '@storage'?"),
        ("@", "unknown group '@'; configured groups: @fast, @storage"),
        ("apj", "--only apj: unknown daemon; configured daemons: api, cache, db, tool; did you mean 'api'?"),
        ("tool", "--only tool: it has one process for each client (share = false); leave it out"),
    ],
)
def test_what_cannot_be_chosen_is_one_error(word: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        chosen_of(DAEMONS, [word])
    assert str(caught.value) == said


def test_without_any_group_the_error_says_how_to_make_one() -> None:
    with pytest.raises(ConfigError, match=r'no daemon belongs to a group; add e.g. groups = \["db"\] to its table'):
        names_of([Definition(name="api")], ["@db"])
