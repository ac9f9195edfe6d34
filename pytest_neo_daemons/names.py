"""The names of a run: the daemons that come with us, the fixtures of daemons, and what these must not be called."""

from __future__ import annotations

BUILTINS = ("chroma", "bridge", "mlx")
CLIENTS = ("chroma_client", "bridge_graph", "mlx_client", "new_daemon")
MARKER = "neo_daemons"
FIXTURES_OF_DAEMONS = "neo_daemons_fixtures_of_daemons"
"""The plugin with the fixtures that are made for the daemons of a run."""
RESERVED = frozenset(
    {
        "cache", "capfd", "capfdbinary", "caplog", "capsys", "capsysbinary", "capteesys", "config", "doctest_namespace",
        "monkeypatch", "neo_daemons", "pytestconfig", "pytester", "record_property", "record_testsuite_property",
        "record_xml_attribute", "recwarn", "request", "subtests", "testrun_uid", "tmp_path", "tmp_path_factory",
        "tmpdir", "tmpdir_factory", "worker_id", *CLIENTS,
    }
)  # fmt: skip
"""Names that pytest and xdist use; a daemon that is called so is reached by ``neo_daemons["NAME"]``."""


def fixture_name(daemon: str) -> str | None:
    """The name of a daemon's fixture; None if that would hide another one, or be taken for a hook."""
    name = daemon.replace("-", "_")
    return None if name in RESERVED or name.startswith("pytest_") else name


def definition_fixture_name(fixture: str) -> str:
    """The name of the fixture that says what the daemon of `fixture` is."""
    return f"{fixture}_definition"


def shared_fixture_name(daemon: str) -> str:
    """The name of the fixture that makes the handle of a shared daemon, whatever a project makes of ``NAME``."""
    return f"_neo_daemons_shared_{daemon}"
