"""What came on a link that is held: kept in order until somebody wants to hear it."""

from collections.abc import Iterator

from mesoskit.messages.stream_pb2 import Item


class Backlog:
    """
    The rest of what was read before reading stopped: little more than one read and one frame.

    @ivar items: those of a frame that was begun.
    @ivar payloads: frames of the bytes that were being cut.
    @ivar data: bytes that came all the same: TLS hands out what it has decrypted already.
    """

    __slots__ = ("data", "items", "payloads")

    def __init__(self) -> None:
        self.items: Iterator[Item] | None = None
        self.payloads: Iterator[bytes] | None = None
        self.data: list[bytes] = []

    @property
    def empty(self) -> bool:
        """Whether nothing is kept."""
        return self.items is None and self.payloads is None and not self.data

    def follow(self, rest: "Backlog") -> None:
        """Put C{rest} behind what is kept: this backlog was begun while that one was heard."""
        if self.items is None:
            self.items = rest.items
        if self.payloads is None:
            self.payloads = rest.payloads
        self.data += rest.data
