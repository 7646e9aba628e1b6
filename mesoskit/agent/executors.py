"""Custom executors: processes that subscribe at the agent's door, or over HTTP.

Launched with a token; given time to subscribe; given tasks, kills and messages over their
link; shut down, destroyed, and reported when their container ends (C{src/slave/slave.cpp}).
Their calls are heard in L{mesoskit.agent.door_calls}.

Executors written for Mesos know of no token of ours. As in Mesos, they are who their calls say
they are; but one that has once shown its token is only believed with it. Where the agent asks
for proof (C{--authenticate_http_executors}) each must show that token, or over HTTP Mesos' own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mesoskit.agent import (
    allotments,
    checkpoint,
    completion,
    docker,
    gc,
    groups,
    processes,
    recovery,
    shutdown,
    updates,
)
from mesoskit.agent.container import Allotment, ContainerSpec, Launch
from mesoskit.agent.environment import (
    EXECUTOR_SOCKET,
    EXECUTOR_TOKEN,
    HTTP_TOKEN,
    console_of,
    executor_variables,
    process_of,
    rlimits_of,
    uris_of,
    user_of,
    with_command,
)
from mesoskit.agent.frameworks import AgentTask, Executor, ExecutorState, Group
from mesoskit.agent.networks import unknown_network
from mesoskit.agent.paths import latest_link
from mesoskit.agent.persistent import with_volumes
from mesoskit.messages.executor_pb2 import Event
from mesoskit.messages.internal_pb2 import FrameworkToExecutorMessage
from mesoskit.messages.mesos_pb2 import KillPolicy, TaskInfo
from mesoskit.model.durations import format_duration
from mesoskit.model.events import Connected, Drop, Send, Store
from mesoskit.model.ids import ContainerId, ExecutorId, FrameworkId, PeerId
from mesoskit.model.secrets import unresolved
from mesoskit.model.tasks import Reason, Source, TaskState, as_lost

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

KILLED_BEFORE: Final = "Killed before delivery to the executor"
GROUP_KILLED_BEFORE: Final = (
    "A task within the task group was killed before delivery to the executor"
)
TERMINATED: Final = "Executor terminated"
TOKEN_WANTED: Final = "each executor must show its token here"
ENDED: Final = "the executor's container has ended"


# Launching.


def launch(state: AgentState, executor: Executor, allotment: Allotment) -> None:
    """Start an executor's process, with what it is given, and wait until it subscribes."""
    info = executor.info
    assert info is not None
    executor.state = ExecutorState.REGISTERING
    executor.token = token = state.ids.bytes().hex()
    state.tokens[token] = executor
    state.containers[executor.container] = executor
    variables = executor_variables(
        state.variables,
        executor.framework.id,
        executor.id,
        executor.directory,
        executor.grace_period,
        executor.framework.info.checkpoint,
        state.options.recovery_timeout,
        state.options.executor_reregistration_timeout,
    )
    variables[EXECUTOR_SOCKET] = state.options.executor_socket
    variables[EXECUTOR_TOKEN] = token
    if state.options.authentication_token is not None:
        variables[HTTP_TOKEN] = state.options.authentication_token(
            executor.framework.id, executor.id, executor.container
        )
    command = info.command
    argv, file = process_of(command)
    in_docker = info.HasField("container") and docker.is_docker(info.container)
    if in_docker:
        argv, file = docker.process_of(command)
        chosen = "PATH" in dict(state.options.executor_environment_variables)
        variables = docker.executor_variables(
            state.options.docker, executor.container, variables, chosen
        )
    spec = ContainerSpec(
        id=executor.container,
        argv=argv,
        sandbox=executor.directory,
        environment=with_command(variables, command),
        file=file,
        user=user_of(state.options, executor.framework.info, command),
        rlimits=rlimits_of(info.container) if info.HasField("container") else (),
        uris=uris_of(command),
        links=((latest_link(executor.directory), executor.directory),),
        allotment=allotment,
        info=with_volumes(
            info.container if info.HasField("container") else None,
            info.resources,
            state.options.work_dir,
        ),
        docker=in_docker,
        wrong=unresolved(command) or unknown_network(info.container, state.options.isolation),
        # It ends by itself when no agent comes back, tasks first; this is for one that does not.
        patience=processes.patience_of(state, executor) + executor.grace_period,
        console=console_of(info.container),
    )
    record = checkpoint.executor_record(executor)
    state.out.append(Store(((checkpoint.executor_key(executor), record),)))
    state.out.append(Launch(spec))
    await_subscription(state, executor, state.options.executor_registration_timeout)
    state.remember("executor launched", executor.id, executor.container, executor.framework.id)


def await_subscription(state: AgentState, executor: Executor, limit: float) -> None:
    """Destroy an executor that has not subscribed in so many seconds."""
    executor.allowed = limit
    state.deadlines.set(("subscribe", executor.container), state.now + limit)


def queue_again(executor: Executor) -> None:
    """Let all that an executor cannot have heard of wait until it subscribes."""
    executor.queued = []
    for task in executor.live():
        if task.state == TaskState.TASK_STAGING:
            task.started = False
            item: AgentTask | Group = task.group or task
            if item not in executor.queued:
                executor.queued.append(item)


def give(state: AgentState, executor: Executor, tasks: list[AgentTask], group: bool) -> None:
    """Give tasks to an executor, now or when it has subscribed."""
    changes = []
    item: AgentTask | Group = Group(tasks) if group else tasks[0]
    for task in tasks:
        if isinstance(item, Group):
            task.group = item
        changes.append((checkpoint.task_key(task), checkpoint.task_record(task)))
    state.out.append(Store(tuple(changes)))
    allotments.update(state, executor)
    if executor.peer is not None and executor.state is ExecutorState.RUNNING:
        deliver(state, executor, item)
    else:
        executor.queued.append(item)


def deliver(state: AgentState, executor: Executor, item: AgentTask | Group) -> None:
    """Send a task or a group to an executor that has subscribed."""
    assert executor.peer is not None
    executor.sent_task = True
    if isinstance(item, Group):
        event = Event(type=Event.LAUNCH_GROUP)
        for task in item.tasks:
            event.launch_group.task_group.tasks.add().MergeFromString(task.info)
            task.started = True
    else:
        event = Event(type=Event.LAUNCH, launch={"task": TaskInfo.FromString(item.info)})
        item.started = True
    state.out.append(Send(executor.peer, event))


# Links.


def connected(state: AgentState, event: Connected) -> None:
    """Somebody is there; the token says which executor it is, or else its calls will."""
    if event.token is None:
        if event.principal is not None:
            state.proofs[event.peer] = event.principal, dict(event.claims)
        elif state.options.authenticate_http_executors:
            state.out.append(Drop(event.peer, TOKEN_WANTED))
            return
        state.peers[event.peer] = None
        return
    executor = state.tokens.get(event.token)
    if executor is None or executor.state is ExecutorState.TERMINATED:
        state.out.append(Drop(event.peer, "the token is none of an executor of this agent"))
        return
    executor.proven = True
    state.peers[event.peer] = executor


def drop(state: AgentState, peer: PeerId, why: str) -> None:
    """Close an executor's link."""
    state.peers.pop(peer, None)
    state.proofs.pop(peer, None)
    state.out.append(Drop(peer, why))


def lost(state: AgentState, peer: PeerId) -> None:
    """An executor's link is gone: it has a while to come back."""
    executor = state.peers.pop(peer, None)
    state.proofs.pop(peer, None)
    if executor is None or executor.peer != peer:
        return
    executor.peer = None
    executor.first_note = False
    state.remember("executor's link lost", executor.id, executor.container)
    if executor.state is ExecutorState.RUNNING:
        await_subscription(state, executor, state.options.executor_registration_timeout)


def unsubscribe(state: AgentState, executor: Executor) -> None:
    """An executor's first subscription could not be noted: it was refused, and comes again."""
    executor.first_note = executor.subscribed = executor.sent_task = False
    executor.peer = None
    if executor.state is ExecutorState.RUNNING:
        executor.state = ExecutorState.REGISTERING
        queue_again(executor)
        await_subscription(state, executor, state.options.executor_registration_timeout)


def subscription_timed_out(state: AgentState, container: ContainerId) -> None:
    """An executor has not subscribed, or not again, in time: it is destroyed."""
    executor = state.containers.get(container)
    if not isinstance(executor, Executor) or executor.peer is not None:
        return
    if executor.state not in (ExecutorState.REGISTERING, ExecutorState.RUNNING):
        return
    limit = format_duration(executor.allowed)
    if executor.state is ExecutorState.REGISTERING:
        after: int = TaskState.TASK_FAILED
        reason = Reason.REASON_EXECUTOR_REGISTRATION_TIMEOUT
        why = f"Executor did not register within {limit}"
    else:
        after = as_lost(TaskState.TASK_GONE, executor.framework.partition_aware)
        reason = Reason.REASON_EXECUTOR_REREGISTRATION_TIMEOUT
        why = f"Executor did not reregister within {limit}"
    state.note("warn", f"Destroying executor {executor.id}: {why}")
    destroy(state, executor, after, reason, why)


def destroy(state: AgentState, executor: Executor, after: int, reason: int, why: str) -> None:
    """Destroy an executor's container; its live tasks then end as said here."""
    executor.state = ExecutorState.TERMINATING
    executor.termination = after, reason, why
    state.destroy(executor.container)
    recovery.accounted_for(state, executor.container)


# Tasks and messages.


def kill(state: AgentState, task: AgentTask, policy: KillPolicy | None) -> None:
    """Kill a task: by its executor, or at once where that has not heard of it."""
    executor = task.executor
    if task.terminal or executor.state not in (ExecutorState.REGISTERING, ExecutorState.RUNNING):
        return
    if not task.started:
        _kill_queued(state, executor, task)
        return
    grace = task.kill_grace
    if policy is not None and policy.HasField("grace_period"):
        grace = policy.grace_period.nanoseconds / 1e9
    processes.note_kill(state, task, grace)
    if executor.peer is not None:
        send_kill(state, executor, task, policy)


def send_kill(
    state: AgentState, executor: Executor, task: AgentTask, policy: KillPolicy | None = None
) -> None:
    """Ask an executor to kill a task."""
    assert executor.peer is not None
    event = Event(type=Event.KILL)
    event.kill.task_id.value = task.id
    if policy is not None:
        event.kill.kill_policy.CopyFrom(policy)
    state.out.append(Send(executor.peer, event))


def _kill_queued(state: AgentState, executor: Executor, task: AgentTask) -> None:
    group = task.group
    tasks = [task] if group is None else group.tasks
    why = KILLED_BEFORE if group is None else GROUP_KILLED_BEFORE
    item: AgentTask | Group = task if group is None else group
    executor.queued = [other for other in executor.queued if other is not item]
    for one in tasks:
        updates.report_task(
            state,
            one,
            TaskState.TASK_KILLED,
            source=Source.SOURCE_AGENT,
            reason=Reason.REASON_TASK_KILLED_DURING_LAUNCH,
            message=why,
        )
    end_if_never_used(state, executor)


def end_if_never_used(state: AgentState, executor: Executor) -> None:
    """Shut down an executor that has subscribed when the tasks it was for were all killed."""
    if executor.state is ExecutorState.RUNNING and not executor.sent_task and not executor.queued:
        shutdown.shutdown_executor(state, executor)


def framework_message(state: AgentState, message: FrameworkToExecutorMessage) -> None:
    """Hand a message of the framework to its executor; without promise, as in Mesos."""
    framework = state.frameworks.get(FrameworkId(message.framework_id.value))
    executor = None
    if framework is not None and not framework.terminating:
        executor = framework.executors.get(ExecutorId(message.executor_id.value))
    if executor is None or executor.peer is None or executor.state is not ExecutorState.RUNNING:
        state.counters["invalid_framework_messages"] += 1
        return
    state.counters["valid_framework_messages"] += 1
    event = Event(type=Event.MESSAGE, message={"data": message.data})
    state.out.append(Send(executor.peer, event))


# The end.


def shutdown_timed_out(state: AgentState, container: ContainerId) -> None:
    """An executor has not ended within its grace period."""
    if container in state.containers:
        state.destroy(container)


def terminated(state: AgentState, executor: Executor, status: int | None) -> None:
    """
    An executor's container is gone: its live tasks end with it, and the master hears its
    wait status.
    """
    executor.state = ExecutorState.TERMINATED
    for kind in ("subscribe", "shutdown"):
        state.deadlines.drop((kind, executor.container))
    if executor.token is not None:
        state.tokens.pop(executor.token, None)
    for peer in [peer for peer, one in state.peers.items() if one is executor]:
        drop(state, peer, ENDED)
    executor.peer = None
    executor.queued.clear()
    ending = executor.termination or (
        TaskState.TASK_FAILED,
        Reason.REASON_EXECUTOR_TERMINATED,
        TERMINATED,
    )
    after, reason, why = ending
    for task in executor.live():
        updates.report_task(
            state,
            task,
            after,
            source=Source.SOURCE_AGENT,
            reason=reason,
            message=why,
            limited=executor.limited,
        )
    for task in executor.tasks.values():
        task.ended = True
    state.remember("executor terminated", executor.id, executor.container, executor.framework.id)
    gc.schedule(state, executor)
    recovery.accounted_for(state, executor.container)
    groups.report_exited(state, executor, status)
    if executor.framework.terminating:
        completion.remove_executor(state, executor)
    else:
        completion.remove_executor_if_done(state, executor)
