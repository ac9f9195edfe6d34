"""The graph database of the bridge, without a bridge."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from pytest_neo_daemons import BridgeGraph


def test_deliveries_to_an_agent_exclude_those_to_agents_whose_names_end_the_same(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "graph.db")) as connection, connection:
        connection.execute("CREATE TABLE Nodes (id, data)")
        connection.execute("CREATE TABLE Edges (id, source, target, type, data)")
    graph = BridgeGraph({"NEO_MEMORY_DB_PATH": str(tmp_path / "graph.db"), "NEO_AI_DAEMON_DIR": str(tmp_path)})
    for agent in ("@ada", "@team-ada"):
        graph.subscribe(agent)
    with contextlib.closing(sqlite3.connect(tmp_path / "graph.db")) as connection:
        nodes = [name for (name,) in connection.execute("SELECT id FROM Nodes WHERE id LIKE 'wake-%-team-ada'")]
    graph.log.write_text(f"Delivered to {nodes[0]}\n")
    assert graph.deliveries("@team-ada") == [f"Delivered to {nodes[0]}"]
    assert graph.deliveries("@ada") == []
    graph.close()
