"""C{/logging/toggle}: levels that go back by themselves."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import LogLevel, PredicateResult

from mesoskit.web.verbosity import Verbosity, toggle
from tests.base import SynchronousTestCase


class Toggle(SynchronousTestCase):
    """What is answered, and what is logged then."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.verbosity = Verbosity()

    def toggle(self, level: str | None = None, duration: str | None = None) -> tuple[int, str]:
        return toggle(level, duration, self.clock, self.verbosity)

    def test_texts(self) -> None:
        for level, duration, why in (
            ("1", None, "Expecting 'duration=value' in query.\n"),
            (None, "1mins", "Expecting 'level=value' in query.\n"),
            ("x", "1mins", "Failed to convert 'x' to number.\n"),
            ("-1", "1mins", "Invalid level '-1'.\n"),
            ("1", "soon", "Failed to convert '' to number.\n"),
        ):
            self.assertEqual((400, why), self.toggle(level, duration))
        self.verbosity.original = 2
        self.assertEqual((400, "'1' < original level.\n"), self.toggle("1", "1mins"))

    def test_level_goes_back(self) -> None:
        debug = {"log_level": LogLevel.debug}
        self.assertEqual((200, "0\n"), self.toggle())
        self.assertIs(PredicateResult.no, self.verbosity(debug))
        self.assertEqual((200, ""), self.toggle("3", "1mins"))
        self.assertEqual((200, "3\n"), self.toggle())
        self.assertIs(PredicateResult.yes, self.verbosity(debug))
        self.clock.advance(30)
        self.toggle("2", "1mins")
        self.clock.advance(59)
        self.assertEqual((200, "2\n"), self.toggle())
        self.clock.advance(1)
        self.assertEqual((200, "0\n"), self.toggle())
        self.assertEqual([], self.clock.getDelayedCalls())
