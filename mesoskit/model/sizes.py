"""Amounts of memory and disk as text: C{4KB}, C{2GB}.

The syntax is that of C{stout/bytes.hpp}: a whole number, then C{B}, C{KB}, C{MB}, C{GB} or C{TB}
in any case; a kilobyte has 1024 bytes. Inside mesoskit a size is an int of bytes.
"""

import re
from typing import Final

UNITS: Final = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
"""The units, smallest first, in bytes."""

LARGEST: Final = (1 << 64) - 1

_LEADING_DIGITS = re.compile(r"[0-9]*")


class InvalidSize(ValueError):
    """A text or number is no size; the message is the one Mesos has for it."""


def parse_size(text: str) -> int:
    """
    Return the bytes of a text such as C{"16MB"}.

    Raises L{InvalidSize} with stout's text; also for more than 64 bits of bytes, where Mesos
    wraps around in silence.
    """
    found = _LEADING_DIGITS.match(text)
    number, unit = (found.group(), text[found.end() :]) if found else ("", text)
    if unit.startswith("."):
        raise InvalidSize(f"Fractional bytes '{text}'")
    if not unit:
        raise InvalidSize(f"Invalid bytes '{text}'")
    if not 0 < len(number) < 64:
        raise InvalidSize(f"Failed to convert '{number}' to number")
    factor = UNITS.get(unit.upper())
    if factor is None:
        raise InvalidSize(f"Unknown bytes unit '{unit.upper()}'")
    size = int(number) * factor
    if size > LARGEST:
        raise InvalidSize(f"Failed to convert '{text}' to bytes: more than 64 bits can hold")
    return size


def format_size(size: int) -> str:
    """Return bytes in the largest unit that loses nothing: C{"1536KB"}, C{"0B"}."""
    if size < 0:
        raise InvalidSize(f"a size cannot be negative, and {size} is")
    if not size:
        return "0B"
    unit = [name for name, factor in UNITS.items() if size % factor == 0][-1]
    return f"{size // UNITS[unit]}{unit}"
