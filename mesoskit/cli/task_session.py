"""A command beside a task, or the task itself, at this terminal.

The answer of the agent is read here, what is typed is sent by a thread, on a connection of its own.
Whatever happens the terminal is left as it was.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import queue
import signal
import struct
import sys
import termios
import threading
import tty
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from mesoskit.cli.asking import CannotBeDone, Server
from mesoskit.cli.task_client import Target, agent_call
from mesoskit.messages.agent_pb2 import Call, ProcessIO, Response
from mesoskit.messages.mesos_pb2 import ContainerID, ContainerInfo
from mesoskit.wire import media, recordio

RECORDIO: Final = "application/recordio"

HEARTBEAT: Final = 30.0
"""Seconds between two signs of life on a connection over which nothing is typed."""

DETACH: Final = b"\x10\x11"
"""Ctrl-P Ctrl-Q: leaves a task's terminal."""

PIECE: Final = 16 * 1024

_STREAM: Final = {"Accept": RECORDIO, "Message-Accept": media.PROTOBUF}


def execute(
    target: Target, command: Sequence[str], interactive: bool, terminal: bool, user: str | None
) -> int:
    """Run a command beside a task; return its exit status. Raises L{CannotBeDone}."""
    call = agent_call("LAUNCH_NESTED_CONTAINER_SESSION")
    session = call.launch_nested_container_session
    session.container_id.value = str(uuid.uuid4())
    session.container_id.parent.CopyFrom(target.container)
    session.command.shell = False
    session.command.value = command[0]
    session.command.arguments.extend(command)
    if user is not None:
        session.command.user = user
    if terminal:
        session.container.type = ContainerInfo.MESOS
        rows, columns = window()
        size = session.container.tty_info.window_size
        size.rows, size.columns = rows, columns
    response = target.agent.begin(call, **_named(_STREAM))
    with raw(terminal and interactive):
        speaker = Speaker(target.agent, session.container_id, terminal) if interactive else None
        show(response, speaker)
    return _status(target.agent, session.container_id)


def attach(target: Target, speak: bool) -> int:
    """Use a task's terminal; return 0 when it ends or is left. Raises L{CannotBeDone}."""
    call = agent_call("ATTACH_CONTAINER_OUTPUT")
    call.attach_container_output.container_id.CopyFrom(target.container)
    try:
        response = target.agent.begin(call, **_named(_STREAM))
    except CannotBeDone as error:
        if "disabled for this container" in str(error):
            raise CannotBeDone(
                f"task {target.name} has no terminal: give it ContainerInfo.tty_info, or use exec"
            ) from None
        raise
    with raw(speak):
        speaker = Speaker(target.agent, target.container, True, DETACH) if speak else None
        show(response, speaker)
    if speaker is not None and speaker.refused:
        raise CannotBeDone(speaker.refused)
    return 0


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in headers.items()}


def _status(agent: Server, container: ContainerID) -> int:
    """Return how a session has ended, and let the agent forget it."""
    call = agent_call("WAIT_CONTAINER")
    call.wait_container.container_id.CopyFrom(container)
    told = agent.ask(call, Response).wait_container
    call = agent_call("REMOVE_CONTAINER")
    call.remove_container.container_id.CopyFrom(container)
    agent.begin(call).close()
    if told.message:
        sys.stderr.write(told.message + "\n")
    if not told.HasField("exit_status"):
        raise CannotBeDone("nobody knows how the command has ended")
    if os.WIFSIGNALED(told.exit_status):
        return 128 + os.WTERMSIG(told.exit_status)
    return os.WEXITSTATUS(told.exit_status)


# What comes out.


def show(response: http.client.HTTPResponse, speaker: Speaker | None) -> None:
    """Write what comes out until it ends, or until it is left."""
    for message in messages(response, speaker):
        if message.type == ProcessIO.DATA:
            stderr = message.data.type == ProcessIO.Data.STDERR
            stream = sys.stderr.buffer if stderr else sys.stdout.buffer
            stream.write(message.data.data)
            stream.flush()


def messages(response: http.client.HTTPResponse, speaker: Speaker | None) -> Iterator[ProcessIO]:
    """Give the messages of an answer."""
    decoder = recordio.Decoder()
    if speaker is not None:
        speaker.stop = response
    while speaker is None or not speaker.over:
        try:
            data = response.read1(1 << 16)
        except (OSError, ValueError, http.client.HTTPException, AttributeError) as error:
            if speaker is not None and speaker.over:
                return
            raise CannotBeDone(f"the agent has left in the middle: {error}") from None
        if not data:
            return
        for record in decoder.feed(data):
            yield ProcessIO.FromString(record)


# What is typed.


class Speaker:
    """
    What is typed, on its way to a container.

    @ivar refused: why the agent does not take it.
    @ivar over: it was left on purpose.
    """

    def __init__(
        self, agent: Server, container: ContainerID, terminal: bool, detach: bytes = b""
    ) -> None:
        self.refused = ""
        self.over = False
        self.stop: http.client.HTTPResponse | None = None
        self._terminal = terminal
        self._detach = detach
        self._lock = threading.Lock()
        self._connection = agent.connect()
        self._begin(agent, container)
        # Of all that is shared with a signal's handler only this may be used in its midst: a
        # second signal would wait for ever for a lock that the first one holds.
        self._resized: queue.SimpleQueue[None] = queue.SimpleQueue()
        works = [self._speak, self._beat, self._hear]
        if terminal:
            signal.signal(signal.SIGWINCH, lambda *_: self._resized.put(None))
            self._resized.put(None)
            works.append(self._resize)
        for work in works:
            threading.Thread(target=work, daemon=True).start()

    def _resize(self) -> None:
        while True:
            self._resized.get()
            while not self._resized.empty():
                self._resized.get()
            self._tell_size()

    def _tell_size(self) -> None:
        """Tell how big the terminal is."""
        message = ProcessIO(type=ProcessIO.CONTROL)
        message.control.type = ProcessIO.Control.TTY_INFO
        size = message.control.tty_info.window_size
        size.rows, size.columns = window()
        self._send(message)

    def _begin(self, agent: Server, container: ContainerID) -> None:
        connection = self._connection
        connection.putrequest("POST", "/api/v1")
        headers = agent.headers(
            Content_Type=RECORDIO, Message_Content_Type=media.PROTOBUF, Accept=media.PROTOBUF
        )
        for name, value in {**headers, "Transfer-Encoding": "chunked"}.items():
            connection.putheader(name, value)
        connection.endheaders()
        self._socket: Any = connection.sock
        self._socket.settimeout(None)
        call = agent_call("ATTACH_CONTAINER_INPUT")
        call.attach_container_input.type = Call.AttachContainerInput.CONTAINER_ID
        call.attach_container_input.container_id.CopyFrom(container)
        self._write(call)

    def _write(self, call: Call) -> None:
        record = recordio.encode(call.SerializeToString())
        try:
            with self._lock:
                self._socket.sendall(b"%x\r\n%b\r\n" % (len(record), record))
        except OSError:
            pass  # it is over, and the other connection says so as well

    def _send(self, message: ProcessIO) -> None:
        call = agent_call("ATTACH_CONTAINER_INPUT")
        call.attach_container_input.type = Call.AttachContainerInput.PROCESS_IO
        call.attach_container_input.process_io.CopyFrom(message)
        self._write(call)

    def _speak(self) -> None:
        left = b""
        while True:
            try:
                data = os.read(0, PIECE)
            except OSError:
                data = b""
            if self._detach and self._detach in left + data:
                self._leave()
                return
            left = data[-1:]
            if self._terminal and not data:
                data = b"\x04"  # what a terminal says at the end of input
                self._say(data)
                return
            self._say(data)
            if not data:
                return

    def _say(self, data: bytes) -> None:
        message = ProcessIO(type=ProcessIO.DATA)
        message.data.type = ProcessIO.Data.STDIN
        message.data.data = data
        self._send(message)

    def _leave(self) -> None:
        self.over = True
        response = self.stop
        if response is not None and response.fp is not None:
            shut_down(response)

    def _beat(self) -> None:
        message = ProcessIO(type=ProcessIO.CONTROL)
        message.control.type = ProcessIO.Control.HEARTBEAT
        message.control.heartbeat.interval.nanoseconds = int(HEARTBEAT * 1e9)
        while True:
            threading.Event().wait(HEARTBEAT)
            self._send(message)

    def _hear(self) -> None:
        """Notice where the agent does not take what is typed."""
        try:
            response = self._connection.getresponse()
            if response.status != 200:
                said = response.read(4096).decode(errors="replace").strip()
                self.refused = f"the agent does not take what is typed: {said}"
                self._leave()
        except (OSError, http.client.HTTPException):
            pass


def shut_down(response: http.client.HTTPResponse) -> None:
    """Let whoever reads an answer come to its end."""
    import socket

    try:
        descriptor = os.dup(response.fileno())
        with socket.socket(fileno=descriptor) as copy:
            copy.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


# The terminal.


def window() -> tuple[int, int]:
    """Return rows and columns of this terminal, 24 and 80 where there is none."""
    for descriptor in (0, 1, 2):
        try:
            packed = fcntl.ioctl(descriptor, termios.TIOCGWINSZ, b"\0" * 8)
        except OSError:
            continue
        rows, columns, _, _ = struct.unpack("HHHH", packed)
        if rows and columns:
            return rows, columns
    return 24, 80


@contextmanager
def raw(wanted: bool) -> Iterator[None]:
    """Pass each key on as it is, where this is a terminal, and be as before at the end."""
    if not wanted or not os.isatty(0):
        yield
        return
    before = termios.tcgetattr(0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, _leave)
    try:
        # What was typed before is meant for it, too.
        tty.setraw(0, termios.TCSADRAIN)
        yield
    finally:
        with suppress(termios.error):  # the terminal itself may be gone
            termios.tcsetattr(0, termios.TCSADRAIN, before)


def _leave(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
