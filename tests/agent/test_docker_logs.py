"""What containers of Docker write, brought into their sandboxes whatever breaks in between."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from mesoskit.agent.containers.docker_http import Engine
from mesoskit.agent.containers.docker_logs import NOTING, Files, Follower, Notes
from tests.base import SynchronousTestCase

BEGAN = 1795276800
ROOT = (os.geteuid(), os.getegid())


class Message(NamedTuple):
    """Of one stream, 0 or 1, at a moment in nanoseconds."""

    which: int
    moment: int
    text: bytes

    def frame(self) -> bytes:
        seconds, rest = divmod(self.moment, 10**9)
        minutes, seconds = divmod(seconds, 60)
        when = f"2026-11-21T16:{minutes:02d}:{seconds:02d}.{rest:09d}Z ".encode()
        data = when + self.text
        return bytes([self.which + 1, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@dataclass
class Log:
    """
    An engine with one container, of which nobody reads more than is said.

    @ivar messages: as they are stored: those of one stream in order, both together not.
    @ivar until: so many of them are there.
    """

    messages: list[Message]
    terminal: bool
    until: int = 0
    ended: bool = False
    readers: list[tuple[int, Any]] = field(default_factory=list)

    async def stream(self, method: str, path: str, query: dict[str, str]) -> Any:
        since = query.get("since", "0")
        begin = 0
        if since != "0":
            seconds, _, rest = since.partition(".")
            begin = (int(seconds) - BEGAN) * 10**9 + int(rest)
        return Response(self, begin)

    def write(self, count: int, pieces: int) -> None:
        """Store some more messages, and send them to whoever reads, cut anywhere."""
        new = self.messages[self.until : self.until + count]
        self.until += len(new)
        for begin, reader in self.readers:
            data = b"".join(self.shown(one) for one in new if self.terminal or one.moment >= begin)
            for at in range(0, len(data), pieces):
                reader.dataReceived(data[at : at + pieces])

    def shown(self, message: Message) -> bytes:
        return message.text if self.terminal else message.frame()

    def cut(self) -> None:
        """Break off."""
        readers, self.readers = self.readers, []
        for _, reader in readers:
            reader.connectionLost(Failure(ConnectionLost()))

    def end(self) -> None:
        """It is over."""
        self.ended = True
        readers, self.readers = self.readers, []
        for _, reader in readers:
            reader.connectionLost(Failure(ResponseDone()))


class Response:
    """An answer that goes on as long as the container does."""

    def __init__(self, log: Log, begin: int) -> None:
        self.log = log
        self.begin = begin

    def deliverBody(self, body: Any) -> None:
        log = self.log
        for message in log.messages[: log.until]:
            if log.terminal or message.moment >= self.begin:
                body.dataReceived(log.shown(message))
        if log.ended:
            body.connectionLost(Failure(ResponseDone()))
        else:
            log.readers.append((self.begin, body))


@st.composite
def logs(draw: Any) -> list[Message]:
    """Draw messages whose order is that of neither stream's moments, but for each by itself."""
    streams: list[list[Message]] = []
    for which in (0, 1):
        moment = 0
        found = []
        for number in range(draw(st.integers(0, 8))):
            # Many have the same moment, as podman's do.
            moment += draw(st.sampled_from((0, 0, 1, 10**9, 10**10)))
            text = f"{'ab'[which]}{number}{'.' * draw(st.integers(0, 3))}\n".encode()
            found.append(Message(which, moment, text))
        streams.append(found)
    merged: list[Message] = []
    while any(streams):
        ready = [one for one in streams if one]
        first = min(one[0].moment for one in ready)
        near = [one for one in ready if one[0].moment <= first + 10**9]
        merged.append(draw(st.sampled_from(near)).pop(0))
    return merged


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 4), st.integers(1, 40)),
        st.tuples(st.just("cut")),
        st.tuples(st.just("crash")),
        st.tuples(st.just("stop")),
        st.tuples(st.just("say"), st.integers(0, 1)),
        st.tuples(st.just("wait"), st.floats(0.05, 2 * NOTING)),
    ),
    max_size=20,
)


class Agents:
    """One agent after the other, which bring what one container writes."""

    def __init__(self, directory: str, log: Log) -> None:
        self.clock = Clock()
        self.log = log
        self.sandbox = os.path.join(directory, "sandbox")
        os.mkdir(self.sandbox)
        self.notes = Notes(os.path.join(directory, "notes"))
        self.notes.make()
        self.said = [0, 0]
        self.follower = self.begin()

    def begin(self) -> Follower:
        engine: Engine = self.log  # type: ignore[assignment]
        files = Files(self.sandbox, ROOT)
        follower = Follower(
            self.clock, engine, "mesos-a", "a", files, self.notes, self.log.terminal
        )
        follower.begin()
        return follower

    def do(self, what: str, *how: Any) -> None:
        if what == "write":
            self.log.write(*how)
        elif what == "cut":
            self.log.cut()
        elif what == "wait":
            self.clock.advance(*how)
        elif what == "stop":
            self.follower.stop()
            self.log.readers.clear()
            self.follower = self.begin()
        elif what == "crash":
            # Nothing that waits for its time ever comes to be.
            self.log.readers.clear()
            for call in list(self.clock.getDelayedCalls()):
                call.cancel()
            files = self.follower._files
            if files is not None:
                files.close()
            self.follower = self.begin()
        elif not self.follower._delays.call:
            which = 0 if self.log.terminal else how[0]
            before = os.path.getsize(self.path(which))
            self.follower.say(which, b"?")
            self.said[which] += os.path.getsize(self.path(which)) - before

    def path(self, which: int) -> str:
        return os.path.join(self.sandbox, ("stdout", "stderr")[which])

    def finish(self) -> list[bytes]:
        """Let the container end, and return what is in its sandbox, without what was said."""
        self.log.write(len(self.log.messages), 1000)
        self.log.end()
        self.follower.finish()
        self.clock.pump([5.0] * 10)
        assert self.follower.over.called
        found = []
        for which in (0, 1):
            with open(self.path(which), "rb") as file:
                data = file.read()
            assert data.count(b"?") == self.said[which], (data, self.said)
            found.append(data.replace(b"?", b""))
        return found


class FollowerTests(SynchronousTestCase):
    """Not a byte is lost, none comes twice."""

    @given(logs(), STEPS)
    @example(
        [Message(1, 10**9, b"later\n"), Message(0, 1, b"first\n")],
        [("write", 1, 100), ("cut",), ("wait", 1.0)],
    )
    def test_both_streams_come_whole_and_once(
        self, messages: list[Message], steps: list[tuple[Any, ...]]
    ) -> None:
        with tempfile.TemporaryDirectory() as directory:
            agents = Agents(directory, Log(messages, terminal=False))
            for step in steps:
                agents.do(*step)
            written = [b"", b""]
            for message in messages:
                written[message.which] += message.text
            self.assertEqual(agents.finish(), written)

    @given(logs(), STEPS)
    @example(
        [Message(1, 0, b"one\n"), Message(1, 0, b"two\n")],
        [("write", 1, 100), ("crash",), ("stop",)],
    )
    def test_so_does_what_comes_from_a_terminal(
        self, messages: list[Message], steps: list[tuple[Any, ...]]
    ) -> None:
        with tempfile.TemporaryDirectory() as directory:
            agents = Agents(directory, Log(messages, terminal=True))
            for step in steps:
                agents.do(*step)
            written = b"".join(message.text for message in messages)
            self.assertEqual(agents.finish(), [written, b""])
