"""Checks of tasks that the agent runs itself: is it well, and what does it say.

A health check that fails too often in a row ends its task; a plain check is only told. They begin
when the task runs and end when it is killed or over. What is told, and when, is as in Mesos
(C{src/checks/health_checker.cpp}, C{src/checks/checker.cpp}, C{src/launcher/executor.cpp}).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesoskit.agent import processes, updates
from mesoskit.agent.container import ContainerSpec
from mesoskit.agent.environment import process_of, user_of, with_command
from mesoskit.agent.frameworks import AgentTask, Kind
from mesoskit.agent.probe import Abandon, HttpGet, Probe, Probed, RunCommand, TcpConnect
from mesoskit.messages.mesos_pb2 import (
    CheckInfo,
    CheckStatusInfo,
    CommandInfo,
    HealthCheck,
    NetworkInfo,
    TaskInfo,
    TaskStatus,
)
from mesoskit.model.ids import ContainerId
from mesoskit.model.tasks import Reason, TaskState

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState


class Check:
    """
    One check of a task.

    @ivar info: what is wanted: a C{HealthCheck} or a C{CheckInfo}.
    @ivar number: of the probe that is under way.
    @ivar began: when the grace period began.
    @ivar new: nothing good was heard yet; failures within the grace period do not count.
    @ivar failures: how many there were in a row.
    @ivar last: the newest result of a plain check.
    """

    __slots__ = ("began", "failures", "info", "last", "new", "number", "task")

    def __init__(self, task: AgentTask, info: HealthCheck | CheckInfo) -> None:
        self.task = task
        self.info = info
        self.number: int | None = None
        self.began = 0.0
        self.new = True
        self.failures = 0
        self.last = CheckStatusInfo()
        if isinstance(info, CheckInfo):
            self.last = empty(info)


def empty(info: CheckInfo) -> CheckStatusInfo:
    """Return what is told of a check while nothing is known."""
    status = CheckStatusInfo(type=info.type)
    for kind, name in _PARTS.items():
        if info.type == kind:
            getattr(status, name).SetInParent()
    return status


_PARTS = {CheckInfo.COMMAND: "command", CheckInfo.HTTP: "http", CheckInfo.TCP: "tcp"}


def checks_of(task: AgentTask, info: TaskInfo) -> tuple[Check, ...]:
    """Return the checks of a task that the agent runs; executors look after their own."""
    if task.executor.kind is Kind.CUSTOM:
        return ()
    found: list[Check] = []
    if info.HasField("check") and info.check.type != CheckInfo.UNKNOWN:
        check = CheckInfo()
        check.CopyFrom(info.check)
        found.append(Check(task, check))
    if info.HasField("health_check") and info.health_check.type != HealthCheck.UNKNOWN:
        health_check = HealthCheck()
        health_check.CopyFrom(info.health_check)
        found.append(Check(task, health_check))
    return tuple(found)


# When.


def begin(state: AgentState, task: AgentTask) -> None:
    """The task runs, or was found running by a restarted agent."""
    if not task.checks or task.killed or task.ending is not None:
        return
    told = _last_status(task)
    for place, check in enumerate(task.checks):
        check.began = state.now
        if isinstance(check.info, HealthCheck):
            # One that was well before the agent restarted has no grace period again.
            check.new = told is None or not told.HasField("healthy")
        elif told is not None and told.HasField("check_status"):
            check.last = told.check_status
        state.deadlines.set(("check", task.container, place), state.now + check.info.delay_seconds)


def stop(state: AgentState, task: AgentTask) -> None:
    """The task is being ended, or is over."""
    for place, check in enumerate(task.checks):
        state.deadlines.drop(("check", task.container, place))
        if check.number is not None:
            del state.probes[check.number]
            state.out.append(Abandon(check.number))
            check.number = None


def due(state: AgentState, container: ContainerId, place: int) -> None:
    """It is time to ask."""
    task = state.containers.get(container)
    if not isinstance(task, AgentTask) or task.killed or task.ending is not None:
        return
    check = task.checks[place]
    number = check.number = state.next_probe
    state.next_probe += 1
    state.probes[number] = check
    timeout = check.info.timeout_seconds
    # As in Mesos, 0 is no time-out at all: whoever wants that gets it.
    state.out.append(Probe(number, _what(state, check), timeout if timeout > 0 else None))


def probed(state: AgentState, event: Probed) -> None:
    """The answer is there: tell what is new, and ask again later."""
    check = state.probes.pop(event.number, None)
    if check is None:
        return  # It was abandoned while the answer was on its way.
    check.number = None
    task = check.task
    place = task.checks.index(check)
    state.deadlines.set(("check", task.container, place), state.now + check.info.interval_seconds)
    if event.lost:
        # Mesos' executors discard a result that the agent has kept from them, too.
        state.remember(f"check without a result: {event.why}", task.id, task.executor.framework.id)
    elif isinstance(check.info, HealthCheck):
        _health(state, check, check.info, event)
    else:
        _plain(state, check, check.info, event)


# What is asked.


def _what(state: AgentState, check: Check) -> RunCommand | HttpGet | TcpConnect:
    info = check.info
    if info.type == CheckInfo.COMMAND:
        command = info.command if isinstance(info, HealthCheck) else info.command.command
        return RunCommand(_beside(state, check.task, command))
    if info.type == CheckInfo.HTTP:
        if isinstance(info, CheckInfo):
            where = _where(state, check.task)
            return HttpGet(info.http.port, info.http.path, "http", False, *where)
        scheme = info.http.scheme if info.http.HasField("scheme") else "http"
        ipv6 = info.http.protocol == NetworkInfo.IPv6
        where = _where(state, check.task, ipv6)
        return HttpGet(info.http.port, info.http.path, scheme, ipv6, *where)
    if isinstance(info, CheckInfo):
        return TcpConnect(info.tcp.port, False, *_where(state, check.task))
    ipv6 = info.tcp.protocol == NetworkInfo.IPv6
    return TcpConnect(info.tcp.port, ipv6, *_where(state, check.task, ipv6))


def _where(state: AgentState, task: AgentTask, ipv6: bool = False) -> tuple[str, int, bool]:
    """Return a task's address, its first process, and whether another may stand for that."""
    image = TaskInfo.FromString(task.info).container.mesos.HasField("image")
    return _host(state, task, ipv6), task.pid or 0, image


def _host(state: AgentState, task: AgentTask, ipv6: bool = False) -> str:
    """Return the address of a container of Docker with a network of its own; else nothing."""
    told = _last_status(task) if task.docker else None
    if told is not None:
        for network in told.container_status.network_infos:
            for one in network.ip_addresses:
                if one.ip_address != state.options.ip and (":" in one.ip_address) == ipv6:
                    return one.ip_address
    return ""


def _beside(state: AgentState, task: AgentTask, command: CommandInfo) -> ContainerSpec:
    """Return a command in a task's sandbox, with its environment, as its user."""
    info = TaskInfo.FromString(task.info)
    directory, variables = processes.surroundings(state, task, info)
    variables = dict(with_command(variables, info.command))
    argv, file = process_of(command)
    framework = task.executor.framework
    whose = command if command.HasField("user") else info.command
    return ContainerSpec(
        id=ContainerId(state.ids.text()),
        argv=argv,
        sandbox=directory,
        environment=with_command(variables, command),
        file=file,
        user=user_of(state.options, framework.info, whose),
        parent=task.container,
        patience=0.0,
        image_user=command.user if command.HasField("user") else None,
    )


# What is told.


def _health(state: AgentState, check: Check, info: HealthCheck, event: Probed) -> None:
    task = check.task
    why = _sick(info, event)
    if why is None:
        told = check.new or check.failures > 0
        check.new = False
        check.failures = 0
        if told:
            _tell(state, task, Reason.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED, healthy=True)
        return
    state.remember(f"health check failed: {why}", task.id, task.executor.framework.id)
    if check.new and 0 < info.grace_period_seconds >= state.now - check.began:
        return
    check.failures += 1
    times = f"{check.failures} of {info.consecutive_failures} times in a row"
    state.note("warn", f"The health check of task {task.id} failed {times}: {why}")
    _tell(state, task, Reason.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED, healthy=False)
    if check.failures >= info.consecutive_failures:
        task.sick = True
        processes.kill(state, task, task.kill_grace)


def _sick(info: HealthCheck, event: Probed) -> str | None:
    found = event.found
    if found is None:
        return event.why
    if info.type == HealthCheck.COMMAND and found != 0:
        return f"the command exited with status {found}"
    if info.type == HealthCheck.HTTP and not 200 <= found < 400:
        return f"the answer over HTTP was {found}"
    return "there is no connection" if info.type == HealthCheck.TCP and not found else None


def _plain(state: AgentState, check: Check, info: CheckInfo, event: Probed) -> None:
    status = empty(info)
    if event.found is None:
        state.remember(f"check failed: {event.why}", check.task.id)
    elif info.type == CheckInfo.COMMAND:
        status.command.exit_code = event.found
    elif info.type == CheckInfo.HTTP:
        status.http.status_code = event.found
    else:
        status.tcp.succeeded = event.found != 0
    if status != check.last:
        check.last = status
        reason = Reason.REASON_TASK_CHECK_STATUS_UPDATED
        _tell(state, check.task, reason, check_status=status)


def _tell(
    state: AgentState,
    task: AgentTask,
    reason: int,
    healthy: bool | None = None,
    check_status: CheckStatusInfo | None = None,
) -> None:
    """Tell the task's state once more, with all that was said with it and what is new."""
    status = _last_status(task)
    if status is None or task.executor.framework.terminating:
        return
    status.uuid = state.ids.bytes()
    status.timestamp = state.now
    status.ClearField("data")  # what the engine says of a container is said once
    status.reason = reason  # type: ignore[assignment]
    if healthy is not None:
        status.healthy = healthy
    if check_status is not None:
        status.check_status.CopyFrom(check_status)
    updates.report(state, task.executor.framework.id, status, task)


def _last_status(task: AgentTask) -> TaskStatus | None:
    for state, status in reversed(task.statuses):
        if state == TaskState.TASK_RUNNING:
            return TaskStatus.FromString(status)
    return None


def describe(task: AgentTask, status: TaskStatus) -> None:
    """Say of a checked task what every status of it says."""
    for check in task.checks:
        if isinstance(check.info, CheckInfo):
            status.check_status.CopyFrom(empty(check.info))
    if task.sick and task.ended:
        status.healthy = False
