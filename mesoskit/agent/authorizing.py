"""Who may do what at an agent: what each route, call and message needs, and what is asked.

As in Mesos (C{src/slave/slave.cpp}, C{src/slave/http.cpp}). The master has asked whether a
framework may run a task as its user; an agent with an authorizer asks again, for it may trust
other users.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from mesoskit.agent.frameworks import AgentTask, Executor
from mesoskit.messages import internal_pb2
from mesoskit.messages.mesos_pb2 import FrameworkInfo, TaskInfo
from mesoskit.model import authorization
from mesoskit.model.authorization import (
    ANYBODY,
    ANYTHING,
    Action,
    Needs,
    Subject,
    Thing,
    needs,
    needs_inside,
    needs_nothing,
)
from mesoskit.model.authorization_sight import Sight
from mesoskit.model.ids import ExecutorId, FrameworkId
from mesoskit.model.tasks import Reason

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState


def launch_error(
    state: AgentState, framework: FrameworkInfo, infos: Iterable[TaskInfo], group: bool
) -> tuple[int, str] | None:
    """Say why tasks may not run as their users here, with a reason; L{None} where they may."""
    principal = framework.principal if framework.HasField("principal") else None
    who = Subject(principal, state.options.authorizer)
    for info in infos:
        thing = authorization.of_task(info, framework)
        if not who.may(Action.RUN_TASK, thing):
            (user,) = thing.values or ("",)
            reason = (
                Reason.REASON_TASK_GROUP_UNAUTHORIZED if group else Reason.REASON_TASK_UNAUTHORIZED
            )
            return reason, (
                f"Framework {framework.id.value} is not authorized to launch task"
                f" {info.task_id.value} under user '{user}'"
            )
    return None


# Things.


def of_executor(executor: Executor) -> Thing:
    """Return an executor, whoever plays it: a command task's has the task's user."""
    framework = executor.framework.info
    if executor.info is not None:
        return authorization.of_executor(executor.info, framework)
    user = framework.user
    for task in (*executor.tasks.values(), *(executor.completed or ())):
        user = authorization.user_of_task(TaskInfo.FromString(task.info), framework)
        break
    return Thing((user,), framework=framework, id=executor.id)


def of_task(task: AgentTask) -> Thing:
    """Return a task to be looked at."""
    return authorization.of_task(TaskInfo.FromString(task.info), task.executor.framework.info)


class Viewer(Sight):
    """What somebody may see of an agent."""

    __slots__ = ()

    def executor(self, executor: Executor) -> bool:
        """Whether he may see an executor of a framework that he sees."""
        return self.all or self._may(Action.VIEW_EXECUTOR, of_executor(executor))

    def task(self, task: AgentTask) -> bool:
        """Whether he may see a task of an executor that he sees."""
        return self.all or self._may(Action.VIEW_TASK, of_task(task))

    def container(self, executor: Executor) -> bool:
        """Whether he may see an executor's container and what it uses."""
        return self.all or self._may(Action.VIEW_CONTAINER, of_executor(executor))

    def standalone(self, container: str) -> bool:
        """Whether he may see a container that stands alone, and what is nested in it."""
        thing = Thing(id=container, root=container)
        return self.all or self._may(Action.VIEW_STANDALONE_CONTAINER, thing)


EVERYTHING: Final = Viewer(ANYBODY)
"""Who may see everything."""


def may_call(who: Subject, name: str) -> bool:
    """Say whether an operator may call for this; what is only looked at is asked about later."""
    if who.authorizer is None:
        return True
    needed = OPERATOR_CALLS.get(name)
    return needed is not None and needed.met(who)


def sandbox_visible(
    state: AgentState, subject: Subject, framework_id: str, executor_id: str
) -> bool:
    """Say whether somebody may look into the sandboxes of an executor."""
    if subject.authorizer is None:
        return True
    framework = state.frameworks.get(FrameworkId(framework_id))
    thing = ANYTHING
    if framework is None:
        framework = state.completed_frameworks.get(FrameworkId(framework_id))
    if framework is not None:
        executor = framework.executors.get(ExecutorId(executor_id))
        if executor is None:
            ended = (one for one in reversed(framework.completed) if one.id == executor_id)
            executor = next(ended, None)
        if executor is None:
            thing = authorization.of_executor(None, framework.info)
        else:
            thing = of_executor(executor)
    return subject.may(Action.ACCESS_SANDBOX, thing)


# What each door needs.


def _endpoint(path: str) -> Needs:
    return needs(Action.GET_ENDPOINT_WITH_PATH, path)


ROUTES: Final[Mapping[str, Needs]] = {
    "state": needs_inside(
        Action.VIEW_FRAMEWORK,
        Action.VIEW_TASK,
        Action.VIEW_EXECUTOR,
        Action.VIEW_ROLE,
        Action.VIEW_FLAGS,
    ),
    # What it lists is asked about as well, with VIEW_CONTAINER.
    "containers": _endpoint("/containers"),
    "containerizer/debug": _endpoint("/containerizer/debug"),
    "monitor/statistics": _endpoint("/monitor/statistics"),
    "files/browse": needs_inside(Action.ACCESS_SANDBOX, Action.ACCESS_MESOS_LOG),
    "files/read": needs_inside(Action.ACCESS_SANDBOX, Action.ACCESS_MESOS_LOG),
    "files/download": needs_inside(Action.ACCESS_SANDBOX, Action.ACCESS_MESOS_LOG),
    "files/debug": _endpoint("/files/debug"),
    "api/v1": needs_nothing("each call has a row of its own"),
    "api/v1/executor": needs_nothing("who calls has proved which executor it is"),
}
"""What the agent's own routes need, by path."""

_EVERYTHING: Final = needs_inside(Action.VIEW_FRAMEWORK, Action.VIEW_TASK, Action.VIEW_EXECUTOR)

OPERATOR_CALLS: Final[Mapping[str, Needs]] = {
    "UNKNOWN": needs_nothing("it is refused anyway"),
    "GET_HEALTH": needs_nothing("it says nothing but that the agent is there"),
    "GET_FLAGS": needs(Action.VIEW_FLAGS),
    "GET_VERSION": needs_nothing("it says which release this is"),
    "GET_METRICS": _endpoint("/metrics/snapshot"),
    "GET_LOGGING_LEVEL": needs_nothing("it is a number that tells nothing of the cluster"),
    "SET_LOGGING_LEVEL": needs(Action.SET_LOG_LEVEL),
    "LIST_FILES": needs_inside(Action.ACCESS_SANDBOX, Action.ACCESS_MESOS_LOG),
    "READ_FILE": needs_inside(Action.ACCESS_SANDBOX, Action.ACCESS_MESOS_LOG),
    "GET_STATE": _EVERYTHING,
    "GET_CONTAINERS": needs_inside(Action.VIEW_CONTAINER, Action.VIEW_STANDALONE_CONTAINER),
    "GET_FRAMEWORKS": needs_inside(Action.VIEW_FRAMEWORK),
    "GET_EXECUTORS": needs_inside(Action.VIEW_FRAMEWORK, Action.VIEW_EXECUTOR),
    "GET_OPERATIONS": needs_inside(Action.VIEW_ROLE),
    "GET_TASKS": _EVERYTHING,
    "GET_AGENT": needs_inside(Action.VIEW_ROLE),
    "GET_RESOURCE_PROVIDERS": needs_inside(Action.VIEW_RESOURCE_PROVIDER),
    "LAUNCH_NESTED_CONTAINER": needs_inside(Action.LAUNCH_NESTED_CONTAINER),
    "WAIT_NESTED_CONTAINER": needs_inside(Action.WAIT_NESTED_CONTAINER),
    "KILL_NESTED_CONTAINER": needs_inside(Action.KILL_NESTED_CONTAINER),
    "REMOVE_NESTED_CONTAINER": needs_inside(Action.REMOVE_NESTED_CONTAINER),
    "LAUNCH_NESTED_CONTAINER_SESSION": needs_inside(Action.LAUNCH_NESTED_CONTAINER_SESSION),
    "ATTACH_CONTAINER_INPUT": needs_inside(Action.ATTACH_CONTAINER_INPUT),
    "ATTACH_CONTAINER_OUTPUT": needs_inside(Action.ATTACH_CONTAINER_OUTPUT),
    "LAUNCH_CONTAINER": needs_inside(
        Action.LAUNCH_NESTED_CONTAINER, Action.LAUNCH_STANDALONE_CONTAINER
    ),
    "WAIT_CONTAINER": needs_inside(Action.WAIT_NESTED_CONTAINER, Action.WAIT_STANDALONE_CONTAINER),
    "KILL_CONTAINER": needs_inside(Action.KILL_NESTED_CONTAINER, Action.KILL_STANDALONE_CONTAINER),
    "REMOVE_CONTAINER": needs_inside(
        Action.REMOVE_NESTED_CONTAINER, Action.REMOVE_STANDALONE_CONTAINER
    ),
    "ADD_RESOURCE_PROVIDER_CONFIG": needs(Action.MODIFY_RESOURCE_PROVIDER_CONFIG),
    "UPDATE_RESOURCE_PROVIDER_CONFIG": needs(Action.MODIFY_RESOURCE_PROVIDER_CONFIG),
    "REMOVE_RESOURCE_PROVIDER_CONFIG": needs(Action.MODIFY_RESOURCE_PROVIDER_CONFIG),
    "MARK_RESOURCE_PROVIDER_GONE": needs(Action.MARK_RESOURCE_PROVIDER_GONE),
    "PRUNE_IMAGES": needs(Action.PRUNE_IMAGES),
}
"""What an operator's calls need, by their names."""

_ITS_OWN: Final = "it is about what the executor itself runs, and it has proved which one it is"

EXECUTOR_CALLS: Final[Mapping[str, Needs]] = {
    "UNKNOWN": needs_nothing("it is refused anyway"),
    **dict.fromkeys(("SUBSCRIBE", "UPDATE", "MESSAGE", "HEARTBEAT"), needs_nothing(_ITS_OWN)),
}
"""What an executor's calls need, by their names."""

_BY_THE_MASTER: Final = "the master has asked already"
_FROM_THE_MASTER: Final = "the agent does what its master says"

MASTER_MESSAGES: Final[Mapping[type, Needs]] = {
    internal_pb2.RunTaskMessage: needs_inside(Action.RUN_TASK),
    internal_pb2.RunTaskGroupMessage: needs_inside(Action.RUN_TASK),
    **dict.fromkeys(
        (
            internal_pb2.KillTaskMessage,
            internal_pb2.FrameworkToExecutorMessage,
            internal_pb2.ShutdownExecutorMessage,
            internal_pb2.ShutdownFrameworkMessage,
        ),
        needs_nothing(_BY_THE_MASTER),
    ),
    **dict.fromkeys(
        (
            internal_pb2.SlaveRegisteredMessage,
            internal_pb2.SlaveReregisteredMessage,
            internal_pb2.PingSlaveMessage,
            internal_pb2.StatusUpdateAcknowledgementMessage,
            internal_pb2.UpdateFrameworkMessage,
            internal_pb2.ShutdownMessage,
            internal_pb2.DrainSlaveMessage,
        ),
        needs_nothing(_FROM_THE_MASTER),
    ),
}
"""What a master's messages need, by their classes."""
