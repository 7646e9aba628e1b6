"""Values of resources and attributes: scalars, ranges, sets and text.

A scalar is a whole number of thousandths here, because Mesos keeps three decimals and no
more (C{src/common/values.cpp}): sums of such numbers never drift. A ranges value is a tuple
of (begin, end) pairs, both ends included, sorted, with neither overlaps nor neighbours. A set
is a L{frozenset} of strings.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final, TypeAlias

Ranges: TypeAlias = tuple[tuple[int, int], ...]

SCALAR: Final = 0
"""The number of C{Value.Type} for a scalar; its kin follow."""
RANGES: Final = 1
SET: Final = 2
TEXT: Final = 3

LARGEST_UINT64: Final = (1 << 64) - 1
_BEYOND: Final = 1 << 64
_SMALLEST_NORMAL: Final = 2.2250738585072014e-308

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
_INTEGER = re.compile(r"\+?[0-9]+\Z")
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]+\Z")
_BRACKETS: Final = ("{}", "[]", "()")


class InvalidValue(ValueError):
    """A text is not a value; the message is the one Mesos has for it."""


def thousandths(value: float) -> int:
    """
    Return a scalar's thousandths, halves rounded away from zero as C's C{llround} does.

    Raises L{ValueError} for NaN and L{OverflowError} for infinities.
    """
    scaled = value * 1000
    whole = int(scaled)
    # The difference of a double and its integer part is exact, unlike scaled + 0.5.
    rest = scaled - whole
    if rest >= 0.5:
        return whole + 1
    if rest <= -0.5:
        return whole - 1
    return whole


def from_thousandths(value: int) -> float:
    """Return the float of a number of thousandths; bit for bit the one that Mesos sends."""
    if value < 0:
        return -from_thousandths(-value)
    quotient, remainder = divmod(value, 1000)
    # Not value / 1000, which may differ in the last bit from what Mesos computes.
    return float(quotient) + remainder / 1000.0


def double_text(value: float) -> str:
    """Return a float with up to 15 significant digits, the way Mesos prints one."""
    return f"{value:.15g}"


def scalar_text(value: int) -> str:
    """Return the text of a number of thousandths, C{"1.5"} for 1500."""
    return double_text(from_thousandths(value))


def ranges_text(ranges: Iterable[tuple[int, int]]) -> str:
    """Return C{"[1-4, 7-9]"}."""
    return "[" + ", ".join(f"{begin}-{end}" for begin, end in ranges) + "]"


def set_text(items: Iterable[str]) -> str:
    """Return C{"{a, b}"}; the caller settles the order."""
    return "{" + ", ".join(items) + "}"


def value_text(kind: int, value: Any) -> str:
    """Return a value as Mesos prints it; a set in alphabetical order."""
    if kind == SCALAR:
        return scalar_text(value)
    if kind == RANGES:
        return ranges_text(value)
    return set_text(sorted(value))


def coalesced(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sort ranges and join those that overlap or touch; empty ones (begin > end) are dropped."""
    result: list[tuple[int, int]] = []
    last = -2
    for begin, end in sorted(ranges):
        if begin > end:
            continue
        if begin <= last + 1:
            if end > last:
                result[-1] = (result[-1][0], end)
                last = end
        else:
            result.append((begin, end))
            last = end
    return tuple(result)


def overlapping(ranges: Iterable[tuple[int, int]]) -> bool:
    """Tell whether two of these ranges have a number in common."""
    return any(left[1] >= right[0] for left, right in pairwise(sorted(ranges)))


def ranges_count(ranges: Ranges) -> int:
    """Return how many numbers there are in the ranges."""
    return sum([end - begin for begin, end in ranges]) + len(ranges)


def ranges_union(left: Ranges, right: Ranges) -> Ranges:
    """Return the numbers that are in either."""
    if len(right) > 8:
        return coalesced(left + right)
    result = list(left)
    for begin, end in right:
        first = bisect_left(result, (begin,))
        if first and result[first - 1][1] >= begin - 1:
            first -= 1
            begin = result[first][0]
        last = first
        while last < len(result) and result[last][0] <= end + 1:
            end = max(end, result[last][1])
            last += 1
        result[first:last] = ((begin, end),)
    return tuple(result)


def ranges_contain(left: Ranges, right: Ranges) -> bool:
    """Tell whether every number of C{right} is in C{left}."""
    for begin, end in right:
        at = bisect_right(left, (begin, _BEYOND)) - 1
        if at < 0 or left[at][1] < end:
            return False
    return True


def ranges_taken(left: Ranges, right: Ranges) -> Ranges | None:
    """Return C{left} without C{right}, or L{None} where C{left} does not contain all of it."""
    result = list(left)
    for begin, end in right:
        at = bisect_right(result, (begin, _BEYOND)) - 1
        if at < 0:
            return None
        low, high = result[at]
        if high < end:
            return None
        if low == begin:
            if high == end:
                del result[at]
            else:
                result[at] = (end + 1, high)
        elif high == end:
            result[at] = (low, begin - 1)
        else:
            result[at : at + 1] = ((low, begin - 1), (end + 1, high))
    return tuple(result)


def ranges_difference(left: Ranges, right: Ranges) -> Ranges:
    """Return the numbers of C{left} that are not in C{right}."""
    result: list[tuple[int, int]] = []
    cuts = iter(right)
    cut = next(cuts, None)
    for begin, end in left:
        while cut is not None and cut[1] < begin:
            cut = next(cuts, None)
        while cut is not None and cut[0] <= end:
            if cut[0] > begin:
                result.append((begin, cut[0] - 1))
            begin = cut[1] + 1
            if begin > end:
                break
            cut = next(cuts, None)
        if begin <= end:
            result.append((begin, end))
    return tuple(result)


def parse_value(text: str) -> tuple[int, Any]:
    """
    Read a value in the syntax of C{--resources} and C{--attributes}.

    Blanks do not count. C{"[1-4,7-9]"} are ranges, C{"{a,b}"} is a set, a number that is
    finite and not negative is a scalar, everything else is text.

    @return: the kind (L{SCALAR}, L{RANGES}, L{SET} or L{TEXT}) and the value: a float, a tuple
        of pairs (joined, unless one of them is inverted), a tuple of strings as they came, or
        the text without its blanks.
    @raise InvalidValue: with the text of C{internal::values::parse} in C{src/common/values.cpp}.
    """
    text = text.replace(" ", "")
    if not text:
        raise InvalidValue("Expecting non-empty string")
    if not all(_balanced(text, *pair) for pair in _BRACKETS):
        raise InvalidValue("Mismatched brackets")
    if "[" in text:
        if not text.startswith("["):
            raise InvalidValue("Unexpected '[' found")
        return RANGES, _parse_ranges(text)
    if "{" in text:
        if not text.startswith("{"):
            raise InvalidValue("Unexpected '{' found")
        return SET, tuple(item for item in re.split(r"[{},\n]", text) if item)
    number = _parse_scalar(text)
    return (TEXT, text) if number is None else (SCALAR, number)


def _balanced(text: str, opening: str, closing: str) -> bool:
    """Tell whether brackets of one sort open before they close, and all of them close."""
    depth = 0
    for character in text:
        if character == opening:
            depth += 1
        elif character == closing:
            depth -= 1
            if depth < 0:
                return False
    return depth == 0


def _parse_ranges(text: str) -> tuple[tuple[int, int], ...]:
    tokens = [token for token in re.split(r"[\[\]\-,\n]", text) if token]
    if len(tokens) % 2:
        raise InvalidValue('Expecting one or more "ranges"')
    pairs = []
    for begin, end in zip(tokens[::2], tokens[1::2], strict=True):
        numbers = _parse_uint64(begin), _parse_uint64(end)
        if numbers[0] is None or numbers[1] is None:
            raise InvalidValue(f"Expecting non-negative integers in '{begin}'")
        pairs.append((numbers[0], numbers[1]))
    if any(first > last for first, last in pairs):
        # Left as they are, for the caller to say what is wrong with them.
        return tuple(pairs)
    return coalesced(pairs)


def _parse_uint64(text: str) -> int | None:
    if len(text) > 64:
        return None
    if _INTEGER.match(text):
        number = int(text)
    elif _HEXADECIMAL.match(text):
        number = int(text, 16)
    else:
        return None
    return number if number <= LARGEST_UINT64 else None


def _parse_scalar(text: str) -> float | None:
    """Return a number that can be a scalar, or L{None} where the text must be taken as text."""
    if not _NUMBER.match(text):
        return None
    number = float(text)
    if 0 < abs(number) < _SMALLEST_NORMAL:
        raise InvalidValue("Subnormal values not supported")
    if number < 0 or number == float("inf"):
        return None
    return number
