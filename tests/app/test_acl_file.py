"""ACLs in a file that changes under a daemon."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from mesoskit.app.acl_file import INTERVAL, FileAuthorizer
from mesoskit.model.authorization import Action, Thing
from mesoskit.model.authorization_text import AclError
from tests.base import SynchronousTestCase

NOTHING = '{"permissive": false}'
FLAGS = (
    '{"permissive": false,'
    ' "view_flags": [{"principals": {"values": ["p"]}, "flags": {"type": "ANY"}}]}'
)


class FileTests(SynchronousTestCase):
    """One file, which an operator edits."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.write_text(FLAGS)
        self.path.chmod(0o644)
        self.clock = Clock()
        self.authorizer = FileAuthorizer(str(self.path), self.clock.seconds)

    def may(self) -> bool:
        return self.authorizer.allows("p", Action.VIEW_FLAGS, Thing())

    def logged(self) -> list[str]:
        """Let the time pass, ask, and return what that has the log say."""
        with capturedLogs() as seen:
            self.clock.advance(INTERVAL)
            self.may()
            self.authorizer.prepare("p")
        return [str(formatEvent(one)) for one in seen]

    def test_right_that_was_taken_away_is_gone_without_a_restart(self) -> None:
        self.assertTrue(self.may())
        self.path.write_text(NOTHING)
        said = self.logged()
        self.assertFalse(self.may())
        self.assertEqual([f"The ACLs in {self.path} have changed and were read again"], said)
        self.assertEqual([], self.logged())

    def test_whoever_comes_has_it_looked_at_too(self) -> None:
        self.path.write_text(NOTHING)
        self.clock.advance(INTERVAL)
        self.authorizer.prepare(None)
        self.path.write_text(FLAGS)
        self.assertFalse(self.may())

    def test_file_is_not_looked_at_with_each_question(self) -> None:
        self.path.write_text(NOTHING)
        self.clock.advance(INTERVAL / 2)
        self.assertTrue(self.may())

    def test_file_of_no_use_is_named_once_and_the_rules_of_before_count(self) -> None:
        for text, mode, part in (
            ('{\n"view_flag": []}', 0o644, f"{self.path}, line 2: there is no list of ACLs"),
            (NOTHING, 0o666, "everybody may write it"),
        ):
            self.path.write_text(text)
            self.path.chmod(mode)
            (said,) = self.logged()
            self.assertTrue(said.startswith("The ACLs of before go on to count: "), said)
            self.assertIn(part, said)
            self.assertEqual([], self.logged())
            self.assertTrue(self.may())
        self.path.unlink()
        (said,) = self.logged()
        self.assertIn("No such file", said)
        self.assertTrue(self.may())
        self.path.write_text(NOTHING)
        self.logged()
        self.assertFalse(self.may())

    def test_file_that_is_wrong_at_the_start_is_refused(self) -> None:
        self.path.write_bytes(b"{\n\xff}")
        error = self.assertRaises(AclError, FileAuthorizer, str(self.path), self.clock.seconds)
        self.assertEqual(f"{self.path}, line 2: is not UTF-8 text", str(error))
