"""What all test cases here stand on."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from twisted.trial import unittest


class SynchronousTestCase(unittest.SynchronousTestCase):
    """Trial's own, except that a test which would never run is refused.

    C{async def test_...} makes a coroutine that nothing awaits: trial reports success without
    having executed a line of it. Here the class statement itself raises L{TypeError}. The same
    goes for a test written as a generator, and for C{setUpClass}, which trial does not know. A
    test that must wait belongs on L{twisted.trial.unittest.TestCase}.

    What hypothesis notes of an example that failed, above all the line with which to have it
    again, is part of the failure; trial alone would not show it.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in ("setUpClass", "tearDownClass"):
            if name in vars(cls):
                raise TypeError(f"{cls.__qualname__}.{name} would never run: trial ignores it")
        for name in dir(cls):
            if not name.startswith("test"):
                continue
            function = inspect.unwrap(getattr(cls, name))
            if (
                inspect.iscoroutinefunction(function)
                or inspect.isgeneratorfunction(function)
                or inspect.isasyncgenfunction(function)
            ):
                raise TypeError(
                    f"{cls.__qualname__}.{name} would never run: a test on a"
                    " SynchronousTestCase must be a plain function"
                )
            # In the class: trial's workers make sure that they have what they were sent.
            if name in vars(cls) and inspect.isfunction(vars(cls)[name]):
                setattr(cls, name, _with_notes(vars(cls)[name]))


def _with_notes(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def run(*arguments: Any, **named: Any) -> Any:
        try:
            return method(*arguments, **named)
        except Exception as error:
            _tell(error)
            raise

    return run


def _tell(error: BaseException) -> None:
    """
    Write into an error what hypothesis has noted of it, and which other it hides: where a machine
    breaks in its midst, most often it cannot be brought to a good end either.
    """
    notes = list(getattr(error, "__notes__", ()))
    hidden = error.__context__
    if notes and hidden is not None:
        notes.insert(0, f"Hidden by it: {hidden.__class__.__name__}: {hidden}")
    if notes:
        error.args = ("\n".join([str(error), *notes]),)
