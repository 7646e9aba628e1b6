"""What operators write in place of a whole id."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

from mesoskit.cli.asking import CannotBeDone

T = TypeVar("T")

MOST_SHOWN: Final = 10
"""How many of those that are meant alike are named."""


def meant(text: str, known: Mapping[str, T], names: Mapping[str, Iterable[str]], what: str) -> T:
    """
    Return what is meant by an id, its end behind a C{-}, its beginning, or another name.

    A whole id is believed at once. Of the rest all count alike, for what is meant by mistake may
    be ended by it. Raises L{CannotBeDone} where there is none, or more than one.

    @param known: by id.
    @param names: other names, such as host names, and the ids that have them.
    @param what: a word for it.
    """
    if text in known:
        return known[text]
    found = candidates(text, known, names)
    if not found:
        raise CannotBeDone(f"no {what} is meant by {text!r}")
    if len(found) > 1:
        shown = ", ".join(found[:MOST_SHOWN]) + (" ..." if len(found) > MOST_SHOWN else "")
        raise CannotBeDone(f"{len(found)} {what}s are meant by {text!r}: {shown}")
    return known[found[0]]


def candidates(
    text: str, known: Iterable[str], names: Mapping[str, Iterable[str]]
) -> Sequence[str]:
    """Return the ids that a text may mean."""
    if not text:
        return []
    found = [one for one in known if one.startswith(text) or one.endswith(f"-{text}")]
    return sorted({*found, *names.get(text, ())})
