"""What C{docs/writing-a-framework.md} shows is true."""

from __future__ import annotations

import re
import unittest
from pathlib import Path
from typing import Any

from mesoskit import driver
from tests.base import SynchronousTestCase

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-framework.md"


class DocumentTests(SynchronousTestCase):
    """The page for authors of frameworks."""

    def setUp(self) -> None:
        self.text = PAGE.read_text("utf-8")
        self.blocks = re.findall(r"```python\n(.*?)```", self.text, re.DOTALL)

    def test_all_code_is_python(self) -> None:
        self.assertGreater(len(self.blocks), 3)
        for block in self.blocks:
            compile(block, str(PAGE), "exec")

    def test_every_exception_that_it_names_is_there(self) -> None:
        for name in set(re.findall(r"`((?:Task|Framework|Offer|Not)[A-Z]\w+)`", self.text)):
            if name not in ("TaskInfo", "TaskStatus"):
                self.assertTrue(hasattr(driver, name), name)

    def test_its_test_passes(self) -> None:
        [block] = [each for each in self.blocks if "SynchronousTestCase" in each]
        names: dict[str, Any] = {"__name__": "example"}
        exec(block, names)
        suite = unittest.TestSuite([names["MyTests"]("test_power_failure")])
        result = unittest.TestResult()
        suite.run(result)
        self.assertEqual((result.testsRun, result.errors, result.failures), (1, [], []))
