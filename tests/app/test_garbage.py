"""Tests of L{mesoskit.app.garbage}."""

from __future__ import annotations

import gc

from mesoskit.app import garbage
from tests.base import SynchronousTestCase


class Garbage(SynchronousTestCase):
    """The collector is held off, then set to work on what is new."""

    def setUp(self) -> None:
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.addCleanup(gc.enable)
        self.addCleanup(gc.unfreeze)

    def test_nothing_is_looked_for_while_a_program_loads(self) -> None:
        garbage.hold_off()
        self.assertFalse(gc.isenabled())

    def test_what_is_there_is_exempt_and_what_comes_is_not(self) -> None:
        class Node:
            pass

        before = Node()
        garbage.hold_off()
        garbage.begin()
        after = Node()
        self.assertTrue(gc.isenabled())
        self.assertEqual(gc.get_threshold(), garbage.THRESHOLDS)
        tracked = set(map(id, gc.get_objects()))
        self.assertNotIn(id(before), tracked)
        self.assertIn(id(after), tracked)
