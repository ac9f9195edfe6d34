"""A load on each daemon, from a thread each. What a daemon has acknowledged is written to a ledger and synced before
anything else is done: it must never be lost.

The clients find their daemon by its PID record, as it is there also while nobody supervises.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neo_daemons import records
from neo_daemons.records import DaemonRecord
from neo_daemons.state_dir import StateDir
from pytest_neo_daemons import BridgeGraph

COLLECTION = "soak"
DIMENSIONS = 3
BATCH = 4
"""Documents of a write, at most."""
AGENTS = 3
MESSAGE_S = 0.5
"""From one wake message to the next. The bridge defers what comes in polls of 500 log entries and more, and a message
makes two: so a bridge that is down for two minutes is still none that defers."""
RETRY_S = 0.2
ANSWER_S = 60.0


class Ledger:
    """What was acknowledged: one JSON array a line, each on the disk before `add` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab")

    def add(self, *items: Any) -> None:
        self._file.write(json.dumps(items).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def entries(self) -> list[list[Any]]:
        return [json.loads(line) for line in self._path.read_bytes().splitlines()]

    def close(self) -> None:
        self._file.close()


class Load(threading.Thread):
    """Uses one daemon until it is told to stop. A daemon that is down, or goes down, is what this is about: the request
    has failed, is counted, and is tried again as another one."""

    def __init__(self, name: str, state: StateDir) -> None:
        super().__init__(name=f"load of {name}", daemon=True)
        self._daemon = name
        self._state = state
        self._stop_asked = threading.Event()
        self.acknowledged = 0
        self.failed = 0
        self.fault: str | None = None
        """An error that no daemon's end can explain."""

    def run(self) -> None:
        number = 0
        while not self._stop_asked.is_set():
            try:
                self.step(number)
                self.acknowledged += 1
            except AssertionError as error:
                self.fault = str(error)
                return
            except Exception:
                # Whatever a client library makes of a connection that is cut, at whatever point.
                self.failed += 1
                self._stop_asked.wait(RETRY_S)
            number += 1

    def step(self, number: int) -> None:
        """One request. An exception says that it was not acknowledged; an AssertionError that the answer is wrong."""
        raise NotImplementedError

    def stop(self) -> None:
        self._stop_asked.set()

    def port(self) -> int:
        """Where the daemon is."""
        record = records.read(self._state.daemon_record(self._daemon), DaemonRecord)
        if record is None:
            raise ConnectionError(f"{self._daemon} is down")
        return record.ports["main"]


class ChromaLoad(Load):
    """Writes documents; the ledger holds each one's id and content once chroma has said that it is there."""

    def __init__(self, state: StateDir, ledger: Ledger) -> None:
        super().__init__("chroma", state)
        self._ledger = ledger

    def step(self, number: int) -> None:
        ids = [f"{number}-{part}" for part in range(number % BATCH + 1)]
        documents = [f"document {id_} of {time.time_ns()}" for id_ in ids]
        vectors = [[float(number), float(part), 1.0] for part in range(len(ids))]
        chroma_collection(self.port()).add(ids=ids, embeddings=vectors, documents=documents)
        self._ledger.add(*([id_, document] for id_, document in zip(ids, documents, strict=True)))


def chroma_collection(port: int) -> Any:
    import chromadb

    client = chromadb.HttpClient(host="127.0.0.1", port=port)
    return client.get_or_create_collection(COLLECTION, embedding_function=None)


def chroma_contents(port: int) -> dict[str, str]:
    """Every document, by its id."""
    collection, page = chroma_collection(port), 500
    found: dict[str, str] = {}
    while True:
        got = collection.get(include=["documents"], limit=page, offset=len(found))
        if not got["ids"]:
            return found
        found.update(zip(got["ids"], got["documents"], strict=True))


class ChatLoad(Load):
    """Asks mlx for completions, and looks at each answer."""

    def __init__(self, state: StateDir) -> None:
        super().__init__("mlx", state)

    def step(self, number: int) -> None:
        import openai

        base_url = f"http://127.0.0.1:{self.port()}/v1"
        with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=ANSWER_S) as client:
            answer = client.chat.completions.create(
                model="default_model", messages=[{"role": "user", "content": f"hello {number}"}], max_tokens=8
            )
        assert answer.choices[0].message.content, f"a completion without content: {answer}"
        self._stop_asked.wait(RETRY_S)


class WakeLoad(Load):
    """Sends wake messages: one is acknowledged when the graph has committed it, and its log with it."""

    def __init__(self, state: StateDir, graph: BridgeGraph, ledger: Ledger) -> None:
        super().__init__("bridge", state)
        self._graph = graph
        self._ledger = ledger
        self._agents = [graph.subscribe() for _ in range(AGENTS)]

    def warm_up(self, timeout_s: float) -> None:
        """Until the bridge has delivered to everybody: from then on it has a position, from which it goes on after
        whatever end. (Without one it begins at the end of the log, and passes over what came before.)"""
        for agent in self._agents:
            self._send(agent)
        for agent in self._agents:
            self._graph.await_delivery(agent, timeout_s=timeout_s)

    def step(self, number: int) -> None:
        self._send(self._agents[number % AGENTS])
        self._stop_asked.wait(MESSAGE_S)

    def _send(self, agent: str) -> None:
        subject = f"subject-{time.time_ns()}-"
        message = self._graph.send(agent, "now", subject=subject)
        self._ledger.add(message, subject)

    def log_ids(self) -> dict[str, int]:
        """Where in the graph's log each message is."""
        query = (
            "SELECT Edges.source, MIN(GraphLog.log_id) FROM Edges JOIN GraphLog ON GraphLog.entity_id = Edges.id "
            "AND GraphLog.entity_type = 'edges' WHERE Edges.type = 'SENT_TO' GROUP BY Edges.source"
        )
        with contextlib.closing(sqlite3.connect(self._graph.database, timeout=ANSWER_S)) as connection:
            return dict(connection.execute(query).fetchall())

    def log(self) -> Iterator[str]:
        """The lines of the bridge's own log, of yesterday too, if this is about midnight."""
        older = sorted(self._graph.log.parent.glob(f"{self._graph.log.name}.*"))
        for path in (*older, self._graph.log):
            yield from path.read_text(errors="replace").splitlines()
