"""The agent held to what a real one did: recorded sequences, played to the state.

C{recorded.tsv} holds what went between a Mesos 1.12 master and its agent, in order: commands that
end and are killed, with C{mesos-execute} and with clients of our own (06), and groups with the
default executor (07). What the containers did meanwhile is put in where the recorded executors
spoke of it. What the master said is given to the state; what it hears of each task must be what
the real one heard.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mesoskit.agent.container import ContainerExited, ContainerStarted
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.codec import decode_as
from mesoskit.messages.mesos_pb2 import TaskState, TaskStatus
from mesoskit.messages.names import message_class
from tests.agent.bench import OWN_RECORDS, Bench
from tests.base import SynchronousTestCase

RECORDED = Path(__file__).with_name("recorded.tsv")


class Line(NamedTuple):
    """One line of the recording."""

    scenario: str
    who: str
    what: str
    of: str

    def message(self) -> Any:
        return decode_as(message_class(self.what), bytes.fromhex(self.of))


def lines(scenario: str) -> Iterator[Line]:
    for text in RECORDED.read_text().splitlines()[1:]:
        line = Line(*text.split("\t"))
        if line.scenario == scenario:
            yield line


def told(message: internal.StatusUpdateMessage) -> tuple[Any, ...]:
    """Return what must be alike of an update; ids and times are another agent's."""
    status = message.update.status
    container = status.container_status.container_id
    return (
        TaskState.Name(status.state),
        status.message if status.HasField("message") else None,
        TaskStatus.Source.Name(status.source),
        TaskStatus.Reason.Name(status.reason) if status.HasField("reason") else None,
        status.executor_id.value,
        message.update.executor_id.value,
        container.HasField("parent"),
        message.update.uuid == status.uuid,
        message.update.timestamp == status.timestamp,
        message.pid,
    )


class Play:
    """A recording, played to a state."""

    def __init__(self, scenario: str) -> None:
        self.lines = list(lines(scenario))
        self.bench = bench = Bench()
        bench.register()
        first = self.lines[0].message()
        bench.state.resource_version = first.resource_version_uuids[0].uuid.value
        self.expected: dict[str, list[tuple[Any, ...]]] = {}
        self.uuids: dict[bytes, tuple[str, int]] = {}
        self.exited: list[int] = []

    def run(self) -> None:
        for line in self.lines:
            getattr(self, line.who)(line)

    def master(self, line: Line) -> None:
        message = line.message()
        if isinstance(message, internal.StatusUpdateAcknowledgementMessage):
            task_id, state = self.uuids[message.uuid]
            message.uuid = self.ours(task_id, state)
        self.bench.receive(message)

    def ours(self, task_id: str, state: int) -> bytes:
        """Return the uuid of our update for this state of this task."""
        for sent in reversed(self.bench.sent):
            if isinstance(sent, internal.StatusUpdateMessage):
                status = sent.update.status
                if (status.task_id.value, status.state) == (task_id, state):
                    return status.uuid
        raise AssertionError(f"{task_id} was not reported as {TaskState.Name(state)}")

    def agent(self, line: Line) -> None:
        message = line.message()
        if isinstance(message, internal.ExitedExecutorMessage):
            self.exited.append(message.status)
            return
        status = message.update.status
        if status.uuid not in self.uuids:  # A repetition else.
            self.uuids[status.uuid] = status.task_id.value, status.state
            message.pid = self.bench.options.pid
            self.expected.setdefault(status.task_id.value, []).append(told(message))

    def hands(self, line: Line) -> None:
        word, _, status = line.what.partition(" ")
        container = self.bench.container_of(line.of)
        if word == "started":
            self.bench.give(ContainerStarted(container, 45))
        else:
            self.bench.give(ContainerExited(container, int(status)))

    def heard(self) -> dict[str, list[tuple[Any, ...]]]:
        found: dict[str, list[tuple[Any, ...]]] = {}
        seen = set()
        for sent in self.bench.sent:
            if isinstance(sent, internal.StatusUpdateMessage):
                if sent.update.uuid not in seen:
                    seen.add(sent.update.uuid)
                    name = sent.update.status.task_id.value
                    found.setdefault(name, []).append(told(sent))
        return found


class RecordingTests(SynchronousTestCase):
    """Each recording."""

    def play(self, scenario: str) -> Play:
        play = Play(scenario)
        play.run()
        self.assertEqual(play.heard(), play.expected)
        self.assertEqual(play.bench.state.frameworks, {})
        self.assertEqual(play.bench.records(), OWN_RECORDS)
        return play

    def test_commands(self) -> None:
        play = self.play("06")
        self.assertEqual(set(play.expected), {"short", "long", "stubborn", "stubborn2"})

    def test_groups(self) -> None:
        play = self.play("07")
        self.assertEqual(set(play.expected), {"one", "two", "good", "bad"})
        exited = [
            one.status for one in play.bench.sent if isinstance(one, internal.ExitedExecutorMessage)
        ]
        self.assertEqual(exited, play.exited)
