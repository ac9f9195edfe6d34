"""Checks whether the mlx server and its model answer. The model is queried rarely, and never twice at once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from msgspec import Struct

from neo_daemons import processes
from neo_daemons.urls import host_and_port

from .background import background
from .http import Answer, HttpDaemonObserver
from .observation import Details
from .observer import TIMEOUT_S, Draft, clean
from .record import Verification

COMPLETIONS = "/v1/chat/completions"
UNNAMED = "default_model"
"""The server's name for the model that it was started with."""
MODEL_OPTION = "--model"
QUESTION = {"messages": [{"role": "user", "content": "ready?"}], "max_tokens": 1}
ANSWER_EVERY_S = 60.0
"""One token per minute is a negligible load."""
FAILED_EVERY_S = 5.0
"""After a failure, only the next request shows that the model has recovered."""
ANSWER_WITHIN_S = 60.0
"""A model that is busy with a long prompt, or still loading, answers late."""
WAIT_SHARE = 0.9
"""The share of a check's remaining time that it waits for the model."""
MAX_KEPT = 256
"""The maximum number of servers that are remembered."""


class MlxDetails(Details, frozen=True, kw_only=True):
    """Details of an mlx server."""

    model: str | None = None
    """The model that it serves, as its command line or its answer names it."""
    answers: bool | None = None
    """Whether the model answered the last request; None if none was sent or it is still unanswered."""
    answered_ago_s: float | None = None
    """Seconds since then."""
    asking_for_s: float | None = None
    """Seconds since the unanswered request was sent; None if there is none."""

    @property
    def summary(self) -> tuple[str, ...]:
        model = f"model {self.model}" if self.model is not None else "its model"
        if self.answered_ago_s is None:
            return (f"{model}: not asked",)
        busy = f"; asked again {self.asking_for_s:.0f} s ago" if self.asking_for_s is not None else ""
        return (f"{model} answered {self.answered_ago_s:.0f} s ago{busy}",)


class ModelAnswer(Struct):
    """What is known about one model. All observers of a process share it, so that the model gets no extra requests."""

    answers: bool | None = None
    fault: str | None = None
    model: str | None = None
    at: float = 0.0
    """When it answered (monotonic seconds)."""
    since: float = 0.0
    """When the request in flight was sent (monotonic seconds)."""
    pid: int | None = None
    flight: asyncio.Task[None] | None = None


class MlxObserver(HttpDaemonObserver[MlxDetails]):
    """Checks an mlx_lm server, or another that speaks the OpenAI protocol and has ``/health``.

    Args:
        url: the URL of the server, e.g. ``http://127.0.0.1:8080``; by default, the one in the PID record.
        state_dir: the state directory of its supervisor; by default, without a URL, the project's, as the command
            line finds it.
        name: the name of the daemon.
        answer_every_s: all observers of this process together request one token from the model at most this often;
            None: never, and the model is not checked.
        headers: sent with every request, never shown; for servers that require credentials.
        timeout_s: the time limit of one check. If the model takes longer, its answer is awaited for up to
            `ANSWER_WITHIN_S`: meanwhile the status is `unknown`, unless the model has answered before.
        reuse_s: for how long a healthy result may be reused; the observation contains its age.

    Raises:
        ValueError: an argument is invalid.
    """

    details = MlxDetails
    kind = "an mlx server"

    def __init__(
        self,
        url: str | None = None,
        *,
        state_dir: Path | str | None = None,
        name: str = "mlx",
        answer_every_s: float | None = ANSWER_EVERY_S,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
        reuse_s: float = 0.0,
    ) -> None:
        super().__init__(url, name, state_dir, headers, timeout_s, reuse_s)
        self._answer_every_s = answer_every_s

    async def _converse(self, draft: Draft, verification: Verification | None, url: str) -> None:
        answer = await self._ask(draft, url, "/health")
        content = answer.json() if answer is not None else None
        if answer is None or answer.status != 200 or not isinstance(content, dict) or content.get("status") != "ok":
            # Query the model again when the server is back.
            asked = self._asked.get(self._key(url))
            if asked is not None:
                asked.answers = None
            if answer is not None:
                self._refuse(draft, url, "/health", answer)
            return
        if self._answer_every_s is None:
            return
        self._listener.seek(draft, *host_and_port(url))
        pid = draft.listener or (verification.pid if verification is not None else None)
        await self._ask_model(draft, url, pid, self._answer_every_s)

    def _key(self, url: str) -> Any:
        """The server and the credentials, because answers differ between clients with and without them."""
        return (url, frozenset(self._headers.items()))

    @property
    def _asked(self) -> dict[Any, ModelAnswer]:
        """The answers that all observers of this process share."""
        asked: dict[Any, ModelAnswer] = background().memory
        return asked

    async def _ask_model(self, draft: Draft, url: str, pid: int | None, every_s: float) -> None:
        asked = self._asked.get(self._key(url))
        if asked is None or (asked.pid is not None and pid is not None and asked.pid != pid):
            for key in [key for key, one in self._asked.items() if one.flight is None][: len(self._asked) - MAX_KEPT]:
                del self._asked[key]
            asked = self._asked[self._key(url)] = ModelAnswer()
        asked.pid = pid if pid is not None else asked.pid
        now = time.monotonic()
        due_s = min(every_s, FAILED_EVERY_S) if asked.answers is False else every_s
        if asked.flight is None and (asked.answers is None or now - asked.at >= due_s):
            asked.since = now
            asked.flight = asyncio.create_task(self._question(url, asked))
        if asked.flight is not None:
            await asyncio.wait({asked.flight}, timeout=draft.remaining_s() * WAIT_SHARE)
        self._report(draft, asked)

    @staticmethod
    def _report(draft: Draft, asked: ModelAnswer) -> None:
        now = time.monotonic()
        draft.details |= {
            "model": _model_of_command(asked.pid) or asked.model,
            "answers": asked.answers,
            "answered_ago_s": now - asked.at if asked.answers is not None else None,
            "asking_for_s": now - asked.since if asked.flight is not None else None,
        }
        if asked.answers is False:
            draft.fault(f"its model does not answer: {asked.fault}")
        elif asked.answers is None:
            draft.fault(f"a request to its model, sent {now - asked.since:.1f} s ago, is still unanswered", "unknown")

    async def _question(self, url: str, asked: ModelAnswer) -> None:
        try:
            draft = Draft()
            answer: Answer | None = None
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    answer = await self._ask(draft, url, COMPLETIONS, method="POST", body=QUESTION)
            except TimeoutError:
                draft.fault(f"no answer within {ANSWER_WITHIN_S:g} s")
            except Exception as error:  # without a result, every check would send a request
                logging.getLogger("neo_daemons").debug("asking the model of %s", url, exc_info=True)
                draft.fault(f"{type(error).__name__}: {error}")
            content: Any = answer.json() if answer is not None and answer.status == 200 else None
            good = isinstance(content, dict) and bool(content.get("choices"))
            name = content.get("model") if good else None
            asked.model = name if isinstance(name, str) and name != UNNAMED else None
            asked.fault = None if good else "; ".join(draft.reasons) or f"{answer}{answer.quoted if answer else ''}"
            asked.answers = good
            asked.at = time.monotonic()
        finally:
            asked.flight = None


def _model_of_command(pid: int | None) -> str | None:
    """Return the model that a server was started with, if its command line can be read."""
    command = processes.command(pid) if pid is not None else ()
    return next((clean(value) for option, value in pairwise(command) if option == MODEL_OPTION), None)
