"""Lengths of time as text, the way Mesos' flags and answers write them: C{5secs}, C{15mins}.

The syntax and the choice of units when printing are those of C{stout/duration.hpp}. Inside
mesoskit a duration is a float of seconds.
"""

import re
from typing import Final

NANOSECONDS_A_SECOND: Final = 1_000_000_000

UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "secs": 1_000_000_000,
    "mins": 60 * 1_000_000_000,
    "hrs": 3600 * 1_000_000_000,
    "days": 24 * 3600 * 1_000_000_000,
    "weeks": 7 * 24 * 3600 * 1_000_000_000,
}
"""The units, smallest first, in nanoseconds."""

LARGEST: Final = (1 << 63) - 1
"""The most nanoseconds that Mesos can hold, 292 years; the least is its negative minus one."""

_LEADING_NUMBER = re.compile(r"[0-9.]*")
_NUMBER = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)\Z")
_OUT_OF_RANGE: Final = (
    "Argument out of the range that a Duration can represent due to int64_t's size limit"
)


class InvalidDuration(ValueError):
    """A text or number is no length of time that Mesos knows; the message is Mesos' own."""


def parse_duration(text: str) -> float:
    """
    Return the seconds of a text such as C{"1.5hrs"}.

    The units are those of L{UNITS}, to be written right behind the number; there are no
    negative durations and no sums of several units.

    Raises L{InvalidDuration} with stout's text.
    """
    found = _LEADING_NUMBER.match(text)
    number, unit = (found.group(), text[found.end() :]) if found else ("", text)
    if not unit:
        raise InvalidDuration(f"Invalid duration '{text}'")
    if not _NUMBER.match(number):
        raise InvalidDuration(f"Failed to convert '{number}' to number")
    factor = UNITS.get(unit)
    if factor is None:
        raise InvalidDuration(
            f"Unknown duration unit '{unit}'; supported units are"
            " 'ns', 'us', 'ms', 'secs', 'mins', 'hrs', 'days', and 'weeks'"
        )
    nanoseconds = float(number) * factor
    if nanoseconds > LARGEST:
        raise InvalidDuration(_OUT_OF_RANGE)
    return int(nanoseconds) / NANOSECONDS_A_SECOND


def format_duration(seconds: float) -> str:
    """
    Return seconds as Mesos prints a duration.

    The unit is the largest that is not larger than the duration, or the next smaller one
    where only that gives a whole number: C{"10days"}, not C{"1.42857142857143weeks"}.

    Raises L{InvalidDuration} for NaN and for more than 292 years.
    """
    try:
        nanoseconds = round(seconds * NANOSECONDS_A_SECOND)
    except (ValueError, OverflowError):
        raise InvalidDuration(f"{_OUT_OF_RANGE}: {seconds}") from None
    if not -LARGEST - 1 <= nanoseconds <= LARGEST:
        raise InvalidDuration(f"{_OUT_OF_RANGE}: {seconds}")
    sign, nanoseconds = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    names = [name for name, factor in UNITS.items() if factor <= nanoseconds] or ["ns"]
    unit = names[-1]
    if nanoseconds % UNITS[unit] and nanoseconds % UNITS[names[-2]] == 0:
        unit = names[-2]
    return f"{sign}{nanoseconds / UNITS[unit]:.15g}{unit}"
