"""Names: the built-in daemons, the fixtures of daemons, and the names that these must not have."""

from __future__ import annotations

BUILTINS = ("chroma", "bridge", "mlx")
CLIENTS = ("chroma_client", "chroma_async_client", "chroma_database", "bridge_graph", "mlx_client", "new_daemon")
MARKER = "neo_daemons"
FIXTURES_OF_DAEMONS = "neo_daemons_fixtures_of_daemons"
"""The plugin with the fixtures for the daemons of a run."""
RESERVED = frozenset(
    {
        "cache", "capfd", "capfdbinary", "caplog", "capsys", "capsysbinary", "capteesys", "config", "doctest_namespace",
        "monkeypatch", "neo_daemons", "pytestconfig", "pytester", "record_property", "record_testsuite_property",
        "record_xml_attribute", "recwarn", "request", "subtests", "testrun_uid", "tmp_path", "tmp_path_factory",
        "tmpdir", "tmpdir_factory", "worker_id", *CLIENTS,
    }
)  # fmt: skip
"""Names that pytest and xdist use. A daemon with such a name is only available as ``neo_daemons["NAME"]``."""


def fixture_name(daemon: str) -> str | None:
    """Return the name of a daemon's fixture; None if that would hide another fixture or look like a hook."""
    name = daemon.replace("-", "_")
    return None if name in RESERVED or name.startswith("pytest_") else name


def definition_fixture_name(fixture: str) -> str:
    """Return the name of the fixture with the definition of the daemon of `fixture`."""
    return f"{fixture}_definition"


def seed_fixture_name(fixture: str) -> str:
    """Return the name of the fixture with the seed on which the daemon of `fixture` starts."""
    return f"{fixture}_seed"


def shared_fixture_name(daemon: str) -> str:
    """Return the name of the fixture of a shared daemon, which a project does not override."""
    return f"_neo_daemons_shared_{daemon}"
