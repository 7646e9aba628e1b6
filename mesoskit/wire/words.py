"""The words of refusals and errors: for people, so not too many of them, and always text."""

from typing import Final

LONGEST_TEXT: Final = 4096
"""Of a refusal, in characters; the rest is cut off."""

LONGEST_ERROR: Final = 1024
"""Of an error."""


def heard(value: str | bytes, longest: int) -> str:
    """Return what a peer said, as text and not too much of it."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return text[:longest]


def sayable(text: str, longest: int) -> str:
    """Return our own words as protobuf can carry them: not too many, and no lone surrogates."""
    return text[:longest].encode(errors="replace").decode()
