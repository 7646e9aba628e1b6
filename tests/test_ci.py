"""What CI says of tests that were skipped, or have failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.base import SynchronousTestCase

CHECKOUT = Path(__file__).parent.parent
SKIPS = CHECKOUT / ".ci" / "skips.py"
LIST = CHECKOUT / ".ci" / "skips"
FAILURES = CHECKOUT / ".ci" / "failures.py"

LOG = """
===============================================================================
[SKIPPED]
{reason}

tests.agent.test_it.Tests.test_one
tests.agent.test_it.Tests.test_two
===============================================================================
[SKIPPED]
no cgroups of version 1

tests.agent.test_it.Tests.test_three
-------------------------------------------------------------------------------
Ran 9 tests in 1.0s

PASSED (skips=3, successes=6)
"""

MODULE = """
from unittest import SkipTest, TestCase
class Tests(TestCase):
    def test_one(self): raise SkipTest("dockerd does not run here: a\\n\\nb")
    def test_two(self): raise SkipTest("dockerd does not run here: a\\n\\nb")
    def test_three(self): self.skipTest("for no good reason")
"""


class SkipsTests(SynchronousTestCase):
    """Whether they are taken, and what is printed."""

    def say(self, log: str, *options: str) -> tuple[int, str]:
        path = Path(self.mktemp())
        path.write_text(log)
        done = subprocess.run(
            [sys.executable, SKIPS, *options, path, LIST],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual("", done.stderr)
        return done.returncode, done.stdout

    def test_reasons_that_the_list_names_are_taken_and_printed(self) -> None:
        status, said = self.say(LOG.format(reason="mounting is not allowed here"))
        self.assertEqual(
            (0, "skipped 2: mounting is not allowed here\nskipped 1: no cgroups of version 1\n"),
            (status, said),
        )
        status, _ = self.say(
            LOG.format(reason="dockerd does not run here: x\n\nmount: operation not permitted\n")
        )
        self.assertEqual(0, status)

    def test_others_are_not(self) -> None:
        for reason in (
            "only root can isolate",
            "not installed: runc",
            "mounting is not allowed here today",
            "dockerd does not run here: no such option",
        ):
            status, said = self.say(LOG.format(reason=reason))
            self.assertEqual(1, status, reason)
            self.assertIn("does not name that reason: tests.agent.test_it.Tests.test_one", said)

    def test_what_cannot_be_installed_is_taken_where_that_is_so(self) -> None:
        for reason in (
            "not installed: runc, skopeo",
            "gsasl is not installed; make deps installs it",
            "needs Debian's packages docker.io and busybox-static: make deps",
        ):
            status, _ = self.say(LOG.format(reason=reason), "--without-packages")
            self.assertEqual(0, status, reason)

    def test_nothing_skipped_is_nothing_to_say(self) -> None:
        self.assertEqual((0, ""), self.say("Ran 9 tests in 1.0s\n\nPASSED (successes=9)\n"))

    def test_what_trial_prints_is_understood(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "test_of_ci.py").write_text(MODULE)
        done = subprocess.run(
            [sys.executable, "-m", "twisted.trial", "test_of_ci"],
            capture_output=True,
            text=True,
            cwd=directory,
            check=False,
        )
        status, said = self.say(done.stdout)
        self.assertEqual(1, status)
        self.assertIn("skipped 2: dockerd does not run here: a\n", said)
        self.assertIn("skipped 1: for no good reason\n", said)


FAILING = """
import os
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
class Tests(TestCase):
    def test_one(self): self.fail("the same")
    def test_two(self): self.fail("the same")
    def test_three(self):
        self.addCleanup(lambda: 1 / 0)
        self.fail()
    def test_four(self): pass
"""


class FailuresTests(SynchronousTestCase):
    """Which tests have failed, by what trial has printed."""

    def names(self, module: str, most: int = 3, *options: str) -> list[str]:
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "test_of_ci.py").write_text(module)
        done = subprocess.run(
            [sys.executable, "-m", "twisted.trial", *options, "test_of_ci"],
            capture_output=True,
            text=True,
            cwd=directory,
            check=False,
        )
        log = directory / "log"
        log.write_text(done.stdout)
        said = subprocess.run(
            [sys.executable, FAILURES, log, str(most)], capture_output=True, text=True, check=False
        )
        self.assertEqual((0, ""), (said.returncode, said.stderr), done.stdout)
        return said.stdout.split()

    def test_each_is_named_once(self) -> None:
        names = [f"test_of_ci.Tests.test_{number}" for number in ("one", "three", "two")]
        self.assertEqual(names, sorted(self.names(FAILING)))
        self.assertEqual(names, sorted(self.names(FAILING, 3, "-j2")))

    def test_many_are_not_named(self) -> None:
        self.assertEqual([], self.names(FAILING, most=2))

    def test_what_is_no_test_is_not_taken_for_one(self) -> None:
        self.assertEqual([], self.names("import nothing_of_that_name\n"))
        self.assertEqual([], self.names(FAILING + "1 / 0\n"))

    def test_nothing_failed_is_nothing_to_name(self) -> None:
        self.assertEqual([], self.names(FAILING.split("    def test_one")[0] + "    pass\n"))
