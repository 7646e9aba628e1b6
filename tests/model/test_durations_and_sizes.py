"""Lengths of time and amounts of memory as text."""

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.model.durations import InvalidDuration, format_duration, parse_duration
from mesoskit.model.sizes import InvalidSize, format_size, parse_size
from tests.base import SynchronousTestCase


class DurationTests(SynchronousTestCase):
    """C{5secs} and its kin."""

    def test_every_unit_is_read(self):
        for text, seconds in (
            ("5secs", 5.0),
            ("15mins", 900.0),
            ("1hrs", 3600.0),
            ("100ms", 0.1),
            ("2weeks", 14 * 86400.0),
            ("3days", 3 * 86400.0),
            ("250ns", 250e-9),
            ("7us", 7e-6),
            ("1.5mins", 90.0),
            (".5secs", 0.5),
            ("0ns", 0.0),
        ):
            self.assertEqual(parse_duration(text), seconds, text)

    def test_wrong_texts_are_told_in_stouts_words(self):
        units = "supported units are 'ns', 'us', 'ms', 'secs', 'mins', 'hrs', 'days', and 'weeks'"
        for text, error in (
            ("", "Invalid duration ''"),
            ("5", "Invalid duration '5'"),
            ("5s", f"Unknown duration unit 's'; {units}"),
            ("5 secs", f"Unknown duration unit ' secs'; {units}"),
            ("5secs1ms", f"Unknown duration unit 'secs1ms'; {units}"),
            ("secs", "Failed to convert '' to number"),
            ("-5secs", "Failed to convert '' to number"),
            ("1.2.3secs", "Failed to convert '1.2.3' to number"),
            (
                "20000weeks",
                (
                    "Argument out of the range that a Duration can represent due to int64_t's"
                    " size limit"
                ),
            ),
        ):
            raised = self.assertRaises(InvalidDuration, parse_duration, text)
            self.assertEqual(str(raised), error)

    def test_the_unit_is_the_largest_that_reads_well(self):
        for seconds, text in (
            (0, "0ns"),
            (5, "5secs"),
            (60, "1mins"),
            (90, "90secs"),
            (75.25, "1.25416666666667mins"),
            (900, "15mins"),
            (3600, "1hrs"),
            (5400, "90mins"),
            (86400, "1days"),
            (10 * 86400, "10days"),
            (14 * 86400, "2weeks"),
            (0.1, "100ms"),
            (1.5, "1500ms"),
            (1.0005, "1.0005secs"),
            (0.0000005, "500ns"),
            (0.0000015, "1500ns"),
            (0.000007, "7us"),
            (0.0015, "1500us"),
            (0.0015005, "1.5005ms"),
            (-5, "-5secs"),
        ):
            self.assertEqual(format_duration(seconds), text)

    def test_what_mesos_cannot_hold_is_refused(self):
        for seconds in (float("nan"), float("inf"), 1e10, -1e10):
            self.assertRaises(InvalidDuration, format_duration, seconds)

    @given(st.integers(0, 10**12))
    def test_whole_milliseconds_come_back(self, milliseconds):
        seconds = milliseconds / 1000
        again = parse_duration(format_duration(seconds))
        # Printing keeps 15 digits, and reading cuts off what is below a nanosecond.
        self.assertApproximates(again, seconds, max(2e-9, seconds * 1e-13))


class SizeTests(SynchronousTestCase):
    """C{4KB} and its kin."""

    def test_every_unit_is_read(self):
        for text, size in (
            ("0B", 0),
            ("10B", 10),
            ("4KB", 4096),
            ("2mb", 2 << 20),
            ("3Gb", 3 << 30),
            ("1TB", 1 << 40),
        ):
            self.assertEqual(parse_size(text), size)

    def test_wrong_texts_are_told_in_stouts_words(self):
        for text, error in (
            ("", "Invalid bytes ''"),
            ("5", "Invalid bytes '5'"),
            ("1.5KB", "Fractional bytes '1.5KB'"),
            ("KB", "Failed to convert '' to number"),
            ("-1KB", "Failed to convert '' to number"),
            ("5k", "Unknown bytes unit 'K'"),
            ("5 KB", "Unknown bytes unit ' KB'"),
        ):
            raised = self.assertRaises(InvalidSize, parse_size, text)
            self.assertEqual(str(raised), error)
        self.assertRaises(InvalidSize, parse_size, "99999999TB")
        self.assertRaises(InvalidSize, parse_size, "9" * 10_000 + "B")
        self.assertRaises(InvalidSize, format_size, -1)

    @given(st.integers(0, 2**64 - 1))
    def test_sizes_come_back(self, size):
        self.assertEqual(parse_size(format_size(size)), size)

    def test_the_unit_loses_nothing(self):
        self.assertEqual(format_size(1536 * 1024), "1536KB")
        self.assertEqual(format_size(1 << 30), "1GB")
        self.assertEqual(format_size(1025), "1025B")
