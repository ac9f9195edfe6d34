"""Lets a test use the bridge's graph database: subscribe an agent, send it a message, await the delivery."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neo_daemons.bridge_files import DAEMON_DIR_VARIABLE, DATABASE_VARIABLE, EDGES, LOG_FILE, NODES, POLL_S
from neo_daemons.unpatched import Unpatched

from .unavailable import says_all

__tracebackhide__ = says_all
DELIVERY_S = 10 * POLL_S
PAUSE_S = 0.05
BUSY_S = 30.0


class BridgeGraph:
    """Writes nodes and edges like the memory core of neo.mjs, under names that no other test uses. `close` removes
    them.

    Args:
        env: the environment variables that the bridge's clients need.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.database = Path(env[DATABASE_VARIABLE])
        self.log = Path(env[DAEMON_DIR_VARIABLE]) / LOG_FILE
        self._nodes: list[str] = []
        self._edges: list[str] = []
        self._subscriptions: dict[str, list[str]] = {}
        """Agent → its subscriptions."""

    def subscribe(self, agent: str | None = None) -> str:
        """Make the bridge wake an agent (default: a new one) for each message sent to it. The delivery is only logged.
        Returns the agent's id."""
        if agent is None:
            agent = f"@agent-{Unpatched.urandom(6).hex()}"
            self.add_node(agent, "AgentIdentity", name=agent)
        subscription = f"wake-{Unpatched.urandom(6).hex()}-{agent.lstrip('@')}"
        self._subscriptions.setdefault(agent, []).append(subscription)
        self.add_node(
            subscription,
            "WAKE_SUBSCRIPTION",
            agentIdentity=agent,
            trigger="SENT_TO_ME",
            filters={},
            harnessTarget="bridge-daemon",
            harnessTargetMetadata={"adapter": "test", "coalesceWindow": 0},
            status="active",
        )
        return agent

    def send(self, agent: str, body: str, *, subject: str = "test", priority: str = "high") -> str:
        """Send a message to an agent. Returns the message's id."""
        message = f"message-{Unpatched.urandom(6).hex()}"
        self.add_node(message, "MESSAGE", subject=subject, body=body, priority=priority, to=agent)
        self.add_edge(message, agent, "SENT_TO")
        return message

    def deliveries(self, agent: str) -> list[str]:
        """Return the log lines in which the bridge reports deliveries to an agent."""
        subscriptions = self._subscriptions.get(agent, ())
        with contextlib.suppress(FileNotFoundError):
            lines = self.log.read_text(errors="replace").splitlines()
            return [line for line in lines if "eliver" in line and any(name in line for name in subscriptions)]
        return []

    def await_delivery(self, agent: str, *, count: int = 1, timeout_s: float = DELIVERY_S) -> list[str]:
        """Wait until the bridge has delivered to an agent `count` times, and return the log lines that say so.

        Raises:
            TimeoutError: it did not do so in time.
        """
        deadline = Unpatched.monotonic() + timeout_s
        while len(found := self.deliveries(agent)) < count:
            if Unpatched.monotonic() > deadline:
                raise TimeoutError(f"the bridge delivered {len(found)} of {count} times to {agent} in {timeout_s:g} s")
            Unpatched.sleep(PAUSE_S)
        return found

    def add_node(self, id_: str, label: str, **properties: Any) -> None:
        """Insert a node."""
        self._insert(NODES, id=id_, data={"id": id_, "label": label, "type": label, "properties": properties})
        self._nodes.append(id_)

    def add_edge(self, source: str, target: str, type_: str) -> None:
        """Insert an edge."""
        id_ = Unpatched.urandom(16).hex()
        data = {"id": id_, "source": source, "target": target, "type": type_, "properties": {}}
        self._insert(EDGES, id=id_, source=source, target=target, type=type_, data=data)
        self._edges.append(id_)

    def _insert(self, table: str, **columns: Any) -> None:
        values = {key: json.dumps(value) if isinstance(value, dict) else value for key, value in columns.items()}
        names, marks = ", ".join(values), ", ".join("?" for _ in values)
        self._execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", [tuple(values.values())])  # noqa: S608

    def _execute(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        with contextlib.closing(sqlite3.connect(self.database, timeout=BUSY_S)) as connection, connection:
            connection.executemany(statement, rows)

    def close(self) -> None:
        """Remove the inserted nodes and edges."""
        self._execute(f"DELETE FROM {EDGES} WHERE id = ?", [(id_,) for id_ in self._edges])  # noqa: S608
        self._execute(f"DELETE FROM {NODES} WHERE id = ?", [(id_,) for id_ in self._nodes])  # noqa: S608
