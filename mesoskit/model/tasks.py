"""What a task can be, and what can become of it.

The states, sources and reasons carry Mesos' names and v1 numbers, so that a
member is at once the value of the protobuf field. L{TRANSITIONS} has one row a
legal transition; C{docs/states.md} shows the same table and a test holds the two
together.

A task that was refused (C{TASK_ERROR}, C{TASK_DROPPED} before it was launched) never
was in the table: the master answers with a status and keeps nothing. A task whose
agent is cut off stays C{TASK_UNREACHABLE} here whatever its framework can understand:
what a framework without C{PARTITION_AWARE} is told is L{as_lost}'s business, at the
door, so that terminal stays terminal and the task may yet come back.
"""

from enum import IntEnum
from typing import NamedTuple


class TaskState(IntEnum):
    """Mesos' C{TaskState} (C{include/mesos/v1/mesos.proto})."""

    TASK_STARTING = 0
    TASK_RUNNING = 1
    TASK_FINISHED = 2
    TASK_FAILED = 3
    TASK_KILLED = 4
    TASK_LOST = 5
    TASK_STAGING = 6
    TASK_ERROR = 7
    TASK_KILLING = 8
    TASK_DROPPED = 9
    TASK_UNREACHABLE = 10
    TASK_GONE = 11
    TASK_GONE_BY_OPERATOR = 12
    TASK_UNKNOWN = 13


class Source(IntEnum):
    """Who made a status (C{TaskStatus.Source})."""

    SOURCE_MASTER = 0
    SOURCE_AGENT = 1
    SOURCE_EXECUTOR = 2


class Reason(IntEnum):
    """Why a status was made (C{TaskStatus.Reason}); v0 says C{SLAVE} where this says C{AGENT}."""

    REASON_COMMAND_EXECUTOR_FAILED = 0
    REASON_EXECUTOR_TERMINATED = 1
    REASON_EXECUTOR_UNREGISTERED = 2
    REASON_FRAMEWORK_REMOVED = 3
    REASON_GC_ERROR = 4
    REASON_INVALID_FRAMEWORKID = 5
    REASON_INVALID_OFFERS = 6
    REASON_MASTER_DISCONNECTED = 7
    REASON_CONTAINER_LIMITATION_MEMORY = 8
    REASON_RECONCILIATION = 9
    REASON_AGENT_DISCONNECTED = 10
    REASON_AGENT_REMOVED = 11
    REASON_AGENT_RESTARTED = 12
    REASON_AGENT_UNKNOWN = 13
    REASON_TASK_INVALID = 14
    REASON_TASK_UNAUTHORIZED = 15
    REASON_TASK_UNKNOWN = 16
    REASON_CONTAINER_PREEMPTED = 17
    REASON_RESOURCES_UNKNOWN = 18
    REASON_CONTAINER_LIMITATION = 19
    REASON_CONTAINER_LIMITATION_DISK = 20
    REASON_CONTAINER_LAUNCH_FAILED = 21
    REASON_CONTAINER_UPDATE_FAILED = 22
    REASON_EXECUTOR_REGISTRATION_TIMEOUT = 23
    REASON_EXECUTOR_REREGISTRATION_TIMEOUT = 24
    REASON_TASK_GROUP_INVALID = 25
    REASON_TASK_GROUP_UNAUTHORIZED = 26
    REASON_IO_SWITCHBOARD_EXITED = 27
    REASON_TASK_CHECK_STATUS_UPDATED = 28
    REASON_TASK_HEALTH_CHECK_STATUS_UPDATED = 29
    REASON_TASK_KILLED_DURING_LAUNCH = 30
    REASON_AGENT_REMOVED_BY_OPERATOR = 31
    REASON_AGENT_REREGISTERED = 32
    REASON_MAX_COMPLETION_TIME_REACHED = 33
    REASON_AGENT_DRAINING = 34


TERMINAL: frozenset[int] = frozenset(
    {
        TaskState.TASK_FINISHED,
        TaskState.TASK_FAILED,
        TaskState.TASK_KILLED,
        TaskState.TASK_ERROR,
        TaskState.TASK_LOST,
        TaskState.TASK_DROPPED,
        TaskState.TASK_GONE,
        TaskState.TASK_GONE_BY_OPERATOR,
    }
)
"""The states that nothing follows; the resources of a task in one of them are free."""

ACTIVE = (
    TaskState.TASK_STAGING,
    TaskState.TASK_STARTING,
    TaskState.TASK_RUNNING,
    TaskState.TASK_KILLING,
)
"""The states of a task that its agent has, in the order in which a life passes them."""

SENTENCES: dict[TaskState, str] = {
    TaskState.TASK_STAGING: (
        "The master has accepted the task and its resources are taken;"
        " its executor has not spoken of it yet."
    ),
    TaskState.TASK_STARTING: "The executor has the task and is getting it ready.",
    TaskState.TASK_RUNNING: "The executor says that the task runs.",
    TaskState.TASK_KILLING: (
        "The executor was asked to kill the task and is giving it its grace period."
    ),
    TaskState.TASK_FINISHED: "The task ended by itself and well.",
    TaskState.TASK_FAILED: "The task ended by itself and badly, or its executor did.",
    TaskState.TASK_KILLED: "The task was ended because somebody asked for it.",
    TaskState.TASK_ERROR: "The task's description was refused; it never ran.",
    TaskState.TASK_LOST: (
        "The task is gone, for a reason that its framework did not ask to be told apart."
    ),
    TaskState.TASK_DROPPED: "The task was not launched, by an error that may pass.",
    TaskState.TASK_UNREACHABLE: (
        "The master hears nothing of the task's agent; the task may still run."
    ),
    TaskState.TASK_GONE: "The task was running on an agent that has ended it.",
    TaskState.TASK_GONE_BY_OPERATOR: (
        "An operator has declared that the task's agent will never come back."
    ),
    TaskState.TASK_UNKNOWN: (
        "The master knows neither the task nor its agent;"
        " an answer to a question, never the state of a task."
    ),
}
"""What each state means, in a sentence."""

_MASTER = Source.SOURCE_MASTER
_AGENT = Source.SOURCE_AGENT
_EXECUTOR = Source.SOURCE_EXECUTOR

_UNSENT = frozenset(
    {
        Reason.REASON_GC_ERROR,
        Reason.REASON_INVALID_OFFERS,
        Reason.REASON_AGENT_RESTARTED,
        Reason.REASON_AGENT_DRAINING,
        Reason.REASON_RESOURCES_UNKNOWN,
        Reason.REASON_EXECUTOR_TERMINATED,
        Reason.REASON_RECONCILIATION,
    }
)
_UNSENT_BY_MASTER = frozenset(
    {
        Reason.REASON_AGENT_DISCONNECTED,
        Reason.REASON_AGENT_REMOVED,
        Reason.REASON_INVALID_OFFERS,
        Reason.REASON_MASTER_DISCONNECTED,
        Reason.REASON_RESOURCES_UNKNOWN,
        Reason.REASON_RECONCILIATION,
    }
)
_ENDED_BY_AGENT = frozenset(
    {
        Reason.REASON_CONTAINER_PREEMPTED,
        Reason.REASON_CONTAINER_UPDATE_FAILED,
        Reason.REASON_EXECUTOR_REREGISTRATION_TIMEOUT,
    }
)
_CHECKS = frozenset(
    {
        Reason.REASON_TASK_CHECK_STATUS_UPDATED,
        Reason.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED,
    }
)
_RETOLD = frozenset({Reason.REASON_RECONCILIATION, Reason.REASON_AGENT_REREGISTERED})
_REFUSED = frozenset(
    {
        Reason.REASON_TASK_INVALID,
        Reason.REASON_TASK_GROUP_INVALID,
        Reason.REASON_TASK_UNAUTHORIZED,
        Reason.REASON_TASK_GROUP_UNAUTHORIZED,
    }
)

REASONS: dict[TaskState, dict[Source, frozenset[Reason]]] = {
    TaskState.TASK_STAGING: {_MASTER: _RETOLD},
    TaskState.TASK_STARTING: {_MASTER: _RETOLD},
    TaskState.TASK_RUNNING: {_MASTER: _RETOLD, _EXECUTOR: _CHECKS},
    TaskState.TASK_KILLING: {
        _MASTER: _RETOLD,
        _EXECUTOR: frozenset(
            {Reason.REASON_MAX_COMPLETION_TIME_REACHED, Reason.REASON_AGENT_DRAINING}
        ),
    },
    TaskState.TASK_FINISHED: {_MASTER: _RETOLD},
    TaskState.TASK_FAILED: {
        _MASTER: _RETOLD,
        _AGENT: frozenset(
            {
                Reason.REASON_CONTAINER_LAUNCH_FAILED,
                Reason.REASON_CONTAINER_LIMITATION,
                Reason.REASON_CONTAINER_LIMITATION_MEMORY,
                Reason.REASON_CONTAINER_LIMITATION_DISK,
                Reason.REASON_IO_SWITCHBOARD_EXITED,
                Reason.REASON_EXECUTOR_REGISTRATION_TIMEOUT,
                Reason.REASON_EXECUTOR_REREGISTRATION_TIMEOUT,
                Reason.REASON_EXECUTOR_TERMINATED,
            }
        ),
        _EXECUTOR: frozenset(
            {
                Reason.REASON_MAX_COMPLETION_TIME_REACHED,
                Reason.REASON_TASK_INVALID,
                Reason.REASON_TASK_UNAUTHORIZED,
            }
        ),
    },
    TaskState.TASK_KILLED: {
        _MASTER: frozenset(
            {Reason.REASON_FRAMEWORK_REMOVED, Reason.REASON_TASK_KILLED_DURING_LAUNCH} | _RETOLD
        ),
        _AGENT: frozenset({Reason.REASON_TASK_KILLED_DURING_LAUNCH, Reason.REASON_AGENT_DRAINING}),
        _EXECUTOR: frozenset(
            {Reason.REASON_AGENT_DRAINING, Reason.REASON_MAX_COMPLETION_TIME_REACHED}
        ),
    },
    TaskState.TASK_ERROR: {
        _MASTER: _REFUSED,
        _AGENT: frozenset(
            {
                Reason.REASON_TASK_INVALID,
                Reason.REASON_TASK_UNAUTHORIZED,
                Reason.REASON_TASK_GROUP_UNAUTHORIZED,
            }
        ),
        _EXECUTOR: frozenset({Reason.REASON_TASK_INVALID, Reason.REASON_TASK_UNAUTHORIZED}),
    },
    TaskState.TASK_LOST: {
        _MASTER: _UNSENT_BY_MASTER,
        _AGENT: _UNSENT | _ENDED_BY_AGENT | {Reason.REASON_TASK_INVALID},
    },
    TaskState.TASK_DROPPED: {
        _MASTER: _UNSENT_BY_MASTER,
        _AGENT: _UNSENT | {Reason.REASON_TASK_INVALID},
    },
    TaskState.TASK_UNREACHABLE: {
        _MASTER: frozenset({Reason.REASON_AGENT_REMOVED, Reason.REASON_RECONCILIATION})
    },
    TaskState.TASK_GONE: {
        _MASTER: frozenset({Reason.REASON_AGENT_REMOVED, Reason.REASON_RECONCILIATION}),
        _AGENT: _ENDED_BY_AGENT,
    },
    TaskState.TASK_GONE_BY_OPERATOR: {
        _MASTER: frozenset({Reason.REASON_AGENT_REMOVED_BY_OPERATOR, Reason.REASON_RECONCILIATION}),
        _EXECUTOR: frozenset({Reason.REASON_AGENT_DRAINING}),
    },
    TaskState.TASK_UNKNOWN: {_MASTER: frozenset({Reason.REASON_RECONCILIATION})},
}
"""
The reasons that go with a state, by who made the status. From Mesos'
C{docs/task-state-reasons.md} and what its master and agent send since. An executor
may set any reason it likes; a status may have none.
"""


class Transition(NamedTuple):
    """
    One legal transition.

    @ivar before: the state that the task leaves.
    @ivar after: the state that it enters.
    @ivar sources: who may cause it.
    @ivar reasons: the reasons that usually come with it.
    """

    before: TaskState
    after: TaskState
    sources: tuple[Source, ...]
    reasons: frozenset[Reason]


_ONLY_BEFORE_START = frozenset(
    {
        Reason.REASON_GC_ERROR,
        Reason.REASON_INVALID_OFFERS,
        Reason.REASON_RESOURCES_UNKNOWN,
        Reason.REASON_AGENT_RESTARTED,
        Reason.REASON_TASK_KILLED_DURING_LAUNCH,
        Reason.REASON_EXECUTOR_REGISTRATION_TIMEOUT,
    }
)
# What a driver makes up for a task that never reached a master.
_NOWHERE = frozenset({Reason.REASON_MASTER_DISCONNECTED})


def _row(before: TaskState, after: TaskState, sources: str, *reasons: Reason) -> Transition:
    """Return a row: C{sources} by initial; reasons from L{REASONS} unless named here."""
    who = tuple(source for source in Source if source.name[7] in sources)
    if reasons:
        return Transition(before, after, who, frozenset(reasons))
    usual = frozenset[Reason]().union(*(REASONS[after].get(one, ()) for one in who))
    usual -= _RETOLD | _NOWHERE
    if before in ACTIVE[1:]:
        usual -= _ONLY_BEFORE_START
        if after == TaskState.TASK_LOST:
            usual -= {Reason.REASON_TASK_INVALID}
    return Transition(before, after, who, usual)


_STAGING, _STARTING, _RUNNING, _KILLING = ACTIVE
_FINISHED = TaskState.TASK_FINISHED
_FAILED = TaskState.TASK_FAILED
_KILLED = TaskState.TASK_KILLED
_ERROR = TaskState.TASK_ERROR
_LOST = TaskState.TASK_LOST
_DROPPED = TaskState.TASK_DROPPED
_UNREACHABLE = TaskState.TASK_UNREACHABLE
_GONE = TaskState.TASK_GONE
_GONE_BY_OPERATOR = TaskState.TASK_GONE_BY_OPERATOR
_BACK = Reason.REASON_AGENT_REREGISTERED

TRANSITIONS: tuple[Transition, ...] = (
    _row(_STAGING, _STARTING, "E"),
    _row(_STAGING, _RUNNING, "E"),
    _row(_STAGING, _KILLING, "E"),
    _row(_STAGING, _FINISHED, "E"),
    _row(_STAGING, _FAILED, "AE"),
    _row(_STAGING, _KILLED, "MAE"),
    _row(_STAGING, _ERROR, "AE"),
    _row(_STAGING, _LOST, "MAE"),
    _row(_STAGING, _DROPPED, "MA"),
    _row(_STAGING, _UNREACHABLE, "M"),
    _row(_STAGING, _GONE, "MA"),
    _row(_STAGING, _GONE_BY_OPERATOR, "ME"),
    _row(_STARTING, _RUNNING, "E"),
    _row(_STARTING, _KILLING, "E"),
    _row(_STARTING, _FINISHED, "E"),
    _row(_STARTING, _FAILED, "AE"),
    _row(_STARTING, _KILLED, "MAE"),
    _row(_STARTING, _ERROR, "E"),
    _row(_STARTING, _LOST, "MAE"),
    _row(_STARTING, _DROPPED, "A", Reason.REASON_RECONCILIATION),
    _row(_STARTING, _UNREACHABLE, "M"),
    _row(_STARTING, _GONE, "MA"),
    _row(_STARTING, _GONE_BY_OPERATOR, "ME"),
    _row(_RUNNING, _KILLING, "E"),
    _row(_RUNNING, _FINISHED, "E"),
    _row(_RUNNING, _FAILED, "AE"),
    _row(_RUNNING, _KILLED, "MAE"),
    _row(_RUNNING, _ERROR, "E"),
    _row(_RUNNING, _LOST, "MAE"),
    _row(_RUNNING, _DROPPED, "A", Reason.REASON_RECONCILIATION),
    _row(_RUNNING, _UNREACHABLE, "M"),
    _row(_RUNNING, _GONE, "MA"),
    _row(_RUNNING, _GONE_BY_OPERATOR, "ME"),
    _row(_KILLING, _FINISHED, "E"),
    _row(_KILLING, _FAILED, "AE"),
    _row(_KILLING, _KILLED, "MAE"),
    _row(_KILLING, _ERROR, "E"),
    _row(_KILLING, _LOST, "MAE"),
    _row(_KILLING, _DROPPED, "A", Reason.REASON_RECONCILIATION),
    _row(_KILLING, _UNREACHABLE, "M"),
    _row(_KILLING, _GONE, "MA"),
    _row(_KILLING, _GONE_BY_OPERATOR, "ME"),
    _row(_UNREACHABLE, _STAGING, "A", _BACK),
    _row(_UNREACHABLE, _STARTING, "A", _BACK),
    _row(_UNREACHABLE, _RUNNING, "A", _BACK),
    _row(_UNREACHABLE, _KILLING, "A", _BACK),
    _row(_UNREACHABLE, _FINISHED, "AE"),
    _row(_UNREACHABLE, _FAILED, "AE"),
    _row(_UNREACHABLE, _KILLED, "MAE"),
    _row(_UNREACHABLE, _ERROR, "AE"),
    _row(_UNREACHABLE, _LOST, "MAE"),
    _row(_UNREACHABLE, _DROPPED, "A"),
    _row(_UNREACHABLE, _GONE, "MA"),
    _row(_UNREACHABLE, _GONE_BY_OPERATOR, "ME"),
)
"""
Every legal transition. What is not here does not change a task: neither what leaves
a terminal state, nor a state named again, nor one that the task has left behind.
"""

_LEGAL = frozenset(row.before << 4 | row.after for row in TRANSITIONS)
_CAUSED = frozenset(
    row.before << 6 | row.after << 2 | source for row in TRANSITIONS for source in row.sources
)
_LOST_FOR = {
    int(state): TaskState.TASK_LOST
    for state in (
        TaskState.TASK_UNREACHABLE,
        TaskState.TASK_DROPPED,
        TaskState.TASK_GONE,
        TaskState.TASK_GONE_BY_OPERATOR,
        TaskState.TASK_UNKNOWN,
    )
}


def legal(before: int, after: int) -> bool:
    """Tell whether a task may go from one state to another, whoever says so."""
    return before << 4 | after in _LEGAL


def may_cause(source: int, before: int, after: int) -> bool:
    """
    Tell whether this source may bring a task from one state to another. An executor that
    reports C{TASK_UNREACHABLE}, say, is refused by its agent.
    """
    return before << 6 | after << 2 | source in _CAUSED


def after_update(current: int, status: int, latest: int | None = None) -> int:
    """
    Return the state of a task after an update.

    An agent sends a task's updates one by one, each when the framework has acknowledged
    the one before, so an update may be old when it comes: after the failover of a
    master the agent reports a task as running and only then repeats the C{TASK_STARTING}
    that nobody acknowledged. C{latest} is the state which the agent adds to say where the task
    is by now (C{StatusUpdate.latest_state}), and it decides where it is there. A state
    that is not a legal next one leaves the task where it is. The update itself is
    forwarded in any case: only the framework's acknowledgement ends its repetition.
    """
    reported = status if latest is None else latest
    return reported if current << 4 | reported in _LEGAL else current


def as_lost(state: int, partition_aware: bool) -> int:
    """
    Return the state that a framework is told: C{TASK_LOST} in place of C{TASK_UNREACHABLE,
    TASK_DROPPED, TASK_GONE, TASK_GONE_BY_OPERATOR} and C{TASK_UNKNOWN} where it has not the
    capability C{PARTITION_AWARE}.
    """
    return state if partition_aware else _LOST_FOR.get(state, state)
