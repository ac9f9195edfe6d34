"""The JSON schema refuses what the program refuses, as far as a schema can, and nothing else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neo_daemons.config import ConfigError, load
from neo_daemons.config.json_schema import FILE
from neo_daemons.config.schema import File, Settings

from .. import json_schema
from ..harness import toml
from .accepted import objections, validator
from .cases import BAD
from .reading import API
from .test_faults import TABLES, THINGS

BEYOND_A_SCHEMA = {
    "the file system": r"place: (cwd|data_dir|state_dir|model) |inputs that are missing|probe: file with a bad path",
    "other daemons": r"between daemons: |: the name of a process|what (requires|refers to) what is not shared",
    "the ports that a daemon has": r"naming a missing port|to a port that|to the URL of one|port of an ext|to its port",
    "the daemons and variables that there are": r"reference: to a (variable|misspelt|built-in|daemon)",
    "strings at any depth of what has no types": r"reference: deep in a probe",
    "the syntax of Python's regular expressions": r"probe: with an? (bad|overlong) (pattern|body)",
    "numbers within a string": r"external with a port out of range",
    "what JSON does not have": r"duration (nan|inf)|a date as JSON",
    "a character that no string may have": r"wrong value: NUL",
    "files that are no TOML, or too large": r"file: (no TOML|a key|not UTF-8|far too|.* beyond Python)",
}
"""What a schema cannot see, or would have to repeat in each string → the errors in files that it does not find."""


def is_beyond(case: str) -> bool:
    return any(re.search(pattern, case) for pattern in BEYOND_A_SCHEMA.values())


def is_refused(text: str | bytes) -> bool:
    try:
        return bool(objections(text))
    except (ValueError, RecursionError):
        return False


def test_it_refuses_what_the_program_refuses_as_far_as_a_schema_can() -> None:
    accepted = {case for case, (text, _) in BAD.items() if not is_refused(text)}
    assert accepted == {case for case in BAD if is_beyond(case)}


@pytest.mark.parametrize("reason", BEYOND_A_SCHEMA)
def test_each_reason_why_a_schema_cannot_is_needed(reason: str) -> None:
    assert any(re.search(BEYOND_A_SCHEMA[reason], case) for case in BAD)


@pytest.mark.long
@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(["api", "web", "chroma", "mlx", "a" * 60]), TABLES | THINGS, max_size=3))
def test_it_accepts_what_the_program_accepts(tmp_path_factory: pytest.TempPathFactory, daemons: dict[str, Any]) -> None:
    file = tmp_path_factory.getbasetemp() / "accepted.toml"
    file.write_text(f"daemons = {toml(daemons)}")
    try:
        load(file, environ={})
    except ConfigError:
        return
    assert objections(file.read_text()) == []


EXAMPLES = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in sorted(json_schema.ROOT.glob("docs/*.md"))
    for number, text in enumerate(re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL))
    if re.search(r"^\[(tool\.neo_daemons\.)?daemons\.", text, re.MULTILINE) and "…" not in text
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_it_accepts_the_examples_of_the_documentation(text: str) -> None:
    name = "pyproject.toml" if "[tool." in text else "neo-daemons.toml"
    assert objections(text, name) == []


FILES = [*json_schema.ROOT.glob("examples/**/pyproject.toml"), *json_schema.ROOT.glob("examples/**/neo-daemons.toml")]


@pytest.mark.parametrize("file", sorted(FILES), ids=str)
def test_it_accepts_the_files_of_the_examples(file: Path) -> None:
    assert objections(file.read_text(), file.name) == []


def test_in_a_pyproject_it_describes_our_table_only() -> None:
    for text, refused in (
        ('[project]\nname = "x"\n[tool.other]\nparallel = 0', False),
        ("[tool.neo_daemons]\nparallel = 1", False),
        ("[tool.neo_daemons]\nparallel = 0", True),
        (f"{API.replace('daemons', 'tool.neo_daemons.daemons')}prot = 1", True),
        ("[tool.neo-daemons]\nparallel = 1", True),
    ):
        assert bool(objections(text, "pyproject.toml")) is refused, text


def test_it_is_a_schema_and_it_is_shipped_as_it_is_made() -> None:
    for name in ("neo-daemons.toml", "pyproject.toml"):
        jsonschema.Draft7Validator.check_schema(validator(name).schema)
    assert FILE.read_text() == json_schema.text(), "run: python -m tests.json_schema"


def test_every_key_of_a_file_and_of_a_daemon_is_explained() -> None:
    shipped = validator("neo-daemons.toml").schema
    assert isinstance(shipped, dict)
    for struct, keys in ((File, shipped["properties"]), (Settings, shipped["definitions"]["daemon"]["properties"])):
        assert set(keys) == {field.encode_name for field in msgspec.structs.fields(struct)}
        assert [key for key, described in keys.items() if not described.get("description")] == []


def test_toml_of_the_examples_is_found() -> None:
    assert len(EXAMPLES) > 10
    assert all(tomllib.loads(str(example.values[0])) for example in EXAMPLES)
