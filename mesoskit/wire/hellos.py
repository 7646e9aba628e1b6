"""Hellos: what each side says of itself first, and what is wrong with a peer's."""

from collections.abc import Collection
from typing import Final

from mesoskit.messages.stream_pb2 import Hello as WireHello
from mesoskit.messages.stream_pb2 import Purpose, Role
from mesoskit.wire.link import Hello

#: The version of the native stream that is spoken here.
VERSION: Final = 1

# Each of the strings in a hello, in characters.
_LONGEST_TEXT: Final = 4096

_ROLES: Final[dict[int, str]] = {number: name.lower() for name, number in Role.items()}


class HelloRefused(Exception):
    """
    A peer's hello will not do.

    @ivar kind: of error, for the counters.
    @ivar why: what is told to the peer.
    @ivar status: of what kind, as in HTTP; 0 for none.
    """

    def __init__(self, kind: str, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.kind = kind
        self.why = why
        self.status = status


def role_name(role: int) -> str:
    """Return how a role is called in texts for people."""
    return _ROLES.get(role, f"role {role}")


def to_wire(hello: Hello, heartbeat: float) -> WireHello:
    """Return our hello; C{heartbeat} is the span in seconds that we announce."""
    return WireHello(
        version=VERSION,
        role=hello.role,  # type: ignore[arg-type]
        software=hello.software,
        epoch=hello.epoch,
        heartbeat_ms=max(1, int(heartbeat * 1000)),
        token=hello.token,
        instance=hello.instance,
        authenticates=hello.authenticates or None,
        purpose=hello.purpose or None,  # type: ignore[arg-type]
        bulk=hello.bulk or None,
    )


def from_wire(
    hello: WireHello,
    accept: Collection[int] | None,
    longest_heartbeat: float,
    purposes: Collection[int] = (0,),
) -> tuple[Hello, float]:
    """
    Return what a peer says of itself, and the span in seconds that it announces.

    Raises L{HelloRefused}.

    @param accept: the roles that it may have; L{None} for any known one.
    @param longest_heartbeat: the longest span that it may announce, in seconds.
    @param purposes: what a link may be for.
    """
    if hello.version != VERSION:
        raise HelloRefused("version", f"version {hello.version} is not spoken here, only {VERSION}")
    # A number that is not among ours vanishes in protobuf, and the role is absent.
    role = int(hello.role)
    if role == Role.UNKNOWN:
        raise HelloRefused("role", "the hello names no role that is known here")
    if accept is not None and role not in accept:
        wanted = ", ".join(map(role_name, sorted(accept)))
        raise HelloRefused("role", f"role {role_name(role)} is not accepted here, only: {wanted}")
    purpose = int(hello.purpose)
    if purpose not in purposes:
        name = Purpose.Name(hello.purpose).lower()
        raise HelloRefused("purpose", f"no {name} link is taken here")
    span = hello.heartbeat_ms / 1000
    if not 0 < span <= longest_heartbeat:
        raise HelloRefused(
            "heartbeat",
            f"heartbeats every {span:g} s; over 0, up to {longest_heartbeat:g} will do",
        )
    token = hello.token if hello.HasField("token") else None
    for text in (hello.software, hello.instance, token or ""):
        # What is not UTF-8 comes out of protobuf as bytes.
        if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
            raise HelloRefused(
                "hello", f"a string in the hello is no text of up to {_LONGEST_TEXT} letters"
            )
    ours = Hello(
        role,
        hello.software,
        hello.epoch,
        token,
        hello.instance,
        hello.authenticates,
        purpose,
        hello.bulk,
    )
    return ours, span
