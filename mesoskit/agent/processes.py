"""Tasks whose executor the agent plays itself: the task is a process, its container's first.

This is what Mesos' command executor (C{src/launcher/executor.cpp}) and default executor
(C{src/launcher/default_executor.cpp}) do in processes of their own: the same states, texts
and times, as recordings of both show. A command task is alone in its container; the
tasks of a group have a container each, within their executor's, start together and end
together when one of them fails or is killed.
"""

from __future__ import annotations

from signal import SIGTERM, strsignal
from typing import TYPE_CHECKING, Final

from mesoskit.agent import (
    allotments,
    checkpoint,
    checks,
    completion,
    docker,
    executors,
    failures,
    gc,
    groups,
    pods,
    updates,
)
from mesoskit.agent.container import (
    ContainerExited,
    ContainerFailed,
    ContainerProgress,
    ContainerSpec,
    ContainerStarted,
    Forget,
    Launch,
    Limitation,
    Signal,
)
from mesoskit.agent.environment import (
    console_of,
    executor_variables,
    group_task_variables,
    process_of,
    rlimits_of,
    uris_of,
    user_of,
    with_command,
)
from mesoskit.agent.frameworks import AgentTask, Executor, ExecutorState, Kind
from mesoskit.agent.networks import address_within, unknown_network
from mesoskit.agent.paths import latest_link, nested_path
from mesoskit.agent.persistent import with_volumes
from mesoskit.messages.mesos_pb2 import TaskInfo
from mesoskit.model.events import Store
from mesoskit.model.ids import ContainerId
from mesoskit.model.secrets import unresolved
from mesoskit.model.tasks import Reason, Source, TaskState

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

KILLED_BEFORE: Final = "Killed before delivery to the executor"
GROUP_KILLED_BEFORE: Final = (
    "A task within the task group was killed before delivery to the executor"
)
LAUNCH_FAILED: Final = "Failed to launch container: "
KILLED_DURING_LAUNCH: Final = Reason.REASON_TASK_KILLED_DURING_LAUNCH
UNKNOWN_STATUS: Final = "Failed to get exit status for Command"

Ending = tuple[int, int, int, str]
"""State, source, reason and text that a task ends with whatever its exit status."""


def exit_text(status: int) -> str:
    """Return how Mesos words a wait status (C{WSTRINGIFY} of stout)."""
    signum = status & 0x7F
    if signum == 0:
        return f"exited with status {status >> 8 & 0xFF}"
    text = f"terminated with signal {strsignal(signum) or signum}"
    return f"{text} (core dumped)" if status & 0x80 else text


# Starting.


def launch_command(state: AgentState, task: AgentTask, info: TaskInfo) -> None:
    """Start a command task: its container is its executor's."""
    executor = task.executor
    task.container = executor.container
    state.containers[executor.container] = task
    if info.kill_policy.HasField("grace_period"):
        # Mesos' agent leaves the executor 2 s more than the task (recording 05).
        executor.grace_period = task.kill_grace + 2.0
    spec = spec_of(state, task, info, *surroundings(state, task, info))
    state.out.append(Store(((checkpoint.task_key(task), checkpoint.task_record(task)),)))
    state.out.append(Launch(spec))
    if not spec.uris and not task.docker:
        # With something to fetch or to pull the task stays staging until that is done, as in Mesos.
        updates.report_task(state, task, TaskState.TASK_STARTING)


def surroundings(state: AgentState, task: AgentTask, info: TaskInfo) -> tuple[str, dict[str, str]]:
    """Return a task's sandbox, and what its environment holds besides its command's variables."""
    executor = task.executor
    if executor.kind is Kind.DEFAULT:
        assert task.container is not None
        directory = nested_path(executor.directory, task.container)
        ip = address_within(state.options.isolation, state.options.ip)
        return directory, group_task_variables(ip, role_of(info), directory)
    if task.docker:
        settings = state.options.docker
        return executor.directory, docker.task_variables(
            settings, executor.container, role_of(info)
        )
    framework = executor.framework
    variables = executor_variables(
        state.variables,
        framework.id,
        executor.id,
        executor.directory,
        executor.grace_period,
        framework.info.checkpoint,
        state.options.recovery_timeout,
        state.options.executor_reregistration_timeout,
    )
    variables["MESOS_ALLOCATION_ROLE"] = role_of(info)
    return executor.directory, variables


def spec_of(
    state: AgentState,
    task: AgentTask,
    info: TaskInfo,
    directory: str,
    variables: dict[str, str],
    *links: tuple[str, str],
) -> ContainerSpec:
    """
    Return the container of a task.

    @param variables: what the environment holds besides the command's own variables.
    @param links: symbolic links to make besides C{runs/latest}.
    """
    assert task.container is not None
    command = info.command
    wrong = unresolved(command) or unknown_network(info.container, state.options.isolation)
    argv, file = process_of(command)
    if task.docker:
        argv, file = docker.process_of(command)
        wrong = wrong or docker.ports_error(info.container, info.resources)
    executor = task.executor
    container = info.container if info.HasField("container") else None
    if executor.pod and container is not None and container.mesos.HasField("image"):
        wrong = wrong or pods.with_volumes_of(executor, container, state.options.work_dir)
    return ContainerSpec(
        id=task.container,
        argv=argv,
        sandbox=directory,
        environment=with_command(variables, command),
        file=file,
        user=user_of(state.options, executor.framework.info, command),
        rlimits=rlimits_of(info.container) if info.HasField("container") else (),
        uris=uris_of(command) if len(command.uris) else (),
        links=((latest_link(executor.directory), executor.directory), *links),
        allotment=allotments.of_task(info),
        info=with_volumes(container, info.resources, state.options.work_dir),
        docker=task.docker,
        parent=executor.container if executor.pod else None,
        member=executor.pod,
        wrong=wrong,
        patience=patience_of(state, executor),
        console=console_of(info.container),
    )


def patience_of(state: AgentState, executor: Executor) -> float:
    """Return for how many seconds what belongs to an executor goes on without an agent."""
    return state.options.recovery_timeout if executor.framework.info.checkpoint else 0.0


def role_of(info: TaskInfo) -> str:
    """Return the role that the resources of a task are allocated to: there is only one."""
    for resource in info.resources:
        return resource.allocation_info.role
    return ""


# What is heard of containers.


def started(state: AgentState, event: ContainerStarted) -> None:
    """A container's process runs."""
    owner = state.containers.get(event.container)
    if owner is None:
        return
    if isinstance(owner, Executor):
        owner.pid = event.pid
        state.remember(f"executor runs as process {event.pid}", owner.id, event.container)
        if owner.pod:
            pods.started(state, owner)
        return
    task = owner
    task.pid = event.pid
    task.started = True
    if task.ending is not None:
        return  # It is being destroyed; what happens to it is told when that is done.
    if task.max_completion > 0:
        task.started_at = state.now
        note(state, task)
        limit(state, task)
    if task.group is None:
        task.executor.pid = event.pid
        if task.state == TaskState.TASK_STAGING:
            updates.report_task(state, task, TaskState.TASK_STARTING)
        updates.report_task(state, task, TaskState.TASK_RUNNING, facts=event.facts)
        checks.begin(state, task)
    else:
        groups.started(state, task.group)


def progressed(state: AgentState, event: ContainerProgress) -> None:
    """
    A launch takes long: the framework of a command task is told how far that is, and an executor is
    not expected before it is done. (Mesos waits no longer for those whose image is pulled.)
    """
    task = state.containers.get(event.container)
    if isinstance(task, Executor) and task.state is ExecutorState.REGISTERING:
        limit = state.options.executor_registration_timeout
        executors.await_subscription(state, task, limit)
    if not isinstance(task, AgentTask) or task.started or task.ending is not None:
        return
    if task.group is None and task.state in (TaskState.TASK_STAGING, TaskState.TASK_STARTING):
        updates.report_task(state, task, TaskState.TASK_STARTING, message=event.message)


def limit(state: AgentState, task: AgentTask) -> None:
    """See to it that a task ends when it has had its C{max_completion_time}."""
    if task.max_completion > 0:
        # The clock may have been set back since it was written.
        began = state.now if task.started_at is None else min(task.started_at, state.now)
        when = max(state.now, began + task.max_completion)
        state.deadlines.set(("completion", task.container), when)


def failed(state: AgentState, event: ContainerFailed) -> None:
    """A container could not be started; nothing of it is left."""
    owner = state.containers.pop(event.container, None)
    if event.container in state.destroying:
        state.destroying.discard(event.container)
    elif owner is not None:
        state.counters["container_launch_errors"] += 1
    if owner is None:
        return
    why = LAUNCH_FAILED + event.why
    if isinstance(owner, Executor):
        ending = TaskState.TASK_FAILED, Reason.REASON_CONTAINER_LAUNCH_FAILED, why
        owner.termination = owner.termination or ending
        (pods.over if owner.pod else executors.terminated)(state, owner, None)
        return
    task = owner
    _drop_deadlines(state, task)
    if task.ending is None:
        task.ending = (
            TaskState.TASK_FAILED,
            Source.SOURCE_AGENT,
            Reason.REASON_CONTAINER_LAUNCH_FAILED,
            why,
        )
    end(state, task, None)


def exited(state: AgentState, event: ContainerExited) -> None:
    """A container has ended, with all it had started."""
    container = event.container
    owner = state.containers.pop(container, None)
    state.destroying.discard(container)
    if owner is None:
        if container in state.doomed:
            state.doomed.discard(container)
            state.out.append(Forget(container))
        return
    state.usage.pop(container, None)
    if event.limitation is not None:
        limited(state, owner, event.limitation)
    if isinstance(owner, Executor):
        (pods.over if owner.pod else executors.terminated)(state, owner, event.status)
    else:
        _drop_deadlines(state, owner)
        end(state, owner, event.status)
        if failures.is_known_here_alone(state, owner):
            failures.forget_later(state, owner)
            return
    state.out.append(Forget(container))


def limited(state: AgentState, owner: AgentTask | Executor, why: Limitation) -> None:
    """A container was ended because it took more than it was given."""
    state.note("warn", f"{owner.id} has exceeded its limits: {why.message.splitlines()[0]}")
    if isinstance(owner, Executor):
        if owner.termination is None:
            owner.termination = TaskState.TASK_FAILED, why.reason, why.message
            owner.limited = why.resources
    elif owner.ending is None:
        owner.ending = TaskState.TASK_FAILED, Source.SOURCE_AGENT, why.reason, why.message
        owner.limited = why.resources


# Ending.


def end(state: AgentState, task: AgentTask, status: int | None) -> None:
    """The task's container is gone: report how it ended, and what follows for others."""
    task.ended = True
    if task.group is not None:
        groups.ended(state, task, task.group, status)
        return
    report_end(state, task, status)
    task.executor.state = ExecutorState.TERMINATED
    gc.schedule(state, task.executor)
    if task.executor.framework.terminating:
        completion.remove_executor(state, task.executor)


def report_end(state: AgentState, task: AgentTask, status: int | None) -> None:
    """Report the last state of a task, from how it was to end or how its process did."""
    what = "Container" if task.docker else "Command"
    text = UNKNOWN_STATUS if status is None else f"{what} {exit_text(status)}"
    reason = None
    source: int = Source.SOURCE_EXECUTOR
    if task.ending is not None:
        after, source, reason, text = task.ending
    elif task.overdue:
        after, reason = TaskState.TASK_FAILED, Reason.REASON_MAX_COMPLETION_TIME_REACHED
    elif task.killed:
        after = TaskState.TASK_KILLED
    elif status == 0:
        after = TaskState.TASK_FINISHED
    else:
        after = TaskState.TASK_FAILED
    updates.report_task(
        state, task, after, source=source, reason=reason, message=text, limited=task.limited
    )


# Killing.


def kill(state: AgentState, task: AgentTask, grace: float) -> None:
    """
    End a task: SIGTERM to its processes, and destruction C{grace} seconds later. A task that
    is not there yet is destroyed at once. A second call can only shorten the time.
    """
    if task.terminal or task.ended:
        return
    assert task.container is not None
    key = "kill", task.container
    if task.group is not None and not task.group.launched:
        note_kill(state, task, grace)
        groups.abandon(state, task.group, GROUP_KILLED_BEFORE)
    elif not task.started:
        note_kill(state, task, grace)
        destroy(state, task, TaskState.TASK_KILLED, KILLED_DURING_LAUNCH, KILLED_BEFORE)
    elif task.ending is not None:
        return
    elif task.killed_at is not None:
        when = task.killed_at + grace
        current = state.deadlines.when(key)
        if current is not None and when < current:
            state.deadlines.set(key, max(when, state.now))
            task.kill_grace = grace
            note(state, task)
    else:
        note_kill(state, task, grace)
        state.deadlines.drop(("completion", task.container))
        report_killing(state, task)
        state.out.append(Signal(task.container, SIGTERM))
        state.deadlines.set(key, state.now + grace)


def note_kill(state: AgentState, task: AgentTask, grace: float) -> None:
    """Note that somebody wants a task's end, so that a restarted agent goes on with it."""
    if task.killed:
        return
    task.killed = True
    task.killed_at = state.now
    task.kill_grace = grace
    checks.stop(state, task)
    note(state, task)


def note(state: AgentState, task: AgentTask) -> None:
    """Store what has come true of a task, unless its framework is being shut down."""
    if _is_stored(task):
        state.out.append(Store(checkpoint.note_task(task)))


def note_later(state: AgentState, task: AgentTask) -> None:
    """Do as L{note} does, in an event of its own: where that fails nothing else is dropped."""
    if _is_stored(task):
        task.noted = True
        failures.store_later(state, checkpoint.task_note_key(task))


def _is_stored(task: AgentTask) -> bool:
    return not (task.unrecorded or task.executor.framework.terminating)


def report_killing(state: AgentState, task: AgentTask) -> None:
    """Report that a task is being killed, to a framework that knows what that is."""
    if task.executor.framework.killing_state and task.state != TaskState.TASK_KILLING:
        updates.report_task(state, task, TaskState.TASK_KILLING)


def destroy(state: AgentState, task: AgentTask, after: int, reason: int, why: str) -> None:
    """Destroy a task's container; the task then ends as said here, whatever its exit status."""
    if task.ended or task.ending is not None:
        return
    assert task.container is not None
    task.ending = after, Source.SOURCE_AGENT, reason, why
    checks.stop(state, task)
    if task.group is not None and task.group.waits:
        end(state, task, None)  # it has no container yet
    else:
        state.destroy(task.container)


def escalate(state: AgentState, container: ContainerId) -> None:
    """The grace period is over."""
    if container in state.containers:
        state.destroy(container)


def overdue(state: AgentState, container: ContainerId) -> None:
    """A task has had its C{max_completion_time}: it is ended at once, and has failed."""
    task = state.containers.get(container)
    if isinstance(task, AgentTask) and not task.killed:
        task.overdue = True
        checks.stop(state, task)
        task.killed_at = state.now
        note(state, task)
        state.out.append(Signal(container, SIGTERM))
        state.destroy(container)


def _drop_deadlines(state: AgentState, task: AgentTask) -> None:
    state.deadlines.drop(("kill", task.container))
    state.deadlines.drop(("completion", task.container))
    checks.stop(state, task)
