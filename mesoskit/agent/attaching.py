"""What goes into a container and comes out of it, as streams of HTTP.

ATTACH_CONTAINER_OUTPUT and LAUNCH_NESTED_CONTAINER_SESSION are answered with a stream of
C{ProcessIO} in RecordIO, ATTACH_CONTAINER_INPUT brings a stream of calls; both are as fast as
the slower side (C{src/slave/http.cpp}, C{src/slave/containerizer/mesos/io/switchboard.cpp}).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import Message
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mesoskit.agent.consoles import Input, Output
from mesoskit.agent.launcher_console import STDOUT
from mesoskit.messages.agent_pb2 import Call, ProcessIO
from mesoskit.wire import media, recordio
from mesoskit.wire.body import StreamedBody
from mesoskit.wire.exchange import Exchange

LONGEST: Final = 1 << 20
"""Bytes of the longest record of input."""

FIRST: Final = 64 * 1024
"""Bytes of the longest first record, which says what the others are for."""


class Listening:
    """
    A stream of what comes out.

    @param headers: of the answer.
    @param written: the media type of a record.
    @param interval: seconds between two heartbeats.
    @param gone: is called once, when one of both sides is over.
    """

    def __init__(
        self,
        clock: IReactorTime,
        exchange: Exchange,
        headers: dict[str, str],
        written: str,
        interval: float,
        gone: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._exchange = exchange
        self._headers = headers
        self._write = media.WRITERS[written]
        self._interval = interval
        self._gone = gone
        self._output: Output | None = None
        self._beat: IDelayedCall | None = None
        self._over = False

    def begin(self, output: Output) -> None:
        """Answer: the container is attached."""
        self._output = output
        self._exchange.begin(self._headers, self)
        if not self._over:
            self._heartbeat()

    # What the console says.

    def heard(self, kind: int, data: bytes) -> None:
        """Something came out."""
        message = ProcessIO(type=ProcessIO.DATA)
        message.data.type = ProcessIO.Data.STDOUT if kind == STDOUT else ProcessIO.Data.STDERR
        message.data.data = data
        self._send(message)

    def over(self) -> None:
        """Nothing will come any more."""
        if self._finish():
            self._exchange.finish()

    # What the client says.

    def pause(self) -> None:
        """He takes no more for now."""
        if self._output is not None:
            self._output.pause(True)

    def resume(self) -> None:
        """He takes more again."""
        if self._output is not None:
            self._output.pause(False)

    def gone(self, why: str) -> None:
        """He has left."""
        if self._finish() and self._output is not None:
            self._output.stop()

    def _finish(self) -> bool:
        if self._over:
            return False
        self._over = True
        if self._beat is not None:
            self._beat.cancel()
        self._gone()
        return True

    def _heartbeat(self) -> None:
        message = ProcessIO(type=ProcessIO.CONTROL)
        message.control.type = ProcessIO.Control.HEARTBEAT
        message.control.heartbeat.interval.nanoseconds = int(self._interval * 1e9)
        self._send(message)
        self._beat = self._clock.callLater(self._interval, self._heartbeat)

    def _send(self, message: Message) -> None:
        if not self._over:
            self._exchange.write(recordio.encode(self._write(message)))


class Records:
    """
    The records of a request's body.

    @ivar error: why they cannot be followed any further.
    """

    def __init__(self, body: StreamedBody) -> None:
        self._decoder = recordio.Decoder(FIRST)
        self._first: Deferred[bytes | None] | None = Deferred()
        self._records: list[bytes] = []
        self._taker: Any = None
        self._ended = False
        self._body = body
        body.hear(self)

    @property
    def error(self) -> str | None:
        """Say what is wrong with what came."""
        return None if self._decoder.error is None else str(self._decoder.error)

    def first(self) -> Deferred[bytes | None]:
        """Give the first record; L{None} where there is none, or an error. To be called once."""
        first = self._first
        assert first is not None
        return first

    def hear(self, taker: Speaking) -> None:
        """Give all others to somebody."""
        self._taker = taker
        self._decoder.limit = LONGEST
        records, self._records = self._records, []
        for record in records:
            taker.record(record)
        self.pause(False)
        self._conclude()

    def pause(self, paused: bool) -> None:
        """Take no more for now, or go on."""
        if not self._body.whole:
            self._body.pause(paused)

    def received(self, data: bytes) -> None:
        """A piece of the body came."""
        for record in self._decoder.feed(data):
            self._taken(record)
        if self._taker is None and self._records:
            self.pause(True)
        if self.error is not None:
            self.ended()

    def ended(self) -> None:
        """All of it came, or more cannot be understood."""
        self._ended = True
        self._answer(None)
        if self._taker is not None:
            self._conclude()

    def _taken(self, record: bytes) -> None:
        if self._first is not None and not self._first.called:
            self._answer(record)
        elif self._taker is not None:
            self._taker.record(record)
        else:
            self._records.append(record)

    def _answer(self, record: bytes | None) -> None:
        if self._first is not None and not self._first.called:
            self._first.callback(record)

    def _conclude(self) -> None:
        if self._ended:
            self._taker.ended(self.error)


class Speaking:
    """
    A stream of what is put in.

    @param read: makes a call of a record. Raises C{ValueError}.
    @param answer: is given status and text, once.
    """

    def __init__(self, read: Callable[[bytes], Call], answer: Callable[[int, str], None]) -> None:
        self._read = read
        self._answer = answer
        self._over = False
        self.input: Input | None = None

    def record(self, record: bytes) -> None:
        """Take a record."""
        if self._over or self.input is None:
            return
        try:
            call = self._read(record)
        except ValueError as error:
            self.end(400, str(error))
            return
        why = wrong(call)
        if why is not None:
            self.end(400, why)
            return
        message = call.attach_container_input.process_io
        if message.type == ProcessIO.DATA:
            self.input.put(message.data.data)
        elif message.control.type == ProcessIO.Control.TTY_INFO:
            size = message.control.tty_info.window_size
            self.input.resize(size.rows, size.columns)

    def ended(self, error: str | None) -> None:
        """All of it came, or what came is no stream of records."""
        self.end(*((200, "") if error is None else (400, error)))

    def end(self, status: int = 200, why: str = "") -> None:
        """Say that it is over."""
        if not self._over:
            self.left()
            self._answer(status, why)

    def left(self) -> None:
        """Nobody puts anything in any more."""
        self._over = True
        if self.input is not None:
            self.input.stop()


def wrong(call: Call) -> str | None:
    """Say what is wrong with a record of input that is not the first."""
    attach = call.attach_container_input
    if call.type != Call.ATTACH_CONTAINER_INPUT or not call.HasField("attach_container_input"):
        return "Expecting 'type' to be 'ATTACH_CONTAINER_INPUT'"
    if attach.type != Call.AttachContainerInput.PROCESS_IO:
        name = Call.AttachContainerInput.Type.Name(attach.type)
        return f"Expecting 'attach_container_input.type' to be 'PROCESS_IO' instead of: '{name}'"
    if not attach.HasField("process_io"):
        return "Expecting 'attach_container_input.process_io' to be present"
    message = attach.process_io
    if not message.HasField("type"):
        return "Expecting 'process_io.type' to be present"
    if message.type == ProcessIO.UNKNOWN:
        return "'process_io.type' is unknown"
    return _wrong_control(message) if message.type == ProcessIO.CONTROL else _wrong_data(message)


def _wrong_control(message: ProcessIO) -> str | None:
    if not message.HasField("control"):
        return "Expecting 'process_io.control' to be present"
    control = message.control
    if not control.HasField("type"):
        return "Expecting 'process_io.control.type' to be present"
    if control.type == ProcessIO.Control.UNKNOWN:
        return "'process_io.control.type' is unknown"
    if control.type == ProcessIO.Control.HEARTBEAT:
        if not control.HasField("heartbeat"):
            return "Expecting 'process_io.control.heartbeat' to be present"
        return None
    if not control.HasField("tty_info"):
        return "Expecting 'process_io.control.tty_info' to be present"
    if not control.tty_info.HasField("window_size"):
        return "Expecting 'tty_info.window_size' to be present"
    return None


def _wrong_data(message: ProcessIO) -> str | None:
    if not message.HasField("data"):
        return "Expecting 'process_io.data' to be present"
    if not message.data.HasField("type"):
        return "Expecting 'process_io.data.type' to be present"
    if message.data.type != ProcessIO.Data.STDIN:
        return "Expecting 'process_io.data.type' to be 'STDIN'"
    if not message.data.HasField("data"):
        return "Expecting 'process_io.data.data' to be present"
    return None
