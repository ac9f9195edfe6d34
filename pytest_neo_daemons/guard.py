"""Keeps errors in the plugin's hooks from ending a run: they are reported, and the run continues."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

import pytest

MAX_TEXT = 300
MAX_HOOK_FAILURES = 20
ENDING = (pytest.exit.Exception, KeyboardInterrupt)
"""Exceptions that may end a run from any hook."""
OUTCOMES = (pytest.fail.Exception, pytest.skip.Exception)
PASSED_ON: dict[str, tuple[type[BaseException], ...]] = {
    "pytest_sessionstart": (pytest.UsageError,),
    "pytest_generate_tests": OUTCOMES,
    "pytest_runtest_setup": OUTCOMES,
    "pytest_runtest_teardown": OUTCOMES,
}
"""Other exceptions that these hooks may raise, because pytest reports them. From other hooks they would end the run."""
UNGUARDED = frozenset({"pytest_fixture_setup", "pytest_runtest_makereport", "pytest_runtest_teardown"})
"""An error while a fixture is set up is an error of the test. The wrappers that are called for each test call `note`
themselves: to guard a generator takes longer than most calls."""
LATE = frozenset({"pytest_terminal_summary", "pytest_unconfigure"})
"""Hooks that run too late for the summary to show their failures."""
C = TypeVar("C", bound=type)


class HookFailures:
    """Hook failures and the tests during which they occurred: one for each type of error at each place."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str, str, str], str] = {}
        self._tests: dict[tuple[str, str, str], dict[str, None]] = {}
        self._left_out = 0

    def note(self, hook: str, error: BaseException, test: str | None) -> None:
        """Warn about a hook failure once, and keep it for the summary."""
        place = next((f"{frame.f_code.co_filename}:{line}" for frame, line in frames(error)), "")
        key = (hook, type(error).__name__, place)
        if key not in self._texts:
            if len(self._texts) >= MAX_HOOK_FAILURES:
                self._left_out += 1
                return
            said = " ".join(str(error).split())
            text = f"{hook} failed: {type(error).__name__}{f': {said:.{MAX_TEXT}}' if said else ''}"
            self._texts[key], self._tests[key] = text, {}
            # If warnings are errors, the line in the summary must suffice.
            with contextlib.suppress(Exception):
                warnings.warn(pytest.PytestWarning(f"neo-daemons: {text}"), stacklevel=1)
            if hook in LATE:
                with contextlib.suppress(Exception):
                    sys.stderr.write(f"neo-daemons: {text}\n")
        if test is not None:
            self._tests[key][test] = None

    @contextlib.contextmanager
    def noting(self, hook: str, test: str | None = None) -> Iterator[None]:
        """Note an error in a project's hook that is called in this context, and continue the run."""
        try:
            yield
        except ENDING:
            raise
        except BaseException as error:
            self.note(hook, error, test)

    def lines(self) -> list[str]:
        """Return the lines for the summary."""
        lines = [f"{text}{_during([*self._tests[key]])}; the run continued" for key, text in self._texts.items()]
        return [*lines, f"and {self._left_out} more hook failures"] if self._left_out else lines


def frames(error: BaseException) -> list[tuple[Any, int]]:
    """Return the frames of an error's traceback, the innermost first."""
    return [*traceback.walk_tb(error.__traceback__)][::-1]


def _during(tests: list[str]) -> str:
    if not tests:
        return ""
    return f", during {tests[0]}{f' and {len(tests) - 1} more' if len(tests) > 1 else ''}"


def guarded(cls: C) -> C:
    """Guard every hook of a plugin class: errors are noted in the attribute `hook_failures` of its instances.

    The exceptions in `ENDING` and `PASSED_ON` are raised. The hooks in `UNGUARDED` are left as they are.
    """
    for name, function in list(vars(cls).items()):
        if name.startswith("pytest_") and name not in UNGUARDED and inspect.isfunction(function):
            guard = _wrapper if inspect.isgeneratorfunction(function) else _plain
            setattr(cls, name, guard(name, function))
    return cls


def _plain(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def hook(self: Any, *arguments: Any) -> Any:
        try:
            return function(self, *arguments)
        except BaseException as error:
            note(self, name, error, arguments)
            return None

    return hook


def _wrapper(name: str, function: Callable[..., Generator[None, Any, Any]]) -> Callable[..., Generator[None, Any, Any]]:
    """Guard a hook wrapper: the wrapped hooks run, and their outcome is kept, even if the wrapper fails."""

    @functools.wraps(function)
    def hook(self: Any, *arguments: Any) -> Generator[None, Any, Any]:
        ours = function(self, *arguments)
        try:
            next(ours)
        except BaseException as error:
            note(self, name, error, arguments)
            return (yield)
        try:
            result = yield
        except BaseException as theirs:
            try:
                ours.throw(theirs)
            except StopIteration as end:
                return end.value
            except BaseException as error:
                if error is theirs:
                    raise
                note(self, name, error, arguments)
            raise
        try:
            ours.send(result)
        except StopIteration as end:
            return end.value
        except BaseException as error:
            note(self, name, error, arguments)
        return result

    return hook


def note(plugin: Any, name: str, error: BaseException, arguments: tuple[Any, ...]) -> None:
    """Note the error of a hook, or raise it again if it may pass. Call this while the error is being handled."""
    if isinstance(error, (*ENDING, *PASSED_ON.get(name, ()))):
        raise error
    plugin.hook_failures.note(name, error, _test(arguments))


def _test(arguments: tuple[Any, ...]) -> str | None:
    return next((argument.nodeid for argument in arguments if isinstance(argument, pytest.Item)), None)
