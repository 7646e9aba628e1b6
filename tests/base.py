"""What all test cases here stand on."""

from __future__ import annotations

import inspect

from twisted.trial import unittest


class SynchronousTestCase(unittest.SynchronousTestCase):
    """Trial's own, except that a test which would never run is refused.

    C{async def test_...} makes a coroutine that nothing awaits: trial reports success without
    having executed a line of it. Here the class statement itself raises L{TypeError}. The same
    goes for a test written as a generator, and for C{setUpClass}, which trial does not know. A
    test that must wait belongs on L{twisted.trial.unittest.TestCase}.
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
