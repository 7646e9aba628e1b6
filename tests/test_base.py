"""Tests that cannot run are refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import TestResult

from tests.base import SynchronousTestCase


class RefusalTests(SynchronousTestCase):
    """L{SynchronousTestCase} refuses what trial would silently pass over."""

    def test_coroutine_is_refused(self) -> None:
        with self.assertRaises(TypeError) as caught:

            class Case(SynchronousTestCase):
                async def test_nothing(self) -> None:
                    raise AssertionError

        self.assertIn("Case.test_nothing would never run", str(caught.exception))

    def test_generator_is_refused(self) -> None:
        with self.assertRaises(TypeError):

            class Case(SynchronousTestCase):
                def test_nothing(self) -> Iterator[None]:
                    yield

    def test_inherited_coroutine_is_refused(self) -> None:
        class Mixin:
            async def test_nothing(self) -> None:
                raise AssertionError

        with self.assertRaises(TypeError):

            class Case(Mixin, SynchronousTestCase):
                pass

    def test_set_up_of_a_class_is_refused(self) -> None:
        with self.assertRaises(TypeError):

            class Case(SynchronousTestCase):
                @classmethod
                def setUpClass(cls) -> None:
                    raise AssertionError

    def test_plain_functions_and_helpers_are_taken(self) -> None:
        class Case(SynchronousTestCase):
            def test_something(self) -> None:
                pass

            async def helper(self) -> None:
                pass

        case: Any = Case("test_something")
        self.assertEqual(case.countTestCases(), 1)
        # What trial's workers ask of a test that was named to them.
        self.assertIs(case.test_something.__func__, Case.test_something)


class TellingTests(SynchronousTestCase):
    """A failure says all that is known of it."""

    def test_notes_and_what_the_error_hides_are_told(self) -> None:
        class Case(SynchronousTestCase):
            def test_something(self) -> None:
                try:
                    raise KeyError("first")
                finally:
                    error = AssertionError("not well")
                    error.add_note("have it again with this line")
                    raise error

        result = TestResult()
        Case("test_something").run(result)
        ((_, told),) = result.errors
        for text in ("not well", "KeyError: 'first'", "have it again with this line"):
            self.assertIn(text, told)
