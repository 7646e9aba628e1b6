"""Regular expressions of frameworks."""

from __future__ import annotations

import sys
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.app import master
from mesoskit.app.patterns import compiler
from mesoskit.flags import FlagError
from mesoskit.master.offer_constraints import InvalidConstraints
from tests.base import SynchronousTestCase


class PatternTests(SynchronousTestCase):
    """What RE2 makes of them."""

    def refusal(self, regex: str, *limits: int) -> str:
        return str(self.assertRaises(InvalidConstraints, compiler(*limits), regex))

    def test_whole_text_is_matched(self) -> None:
        matches = compiler()("a|b+")
        self.assertEqual(
            [True, True, False, False], [matches(text) for text in ("a", "bb", "ab", "a\n")]
        )

    def test_texts_are_unicode(self) -> None:
        self.assertTrue(compiler()("gr.ß(?i)E")("größe"))

    def test_what_takes_others_exponential_time(self) -> None:
        self.assertFalse(compiler()("(a*)*b")("a" * 100_000))

    def test_what_re2_does_not_have(self) -> None:
        for regex in ("(?=a)", r"(a)\1", "(?P<a", "[", "\\"):
            told = self.refusal(regex)
            begin = f"Failed to construct regex from pattern '{regex}': "
            self.assertTrue(told.startswith(begin), told)

    def test_limits(self) -> None:
        self.assertIn("program size of ", self.refusal("(a+){10}", 4096, 10))
        self.assertTrue(compiler(1 << 20, 10_000)("(a+){500}")("a" * 500))
        self.assertIn("pattern too large - compile failed", self.refusal("(a+){500}", 4096, 10_000))

    @given(st.text(max_size=30), st.text(max_size=10))
    def test_whatever_is_sent(self, regex: str, text: str) -> None:
        try:
            matches = compiler()(regex)
        except InvalidConstraints as error:
            self.assertIn(regex, str(error))
            return
        self.assertIn(matches(text), (True, False))

    def test_package_is_missing(self) -> None:
        with patch.dict(sys.modules, {"re2": None}):
            told = self.refusal("a")
        self.assertIn("pip install 'mesoskit[re2]'", told)

    def test_flags(self) -> None:
        values = master.FLAGS.parse(
            [
                "--work_dir=/w",
                "--offer_constraints_re2_max_mem=1MB",
                "--offer_constraints_re2_max_program_size=7",
            ],
            {},
        )
        self.assertEqual((), values.notes)
        self.assertEqual(1 << 20, values.offer_constraints_re2_max_mem)
        self.assertEqual(7, values.offer_constraints_re2_max_program_size)
        for name in ("max_mem", "max_program_size"):
            wrong = ["--work_dir=/w", f"--offer_constraints_re2_{name}=lots"]
            self.assertRaises(FlagError, master.FLAGS.parse, wrong, {})
