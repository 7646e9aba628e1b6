"""What has ended here, kept over restarts of the agent until its sandbox is collected.

Mesos' agent has it from the checkpoints that it leaves beside the sandboxes
(C{Framework::recoverExecutor} in C{src/slave/slave.cpp}); here it is records in the store:

    history/<framework>                                 FrameworkInfo, once nothing of it is left
    history/<framework>/<executor>/<container>          head line, ExecutorInfo (not for commands)
    history/<framework>/<executor>/<container>/<task>   head line, TaskInfo, its last statuses

A record is written with the deletion of what was stored of the living, and goes where the history
in memory goes: when there is too much of it, and when the sandbox is removed. Nothing rests on it.
So one that cannot be stored is done without, and one that cannot be read is no reason not to start.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from mesoskit.agent.frameworks import AgentTask, Executor, ExecutorState, Framework, Kind
from mesoskit.agent.paths import executor_run_path
from mesoskit.messages.mesos_pb2 import ExecutorInfo, FrameworkInfo, TaskInfo, TaskStatus
from mesoskit.model.events import Store
from mesoskit.model.ids import ContainerId, ExecutorId, FrameworkId, TaskId
from mesoskit.model.tasks import TERMINAL

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

KIND: Final = "history"
"""What the keys of these records begin with."""

LEAN: Final = 4096
"""Bytes from which on a message is stored without its C{data}: that is not for looking at."""

_NONE: Final = "-"

_Change = tuple[str, bytes | None]
_Run = tuple[FrameworkId, ExecutorId, ContainerId]


# Writing.


def framework_key(framework_id: str) -> str:
    """Return the key of a framework that has nothing here any more."""
    return f"{KIND}/{framework_id}"


def executor_key(executor: Executor) -> str:
    """Return the key of an executor, and what the keys of its tasks begin with."""
    return f"{KIND}/{executor.framework.id}/{executor.id}/{executor.container}"


def task_key(task: AgentTask) -> str:
    """Return the key of a task."""
    return f"{executor_key(task.executor)}/{task.id}"


def task_ended(state: AgentState, task: AgentTask) -> list[_Change]:
    """Return what to store of a task that goes into its executor's history just now."""
    most = state.options.max_completed_tasks_per_executor
    if not most:
        return []
    changes: list[_Change] = [(task_key(task), _task_record(state, task))]
    kept = task.executor.completed
    if kept is not None and len(kept) >= most:
        changes.append((task_key(kept[0]), None))
    return changes


def executor_ended(state: AgentState, executor: Executor) -> list[_Change]:
    """Return what to store of an executor that goes into its framework's history just now."""
    kept = executor.framework.completed
    if not kept.maxlen:
        return _forget(executor)
    changes: list[_Change] = []
    if executor.info is not None:
        head = f"{executor.kind.value} {state.now!r}\n".encode()
        changes.append((executor_key(executor), head + executor.info.SerializeToString()))
    if len(kept) == kept.maxlen:
        changes.extend(_forget(kept[0]))
    return changes


def framework_ended(framework: Framework) -> list[_Change]:
    """Return what to store of a framework that has nothing here any more."""
    if not framework.completed:
        return []
    return [(framework_key(framework.id), framework.info.SerializeToString())]


def forget_framework(framework: Framework) -> list[_Change]:
    """Return the deletion of a framework's history."""
    changes: list[_Change] = [(framework_key(framework.id), None)]
    for executor in framework.completed:
        changes.extend(_forget(executor))
    return changes


def sandbox_removed(state: AgentState, path: str) -> None:
    """A sandbox is gone: a restarted agent shall not tell of who had it."""
    names = path.rsplit("/", 6)[1:]  # frameworks, its id, executors, its id, runs, the container
    if len(names) != 6 or names[0] != "frameworks":
        return
    framework_id = FrameworkId(names[1])
    framework = state.frameworks.get(framework_id) or state.completed_frameworks.get(framework_id)
    if framework is None:
        return
    for executor in framework.completed:
        if executor.directory == path:
            changes = _forget(executor)
            if changes:
                state.out.append(Store(tuple(changes)))


def _forget(executor: Executor) -> list[_Change]:
    changes: list[_Change] = [(task_key(task), None) for task in executor.completed or ()]
    if executor.info is not None:
        changes.append((executor_key(executor), None))
    return changes


def _task_record(state: AgentState, task: AgentTask) -> bytes:
    info = _lean(TaskInfo, task.info)
    statuses = [(number, _lean(TaskStatus, data)) for number, data in task.statuses]
    lengths = [str(len(info)), *(f"{number}:{len(data)}" for number, data in statuses)]
    kind = task.executor.kind.value
    head = [kind, repr(state.now), str(int(task.state)), task.container or _NONE, *lengths]
    return b"".join((" ".join(head).encode(), b"\n", info, *(data for _, data in statuses)))


def _lean(kind: type[TaskInfo] | type[TaskStatus], data: bytes) -> bytes:
    if len(data) <= LEAN:
        return data
    message = kind.FromString(data)
    message.ClearField("data")
    return message.SerializeToString()


# Reading.


@dataclass(slots=True)
class _Read:
    """
    What is read of one run of an executor.

    @ivar when: when it ended, for a command its task; C{info}: L{None} for a command.
    @ivar tasks: each with the moment when it ended.
    """

    kind: Kind
    when: float = 0.0
    info: ExecutorInfo | None = None
    tasks: list[tuple[float, _Task]] = field(default_factory=list)


@dataclass(slots=True)
class _Task:
    """What is read of a task."""

    id: TaskId
    state: int
    container: ContainerId | None
    info: bytes
    statuses: tuple[tuple[int, bytes], ...]


def rebuild(state: AgentState, records: dict[str, bytes]) -> None:
    """
    Take over what has ended in earlier lives of the agent, when what lives is there already.
    What cannot be read, hangs on nothing or is too much by now is deleted.
    """
    infos: dict[FrameworkId, FrameworkInfo] = {}
    runs: dict[_Run, _Read] = {}
    good = set()
    for key in sorted(records, key=lambda key: key.count("/")):
        with suppress(DecodeError, ValueError):
            _read(infos, runs, key.split("/")[1:], records[key])
            good.add(key)
    over: dict[FrameworkId, tuple[float, Framework]] = {}
    for (framework_id, executor_id, container), run in sorted(runs.items(), key=_end):
        framework = state.frameworks.get(framework_id)
        executor = None if framework is None else framework.executors.get(executor_id)
        if executor is not None and executor.container == container:
            _take_tasks(state, executor, run)
            continue
        if run.info is None and (run.kind is not Kind.COMMAND or not run.tasks):
            continue  # The executor's own record is not there.
        if framework is None and framework_id in infos:
            framework = _framework(state, over, framework_id, infos[framework_id], run.when)
        if framework is not None:
            framework.completed.append(_executor(state, framework, executor_id, container, run))
    for _, framework in sorted(over.values(), key=itemgetter(0)):
        if framework.completed:
            state.completed_frameworks[framework.id] = framework
    while len(state.completed_frameworks) > state.options.max_completed_frameworks:
        del state.completed_frameworks[next(iter(state.completed_frameworks))]
    good &= _kept(state)
    stale = tuple((key, None) for key in records if key not in good)
    if stale:
        state.out.append(Store(stale))


def _end(row: tuple[_Run, _Read]) -> float:
    return row[1].when


def _framework(
    state: AgentState,
    over: dict[FrameworkId, tuple[float, Framework]],
    framework_id: FrameworkId,
    info: FrameworkInfo,
    when: float,
) -> Framework:
    """Return a framework that has nothing here any more, and note when it had last."""
    _, framework = over.get(framework_id, (0.0, None))
    if framework is None:
        most = state.options.max_completed_executors_per_framework
        framework = Framework(framework_id, info, most)
    over[framework_id] = when, framework
    return framework


def _kept(state: AgentState) -> set[str]:
    """Return the keys of all that is in the history."""
    kept = {framework_key(framework_id) for framework_id in state.completed_frameworks}
    for framework in (*state.frameworks.values(), *state.completed_frameworks.values()):
        for executor in (*framework.completed, *framework.executors.values()):
            kept.update(key for key, _ in _forget(executor))
    return kept


def _read(
    infos: dict[FrameworkId, FrameworkInfo], runs: dict[_Run, _Read], path: list[str], data: bytes
) -> None:
    """Read one record; those of executors before those of their tasks. Raises L{ValueError}."""
    if len(path) not in (1, 3, 4):
        raise ValueError("no such kind of record")
    if len(path) == 1:
        info = FrameworkInfo.FromString(data)
        if info.id.value != path[0]:
            raise ValueError(f"a FrameworkInfo with the id {path[0]} is wanted")
        infos[FrameworkId(path[0])] = info
        return
    line, _, body = data.partition(b"\n")
    word, when, *more = line.decode().split(" ")
    kind = Kind(word)
    run = FrameworkId(path[0]), ExecutorId(path[1]), ContainerId(path[2])
    if len(path) == 3:
        runs[run] = _Read(kind, float(when), ExecutorInfo.FromString(body))
        return
    task = _read_task(TaskId(path[3]), more, body)
    # A command's executor has no record of its own; that of another is written when it is gone.
    runs.setdefault(run, _Read(kind, float(when))).tasks.append((float(when), task))


def _read_task(task_id: TaskId, words: list[str], body: bytes) -> _Task:
    number, container, length, *more = words
    end = int(length)
    info = body[:end]
    if TaskInfo.FromString(info).task_id.value != task_id:
        raise ValueError(f"a TaskInfo with the id {task_id} is wanted")
    statuses = []
    for word in more:
        told, _, length = word.partition(":")
        begin, end = end, end + int(length)
        status = TaskStatus.FromString(body[begin:end])
        statuses.append((int(told), body[begin:end]))
        if status.task_id.value != task_id:
            raise ValueError(f"a TaskStatus of {task_id} is wanted")
    if end != len(body) or int(number) not in TERMINAL:
        raise ValueError(f"{len(body)} bytes, state {number}: {end} bytes and an end are wanted")
    place = None if container == _NONE else ContainerId(container)
    return _Task(task_id, int(number), place, info, tuple(statuses))


def _executor(
    state: AgentState,
    framework: Framework,
    executor_id: ExecutorId,
    container: ContainerId,
    run: _Read,
) -> Executor:
    work_dir, agent_id = state.options.work_dir, state.agent_id
    directory = executor_run_path(work_dir, agent_id, framework.id, executor_id, container)
    executor = Executor(framework, executor_id, run.kind, container, directory, run.info)
    executor.state = ExecutorState.TERMINATED
    _take_tasks(state, executor, run)
    return executor


def _take_tasks(state: AgentState, executor: Executor, run: _Read) -> None:
    run.tasks.sort(key=itemgetter(0))
    kept: deque[AgentTask] = deque(maxlen=state.options.max_completed_tasks_per_executor)
    for _, found in run.tasks:
        if found.id in executor.tasks:
            continue
        task = AgentTask(executor, found.id, found.info)
        task.state = found.state
        task.container = found.container
        task.statuses = found.statuses
        task.started = task.ended = True
        kept.append(task)
    executor.completed = kept
