"""Status updates on their way from agents to frameworks, and acknowledgements back.

The agent repeats an update until its framework's acknowledgement has come back to it, so
nothing is kept here for repeating: what cannot be delivered now is dropped. What the master
says itself has no uuid and is said once.
"""

from typing import TYPE_CHECKING

from mesoskit.master import watching
from mesoskit.master.records import Framework, Peer, Task
from mesoskit.master.tasks import remove_task, transition
from mesoskit.messages.internal_pb2 import (
    StatusUpdateAcknowledgementMessage,
    StatusUpdateMessage,
)
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.events import Send
from mesoskit.model.ids import AgentId, FrameworkId, TaskId
from mesoskit.model.tasks import TERMINAL, TaskState, after_update

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

_UPDATE = Event.UPDATE
_UNREACHABLE = int(TaskState.TASK_UNREACHABLE)
_TERMINAL = frozenset(int(state) for state in TERMINAL)
_UUID_LENGTH = 16


def status_update(state: "MasterState", peer: Peer, message: StatusUpdateMessage) -> None:
    """
    Take an update from an agent: forward it, and let the task follow.

    It is forwarded also where the task is unknown (only the framework's acknowledgement
    ends its repetition), and where it tells nothing new. Dropped is what does not come
    from the agent it names, what has no uuid, and what its framework cannot hear now.
    """
    counters = state.counters
    counters.messages_status_update += 1
    update = message.update
    agent = peer.agent
    uuid = update.uuid
    if agent is None or agent.id != update.slave_id.value or len(uuid) != _UUID_LENGTH:
        counters.invalid_status_updates += 1
        return
    status = update.status
    framework = state.frameworks.get(FrameworkId(update.framework_id.value))
    if framework is None:
        counters.invalid_status_updates += 1
        return
    task = framework.tasks.get(TaskId(status.task_id.value))
    if task is not None and task.agent is not agent:
        task = None
    subscribed = framework.peer
    if subscribed is not None:
        event = Event()
        event.type = _UPDATE
        forwarded = event.update.status
        forwarded.CopyFrom(status)
        if not forwarded.uuid:
            forwarded.uuid = uuid
        framework.events[_UPDATE] += 1
        state.effects.append(Send(subscribed.id, event))
    if task is None:
        counters.invalid_status_updates += 1
        return
    # Where nobody is there to be told now it comes again, and what comes later not before it.
    task.told_state = status.state
    task.told_uuid = uuid
    new = _remember(task, status)
    latest = update.latest_state if update.HasField("latest_state") else None
    before = task.state
    after = after_update(before, status.state, latest)
    if after != task.state and after != _UNREACHABLE:
        # Whether an agent can be reached is not for the agent to say.
        transition(
            state, task, after, status.source, status.reason if status.HasField("reason") else None
        )
    if state.watchers and (new or task.state != before or status.reason in watching.CHECKS):
        watching.task_updated(state, task, status)
    if subscribed is not None:
        counters.valid_status_updates += 1
    else:
        counters.invalid_status_updates += 1


def _remember(task: Task, status: TaskStatus) -> bool:
    """
    Keep a status with its task, without the framework's own data in it.

    @return: whether it is in another state than the one before.
    """
    if status.data:
        kept = TaskStatus()
        kept.CopyFrom(status)
        kept.ClearField("data")
        status = kept
    return task.add_status(status.state, status.SerializeToString())


def acknowledge(state: "MasterState", framework: Framework, call: Call) -> None:
    """
    Pass a framework's acknowledgement on to the agent.

    When it acknowledges the terminal update that was sent last, the task has ended for
    everybody but the agent, and goes to the history. Not passed on is what acknowledges an
    update of a task that this master never forwarded: the agent sends it again by itself.
    """
    counters = state.counters
    counters.messages_status_update_acknowledgement += 1
    acknowledged = call.acknowledge
    agent = state.agents.get(AgentId(acknowledged.agent_id.value))
    if agent is None or agent.peer is None:
        counters.invalid_status_update_acknowledgements += 1
        return
    uuid = acknowledged.uuid
    task = framework.tasks.get(TaskId(acknowledged.task_id.value))
    if task is not None and task.agent is agent:
        if task.told_uuid is None:
            counters.invalid_status_update_acknowledgements += 1
            return
        if task.told_uuid == uuid and task.told_state in _TERMINAL:
            remove_task(state, task)
    message = StatusUpdateAcknowledgementMessage()
    message.slave_id.value = agent.id
    message.framework_id.value = framework.id
    message.task_id.value = acknowledged.task_id.value
    message.uuid = uuid
    state.effects.append(Send(agent.peer.id, message))
    counters.valid_status_update_acknowledgements += 1
