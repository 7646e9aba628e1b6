"""What operators who watch the cluster are told of its changes: the operator API's events.

An event is an effect, L{Told}, made only while somebody watches (C{state.watchers} says how
many). When each is sent, and what is in it, is Mesos' (C{Master::Subscribers} and its callers in
C{src/master/master.cpp}).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mesoskit.master.answers import agent_message, framework_head
from mesoskit.master.records import Agent, Framework, Task
from mesoskit.master.visible import Viewer
from mesoskit.messages.master_pb2 import Event
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.model.resources import ENDPOINT, Resources
from mesoskit.model.tasks import Reason

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

CHECKS: Final = frozenset(
    (
        int(Reason.REASON_TASK_CHECK_STATUS_UPDATED),
        int(Reason.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED),
    )
)
"""Reasons of statuses that are told though the task's state is what it was."""


@dataclass(slots=True)
class Told:
    """
    Tell all who watch, and may see it.

    @ivar framework: what it is about, where it is about any; C{task} and C{agent} likewise.
    """

    event: Event
    framework: Framework | None = None
    task: Task | None = None
    agent: Agent | None = None


def told_to(viewer: Viewer, told: Told) -> Event | None:
    """Return an event as somebody may see it, L{None} where he may not."""
    event, framework, agent = told.event, told.framework, told.agent
    if viewer.all:
        return event
    if framework is not None and not viewer.framework(framework):
        return None
    if told.task is not None and not viewer.task(told.task):
        return None
    if agent is None or viewer.agent(agent):
        return event
    seen = Event()
    seen.CopyFrom(event)
    shown = seen.agent_added.agent
    for resources in (
        shown.agent_info.resources,
        shown.total_resources,
        shown.allocated_resources,
        shown.offered_resources,
    ):
        visible = viewer.resources(Resources.from_message(resources)).to_message(ENDPOINT)
        del resources[:]
        resources.extend(visible)
    return seen


def task_added(state: "MasterState", task: Task) -> None:
    """A task was launched, or an agent came with it."""
    event = Event(type=Event.TASK_ADDED)
    event.task_added.task.CopyFrom(task.to_message())
    state.effects.append(Told(event, task.framework, task))


def task_updated(state: "MasterState", task: Task, status: TaskStatus) -> None:
    """A task has a status in another state than the last."""
    event = Event(type=Event.TASK_UPDATED)
    updated = event.task_updated
    updated.framework_id.value = task.framework.id
    updated.status.CopyFrom(status)
    updated.state = task.state  # type: ignore[assignment]
    state.effects.append(Told(event, task.framework, task))


def agent_added(state: "MasterState", agent: Agent) -> None:
    """An agent registered that was not registered before."""
    event = Event(type=Event.AGENT_ADDED)
    event.agent_added.agent.CopyFrom(agent_message(agent))
    state.effects.append(Told(event, agent=agent))


def agent_removed(state: "MasterState", agent: Agent) -> None:
    """An agent is not registered any more."""
    event = Event(type=Event.AGENT_REMOVED)
    event.agent_removed.agent_id.value = agent.id
    state.effects.append(Told(event))


def framework_added(state: "MasterState", framework: Framework) -> None:
    """A framework subscribed for the first time, or an agent told of it."""
    event = Event(type=Event.FRAMEWORK_ADDED)
    event.framework_added.framework.CopyFrom(framework_head(framework))
    state.effects.append(Told(event, framework))


def framework_updated(state: "MasterState", framework: Framework) -> None:
    """A framework subscribed again, or changed what it says of itself."""
    event = Event(type=Event.FRAMEWORK_UPDATED)
    event.framework_updated.framework.CopyFrom(framework_head(framework))
    state.effects.append(Told(event, framework))


def framework_removed(state: "MasterState", framework: Framework) -> None:
    """A framework has ended."""
    event = Event(type=Event.FRAMEWORK_REMOVED)
    event.framework_removed.framework_info.CopyFrom(framework.info)
    state.effects.append(Told(event, framework))
