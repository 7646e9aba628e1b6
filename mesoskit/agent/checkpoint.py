"""What the agent stores, and under which keys.

    agent/info                         AgentInfo with the agent's id
    agent/life                         words: version of this layout, id of the boot
    agent/drain                        DrainConfig, while the agent drains
    frameworks/<framework>             FrameworkInfo
    executors/<framework>/<executor>   head line, ExecutorInfo (not for command tasks)
    tasks/<framework>/<executor>/<task>  head line, TaskInfo
    notes/<framework>/<executor>       words: subscribed, proven, terminating
    notes/<framework>/<executor>/<task>  words: killed=, grace=, started= (with a number),
                                       overdue, abandoned (with its whole group)
    updates/<framework>/<task>/<n>     StatusUpdateRecord (L{mesoskit.model.updates})
    nested/<container> ...             no task's containers (L{mesoskit.agent.nested_records})
    history/<framework> ...            what has ended (L{mesoskit.agent.history})

A head line is text of blank-separated words up to a newline; the message follows it. Notes are
what came true of an executor or a task later, so that its message is written once. Ids
are valid file names (L{mesoskit.model.validation_ids}), so they need no quoting in keys.

Layout 1 had neither notes nor C{agent/life}; it is read all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from mesoskit.agent import history, nested_records
from mesoskit.agent.frameworks import AgentTask, Executor, Kind
from mesoskit.messages.mesos_pb2 import (
    AgentInfo,
    DrainConfig,
    ExecutorInfo,
    FrameworkInfo,
    TaskInfo,
    TaskStatus,
)
from mesoskit.model.ids import ContainerId, ExecutorId, FrameworkId, TaskId
from mesoskit.model.updates import UpdateError, UpdateStream

if TYPE_CHECKING:
    from mesoskit.agent.options import AgentOptions

LAYOUT: Final = 2
"""The version of what is described above."""

AGENT: Final = "agent/info"
"""The key of the agent's own info."""

LIFE: Final = "agent/life"
"""The key of what is written, by whom and since which boot of the machine."""

DRAIN: Final = "agent/drain"
"""The key of how the agent drains, as long as it does."""

NONE: Final = "-"
"""A word that stands for nothing."""

POD: Final = "pod"
"""A word in the place of the token of an executor of groups that has a container of its own."""

Changes = tuple[tuple[str, bytes | None], ...]


class CheckpointError(ValueError):
    """What is stored cannot be understood at all; the message says why."""


# Keys.


def framework_key(framework_id: str) -> str:
    """Return the key of a framework."""
    return f"frameworks/{framework_id}"


def executor_key(executor: Executor) -> str:
    """Return the key of an executor."""
    return f"executors/{executor.framework.id}/{executor.id}"


def executor_note_key(executor: Executor) -> str:
    """Return the key of what came true of an executor later."""
    return f"notes/{executor.framework.id}/{executor.id}"


def task_key(task: AgentTask) -> str:
    """Return the key of a task."""
    return f"tasks/{task.executor.framework.id}/{task.executor.id}/{task.id}"


def task_note_key(task: AgentTask) -> str:
    """Return the key of what came true of a task later."""
    return f"notes/{task.executor.framework.id}/{task.executor.id}/{task.id}"


def updates_of(framework_id: str, task_id: str) -> str:
    """Return what the keys of a task's updates begin with."""
    return f"updates/{framework_id}/{task_id}"


# Records.


def life_record(options: AgentOptions) -> bytes:
    """Return what is stored of the layout and the boot."""
    return f"{LAYOUT} {options.boot_id or NONE}".encode()


def executor_record(executor: Executor) -> bytes:
    """Return what is stored of an executor that is not a command task's."""
    assert executor.info is not None
    token = POD if executor.pod else executor.token or NONE
    head = f"{executor.kind.value} {executor.container} {token}\n"
    return head.encode() + executor.info.SerializeToString()


def executor_note(executor: Executor) -> bytes:
    """Return what came true of an executor."""
    words = [name for name in ("subscribed", "proven") if getattr(executor, name)]
    if executor.shut_down:
        words.append("terminating")
    return " ".join(words).encode()


def task_record(task: AgentTask) -> bytes:
    """Return what is stored of a task."""
    first = NONE if task.group is None else task.group.name
    kind = task.executor.kind.value
    return f"{kind} {task.container or NONE} {first}\n".encode() + task.info


def task_note(task: AgentTask) -> bytes:
    """Return what came true of a task."""
    words = []
    if task.killed:
        words.append(f"killed={task.killed_at or 0.0!r} grace={task.kill_grace!r}")
    if task.started_at is not None:
        words.append(f"started={task.started_at!r}")
    if task.overdue:
        words.append("overdue")
    if task.group is not None and task.group.abandoned:
        words.append("abandoned")
    return " ".join(words).encode()


def note_task(task: AgentTask) -> Changes:
    """Return the change that stores what came true of a task."""
    task.noted = True
    return ((task_note_key(task), task_note(task)),)


def note_executor(executor: Executor) -> Changes:
    """Return the change that stores what came true of an executor."""
    executor.noted = True
    return ((executor_note_key(executor), executor_note(executor)),)


def forget_task(task: AgentTask) -> Changes:
    """Return the deletion of what is stored of a task, its updates aside."""
    keys = (task_key(task), task_note_key(task)) if task.noted else (task_key(task),)
    return tuple((key, None) for key in keys)


def forget_executor(executor: Executor) -> Changes:
    """Return the deletion of what is stored of an executor, its tasks aside."""
    keys = [] if executor.kind is Kind.COMMAND else [executor_key(executor)]
    if executor.noted:
        keys.append(executor_note_key(executor))
    return tuple((key, None) for key in keys)


# Reading.


@dataclass(slots=True)
class StoredExecutor:
    """An executor as it was stored; for command tasks made up from the task."""

    kind: Kind
    container: ContainerId
    token: str | None = None
    info: ExecutorInfo | None = None
    noted: bool = False
    subscribed: bool = False
    proven: bool = False
    terminating: bool = False
    pod: bool = False


@dataclass(slots=True)
class StoredTask:
    """A task as it was stored; C{first}: the first task of its group. Moments are C{now}s."""

    container: ContainerId | None
    first: TaskId | None
    info: bytes
    noted: bool = False
    killed_at: float | None = None
    grace: float | None = None
    started_at: float | None = None
    overdue: bool = False
    abandoned: bool = False


@dataclass(slots=True)
class Snapshot:
    """
    All that was stored, read.

    @ivar boot: the boot of the machine in which it was written; empty where that is not known.
    @ivar told: what was said of a task, in order, as far as it is remembered.
    @ivar history: the records of what has ended, not read yet: nothing rests on them.
    @ivar unreadable: the keys of records that cannot be read, each with why. What hangs on one
        of them is unreadable too.
    """

    agent: AgentInfo | None = None
    drain: DrainConfig | None = None
    layout: int = 1
    boot: str = ""
    frameworks: dict[FrameworkId, FrameworkInfo] = field(default_factory=dict)
    executors: dict[tuple[FrameworkId, ExecutorId], StoredExecutor] = field(default_factory=dict)
    tasks: dict[tuple[FrameworkId, ExecutorId, TaskId], StoredTask] = field(default_factory=dict)
    streams: dict[tuple[FrameworkId, TaskId], UpdateStream] = field(default_factory=dict)
    told: dict[tuple[FrameworkId, TaskId], list[TaskStatus]] = field(default_factory=dict)
    nested: dict[ContainerId, nested_records.StoredNested] = field(default_factory=dict)
    history: dict[str, bytes] = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def read(snapshot: dict[str, bytes]) -> Snapshot:
    """
    Read what a store held.

    Raises L{CheckpointError} where it was written by a newer agent. What else cannot be read
    is told as C{unreadable}: whether to go on without it is not decided here.
    """
    found = Snapshot()
    if LIFE in snapshot:
        _guard(found, LIFE, partial(_life, found, snapshot[LIFE]))
    if found.layout > LAYOUT:
        raise CheckpointError(
            f"the checkpoints were written by a newer agent: their layout is {found.layout},"
            f" this agent knows up to {LAYOUT}. Start the newer one again"
        )
    kinds: dict[str, list[tuple[str, list[str], bytes]]] = {kind: [] for kind in _READERS}
    for key, data in snapshot.items():
        kind, *path = key.split("/")
        if key in (LIFE, AGENT, DRAIN):
            continue
        if kind == history.KIND:
            found.history[key] = data
        elif len(path) not in _DEPTHS.get(kind, ()):
            found.unreadable.append((key, "no such kind of record"))
        else:
            kinds[kind].append((key, path, data))
    if AGENT in snapshot:
        _guard(found, AGENT, partial(_agent, found, snapshot[AGENT]))
    if DRAIN in snapshot:
        _guard(found, DRAIN, partial(_drain, found, snapshot[DRAIN]))
    # What hangs on what: a task on its executor, and that on its framework.
    for kind, reader in _READERS.items():
        for key, path, data in kinds[kind]:
            _guard(found, key, partial(reader, found, path, data))
    _streams(found, kinds["updates"])
    return found


def _guard(found: Snapshot, key: str, step: Callable[[], None]) -> None:
    try:
        step()
    except (DecodeError, ValueError) as error:
        found.unreadable.append((key, str(error)))


def _life(found: Snapshot, data: bytes) -> None:
    layout, boot = data.decode().split(" ")
    found.layout = int(layout)
    found.boot = "" if boot == NONE else boot


def _agent(found: Snapshot, data: bytes) -> None:
    info = AgentInfo.FromString(data)
    if not info.id.value:
        raise ValueError("an AgentInfo with an id is wanted")
    found.agent = info


def _drain(found: Snapshot, data: bytes) -> None:
    found.drain = DrainConfig.FromString(data)


def _framework(found: Snapshot, path: list[str], data: bytes) -> None:
    info = FrameworkInfo.FromString(data)
    if info.id.value != path[0]:
        raise ValueError(f"a FrameworkInfo with the id {path[0]} is wanted")
    found.frameworks[FrameworkId(path[0])] = info


def _executor(found: Snapshot, path: list[str], data: bytes) -> None:
    (word, container, token), body = _head(data)
    framework_id = _known_framework(found, path[0])
    info = ExecutorInfo.FromString(body)
    if info.executor_id.value != path[1]:
        raise ValueError(f"an ExecutorInfo with the id {path[1]} is wanted")
    pod = Kind(word) is Kind.DEFAULT and token == POD
    found.executors[framework_id, ExecutorId(path[1])] = StoredExecutor(
        Kind(word),
        ContainerId(container),
        None if pod or token == NONE else token,
        info,
        pod=pod,
        # Before there were notes nobody knew: as if it had, for then nothing is given to it twice.
        subscribed=found.layout < 2,
    )


def _task(found: Snapshot, path: list[str], data: bytes) -> None:
    (word, container, first), body = _head(data)
    framework_id = _known_framework(found, path[0])
    if TaskInfo.FromString(body).task_id.value != path[2]:
        raise ValueError(f"a TaskInfo with the id {path[2]} is wanted")
    executor_id = ExecutorId(path[1])
    if Kind(word) is Kind.COMMAND:
        stored = StoredExecutor(Kind.COMMAND, ContainerId(container))
        found.executors[framework_id, executor_id] = stored
    elif (framework_id, executor_id) not in found.executors:
        raise ValueError(f"there is no readable record of its executor {executor_id}")
    found.tasks[framework_id, executor_id, TaskId(path[2])] = StoredTask(
        None if container == NONE else ContainerId(container),
        None if first == NONE else TaskId(first),
        body,
    )


def _note(found: Snapshot, path: list[str], data: bytes) -> None:
    words = dict(_word(word) for word in data.decode().split())
    ids = FrameworkId(path[0]), ExecutorId(path[1])
    if len(path) == 2:
        executor = found.executors.get(ids)
        if executor is None:
            raise ValueError("there is no readable record of this executor")
        executor.noted = True
        executor.subscribed = "subscribed" in words
        executor.proven = "proven" in words
        executor.terminating = "terminating" in words
        return
    task = found.tasks.get((*ids, TaskId(path[2])))
    if task is None:
        raise ValueError("there is no readable record of this task")
    task.noted = True
    task.killed_at = words.get("killed")
    task.grace = words.get("grace")
    task.started_at = words.get("started")
    task.overdue = "overdue" in words
    task.abandoned = "abandoned" in words


def _word(word: str) -> tuple[str, float]:
    name, equals, number = word.partition("=")
    if name not in _WORDS:
        raise ValueError(f"unknown word {word!r}: {', '.join(sorted(_WORDS))} are known")
    return name, float(number) if equals else 0.0


def _known_framework(found: Snapshot, name: str) -> FrameworkId:
    framework_id = FrameworkId(name)
    if framework_id not in found.frameworks:
        raise ValueError(f"there is no readable record of its framework {name}")
    return framework_id


def _head(data: bytes) -> tuple[list[str], bytes]:
    line, newline, body = data.partition(b"\n")
    words = line.decode().split(" ")
    if not newline or len(words) != 3:
        raise ValueError(f"head line {line[:80]!r} is not three words")
    return words, body


def _streams(found: Snapshot, rows: list[tuple[str, list[str], bytes]]) -> None:
    records: dict[tuple[FrameworkId, TaskId], list[tuple[str, bytes]]] = {}
    for key, path, data in rows:
        records.setdefault((FrameworkId(path[0]), TaskId(path[1])), []).append((key, data))
    for ids, stored in records.items():
        told: list[TaskStatus] = []
        try:
            stream = _stream(ids, stored, told)
        except UpdateError:
            told.clear()
            stream = _without_the_unreadable(found, ids, stored, told)
        found.streams[ids] = stream
        found.told[ids] = told


def _without_the_unreadable(
    found: Snapshot,
    ids: tuple[FrameworkId, TaskId],
    stored: list[tuple[str, bytes]],
    told: list[TaskStatus],
) -> UpdateStream:
    good: list[tuple[str, bytes]] = []
    for row in stored:
        try:
            _stream(ids, [row], [])
        except UpdateError as error:
            found.unreadable.append((row[0], str(error)))
        else:
            good.append(row)
    try:
        return _stream(ids, good, told)
    except UpdateError as error:  # together they contradict each other
        found.unreadable.extend((key, str(error)) for key, _ in good)
        told.clear()
        return UpdateStream(updates_of(*ids), paused=True)


def _stream(
    ids: tuple[FrameworkId, TaskId], rows: list[tuple[str, bytes]], told: list[TaskStatus]
) -> UpdateStream:
    """Return a task's stream. Raises L{UpdateError}."""
    stream = UpdateStream.restore(updates_of(*ids), rows, told)
    for update in stream.waiting:
        if update.framework_id.value != ids[0]:
            raise UpdateError(f"an update of framework {ids[0]} is wanted")
    if any(status.task_id.value != ids[1] for status in told):
        raise UpdateError(f"an update of task {ids[1]} is wanted")
    return stream


def _nested(found: Snapshot, path: list[str], data: bytes) -> None:
    nested_records.read(found.nested, path, data)


def _nothing(found: Snapshot, path: list[str], data: bytes) -> None:
    """Updates are read together."""


_READERS: Final[dict[str, Callable[[Snapshot, list[str], bytes], None]]] = {
    "frameworks": _framework,
    "executors": _executor,
    "tasks": _task,
    "notes": _note,
    "updates": _nothing,
    "nested": _nested,
}

_DEPTHS: Final[dict[str, tuple[int, ...]]] = {
    "frameworks": (1,),
    "executors": (2,),
    "tasks": (3,),
    "notes": (2, 3),
    "updates": (3,),
    "nested": (1, 2),
}

_WORDS: Final = frozenset(
    (
        "subscribed",
        "proven",
        "terminating",
        "killed",
        "grace",
        "started",
        "overdue",
        "abandoned",
    )
)
