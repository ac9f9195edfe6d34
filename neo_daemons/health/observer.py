"""The base of all observers. It runs one check at a time and gives its result to all callers that wait meanwhile."""

from __future__ import annotations

import abc
import asyncio
import concurrent.futures
import contextlib
import logging
import os
import shlex
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from neo_daemons import processes
from neo_daemons.definitions import is_name
from neo_daemons.paths import canonical
from neo_daemons.state_dir import DEFAULT_NAME, StateDir

from .background import Background, background
from .observation import SEVERITY, Details, HealthStatus, Observation, Transition
from .record import Verification, verify

SLACK_S = 0.2
"""Seconds that callers wait beyond the timeout of a check, for the machine to deliver its result."""
TIMEOUT_S = 2.0
"""The default timeout of a check, in seconds."""
LONGEST_S = 86_400.0
LONGEST_REASON = 600
"""The longest reason, in characters."""
FIRST_PAUSE_S = 0.02
LAST_PAUSE_S = 0.5
"""The pause between two checks of a wait grows from the first to the last, in seconds."""

D = TypeVar("D", bound=Details)
R = TypeVar("R")


class Unhealthy(Exception):
    """A daemon is not healthy. ``str()`` contains all reasons and the command that fixes it."""

    def __init__(self, observation: Observation[Any], remedy: str) -> None:
        self.observation = observation
        self.remedy = remedy
        why = "; ".join(observation.reasons) or "no reason known"
        super().__init__(f"{observation.daemon} is {observation.status}: {why}. {remedy}")

    def __reduce__(self) -> Any:
        return type(self), (self.observation, self.remedy)


class NotReady(Unhealthy):
    """A daemon did not become ready in time."""


class Draft:
    """The result of a check that is in progress."""

    def __init__(self, timeout_s: float = 0.0) -> None:
        self._deadline = time.monotonic() + timeout_s
        self.status: HealthStatus = "healthy"
        self.reasons: list[str] = []
        self.details: dict[str, Any] = {}
        self.url: str | None = None
        self.listener: int | None = None
        """The pid of the process that listens at the URL, if it is known."""
        self.nobody_listens = False
        self.doing = "checking"
        self.on_timeout: HealthStatus = "unhealthy"

    def remaining_s(self) -> float:
        """Return the seconds that are left for the check."""
        return max(self._deadline - time.monotonic(), 0.0)

    def record_missing(self, verification: Verification) -> None:
        """Note that no record shows where the daemon is."""
        self.fault(str(verification.fault), "unhealthy" if verification.status == "missing" else "unknown")

    def fault(self, reason: str, status: HealthStatus = "unhealthy", *, first: bool = False) -> None:
        """Note a fault. The worst fault decides the status."""
        self.reasons.insert(0 if first else len(self.reasons), clean(reason))
        self.status = max(self.status, status, key=SEVERITY.index)


class Observer(abc.ABC, Generic[D]):
    """Checks one daemon. Create it once and keep it; threads and asyncio event loops may share it.

    Args:
        name: the name of the daemon, as in its PID record.
        state_dir: the state directory of its supervisor. Adds `managed`, `pid` and `restarts` to observations.
        timeout_s: the time limit of one check.
        reuse_s: for how long a healthy result may be reused; the observation contains its age.
    """

    details: ClassVar[type[Details]]

    def __init__(self, name: str, state_dir: Path | str | None, timeout_s: float, reuse_s: float) -> None:
        if not is_name(name):
            raise ValueError(
                f"{clean(name)!r} is not a valid daemon name; use a-z, 0-9, - and _, starting with a letter"
            )
        if not 0 < timeout_s <= LONGEST_S or not reuse_s >= 0:
            raise ValueError(f"timeout_s={timeout_s:g}, reuse_s={reuse_s:g}: expected seconds, the first above zero")
        self.name = name
        self.timeout_s = timeout_s
        self.reuse_s = reuse_s
        self.state = StateDir(canonical(Path(os.path.realpath(state_dir)))) if state_dir is not None else None
        self._flight: tuple[Background, asyncio.Task[Observation[D]]] | None = None
        self._latest: Observation[D] | None = None
        self._latest_at = 0.0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self._place()}>"

    def check(self, timeout_s: float | None = None) -> Observation[D]:
        """Check the daemon and return an observation. A check in progress is shared. The daemon never makes it raise.

        Args:
            timeout_s: wait no longer than this; a check that has not finished by then is `unknown`. By default, wait
                until the check's own time limit.
        """
        return self.collect(self.begin(timeout_s), timeout_s)

    def begin(self, timeout_s: float | None = None) -> concurrent.futures.Future[Observation[D]]:
        """Begin a `check` without waiting for it."""
        return background().submit(self._answer(self._patience(timeout_s)))

    def collect(
        self, looking: concurrent.futures.Future[Observation[D]], timeout_s: float | None = None
    ) -> Observation[D]:
        """Wait for a check that `begin` has begun, as `check` does."""
        try:
            return looking.result(self._patience(timeout_s) + SLACK_S)
        except (TimeoutError, concurrent.futures.CancelledError):
            return self._in_flight(timeout_s)
        finally:
            looking.cancel()

    async def acheck(self, timeout_s: float | None = None) -> Observation[D]:
        """Like `check`, without blocking the event loop."""
        try:
            patience_s = self._patience(timeout_s)
            return await self._arun(self._answer(patience_s), patience_s)
        except TimeoutError:
            return self._in_flight(timeout_s)

    def is_up(self) -> bool:
        """Return whether a client can use the daemon now."""
        return self.check().ready

    async def ais_up(self) -> bool:
        """Like `is_up`, without blocking the event loop."""
        return (await self.acheck()).ready

    def ensure_healthy(self) -> Observation[D]:
        """Check the daemon and return the observation if it is healthy.

        Raises:
            Unhealthy: it is not; the error contains all reasons and the command that fixes it.
        """
        return self._healthy(self.check())

    async def aensure_healthy(self) -> Observation[D]:
        """Like `ensure_healthy`, without blocking the event loop."""
        return self._healthy(await self.acheck())

    def wait_until_ready(self, timeout_s: float) -> Observation[D]:
        """Wait until a client can use the daemon. This does not start it.

        Raises:
            NotReady: the daemon is not ready within `timeout_s`.
        """
        waiting = background().submit(self._wait(self._patience(timeout_s)))
        try:
            return waiting.result(self._patience(timeout_s) + SLACK_S)
        except (TimeoutError, concurrent.futures.CancelledError):
            raise self._not_ready(self._in_flight(timeout_s)) from None
        finally:
            waiting.cancel()

    async def await_until_ready(self, timeout_s: float) -> Observation[D]:
        """Like `wait_until_ready`, without blocking the event loop."""
        try:
            return await self._arun(self._wait(self._patience(timeout_s)), self._patience(timeout_s))
        except TimeoutError:
            raise self._not_ready(self._in_flight(timeout_s)) from None

    async def watch(self, interval_s: float = 1.0) -> AsyncIterator[Transition[D]]:
        """Yield the current observation, then every change of status, readiness, process or management. Checks every
        `interval_s` seconds; a restart between two checks shows in the new pid."""
        before: Observation[D] | None = None
        while True:
            after = await self.acheck()
            if before is None or _essence(before) != _essence(after):
                yield Transition(before=before, after=after)
                before = after
            await asyncio.sleep(interval_s)

    def remedy(self, observation: Observation[Any]) -> str:
        """Suggest a command for the user. The observer never runs it."""
        if observation.status == "healthy":
            return "Nothing to do."
        command = f"{shlex.quote(sys.executable)} -m neo_daemons"
        if self.state is None:
            return f"Its operator must fix it; if neo-daemons runs it: {command} up"
        where = f" --state-dir {shlex.quote(str(self.state.path))}"
        if verify(self.state, self.name).supervised:
            order = "restart" if observation.record == "live" else "start"
            explain = f"Its supervisor may already be restarting it; see: {command} why {self.name}{where}"
            return f"{explain}. To do it yourself: {command} {order} {self.name}{where}"
        if "--config" in self.state.options:
            return f"Start it: {command} up {shlex.join(self.state.options)}"
        if self.state.path.name == DEFAULT_NAME:
            return f"Start it: cd {shlex.quote(str(self.state.path.parent))} && {command} up"
        return f"Start it: {command} up{where}"

    # A check

    def _verify_record(self) -> Verification | None:
        """Verify the PID record, if a state directory is given."""
        return verify(self.state, self.name) if self.state is not None else None

    @abc.abstractmethod
    async def _examine(self, draft: Draft, verification: Verification | None) -> None:
        """Check the daemon. Implementations name each step that takes time in ``draft.doing`` before they begin it."""

    def _place(self) -> str:
        """Return the place of the daemon, for `repr`."""
        return f"of {self.state.path}" if self.state is not None else ""

    async def _look(self) -> Observation[D]:
        began = time.monotonic()
        draft = Draft(self.timeout_s)
        verification = self._verify_record()
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._examine(draft, verification)
        except TimeoutError:
            draft.fault(f"{draft.doing}: no answer within {self.timeout_s:g} s", draft.on_timeout)
        except Exception as error:  # a bug in the observer says nothing about the daemon
            logging.getLogger("neo_daemons").debug("observing %s", self.name, exc_info=True)
            draft.fault(f"{draft.doing}: the check failed: {type(error).__name__}: {error}", "unknown")
        latency_ms = (time.monotonic() - began) * 1000
        if verification is not None:
            _add_record(draft, verification)
        record = verification.record if verification is not None else None
        pid = (verification.pid if verification is not None else None) or draft.listener
        if draft.status != "healthy" and pid is not None and processes.is_stopped(pid):
            draft.fault(f"pid {pid} is stopped by a signal", first=True)
        return Observation(
            daemon=self.name,
            status=draft.status,
            ready=draft.status in ("healthy", "degraded"),
            reasons=tuple(draft.reasons),
            url=draft.url,
            managed=verification.managed if verification is not None else None,
            pid=pid,
            restarts=record.restarts if record is not None else None,
            record=verification.status if verification is not None else None,
            latency_ms=latency_ms,
            observed_at=time.time(),
            details=self.details(**draft.details),  # type: ignore[arg-type]
        )

    async def _answer(self, patience_s: float, *, fresh: bool = False) -> Observation[D]:
        # This runs in the background loop only, and so needs no lock.
        if self._latest is not None and self._latest.status == "healthy" and not fresh:
            age_s = time.monotonic() - self._latest_at
            if age_s < self.reuse_s:
                return msgspec.structs.replace(self._latest, age_s=age_s)
        owner = background()
        if self._flight is None or self._flight[0] is not owner:  # from before a fork
            self._flight = (owner, asyncio.create_task(self._fly()))
        return await asyncio.wait_for(asyncio.shield(self._flight[1]), patience_s)

    async def _fly(self) -> Observation[D]:
        try:
            self._latest = await self._look()
            self._latest_at = time.monotonic()
            return self._latest
        finally:
            self._flight = None

    async def _wait(self, timeout_s: float) -> Observation[D]:
        deadline = time.monotonic() + timeout_s
        pause_s = FIRST_PAUSE_S
        seen: Observation[D] | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                seen = await self._answer(max(deadline - time.monotonic(), 0.0), fresh=True)
                if seen.ready:
                    return seen
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise self._not_ready(seen or self._in_flight(timeout_s))
            await asyncio.sleep(min(pause_s, remaining_s))
            pause_s = min(pause_s * 1.5, LAST_PAUSE_S)

    def _patience(self, timeout_s: float | None) -> float:
        if timeout_s is None:
            return self.timeout_s + SLACK_S
        if timeout_s != timeout_s:
            raise ValueError("timeout_s=nan: expected seconds")
        return min(max(timeout_s, 0.0), LONGEST_S)

    def _in_flight(self, timeout_s: float | None) -> Observation[D]:
        reason = f"the check did not finish within {self._patience(timeout_s):g} s"
        return Observation(
            daemon=self.name,
            status="unknown",
            ready=False,
            reasons=(reason,),
            observed_at=time.time(),
            details=self.details(),  # type: ignore[arg-type]
        )

    def _healthy(self, seen: Observation[D]) -> Observation[D]:
        if seen.status != "healthy":
            raise Unhealthy(seen, self.remedy(seen))
        return seen

    def _not_ready(self, seen: Observation[D]) -> NotReady:
        return NotReady(seen, self.remedy(seen))

    @staticmethod
    async def _arun(work: Coroutine[Any, Any, R], timeout_s: float) -> R:
        return await asyncio.wait_for(asyncio.wrap_future(background().submit(work)), timeout_s + SLACK_S)


def clean(text: str) -> str:
    """Make external text safe to show anywhere: printable and of limited length."""
    shown = "".join(c if c.isprintable() else "�" for c in text[: LONGEST_REASON + 1])
    return shown if len(shown) <= LONGEST_REASON else f"{shown[: LONGEST_REASON - 1]}…"


def _add_record(draft: Draft, verification: Verification) -> None:
    """Add what the PID record shows to what the check found."""
    record = verification.record
    answers = draft.status in ("healthy", "degraded")
    match verification.status:
        case "stale" | "damaged" if answers:
            draft.fault(f"it answers, but {verification.fault}", "degraded")
        case "live":
            assert record is not None
            stranger = draft.listener
            if stranger not in (None, record.pid) and processes.environment_holds(stranger, record.token) is False:
                what = " ".join(processes.command(stranger))[:100]
                reason = f"its port is in use by pid {stranger} ({what}), not by the recorded pid {record.pid}"
                draft.fault(reason, "degraded")
        case _ if not answers and verification.fault is not None and verification.fault not in draft.reasons:
            draft.reasons.append(verification.fault)


def _essence(observation: Observation[Any]) -> tuple[Any, ...]:
    return (observation.status, observation.ready, observation.managed, observation.pid)
