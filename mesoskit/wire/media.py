"""The two media types of Mesos' v1 APIs: what a request may be in, and what it wants back.

C{Content-Type} is compared as it stands, so C{application/json; charset=utf-8} is none of
the two; C{Accept} is read more kindly (C{src/master/http.cpp} and
C{3rdparty/libprocess/src/http.cpp} of Apache Mesos).
"""

from collections.abc import Callable
from typing import Final, TypeVar

from google.protobuf.message import Message

from mesoskit.messages.codec import (
    Malformed,
    NotJson,
    decode_as,
    encode,
    from_json,
    in_ascii,
    to_json,
)

M = TypeVar("M", bound=Message)

JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"

NOT_ACCEPTABLE: Final = f"Expecting 'Accept' to allow '{PROTOBUF}' or '{JSON}'"
"""What is said with 406."""


class Unreadable(Exception):
    """
    A request's body is no message.

    @ivar status: of the answer, 400 or 415.
    @ivar why: its text, as Mesos words it.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(f"{why} ({status})")
        self.status = status
        self.why = why


def read(kind: type[M], content_type: str | None, body: bytes) -> M:
    """Return the message of class C{kind} in a request's body; raises L{Unreadable}."""
    name = kind.DESCRIPTOR.name
    if content_type == PROTOBUF:
        try:
            return decode_as(kind, body)
        except Malformed:
            raise Unreadable(400, f"Failed to parse body into {name} protobuf") from None
    if content_type == JSON:
        try:
            return from_json(kind, body)
        except NotJson as error:
            why = "Failed to parse body into JSON: " + error.reason.removeprefix("not JSON: ")
        except Malformed as error:
            why = f"Failed to convert JSON into {name} protobuf: {error.reason}"
        raise Unreadable(400, why)
    if content_type is None:
        raise Unreadable(400, "Expecting 'Content-Type' to be present")
    raise Unreadable(415, f"Expecting 'Content-Type' of {JSON} or {PROTOBUF}")


def preferred(accept: str | None) -> str | None:
    """
    Return what an answer is written in: JSON where both would do, L{None} where neither would.

    @param accept: the header, L{None} where there is none, which accepts anything.
    """
    for media in (JSON, PROTOBUF):
        if accepts(accept, media):
            return media
    return None


def accepts(accept: str | None, media: str) -> bool:
    """Say whether an C{Accept} header lets this type through, by itself or with a wildcard."""
    if accept is None:
        return True
    ranges = [each.split(";") for each in "".join(accept.split()).lower().split(",")]
    for candidate in (media, media.partition("/")[0] + "/*", "*/*"):
        for name, *parameters in ranges:
            if name == candidate:
                return _wanted(parameters)
    return False


def _wanted(parameters: list[str]) -> bool:
    """Say whether a range's q value, where it has one, is more than nothing."""
    weights = [each[2:] for each in parameters if each.startswith("q=")]
    if len(weights) != 1:
        return True
    try:
        return float(weights[0]) > 0
    except ValueError:
        return False


def to_ascii_json(message: Message) -> bytes:
    """
    Return Mesos' JSON of a message, in ASCII alone.

    Some clients count characters where they mean bytes.
    """
    return in_ascii(to_json(message))


WRITERS: Final[dict[str, Callable[[Message], bytes]]] = {JSON: to_ascii_json, PROTOBUF: encode}
"""What writes a message in either type; raises L{Malformed} for one that is incomplete."""
