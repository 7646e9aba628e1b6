"""LAUNCH and LAUNCH_GROUP: from C{TaskInfo}s to tasks, and to messages for the agent.

This is the first half of every task's life, and written for speed: a C{TaskInfo} is copied
once, into the message that goes to the agent, and validated there.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mesoskit.master import authorizing, executors, tasks, watching
from mesoskit.master.records import Agent, Executor, Framework, Task, task_detail
from mesoskit.messages.internal_pb2 import RunTaskGroupMessage, RunTaskMessage
from mesoskit.messages.mesos_pb2 import ExecutorInfo, HealthCheck, Offer, TaskInfo
from mesoskit.model.events import Send
from mesoskit.model.ids import ExecutorId, TaskId
from mesoskit.model.resources import PRE, Resources
from mesoskit.model.tasks import Reason, TaskState
from mesoskit.model.validation_command import shares_cgroups
from mesoskit.model.validation_context import LaunchContext
from mesoskit.model.validation_group import validate_task_group
from mesoskit.model.validation_task import validate_task

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

_STAGING = int(TaskState.TASK_STAGING)
_LAUNCH = int(Offer.Operation.LAUNCH)
_LAUNCH_GROUP = int(Offer.Operation.LAUNCH_GROUP)


class Launcher:
    """
    The launches of one ACCEPT.

    @param offered: what the accepted offers held, unallocated.
    """

    __slots__ = ("_agent", "_context", "_framework", "_peer", "_role", "_state")

    def __init__(
        self,
        state: "MasterState",
        framework: Framework,
        agent: Agent,
        role: str,
        offered: Resources,
    ) -> None:
        assert agent.peer is not None
        self._state = state
        self._framework = framework
        self._agent = agent
        self._peer = agent.peer.id
        self._role = role
        of_framework = agent.executors.get(framework.id)
        self._context = LaunchContext(
            framework.id,
            agent.id,
            offered.allocated(role),
            agent.capabilities,
            framework.tasks,
            framework.unreachable,
            {one.id: one.info for one in of_framework.values()} if of_framework else {},
            self._sharing,
        )

    def remaining(self) -> Resources:
        """Return what has not been taken yet, unallocated."""
        return self._context.offered.unallocated()

    def launch(self, infos: Iterable[TaskInfo]) -> None:
        """Launch tasks, each for itself: one that is refused does not hold up the others."""
        state, framework, agent = self._state, self._framework, self._agent
        context, role = self._context, self._role
        template, version = framework.run_template, agent.resource_version
        restricted = state.options.authorizer is not None
        for original in infos:
            if restricted:
                error = authorizing.launch_error(state, framework, original)
                if error is not None:
                    self.refuse((original,), Reason.REASON_TASK_UNAUTHORIZED, error)
                    continue
            message = RunTaskMessage()
            message.CopyFrom(template)
            info = message.task
            info.CopyFrom(original)
            for resource in info.resources:
                if not resource.HasField("allocation_info"):
                    resource.allocation_info.role = role
            has_executor = info.HasField("executor")
            if has_executor:
                allocate(info.executor.resources, role)
                if not info.executor.HasField("framework_id"):
                    info.executor.framework_id.value = framework.id
            if info.HasField("health_check"):
                _complete_health_check(info.health_check)
            error = validate_task(info, context)
            if error is not None:
                self.refuse((info,), Reason.REASON_TASK_INVALID, error)
                continue
            taken = context.total
            context.offered = context.offered - taken
            launch_executor = True
            if has_executor:
                launch_executor = self._use_executor(info.executor)
                taken = Resources.from_message(info.resources)
            self._add(info, taken)
            message.launch_executor = launch_executor
            framework.operations[_LAUNCH] += 1
            if version:
                message.resource_version_uuids.add().uuid.value = version
            if not agent.capabilities.reservation_refinement:
                _downgrade(info)
            state.effects.append(Send(self._peer, message))

    def launch_group(self, operation: Offer.Operation.LaunchGroup) -> None:
        """Launch a task group: all of it, or none."""
        framework, agent, role = self._framework, self._agent, self._role
        if self._state.options.authorizer is not None:
            infos = operation.task_group.tasks
            error = authorizing.group_error(self._state, framework, infos)
            if error is not None:
                self.refuse(infos, Reason.REASON_TASK_GROUP_UNAUTHORIZED, error)
                return
        message = RunTaskGroupMessage()
        message.framework.CopyFrom(framework.info)
        message.executor.CopyFrom(operation.executor)
        message.task_group.CopyFrom(operation.task_group)
        executor, group = message.executor, message.task_group
        allocate(executor.resources, role)
        for info in group.tasks:
            allocate(info.resources, role)
            if info.HasField("executor"):
                allocate(info.executor.resources, role)
            else:
                info.executor.CopyFrom(executor)
        error = validate_task_group(group, executor, self._context)
        if error is not None:
            self.refuse(group.tasks, Reason.REASON_TASK_GROUP_INVALID, error)
            return
        self._context.offered = self._context.offered - self._context.total
        message.launch_executor = self._use_executor(executor)
        framework.operations[_LAUNCH_GROUP] += 1
        for info in group.tasks:
            self._add(info, Resources.from_message(info.resources))
        if agent.resource_version:
            message.resource_version_uuids.add().uuid.value = agent.resource_version
        if not agent.capabilities.reservation_refinement:
            _downgrade_field(executor.resources)
            for info in group.tasks:
                _downgrade(info)
        self._state.effects.append(Send(self._peer, message))

    def refuse(self, infos: Iterable[TaskInfo], reason: Reason, message: str) -> None:
        """Answer TASK_ERROR for tasks that are not launched."""
        for info in infos:
            tasks.refuse_task(
                self._state,
                self._framework,
                info.task_id.value,
                info.agent_id.value,
                TaskState.TASK_ERROR,
                reason,
                message,
            )

    def _add(self, info: TaskInfo, allocated: Resources) -> None:
        """Take a task in, in TASK_STAGING."""
        framework, agent = self._framework, self._agent
        task_id = TaskId(info.task_id.value)
        executor_id = None
        if info.HasField("executor"):
            executor_id = ExecutorId(info.executor.executor_id.value)
        task = Task(
            task_id, info.name, framework, agent, executor_id, allocated.unallocated(), self._role
        )
        task.detail = task_detail(info)
        if executor_id is not None:
            task.shares_cgroups = shares_cgroups(info)
        framework.tasks[task_id] = task
        framework.live[task.state] += 1
        agent.tasks[task] = None
        state = self._state
        state.past.add((state.now, _STAGING, task_id, framework.id, agent.id))
        if state.watchers:
            watching.task_added(state, task)

    def _use_executor(self, info: ExecutorInfo) -> bool:
        """Take an executor in if it is new; return whether the agent is to launch it."""
        executor_id = info.executor_id.value
        if executor_id in self._context.executors:
            return False
        kept = ExecutorInfo()
        kept.CopyFrom(info)
        executor = Executor(
            self._framework.id,
            self._agent.id,
            kept,
            Resources.from_message(info.resources).unallocated(),
            self._role,
        )
        executors.add(self._state, self._agent, executor)
        self._context.executors = {**self._context.executors, executor_id: kept}
        return True

    def _sharing(self, executor_id: str) -> Iterable[bool]:
        framework = self._framework
        for live in self._agent.tasks:
            if live.framework is framework and live.executor_id == executor_id:
                yield live.shares_cgroups
        for task in framework.unreachable.values():
            if task.agent_id == self._agent.id and task.executor_id == executor_id:
                yield task.shares_cgroups


def allocate(resources: Iterable[Any], role: str) -> None:
    """Say of resources to whom they are allocated, where the framework has not."""
    for resource in resources:
        if not resource.HasField("allocation_info"):
            resource.allocation_info.role = role


def _complete_health_check(check: HealthCheck) -> None:
    """Fill in the type that old frameworks leave out."""
    if not check.HasField("type"):
        if check.HasField("command") and not check.HasField("http"):
            check.type = HealthCheck.COMMAND
        elif check.HasField("http") and not check.HasField("command"):
            check.type = HealthCheck.HTTP


def _downgrade(info: TaskInfo) -> None:
    _downgrade_field(info.resources)
    if info.HasField("executor"):
        _downgrade_field(info.executor.resources)


def _downgrade_field(resources: Any) -> None:
    """Write resources the way agents without RESERVATION_REFINEMENT read them."""
    rewritten = Resources.from_message(resources).to_message(PRE)
    del resources[:]
    resources.extend(rewritten)
