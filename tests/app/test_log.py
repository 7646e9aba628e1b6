"""Tests of L{mesoskit.app.log}."""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, formatEventAsClassicLogText, globalLogPublisher
from twisted.python.failure import Failure

from mesoskit.app.log import ClassicText, logs_as_twistd_does, logs_to, observer
from mesoskit.web.verbosity import VERBOSITY
from tests.base import SynchronousTestCase


class Unspeakable:
    """Cannot be told."""

    def __str__(self) -> str:
        raise ValueError("no words")

    __repr__ = __str__


_FORMATS = st.sampled_from(
    [
        "{peer} is here",
        "{peer!r:>20} and {count:05d}",
        "{call()} and {count}",
        "{peer[0]}",
        "{missing}",
        "two\nlines of {peer}",
        "{{}} {count}",
        "{",
        "{}",
        "",
        "nothing to fill in",
    ]
)
_VALUES = st.one_of(st.text(), st.integers(), st.none(), st.builds(Unspeakable))


def event(form: Any, moment: float = 1.5e9, **fields: Any) -> dict[str, Any]:
    """Return an event as a logger makes it."""
    return {
        "log_format": form,
        "log_namespace": "mesoskit.wire",
        "log_level": LogLevel.info,
        "log_time": moment,
        **fields,
    }


class Lines(SynchronousTestCase):
    """The lines are Twisted's own."""

    @given(_FORMATS, _VALUES, _VALUES, st.lists(st.floats(0, 2e9), min_size=1, max_size=4))
    def test_lines_are_those_of_twisted(
        self, form: str, peer: Any, count: Any, moments: list[float]
    ) -> None:
        text = ClassicText()
        for moment in [*moments, *moments]:
            one = event(form, moment, peer=peer, count=count, call=lambda: "called")
            ours, theirs = text(dict(one)), formatEventAsClassicLogText(dict(one))
            if ours is not None and "UNFORMATTABLE" not in str(theirs):
                if "Unable to format event" in ours:
                    # Both tell the same of it, in an order of their own.
                    self.assertIn("Unable to format event", str(theirs))
                else:
                    self.assertEqual(ours, theirs)
            else:
                self.assertEqual(ours is None, theirs is None)

    def test_failures_and_systems_are_told_as_ever(self) -> None:
        text = ClassicText()
        try:
            raise RuntimeError("broken")
        except RuntimeError:
            failure = Failure()
        for more in (
            {"log_failure": failure},
            {"log_system": "HTTPChannel,1"},
            {"log_level": None},
        ):
            one = event("{peer} did it", peer="somebody") | more
            self.assertEqual(text(dict(one)), formatEventAsClassicLogText(dict(one)))

    def test_format_that_is_no_text_goes_the_long_way(self) -> None:
        for form in (None, b"{peer}", 3):
            one = event(form, peer="somebody")
            self.assertEqual(ClassicText()(dict(one)), formatEventAsClassicLogText(dict(one)))

    def test_lines_of_a_second_share_their_time(self) -> None:
        text = ClassicText()
        first, second, third = (text(event("x", moment)) for moment in (10.1, 10.9, 11.0))
        self.assertEqual(first, second)
        self.assertNotEqual(first, third)


class Choosing(SynchronousTestCase):
    """Whose lines they are."""

    def test_logger_that_the_user_named_stays(self) -> None:
        options = {"logger": "somebody.else"}
        logs_as_twistd_does(options)
        self.assertEqual(options["logger"], "somebody.else")

    def test_twistd_is_told_a_name_that_it_can_import(self) -> None:
        options: dict[str, Any] = {"logger": None}
        logs_as_twistd_does(options)
        self.assertEqual(options["logger"], "mesoskit.app.log.observer")

    def logged(self, level: str, quiet: bool, **more: Any) -> str:
        """Return what is in twistd's log of an information and a warning."""
        path = self.mktemp()
        options: dict[str, Any] = {"logfile": path, "nodaemon": True, "syslog": False, **more}
        logs_as_twistd_does(options, level, quiet)
        logger = Logger(observer=observer())
        logger.info("all is well")
        logger.warn("not all is well")
        return Path(path).read_text() if Path(path).exists() else ""

    def test_level_is_the_least_that_is_logged(self) -> None:
        for level, count in (("INFO", 2), ("WARNING", 1), ("ERROR", 0)):
            self.assertEqual(self.logged(level, False).count("all is well"), count, level)

    def test_toggled_daemon_logs_everything_for_a_while(self) -> None:
        clock = Clock()
        VERBOSITY.set(1, 60.0, clock)
        self.addCleanup(VERBOSITY.set, 0, 0.0, clock)
        self.assertEqual(self.logged("ERROR", False).count("all is well"), 2)
        clock.advance(61)
        self.assertEqual(self.logged("ERROR", False).count("all is well"), 0)

    def test_quiet_daemon_says_nothing_to_the_terminal(self) -> None:
        said = StringIO()
        self.patch(sys, "stdout", said)
        self.assertEqual(self.logged("INFO", True, logfile=None), "")
        self.assertEqual(said.getvalue(), "")

    def test_quiet_daemon_with_a_log_file_writes_it(self) -> None:
        self.assertEqual(self.logged("INFO", True).count("all is well"), 2)


class Directories(SynchronousTestCase):
    """A log in a directory, besides whatever else is logged to."""

    def test_what_is_bad_enough_is_in_the_file(self) -> None:
        path = Path(self.mktemp()) / "new" / "mesos-master.INFO"
        for level, kept in (("INFO", "one\ntwo"), ("WARNING", "two")):
            logs = logs_to(str(path), level)
            log = Logger(namespace="mesoskit.tests")
            log.info("one")
            log.warn("two")
            log.debug("three")
            globalLogPublisher.removeObserver(logs)
            said = [line.rpartition("] ")[2] for line in path.read_text().splitlines()]
            self.assertEqual(kept.split(), said)
            path.unlink()

    def test_directory_that_cannot_be_is_an_error(self) -> None:
        path = Path(self.mktemp())
        path.write_text("")
        self.assertRaises(OSError, logs_to, str(path / "mesos-master.INFO"))
