"""The control API's typed client. The command line, the plugin and other programs talk to a supervisor through it.

with Client(Path(".neo-daemons")) as client:
    print(client.status().daemon("chroma").url)
"""

from __future__ import annotations

import codecs
import contextlib
import os
import socket
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from neo_daemons import records
from neo_daemons.definitions import Definition
from neo_daemons.records import DamagedRecord, Directory, NewerRecord, SupervisorRecord
from neo_daemons.state_dir import StateDir
from neo_daemons.status import Change, DaemonStatus, Explanation, JournalEntry, Needed, Status
from neo_daemons.supervision.presence import FoundSupervisor, Presence, find_supervisor, presence
from neo_daemons.unpatched import Unpatched

from . import api, peer
from .exchange import CHUNK, Answer, ask
from .stream import Opened, Stream

ANSWER_S = 30.0
"""A supervisor that has not started to answer by then is considered hung."""
MISDIRECTED = 421
POLL_S = 0.05
REMADE_S = 5.0
"""Time for a supervisor to recreate its socket and record; it checks them every two seconds."""
T = TypeVar("T")


class ControlError(Exception):
    """The supervisor refused the request or could not be reached; ``str()`` says why and what to do."""


class Unreachable(ControlError):
    """A supervisor runs in this state directory but cannot be reached now."""


class NoSupervisor(Unreachable):
    """No supervisor runs in this state directory."""


class SupervisorEnded(NoSupervisor):
    """The supervisor exited before its answer was complete."""


class Client:
    """Talks to the supervisor of a state directory.

    Args:
        patience_s: how many seconds to keep trying while a supervisor is running but cannot be reached: its socket or
            record was deleted, and it recreates them.

    Raises:
        NoSupervisor: by every method, if no supervisor is running.
        Unreachable: by every method, if one is running but cannot be reached.
        ControlError: by every method, if the request is refused or not answered.
    """

    def __init__(self, state_dir: Path | StateDir, *, patience_s: float = 0.0) -> None:
        self.state_dir = state_dir if isinstance(state_dir, StateDir) else StateDir(state_dir)
        self._patience_s = patience_s

    def status(self) -> Status:
        """Return the current status of the supervisor and its daemons."""
        return self._call("GET", "/status", Status)

    def metrics(self) -> str:
        """Return the metrics of the supervisor and its daemons as OpenMetrics text."""
        with self._exchange("GET", api.METRICS, {}, None, ANSWER_S) as answer:
            return answer.read().decode()

    def why(self, name: str) -> Explanation:
        """Explain the current state of a daemon."""
        return self._call("GET", f"/daemons/{name}/why", Explanation)

    def order(self, name: str, order: api.OrderName, *, wait_s: float = 0.0) -> DaemonStatus:
        """``start``, ``stop``, ``restart``, ``hold`` or ``release`` a daemon, wait up to `wait_s` seconds for the
        outcome, and return its status."""
        return self._call("POST", f"/daemons/{name}/{order}", DaemonStatus, api.Order(wait_s), wait_s)

    def reload(self, *, dry_run: bool = False) -> list[Change]:
        """Reload the configuration and return what changed; with `dry_run` only return what would change."""
        return self._call("POST", "/reload", list[Change], api.Reload(dry_run), 600.0)

    def shutdown(self, *, detach: bool = False) -> Status:
        """Stop the supervisor, and its daemons unless `detach`. Return as soon as it has begun to stop."""
        return self._call("POST", "/shutdown", Status, api.Shutdown(detach))

    def events(self, count: int, name: str | None = None) -> list[JournalEntry]:
        """Return the latest entries of the journal."""
        query = {"n": str(count)} | ({"daemon": name} if name else {})
        return self._call("GET", "/events", list[JournalEntry], query=query)

    def follow_events(self, count: int, name: str | None = None) -> Stream[JournalEntry]:
        """Yield the latest entries, then each new one. The iterator ends when the supervisor exits."""
        query = {"n": str(count), "follow": "1"} | ({"daemon": name} if name else {})

        def entries(opened: Opened) -> Iterator[JournalEntry]:
            with self._exchange("GET", "/events", query, None, None, opened) as answer:
                for line in answer.lines():
                    yield msgspec.json.decode(line, type=JournalEntry)

        return Stream(entries)

    def logs(self, name: str, lines: int, *, follow: bool = False) -> Stream[str]:
        """Yield the last lines of a daemon's log, and with `follow` new output, in pieces of text. The iterator ends
        when the supervisor exits."""
        query = {"n": str(lines), "follow": "1" if follow else "0"}
        timeout_s = None if follow else ANSWER_S

        def pieces(opened: Opened) -> Iterator[str]:
            with self._exchange("GET", f"/daemons/{name}/logs", query, None, timeout_s, opened) as answer:
                decoder = codecs.getincrementaldecoder("utf-8")("replace")
                for piece in answer.pieces():
                    yield decoder.decode(piece)

        return Stream(pieces)

    @contextlib.contextmanager
    def lease(
        self,
        holder: str,
        *,
        needs: Iterable[str] = (),
        inhibit: str | None = None,
        owner: bool = False,
        own: bool = False,
    ) -> Iterator[Lease]:
        """Hold a lease within a ``with`` statement. See `api.LeaseRequest`."""
        body = api.LeaseRequest(holder, inhibit, tuple(needs), owner, own)
        with contextlib.closing(self._connect(ANSWER_S)) as connection:
            with self._translating():
                answer = self._request(connection, "POST", "/leases", {}, body)
                granted = msgspec.json.decode(next(answer.lines(), b""), type=api.LeaseGranted)
                connection.settimeout(None)
            yield Lease(granted.lease, connection, granted.needs)  # an error in the caller's block is the caller's own

    def need(self, name: str, *, wait_s: float = 0.0) -> Needed:
        """Start a daemon unless it is running, and wait up to `wait_s` seconds until it is ready or not available. A
        lease keeps it."""
        return self._call("POST", f"/daemons/{name}/need", Needed, api.Need(wait_s), wait_s)

    def signal(self, name: str, signal: Literal["SIGKILL", "SIGSTOP", "SIGCONT"]) -> DaemonStatus:
        """Have a session's supervisor send a signal to a daemon, to simulate a fault."""
        return self._call("POST", f"/daemons/{name}/signal", DaemonStatus, api.Signal(signal))

    def define(self, definition: Definition) -> DaemonStatus:
        """Add a daemon to a session's supervisor, or change its definition."""
        return self._call("PUT", f"/daemons/{definition.name}", DaemonStatus, definition, 600.0)

    def remove(self, name: str) -> None:
        """Have a session's supervisor stop a daemon and delete its log and data."""
        self._call("DELETE", f"/daemons/{name}", dict[str, Any], wait_s=600.0)

    def settings(self) -> api.SessionSettings:
        """Return the settings of a session, without what `define` has changed since."""
        return self._call("GET", "/session", api.SessionSettings)

    def set_up(self, definitions: Iterable[Definition], *, keep_s: float) -> list[Change]:
        """Reconfigure a session that was kept warm and return what changed."""
        settings = api.SessionSettings(definitions=tuple(definitions), keep_s=keep_s)
        return self._call("PUT", "/session", list[Change], settings, 600.0)

    def _call(
        self,
        method: str,
        path: str,
        kind: type[T],
        body: msgspec.Struct | None = None,
        wait_s: float = 0.0,
        query: dict[str, str] | None = None,
    ) -> T:
        with self._exchange(method, path, query or {}, body, ANSWER_S + wait_s) as answer:
            return msgspec.json.decode(answer.read(), type=kind)

    @contextlib.contextmanager
    def _exchange(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        body: msgspec.Struct | None,
        timeout_s: float | None,
        opened: Opened | None = None,
    ) -> Iterator[Answer]:
        """Send a request and yield its answer. A connection error in the caller's block counts as the supervisor's."""
        with contextlib.closing(self._connect(timeout_s)) as connection, self._translating():
            if opened is not None:
                opened(connection)
            yield self._request(connection, method, path, query, body)

    def _request(
        self, connection: socket.socket, method: str, path: str, query: dict[str, str], body: msgspec.Struct | None
    ) -> Answer:
        content = msgspec.json.encode(body) if body is not None else None
        target = f"{api.route(urllib.parse.quote(path))}?{urllib.parse.urlencode(query)}"
        here = Directory.of(self.state_dir.path)
        headers = {api.DIRECTORY_HEADER: here.key} if here is not None else {}
        answer = ask(connection, method, target, headers, content)
        if answer.status == MISDIRECTED:
            raise self._absent(f"{connection.getpeername()} belongs to another supervisor: {_fault(answer)}")
        if answer.status >= 400:
            raise ControlError(_fault(answer))
        return answer

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise Unreachable(f"the supervisor of {self.state_dir.path} is not responding; see its log") from None
        except ConnectionError:
            raise SupervisorEnded(f"the supervisor of {self.state_dir.path} exited before it answered") from None
        except (msgspec.DecodeError, ValueError) as error:
            raise ControlError(f"the supervisor runs an incompatible version: {error}") from None

    def _connect(self, timeout_s: float | None) -> socket.socket:
        deadline = Unpatched.monotonic() + self._patience_s
        while True:
            try:
                return self._connect_once(timeout_s)
            except Unreachable:
                if Unpatched.monotonic() >= deadline or self._find() is None:
                    raise
            Unpatched.sleep(POLL_S)

    def _connect_once(self, timeout_s: float | None) -> socket.socket:
        try:
            record = records.read(self.state_dir.record, SupervisorRecord)
        except NewerRecord as error:
            raise self._absent(str(error), remark=str(error), remedy="") from None
        except DamagedRecord as error:
            raise self._absent(str(error), remark=str(error)) from None
        except OSError as error:
            raise ControlError(f"cannot read {self.state_dir.record}: {error.strerror}") from None
        if record is None:
            raise self._absent(f"{self.state_dir.record} is missing")
        if record.directory is None:
            why = f"{self.state_dir.record} {records.UNPLACED}"
            raise self._absent(why, remark=why, remedy=f"; stop it and its daemons: {self.state_dir.command('down')}")
        origin = records.origin(record, self.state_dir.path)
        if origin is not None:
            raise self._absent(
                f"{self.state_dir.record} was copied from {origin}", remark=f"its files were copied from {origin}"
            )
        try:
            return connect(record.socket, timeout_s)
        except (FileNotFoundError, ConnectionRefusedError):
            raise self._absent(f"nothing answers on {record.socket}", record) from None
        except TimeoutError:
            raise Unreachable(f"the supervisor of {self.state_dir.path} is not responding; see its log") from None
        except OSError as error:
            raise ControlError(f"cannot connect to {record.socket}: {error.strerror}") from None

    def _absent(
        self, why: str, record: SupervisorRecord | None = None, remark: str | None = None, remedy: str | None = None
    ) -> Unreachable:
        """Return the error for a supervisor that does not answer: the lock shows whether one is running."""
        try:
            seen = presence(self.state_dir)
        except OSError as error:
            return Unreachable(f"cannot check {self.state_dir.lock}: {error.strerror}; {why}")
        if seen is Presence.RUNNING or (seen is Presence.LOCK_DELETED and self._find() is not None):
            who = f"supervisor pid {record.pid}" if record is not None else self._holder()
            if remedy is None:
                down = self.state_dir.command("down")
                remedy = f"; it recreates its socket within seconds; otherwise stop it: {down}"
            return Unreachable(f"{who} holds {self.state_dir.path} but cannot be reached: {why}{remedy}")
        remark = f" ({remark})" if remark is not None else ""
        start = self.state_dir.command("up")
        return NoSupervisor(f"no supervisor is running in {self.state_dir.path}{remark}; start one: {start}")

    def _holder(self) -> str:
        found = self._find()
        return "a supervisor" if found is None else f"supervisor {found}"

    def _find(self) -> FoundSupervisor | None:
        """Find the supervisor, even if its socket and record were deleted. The process handle is closed."""
        with contextlib.suppress(OSError):
            found = find_supervisor(self.state_dir)
            if found is not None:
                found.close()
            return found
        return None


class Lease:
    """A lease that this process holds. It lasts as long as the connection, which the kernel closes however the process
    exits."""

    def __init__(self, number: int, connection: socket.socket, needs: tuple[str, ...] = ()) -> None:
        self.number = number
        self.needs = needs
        """The names of the daemons that it keeps."""
        self._connection = connection

    def wait_until_lost(self) -> None:
        """Wait until the supervisor has exited or the lease was given up."""
        with contextlib.suppress(OSError):
            while self._connection.recv(CHUNK):
                pass

    def give_up(self) -> None:
        """End the lease. Any thread may call this."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """Close this process's copy of the connection, in the child of a fork, which must not keep its parent's."""
        descriptor = self._connection.detach()  # closing the object waits for the file that reads from it
        if descriptor >= 0:
            os.close(descriptor)


def connect(path: str, timeout_s: float | None) -> socket.socket:
    """Return a connection to the Unix socket of a supervisor, to which nothing has been sent.

    Raises:
        ControlError: another user serves it.
        OSError: nobody does, or it cannot be reached.
    """
    # The originals: the plugin's hooks must work even if a test replaces the functions of `socket`.
    connection = Unpatched.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        Unpatched.connect(connection, path)
    except OSError:
        connection.close()
        raise
    if not peer.may_be_trusted(connection):
        connection.close()
        raise ControlError(f"{path} is served by another user; check --state-dir")
    return connection


def _fault(answer: Answer) -> str:
    try:
        return msgspec.json.decode(answer.read(), type=api.Fault).error
    except msgspec.DecodeError:
        return f"the supervisor answered with status {answer.status}"
