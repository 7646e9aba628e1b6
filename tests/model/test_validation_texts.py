"""Every text of Mesos' validation: each has a message that brings it about, and none is made up."""

import re
from pathlib import Path

from tests.base import SynchronousTestCase
from tests.model import texts_agent, texts_call, texts_operation, texts_task
from tests.model.texts_task import Row

TEXTS = Path(__file__).parent.parent / "data" / "texts_validation.txt"

ROWS: list[Row] = [
    *texts_task.ROWS,
    *texts_call.ROWS,
    *texts_agent.ROWS,
    *texts_operation.ROWS,
]


def pattern(line: str) -> re.Pattern[str]:
    """Return what matches the texts that a line describes."""
    return re.compile(".*".join(map(re.escape, line.split("…"))), re.DOTALL)


def listed() -> list[tuple[str, str]]:
    """Return the (section, text) pairs of the list."""
    lines = TEXTS.read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t", 1) for line in lines if not line.startswith("#")]
    return [(section, text) for section, text in pairs]


class TextsTests(SynchronousTestCase):
    """The list of texts and what is really said."""

    def test_what_is_wrong_is_told_in_mesos_words(self):
        for section, said, expected in ROWS:
            self.assertEqual(said, expected, section)

    def test_every_text_of_the_list_is_brought_about(self):
        for section, text in listed():
            like = pattern(text)
            self.assertTrue(
                any(row[0] == section and like.fullmatch(row[1] or "") for row in ROWS),
                f"nothing brings about: {section}: {text}",
            )

    def test_every_text_said_is_on_the_list(self):
        patterns = [(section, pattern(text)) for section, text in listed()]
        for section, said, _ in ROWS:
            self.assertTrue(
                any(section == where and like.fullmatch(said or "") for where, like in patterns),
                f"not on the list: {section}: {said}",
            )
