"""Receivers that remember, and the messages that the wire's tests send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from mesoskit.messages.authentication_pb2 import AuthenticationStepMessage
from mesoskit.wire.link import Hello, Link

MASTER = Hello(role=1, software="mesoskit/test", epoch=7, instance="m1")
AGENT = Hello(role=2, software="mesoskit/test", instance="a1")
FRAMEWORK = Hello(role=3, software="other/2.1", instance="f1")
EXECUTOR = Hello(role=4, software="mesoskit/test", token="let me in", instance="e1")


def text(content: str | bytes) -> Message:
    """Return a message that carries C{content}."""
    return AuthenticationStepMessage(data=content.encode() if isinstance(content, str) else content)


class Ear:
    """
    Remembers what a receiver is told, in order.

    @ivar heard: C{"connected"}, C{("received", data, call)}, C{("congestion", bool)},
        C{("lost", why)}.
    @ivar react: called with the link and each message's data and call.
    """

    def __init__(self, react: Callable[[Link, str, int | None], None] | None = None) -> None:
        self.heard: list[Any] = []
        self.link: Any = None
        self.react = react

    def connected(self, link: Link) -> None:
        self.link = link
        self.heard.append("connected")

    def received(self, link: Link, message: Message, call: int | None) -> None:
        assert link is self.link
        data = message.data  # type: ignore[attr-defined]
        word = data.decode() if len(data) < 100 else f"{data[:8].decode()}…{len(data)}"
        self.heard.append(("received", word, call))
        if self.react is not None:
            self.react(link, word, call)

    def congestion(self, link: Link, congested: bool) -> None:
        assert link.congested is congested
        self.heard.append(("congestion", congested))

    def lost(self, link: Link, why: str) -> None:
        self.heard.append(("lost", why))

    @property
    def words(self) -> list[str]:
        """The messages alone."""
        return [each[1] for each in self.heard if each[0] == "received"]

    @property
    def reasons(self) -> list[str]:
        """Why it was lost, as often as it was told."""
        return [each[1] for each in self.heard if each[0] == "lost"]

    @property
    def congestions(self) -> list[bool]:
        """The changes of congestion it was told."""
        return [each[1] for each in self.heard if each[0] == "congestion"]
