"""What goes wrong between a framework and its cluster, as exceptions."""

from __future__ import annotations

from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.model.tasks import Reason, TaskState


class DriverError(Exception):
    """Anything that the driver raises by itself."""


class FrameworkError(DriverError):
    """
    The master has ended the framework (an C{ERROR} event, or its subscription was refused):
    every waiter is told, and the driver does not come back by itself.
    """


class AuthenticationFailed(FrameworkError):
    """
    The master does not believe that the framework is who it says, or wants a credential where
    the framework has none.
    """


class FailedOver(FrameworkError):
    """Another instance has subscribed under the framework's id, and has all its tasks now."""


class FrameworkStopped(DriverError):
    """The framework's service was stopped; what was waited for is not observed any more."""


class NotSubscribed(DriverError):
    """Nothing was sent: there is no master that knows the framework at the moment."""


class OfferGone(DriverError):
    """
    The offer cannot be used: it was rescinded, used before, or its master is gone.

    @ivar offer_id: which.
    """

    def __init__(self, offer_id: str, why: str) -> None:
        super().__init__(f"offer {offer_id} cannot be used: {why}")
        self.offer_id = offer_id


class NotEnough(DriverError):
    """
    There is less in the offer than is wanted.

    @ivar name: of the resource.
    """

    def __init__(self, name: str, wanted: float, there: float) -> None:
        super().__init__(f"{wanted:g} {name} are wanted, and {there:g} are left in the offer")
        self.name = name


class TaskIdInUse(DriverError):
    """A task with this id was launched before and has not ended; each needs an id of its own."""


class TaskEnded(DriverError):
    """
    A task has come to an end that is not C{TASK_FINISHED}; the subclasses say which.

    @ivar task_id: which task.
    @ivar status: the whole of what was said last, L{None} where nothing was.
    @ivar state: the end.
    @ivar reason: why, where the cluster gave a reason.
    @ivar message: why, for people.
    """

    def __init__(self, status: TaskStatus) -> None:
        self.status = status
        self.task_id = status.task_id.value
        self.state = TaskState(status.state)
        self.reason = Reason(status.reason) if status.HasField("reason") else None
        self.message = status.message
        why = f": {self.message}" if self.message else ""
        reason = f" ({self.reason.name})" if self.reason is not None else ""
        super().__init__(f"task {self.task_id} ended as {self.state.name}{reason}{why}")


class TaskFailed(TaskEnded):
    """C{TASK_FAILED}: it ran and failed."""


class TaskKilled(TaskEnded):
    """C{TASK_KILLED}: somebody asked for it."""


class TaskInvalid(TaskEnded):
    """C{TASK_ERROR}: the master refused it; trying the same again leads nowhere."""


class TaskLost(TaskEnded):
    """C{TASK_LOST}, C{TASK_UNKNOWN}: the cluster knows nothing of it; it may be tried again."""


class TaskDropped(TaskLost):
    """C{TASK_DROPPED}: it never began; it may be tried again."""


class TaskGone(TaskLost):
    """C{TASK_GONE}, C{TASK_GONE_BY_OPERATOR}: its agent has it no more, or is no more."""


class TaskUnreachable(TaskLost):
    """
    C{TASK_UNREACHABLE}: its agent is cut off, and longer so than the framework has patience.

    The task may still run there. The driver kills it when the agent is back.
    """


_ENDS: dict[int, type[TaskEnded]] = {
    TaskState.TASK_FAILED: TaskFailed,
    TaskState.TASK_KILLED: TaskKilled,
    TaskState.TASK_ERROR: TaskInvalid,
    TaskState.TASK_LOST: TaskLost,
    TaskState.TASK_UNKNOWN: TaskLost,
    TaskState.TASK_DROPPED: TaskDropped,
    TaskState.TASK_GONE: TaskGone,
    TaskState.TASK_GONE_BY_OPERATOR: TaskGone,
    TaskState.TASK_UNREACHABLE: TaskUnreachable,
}

FAILURES: frozenset[int] = frozenset(_ENDS) - {TaskState.TASK_UNREACHABLE}
"""The states that end a handle with a failure at once."""


def ended(status: TaskStatus) -> TaskEnded:
    """Return the exception for a status that is the end of its task, and not a good one."""
    return _ENDS[status.state](status)
