"""Reconciliation: what the master knows of tasks, told to a framework that asks.

The six answers are those of Mesos (C{docs/reconciliation.md}, C{Master::reconcile}):

================================================  ==================================
the task                                          the answer
================================================  ==================================
is known                                          the state that was last sent on
its agent has not come back since the failover    none: it may yet be there
no agent named, and some agent is still to come   none
is not on its agent, which is registered          C{TASK_GONE}
its agent is unreachable                          C{TASK_UNREACHABLE}, with the time
its agent is gone                                 C{TASK_GONE_BY_OPERATOR}
anything else                                     C{TASK_UNKNOWN}
================================================  ==================================

The last four are C{TASK_LOST} for a framework without C{PARTITION_AWARE}. No answer has a uuid.
"""

from typing import TYPE_CHECKING

from mesoskit.master import tasks
from mesoskit.master.records import Framework, Task
from mesoskit.messages.mesos_pb2 import (
    OPERATION_GONE_BY_OPERATOR,
    OPERATION_RECOVERING,
    OPERATION_UNKNOWN,
    OPERATION_UNREACHABLE,
    OperationState,
)
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.ids import AgentId, TaskId
from mesoskit.model.statuses import (
    NOT_ON_AGENT,
    ON_GONE_AGENT,
    ON_UNKNOWN_AGENT,
    ON_UNREACHABLE_AGENT,
    reconciled_status,
)
from mesoskit.model.tasks import Reason, TaskState

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

_RECONCILIATION = int(Reason.REASON_RECONCILIATION)


def reconcile(state: "MasterState", framework: Framework, call: Call) -> None:
    """Answer for the tasks that are named, or for all live ones where none is."""
    state.counters.messages_reconcile_tasks += 1
    asked = call.reconcile.tasks
    if not len(asked):
        for task in framework.tasks.values():
            _tell_known(state, framework, task)
        return
    for one in asked:
        agent_id = one.agent_id.value if one.HasField("agent_id") else None
        explain(state, framework, TaskId(one.task_id.value), agent_id)


def _tell_known(state: "MasterState", framework: Framework, task: Task) -> None:
    told = task.state if task.told_state is None else task.told_state
    tasks.tell(state, framework, reconciled_status(task.to_message(), told, state.now))


def explain(
    state: "MasterState", framework: Framework, task_id: TaskId, agent_id: str | None
) -> None:
    """Answer for one task, if there is anything to say."""
    task = framework.tasks.get(task_id)
    if task is not None:
        _tell_known(state, framework, task)
        return
    named = None if agent_id is None else AgentId(agent_id)
    if named is None:
        if state.recovered:
            return
        after, message = TaskState.TASK_UNKNOWN, ON_UNKNOWN_AGENT
    elif named in state.recovered:
        return
    elif named in state.agents:
        after, message = TaskState.TASK_GONE, NOT_ON_AGENT
    elif named in state.unreachable:
        after, message = TaskState.TASK_UNREACHABLE, ON_UNREACHABLE_AGENT
    elif named in state.gone:
        after, message = TaskState.TASK_GONE_BY_OPERATOR, ON_GONE_AGENT
    else:
        after, message = TaskState.TASK_UNKNOWN, ON_UNKNOWN_AGENT
    status = tasks.master_status(
        state, framework, task_id, after, _RECONCILIATION, message, agent_id=agent_id
    )
    if named is not None and after == TaskState.TASK_UNREACHABLE:
        status.unreachable_time.nanoseconds = state.unreachable[named]
    tasks.tell(state, framework, status)


def reconcile_operations(state: "MasterState", framework: Framework, call: Call) -> None:
    """
    Answer for offer operations. This master keeps none, so what it says of one is what it
    knows of the agent.
    """
    state.counters.messages_reconcile_operations += 1
    for one in call.reconcile_operations.operations:
        event = Event()
        event.type = Event.UPDATE_OPERATION_STATUS
        status = event.update_operation_status.status
        status.operation_id.value = one.operation_id.value
        agent_id = AgentId(one.agent_id.value) if one.HasField("agent_id") else None
        if agent_id is not None:
            status.agent_id.value = agent_id
        status.state, status.message = _operation_answer(state, agent_id)
        state.to_framework(framework, event)


def _operation_answer(
    state: "MasterState", agent_id: AgentId | None
) -> "tuple[OperationState, str]":
    if agent_id is None:
        return OPERATION_UNKNOWN, (
            "Reconciliation: Operation is unknown and no 'agent_id' was provided"
        )
    if agent_id in state.recovered:
        return OPERATION_RECOVERING, (
            "Reconciliation: Agent is recovered but has not re-registered"
        )
    if agent_id in state.agents:
        return OPERATION_UNKNOWN, "Reconciliation: Operation is unknown"
    if agent_id in state.unreachable:
        return OPERATION_UNREACHABLE, "Reconciliation: Agent is unreachable"
    if agent_id in state.gone:
        return OPERATION_GONE_BY_OPERATOR, "Reconciliation: Agent marked gone by operator"
    return OPERATION_UNKNOWN, "Reconciliation: Both operation and agent are unknown"


def acknowledge_operation(state: "MasterState", framework: Framework, call: Call) -> None:
    """Take an acknowledgement that belongs to no operation of this master's."""
    counters = state.counters
    counters.messages_operation_status_update_acknowledgement += 1
    counters.invalid_operation_status_update_acknowledgements += 1
