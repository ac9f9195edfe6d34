"""References in strings: what is a reference, what replaces it, and what is left alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neo_daemons.definitions import Definition, ExecProbe, FileProbe, HttpProbe, LogProbe, Step
from neo_daemons.references import (
    UnknownReference,
    escape,
    expand,
    expand_all,
    names,
    of_daemon,
    own_values,
    split,
    texts,
)

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The machine may be busy with other tests."""
VALUES = {
    "port": "8000",
    "ports.admin": "8001",
    "data_dir": "/data",
    "daemons.my-db_1.url": "http://db",
    "dollar": "$",
    "brace": "${port}",
}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("", ""),
        ("plain", "plain"),
        ("${port}", "8000"),
        ("http://x:${port}/${ports.admin}", "http://x:8000/8001"),
        ("${daemons.my-db_1.url}/x", "http://db/x"),
        ("${port}${port}", "80008000"),
        ("$$", "$"),
        ("$${port}", "${port}"),
        ("$$${port}", "$8000"),
        ("a$$HOME", "a$HOME"),
        ("{port}", "{port}"),
    ],
)
def test_a_reference_becomes_its_value_and_two_dollars_one(text: str, expanded: str) -> None:
    assert expand(text, VALUES) == expanded


def test_a_value_is_not_expanded_again() -> None:
    assert expand("${dollar}{port} ${brace}", VALUES) == "${port} ${port}"


@pytest.mark.parametrize(
    "text", ["$HOME", "a $ b", "$", "${", "${}", "${port", "${a b}", "${port.}", "${.port}", "${1}"]
)
def test_any_other_dollar_is_refused_with_the_remedy(text: str) -> None:
    for refused in (lambda: expand(text, VALUES), lambda: names(text)):
        with pytest.raises(ValueError, match="invalid reference") as caught:
            refused()
        assert not isinstance(caught.value, UnknownReference)
        assert str(caught.value) == f"invalid reference in {text!r}; use ${{name}}, or $$ for a dollar sign"


@pytest.mark.parametrize("name", ["prot", "HOME", "ports", "daemons.other.url"])
def test_an_unknown_reference_is_refused_with_what_is_known(name: str) -> None:
    with pytest.raises(UnknownReference) as caught:
        expand(f"${{port}} ${{{name}}}", {"port": "1", "host": "h"})
    assert caught.value.name == name
    assert str(caught.value) == f"unknown reference ${{{name}}}; use one of: host, port"


def test_the_references_of_a_text_are_named_in_order() -> None:
    assert names("${b} $$ ${a.x} $${c}") == ["b", "a.x"]
    assert names("none") == []


@patient
@given(st.text().filter(lambda text: "$" not in text))
def test_text_without_a_dollar_expands_to_itself(text: str) -> None:
    assert expand(text, VALUES) == text
    assert names(text) == []


@patient
@given(st.text(st.sampled_from("$ab{}. \n") | st.characters()))
def test_escaped_text_expands_to_itself(text: str) -> None:
    assert escape(text) == text.replace("$", "$$")
    assert expand(escape(text), {}) == text


@patient
@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)?", fullmatch=True), st.text()), st.text())
def test_references_and_escaped_text_do_not_disturb_each_other(values: dict[str, str], between: str) -> None:
    text = escape(between).join(f"${{{name}}}" for name in values)
    assert expand(text, values) == between.join(values.values())
    assert names(text) == list(values)


def test_everything_inside_is_expanded_and_types_stay() -> None:
    nested: Any = {"${port}": ["${port}", ("$$", 3, None, 1.5, True)], "b": {"c": "${data_dir}"}}
    assert expand_all(nested, VALUES) == {"${port}": ["8000", ("$", 3, None, 1.5, True)], "b": {"c": "/data"}}
    assert isinstance(expand_all(("${port}",), VALUES), tuple)


def test_structures_are_expanded_inside_structures() -> None:
    definition = Definition(
        name="api",
        command=("api", "${port}"),
        env={"DATA": "${data_dir}"},
        ready=(
            HttpProbe(path="/${ports.admin}", headers={"X": "${port}"}, json={"a": [{"b": "${port}"}]}),
            ExecProbe(command=("ping", "${port}"), timeout_s=1.0),
        ),
    )
    assert expand_all(definition, VALUES) == Definition(
        name="api",
        command=("api", "8000"),
        env={"DATA": "/data"},
        ready=(
            HttpProbe(path="/8001", headers={"X": "8000"}, json={"a": [{"b": "8000"}]}),
            ExecProbe(command=("ping", "8000"), timeout_s=1.0),
        ),
    )
    step = Step(title="making ${port}", command=("make", "${data_dir}"), env={"A": "$$"}, creates="${data_dir}/x")
    assert expand_all(step, VALUES) == Step(
        title="making 8000", command=("make", "/data"), env={"A": "$"}, creates="/data/x"
    )


@pytest.mark.parametrize(
    ("structure", "expanded"),
    [
        (LogProbe(pattern="done$|${port}$"), LogProbe(pattern="done$|${port}$")),
        (HttpProbe(path="/${port}", body="ok$"), HttpProbe(path="/8000", body="ok$")),
        (
            FileProbe(path="${data_dir}/x", database="${data_dir}/y", query="SELECT '$'"),
            FileProbe(path="/data/x", database="/data/y", query="SELECT '$'"),
        ),
    ],
)
def test_regular_expressions_and_queries_are_left_alone(structure: Any, expanded: Any) -> None:
    assert expand_all(structure, VALUES) == expanded
    assert [text for _, text in texts(structure) if text.endswith(("$", "'"))] == []


def test_a_key_of_a_table_is_not_a_field_of_a_structure() -> None:
    assert expand_all({"body": "${port}", "name": "${port}"}, VALUES) == {"body": "8000", "name": "8000"}


def test_every_text_is_yielded_with_its_place() -> None:
    definition = Definition(
        name="api",
        command=("a", "b"),
        env={"A": "c"},
        ready=(LogProbe(pattern="left out"), HttpProbe(path="d", json=[{"x": "e"}])),
    )
    found = dict(texts(definition, "api"))
    assert found["api.command[1]"] == "b"
    assert found["api.env.A"] == "c"
    assert found["api.ready[1].path"] == "d"
    assert found["api.ready[1].json[0].x"] == "e"
    assert "left out" not in found.values()
    assert "api.name" not in found


PLAIN = st.none() | st.booleans() | st.integers() | st.text()
NESTED = st.recursive(
    PLAIN, lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner), max_leaves=20
)


@patient
@given(NESTED)
def test_exactly_the_yielded_texts_are_expanded(value: Any) -> None:
    marked = _with_every_text(value, "${port}")
    assert expand_all(marked, {"port": "x"}) == _with_every_text(value, "x")
    assert [text for _, text in texts(marked)] == ["${port}"] * len(list(texts(value)))


def _with_every_text(value: Any, text: str) -> Any:
    if isinstance(value, str):
        return text
    if isinstance(value, list | tuple):
        return type(value)(_with_every_text(item, text) for item in value)
    if isinstance(value, dict):
        return {key: _with_every_text(item, text) for key, item in value.items()}
    return value


def test_the_own_values_of_a_daemon_are_its_properties() -> None:
    bare = Definition(name="api", command=("api",), host="h")
    assert own_values(bare, log_path="/l", ports={}) == {"name": "api", "host": "h", "log_path": "/l"}
    whole = own_values(
        Definition(name="api", command=("api",), data_dir="/d"), log_path="/l", ports={"http": 1, "admin": 2}
    )
    assert (whole["port"], whole["ports.http"], whole["ports.admin"], whole["data_dir"]) == ("1", "1", "2", "/d")


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        (of_daemon("chroma", "url"), ("chroma", "url")),
        (of_daemon("chroma", "ports.main"), ("chroma", "ports.main")),
        ("daemons", None),
        ("ports.main", None),
        ("port", None),
        ("env.daemons.x", None),
    ],
)
def test_a_reference_to_another_daemon_is_distinguished_from_all_others(
    reference: str, parts: tuple[str, str] | None
) -> None:
    assert split(reference) == parts
