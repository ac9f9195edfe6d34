"""Answers from an OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Iterator

import openai

MODEL = "default_model"
"""mlx_lm.server's name for the model that it was started with."""


class Unreachable(Exception):
    """The server does not answer."""


class Assistant:
    """Sends questions to a model."""

    def __init__(self, client: openai.OpenAI, *, max_tokens: int = 16) -> None:
        self._client = client
        self._max_tokens = max_tokens

    def ask(self, question: str) -> str:
        """Return the answer.

        Raises:
            Unreachable: the server does not answer.
        """
        try:
            answer = self._client.chat.completions.create(
                model=MODEL, max_tokens=self._max_tokens, messages=[{"role": "user", "content": question}]
            )
        except openai.APIConnectionError as error:  # a timeout is one too
            raise Unreachable(str(error)) from error
        return answer.choices[0].message.content or ""

    def stream(self, question: str) -> Iterator[str]:
        """Yield the answer piece by piece."""
        with self._client.chat.completions.create(
            model=MODEL, max_tokens=self._max_tokens, messages=[{"role": "user", "content": question}], stream=True
        ) as pieces:
            for piece in pieces:
                if piece.choices and piece.choices[0].delta.content:
                    yield piece.choices[0].delta.content
