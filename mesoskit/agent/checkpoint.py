"""What the agent stores, and under which keys.

    agent/info                         AgentInfo with the agent's id
    frameworks/<framework>             FrameworkInfo
    executors/<framework>/<executor>   head line, ExecutorInfo (not for command tasks)
    tasks/<framework>/<executor>/<task>  head line, TaskInfo
    updates/<framework>/<task>/<n>     StatusUpdateRecord (L{mesoskit.model.updates})

A head line is text of blank-separated words up to a newline; the message follows it. Ids
are valid file names (L{mesoskit.model.validation_ids}), so they need no quoting in keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from mesoskit.agent.frameworks import AgentTask, Executor, Kind
from mesoskit.messages.mesos_pb2 import AgentInfo, ExecutorInfo, FrameworkInfo
from mesoskit.model.ids import ContainerId, ExecutorId, FrameworkId, TaskId
from mesoskit.model.updates import UpdateError, UpdateStream

AGENT = "agent/info"
"""The key of the agent's own info."""

NONE = "-"
"""A word of a head line that stands for nothing."""


class CheckpointError(ValueError):
    """A stored record cannot be read; the message names its key."""


def framework_key(framework_id: str) -> str:
    """Return the key of a framework."""
    return f"frameworks/{framework_id}"


def executor_key(executor: Executor) -> str:
    """Return the key of an executor."""
    return f"executors/{executor.framework.id}/{executor.id}"


def task_key(task: AgentTask) -> str:
    """Return the key of a task."""
    return f"tasks/{task.executor.framework.id}/{task.executor.id}/{task.id}"


def updates_of(framework_id: str, task_id: str) -> str:
    """Return what the keys of a task's updates begin with."""
    return f"updates/{framework_id}/{task_id}"


def executor_record(executor: Executor) -> bytes:
    """Return what is stored of an executor that is not a command task's."""
    assert executor.info is not None
    head = f"{executor.kind.value} {executor.container} {executor.token or NONE}\n"
    return head.encode() + executor.info.SerializeToString()


def task_record(task: AgentTask) -> bytes:
    """Return what is stored of a task."""
    first = NONE if task.group is None else task.group.tasks[0].id
    kind = task.executor.kind.value
    return f"{kind} {task.container or NONE} {first}\n".encode() + task.info


@dataclass(slots=True)
class StoredExecutor:
    """An executor as it was stored; for command tasks made up from the task."""

    kind: Kind
    container: ContainerId
    token: str | None = None
    info: ExecutorInfo | None = None


@dataclass(slots=True)
class StoredTask:
    """A task as it was stored; C{first}: the first task of its group."""

    container: ContainerId | None
    first: TaskId | None
    info: bytes


@dataclass(slots=True)
class Snapshot:
    """All that was stored, read."""

    agent: AgentInfo | None = None
    frameworks: dict[FrameworkId, FrameworkInfo] = field(default_factory=dict)
    executors: dict[tuple[FrameworkId, ExecutorId], StoredExecutor] = field(default_factory=dict)
    tasks: dict[tuple[FrameworkId, ExecutorId, TaskId], StoredTask] = field(default_factory=dict)
    streams: dict[tuple[FrameworkId, TaskId], UpdateStream] = field(default_factory=dict)


def read(snapshot: dict[str, bytes]) -> Snapshot:
    """
    Read what a store held.

    Raises L{CheckpointError} for the first record that cannot be read: an agent that went
    on without it might leave a task running that nobody knows of.
    """
    found = Snapshot()
    records: dict[tuple[FrameworkId, TaskId], list[tuple[str, bytes]]] = {}
    for key, data in snapshot.items():
        kind, *path = key.split("/")
        try:
            _read_one(found, records, kind, path, key, data)
        except (DecodeError, ValueError) as error:
            raise CheckpointError(f"stored record {key!r} cannot be read: {error}") from error
    for ids, rows in records.items():
        try:
            found.streams[ids] = UpdateStream.restore(updates_of(*ids), rows)
        except UpdateError as error:
            raise CheckpointError(str(error)) from error
    return found


def _read_one(
    found: Snapshot,
    records: dict[tuple[FrameworkId, TaskId], list[tuple[str, bytes]]],
    kind: str,
    path: list[str],
    key: str,
    data: bytes,
) -> None:
    if key == AGENT:
        found.agent = AgentInfo.FromString(data)
    elif kind == "frameworks" and len(path) == 1:
        found.frameworks[FrameworkId(path[0])] = FrameworkInfo.FromString(data)
    elif kind == "executors" and len(path) == 2:
        (word, container, token), body = _head(data)
        found.executors[FrameworkId(path[0]), ExecutorId(path[1])] = StoredExecutor(
            Kind(word),
            ContainerId(container),
            None if token == NONE else token,
            ExecutorInfo.FromString(body),
        )
    elif kind == "tasks" and len(path) == 3:
        (word, container, first), body = _head(data)
        ids = FrameworkId(path[0]), ExecutorId(path[1]), TaskId(path[2])
        found.tasks[ids] = StoredTask(
            None if container == NONE else ContainerId(container),
            None if first == NONE else TaskId(first),
            body,
        )
        if Kind(word) is Kind.COMMAND:
            found.executors[ids[:2]] = StoredExecutor(Kind.COMMAND, ContainerId(container))
    elif kind == "updates" and len(path) == 3:
        records.setdefault((FrameworkId(path[0]), TaskId(path[1])), []).append((key, data))
    else:
        raise ValueError("no such kind of record")


def _head(data: bytes) -> tuple[list[str], bytes]:
    line, newline, body = data.partition(b"\n")
    words = line.decode().split(" ")
    if not newline or len(words) != 3:
        raise ValueError(f"head line {line!r} is not three words")
    return words, body
