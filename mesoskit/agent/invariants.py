"""What is always true of an agent's state; tests ask after every event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesoskit.agent import nested
from mesoskit.agent.frameworks import AgentTask, Executor, ExecutorState, Kind
from mesoskit.agent.phase import Phase

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState


def validate(state: AgentState) -> None:
    """Raise L{AssertionError} naming what contradicts what."""
    _tasks(state)
    _executors(state)
    _containers(state)
    _nested(state)
    _streams(state)
    if state.phase is Phase.RUNNING:
        assert state.master is not None, "registered without a master"
        assert state.agent_id, "registered without an id"
        assert ("ping",) in state.deadlines, "registered, and no ping is awaited"
    assert state.recovery.found or not state.recovery.done, "recovered without a look"
    if state.unstored or state.unforgotten:
        assert ("unstored",) in state.deadlines, "changes wait for nothing to be stored"


def _tasks(state: AgentState) -> None:
    held = {}
    for framework in state.frameworks.values():
        for executor in framework.executors.values():
            assert executor.framework is framework, f"{executor.id} is in a foreign framework"
            for task in executor.tasks.values():
                assert task.executor is executor, f"{task.id} is in a foreign executor"
                key = framework.id, task.id
                assert key not in held, f"{task.id} is in two executors"
                held[key] = task
                _task(state, task)
            done = {task.id for task in executor.completed or ()}
            assert not done & executor.tasks.keys(), f"tasks both live and completed: {done}"
    assert held == state.tasks, "the table of tasks is not what the executors hold"


def _task(state: AgentState, task: AgentTask) -> None:
    framework = task.executor.framework
    key = framework.id, task.id
    if task.terminal and not framework.terminating:
        assert key in state.streams, f"{task.id} is terminal and nobody is told"
    if task.executor.kind is Kind.CUSTOM:
        return
    assert task.container is not None, f"{task.id} has no container"
    if task.terminal:
        assert task.container not in state.containers, f"{task.id} is terminal and still runs"
    elif task.group is not None and task.group.waits:
        assert task.container not in state.containers, f"{task.id} waits and runs"
    elif not task.ended:
        assert state.containers.get(task.container) is task, f"{task.id} has lost its container"
    if task.killed_at is not None and not task.ended and not task.overdue and state.recovery.found:
        assert task.ending is not None or _killing(state, task), f"{task.id} is killed for ever"


def _killing(state: AgentState, task: AgentTask) -> bool:
    """A kill goes on: the moment of destruction stands, or destruction was asked for."""
    return ("kill", task.container) in state.deadlines or task.container in state.destroying


def _executors(state: AgentState) -> None:
    for framework in state.frameworks.values():
        empty = state.recovery.found and not framework.executors
        assert not empty, f"framework {framework.id} has nothing here"
        assert framework.id not in state.completed_frameworks, f"{framework.id} is live and gone"
        for executor in framework.executors.values():
            _executor(state, executor)
    assert state.proofs.keys() <= state.peers.keys(), "a proof is kept of a peer that has left"
    for peer, linked in state.peers.items():
        dead = linked is not None and linked.state is ExecutorState.TERMINATED
        assert not dead, f"link {peer} leads nowhere"


def _executor(state: AgentState, executor: Executor) -> None:
    name = f"executor {executor.id}"
    if executor.state is ExecutorState.TERMINATED:
        assert executor.tasks, f"{name} is gone and has nothing left to tell"
        assert all(task.terminal for task in executor.tasks.values()), f"{name} has live tasks"
        assert executor.peer is None, f"{name} is gone and linked"
    if executor.kind is Kind.COMMAND:
        assert len(executor.tasks) == 1, f"{name} is of {len(executor.tasks)} commands"
    if executor.pod:
        _pod(state, executor, name)
    if executor.kind is not Kind.CUSTOM:
        return
    if executor.state is not ExecutorState.TERMINATED:
        assert state.containers.get(executor.container) is executor, f"{name} has no container"
    if executor.state is ExecutorState.REGISTERING:
        waits = ("subscribe", executor.container) in state.deadlines
        assert waits or not state.recovery.found, f"{name} may never subscribe"
    if executor.container in state.recovery.waiting:
        waits = ("subscribe", executor.container) in state.deadlines
        assert waits, f"recovery waits for {name} for ever"
    if executor.peer is not None:
        assert state.peers.get(executor.peer) is executor, f"{name} has a foreign link"


def _pod(state: AgentState, executor: Executor, name: str) -> None:
    """The tasks of a pod are in its container, or on their way out."""
    stands = state.containers.get(executor.container) is executor
    assert not (stands and executor.state is ExecutorState.TERMINATED), f"{name} is gone and stands"
    live = [task for task in executor.tasks.values() if not task.ended]
    for task in live:
        waits = task.group is not None and task.group.waits
        assert stands or not waits, f"{task.id} waits for what is gone"
        leaves = task.container in state.destroying or not state.recovery.found
        assert stands or leaves, f"{task.id} has outlived its pod"
    ends = executor.container in state.destroying or not state.recovery.found
    assert live or ends or not stands, f"{name} stands for nobody"


def _containers(state: AgentState) -> None:
    for container, owner in state.containers.items():
        assert owner.container == container, f"container {container} belongs to another"
        assert container not in state.doomed, f"container {container} is owned and doomed"
        framework = owner.framework if isinstance(owner, Executor) else owner.executor.framework
        assert framework.id in state.frameworks, f"container {container} is of a framework gone"


def _nested(state: AgentState) -> None:
    table = state.nested
    assert table.running.keys() <= table.all.keys(), "a nested container runs and is unknown"
    for key, one in table.all.items():
        assert one.key == key, f"container {key} has another name"
        assert one.over is not (key in table.running), f"container {key} is over and runs"
        assert key not in state.containers, f"container {key} has two owners"
        if not state.recovery.found or one.over or len(one.path) == 1:
            continue
        alive = key in state.destroying or nested.is_alive(state, one.path[:-1])
        assert alive, f"container {key} has outlived what it is nested in"
    for key in table.waits:
        alive = key in state.containers or nested.is_alive(state, tuple(key.split(".")))
        assert alive, f"nobody hears of the end of {key}"


def _streams(state: AgentState) -> None:
    for key, stream in state.streams.items():
        assert len(stream) or key in state.tasks, f"an empty stream is kept for {key}"
        waits = ("retry", *key) in state.deadlines
        if len(stream) and state.phase is Phase.RUNNING:
            assert waits, f"an update of {key} is not repeated"
        if state.phase is not Phase.RUNNING:
            assert not waits, f"an update of {key} is repeated to nobody"
