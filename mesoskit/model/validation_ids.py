"""What is an identifier, and what is a UUID.

Every C{validate_…} function of the C{validation_*} modules returns L{None} for what
is right, and for what is wrong the text that Mesos itself would put on the wire, in Mesos'
order where several things are wrong. They take messages as they came and change nothing.
"""

import re
from typing import Final

NAME_MAX: Final = 255
"""How many bytes an identifier may have: it becomes a directory's name."""

_VALID = re.compile(r"(?!\.\.?\Z)[^\x00-\x1f\x7f/\\]{1,255}\Z").match
_INVALID_CHARACTER = re.compile(r"[\x00-\x1f\x7f/\\]").search


def validate_id(value: str) -> str | None:
    """Say what is wrong with the text of any identifier (C{src/common/validation.cpp})."""
    if _VALID(value) and (value.isascii() or len(value.encode()) <= NAME_MAX):
        return None
    if not value:
        return "ID must not be empty"
    if len(value.encode()) > NAME_MAX:
        return f"ID must not be greater than {NAME_MAX} characters"
    if value in (".", ".."):
        return f"'{value}' is disallowed"
    if _INVALID_CHARACTER(value):
        return f"'{value}' contains invalid characters"
    return None


def validate_uuid(data: bytes) -> str | None:
    """
    Say whether 16 bytes are no UUID: their length and the version in them count
    (C{stout/uuid.hpp}, by way of Boost). All zeros are none.
    """
    if len(data) == 16 and 0x10 <= data[6] & 0xF0 <= 0x50:
        return None
    return "Not a valid UUID"
