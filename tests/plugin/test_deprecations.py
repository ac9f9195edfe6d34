"""A run with daemons warns of deprecated keys in the project's configuration."""

from __future__ import annotations

import pytest

from .inner import Inner

CONFTEST = """
from neo_daemons import deprecations

deprecations.KEYS = {"daemons.*.start_grace_s": deprecations.Deprecation("0.3", "0.4", "use something else")}
"""


@pytest.mark.long
@pytest.mark.parametrize("strict", [False, True])
def test_a_run_warns_once_and_can_be_made_to_fail(inner: Inner, strict: bool) -> None:
    inner.configure(api=inner.toy(start_grace_s=30))
    inner.write("conftest.py", CONFTEST)
    inner.write("test_it.py", "def test_it(api): pass\ndef test_more(api): pass\n")
    outcome = inner.run("-n", "2", *(["-W", "error"] if strict else []))
    said = "neo-daemons.toml: daemons.api.start_grace_s is deprecated since 0.3, and 0.4 will not have it"
    assert said in outcome.text
    if strict:
        assert (outcome.counts(), outcome.code) == ({}, 4), outcome.text
    else:
        assert outcome.text.count(said) == 1
        assert outcome.counts() == {"passed": 2}, outcome.text
