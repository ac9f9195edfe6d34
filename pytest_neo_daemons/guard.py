"""No hook of ours ends a run: what goes wrong in one is told, and the run goes on."""

from __future__ import annotations

import contextlib
import functools
import inspect
import warnings
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import pytest

MAX_TEXT = 300
C = TypeVar("C", bound=type)


class Mishaps:
    """What went wrong in hooks, and during which tests."""

    def __init__(self) -> None:
        self._tests: dict[str, list[str]] = {}

    def note(self, hook: str, error: Exception, test: str | None) -> None:
        """Warn of it, once, and keep it for the summary."""
        said = " ".join(str(error).split())
        text = f"{hook} failed: {type(error).__name__}{f': {said:.{MAX_TEXT}}' if said else ''}"
        if text not in self._tests:
            self._tests[text] = []
            # Where warnings are errors, the line in the summary has to do.
            with contextlib.suppress(Exception):
                warnings.warn(pytest.PytestWarning(f"neo-daemons: {text}"), stacklevel=1)
        if test is not None and test not in self._tests[text]:
            self._tests[text].append(test)

    def lines(self) -> list[str]:
        """For the summary."""
        return [f"{text}{_during(tests)}; the run went on" for text, tests in self._tests.items()]


def _during(tests: list[str]) -> str:
    if not tests:
        return ""
    return f", during {tests[0]}{f' and {len(tests) - 1} more' if len(tests) > 1 else ''}"


def guarded(cls: C) -> C:
    """Have every hook of a plugin class go through `Mishaps`, which its instances have as `mishaps`.

    An outcome of pytest's own (fail, skip, exit), a `pytest.UsageError` and a `KeyboardInterrupt` go through.
    """
    for name, function in list(vars(cls).items()):
        if name.startswith("pytest_") and inspect.isfunction(function):
            guard = _wrapper if inspect.isgeneratorfunction(function) else _plain
            setattr(cls, name, guard(name, function))
    return cls


def _plain(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def hook(self: Any, *arguments: Any) -> Any:
        try:
            return function(self, *arguments)
        except pytest.UsageError:
            raise
        except Exception as error:
            self.mishaps.note(name, error, _test(arguments))
            return None

    return hook


def _wrapper(name: str, function: Callable[..., Generator[None, Any, Any]]) -> Callable[..., Generator[None, Any, Any]]:
    """Of a hook wrapper: what it wraps is called, and its outcome kept, whatever happens before and after."""

    @functools.wraps(function)
    def hook(self: Any, *arguments: Any) -> Generator[None, Any, Any]:
        ours = function(self, *arguments)
        try:
            next(ours)
        except pytest.UsageError:
            raise
        except Exception as error:
            self.mishaps.note(name, error, _test(arguments))
            return (yield)
        try:
            result = yield
        except BaseException as theirs:
            try:
                ours.throw(theirs)
            except StopIteration as end:
                return end.value
            except Exception as error:
                if error is theirs:
                    raise
                self.mishaps.note(name, error, _test(arguments))
            raise
        try:
            ours.send(result)
        except StopIteration as end:
            return end.value
        except pytest.UsageError:
            raise
        except Exception as error:
            self.mishaps.note(name, error, _test(arguments))
        return result

    return hook


def _test(arguments: tuple[Any, ...]) -> str | None:
    return next((argument.nodeid for argument in arguments if isinstance(argument, pytest.Item)), None)
