"""What the agent's operator API answers, made of the agent's records.

Contents and order are those of C{src/slave/http.cpp} of Apache Mesos; big answers are trees
(L{mesoskit.messages.pieces}). Nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final

from mesoskit.agent import nested, net_cls, registration, statistics, views
from mesoskit.agent.authorizing import EVERYTHING, Viewer
from mesoskit.agent.frameworks import AgentTask, Executor, Framework, Kind
from mesoskit.agent.nested_records import Nested
from mesoskit.messages import codec
from mesoskit.messages.agent_pb2 import Call, Response
from mesoskit.messages.mesos_pb2 import ContainerStatus
from mesoskit.messages.pieces import Many, Tree
from mesoskit.model.resources import POST
from mesoskit.model.secrets import hide_secrets

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState


def _frameworks(state: AgentState) -> list[Framework]:
    return [*state.frameworks.values(), *state.completed_frameworks.values()]


# The answers that may be big.


def frameworks_tree(state: AgentState, viewer: Viewer = EVERYTHING) -> Tree:
    """Return C{GetFrameworks}."""
    live, completed = state.frameworks.values(), state.completed_frameworks.values()
    seen = viewer.unless_all(viewer.framework)
    return {
        "frameworks": Many(framework_message, list(live), seen),
        "completed_frameworks": Many(framework_message, list(completed), seen),
    }


def executors_tree(state: AgentState, viewer: Viewer = EVERYTHING) -> Tree:
    """Return C{GetExecutors}, command tasks' own among them."""
    frameworks = list(filter(viewer.framework, _frameworks(state)))
    seen = viewer.unless_all(viewer.executor)
    live = [one for framework in frameworks for one in framework.executors.values()]
    completed = [one for framework in frameworks for one in framework.completed]
    return {
        "executors": Many(executor_message, live, seen),
        "completed_executors": Many(executor_message, completed, seen),
    }


def tasks_tree(state: AgentState, viewer: Viewer = EVERYTHING) -> Tree:
    """
    Return C{GetTasks}.

    Queued are those whose executor has not subscribed, terminated those that have ended and
    whose last update is not acknowledged.
    """
    frameworks = filter(viewer.framework, _frameworks(state))
    of_these = chain.from_iterable((*one.executors.values(), *one.completed) for one in frameworks)
    executors = list(filter(viewer.executor, of_these))
    seen = viewer.unless_all(viewer.task)
    queued = [task for one in executors for task in views.queued_of(one)]
    waiting = set(map(id, queued))
    taken = [task for one in executors for task in one.tasks.values() if id(task) not in waiting]
    return {
        "pending_tasks": Many(AgentTask.to_message, ()),
        "queued_tasks": Many(AgentTask.to_message, queued, seen),
        "launched_tasks": Many(
            AgentTask.to_message, [one for one in taken if not one.terminal], seen
        ),
        "terminated_tasks": Many(
            AgentTask.to_message, [one for one in taken if one.terminal], seen
        ),
        "completed_tasks": Many(
            AgentTask.to_message,
            list(chain.from_iterable(one.completed or () for one in executors)),
            seen,
        ),
    }


def state_tree(state: AgentState, viewer: Viewer = EVERYTHING) -> Tree:
    """Return C{GetState}: all of them together."""
    return {
        "get_tasks": tasks_tree(state, viewer),
        "get_executors": executors_tree(state, viewer),
        "get_frameworks": frameworks_tree(state, viewer),
    }


TREES: Final[dict[str, Callable[[AgentState, Viewer], Tree]]] = {
    "GET_STATE": state_tree,
    "GET_FRAMEWORKS": frameworks_tree,
    "GET_EXECUTORS": executors_tree,
    "GET_TASKS": tasks_tree,
}
"""Calls with big answers, by their names."""


def framework_message(framework: Framework) -> Response.GetFrameworks.Framework:
    """Return what operators are told of a framework."""
    message = Response.GetFrameworks.Framework()
    message.framework_info.CopyFrom(framework.info)
    return message


def executor_message(executor: Executor) -> Response.GetExecutors.Executor:
    """Return what operators are told of an executor, whoever plays it."""
    message = Response.GetExecutors.Executor()
    info = message.executor_info
    if executor.info is not None:
        info.CopyFrom(executor.info)
        hide_secrets(info)
    else:
        info.executor_id.value = executor.id
        info.name = views.name_of(executor)
        info.source = views.source_of(executor)
    info.framework_id.value = executor.framework.id
    return message


# The small answers.


def agent(state: AgentState, viewer: Viewer = EVERYTHING) -> Response:
    """Answer GET_AGENT."""
    response = Response(type=Response.GET_AGENT)
    info = response.get_agent.agent_info
    info.CopyFrom(registration.agent_info(state))
    del info.resources[:]
    info.resources.extend(viewer.resources(state.options.resources).to_message(POST))
    if state.drain is not None:
        response.get_agent.drain_config.CopyFrom(state.drain)
        since = response.get_agent.estimated_drain_start_time
        since.nanoseconds = int(state.drain_started) * 10**9
    return response


def operations(state: AgentState, viewer: Viewer = EVERYTHING) -> Response:
    """Answer GET_OPERATIONS: none is ever pending here."""
    response = Response(type=Response.GET_OPERATIONS)
    response.get_operations.SetInParent()
    return response


def resource_providers(state: AgentState, viewer: Viewer = EVERYTHING) -> Response:
    """Answer GET_RESOURCE_PROVIDERS: there is none."""
    response = Response(type=Response.GET_RESOURCE_PROVIDERS)
    response.get_resource_providers.SetInParent()
    return response


MESSAGES: Final[dict[str, Callable[[AgentState, Viewer], Response]]] = {
    "GET_AGENT": agent,
    "GET_OPERATIONS": operations,
    "GET_RESOURCE_PROVIDERS": resource_providers,
}
"""Calls with small answers, by their names."""


def containers(state: AgentState, call: Call, viewer: Viewer = EVERYTHING) -> Response:
    """
    Answer GET_CONTAINERS: the containers of executors, and with C{show_nested} those in them.
    With C{show_standalone} those that stand alone, too; what is nested in these is shown with
    both.
    """
    response = Response(type=Response.GET_CONTAINERS)
    answer = response.get_containers
    answer.SetInParent()
    for view in views.containers_view(state, viewer=viewer):
        shown = answer.containers.add(executor_name=view["executor_name"])
        shown.container_id.value = view["container_id"]
        shown.framework_id.value = view["framework_id"]
        shown.executor_id.value = view["executor_id"]
        shown.container_status.CopyFrom(codec.from_dict(ContainerStatus, view["status"]))
        if "statistics" in view:
            shown.resource_statistics.CopyFrom(statistics.message_of(view["statistics"]))
    if call.get_containers.show_nested:
        for task in _nested(state, viewer):
            shown = answer.containers.add()
            shown.container_id.value = task.container or ""
            shown.container_id.parent.value = task.executor.container
            shown.container_status.container_id.CopyFrom(shown.container_id)
            if task.pid is not None:
                shown.container_status.executor_pid = task.pid
            net_cls.describe(state, shown.container_status, task.container)
            used = statistics.of_task(state, task)
            if used is not None:
                shown.resource_statistics.CopyFrom(statistics.message_of(used))
    for one in _single(state, call, viewer):
        shown = answer.containers.add()
        shown.container_id.CopyFrom(nested.id_of(one.path))
        shown.container_status.container_id.CopyFrom(shown.container_id)
        if one.pid is not None:
            shown.container_status.executor_pid = one.pid
        net_cls.describe(state, shown.container_status, one.key)
        used = statistics.of_nested(state, one)
        if used is not None:
            shown.resource_statistics.CopyFrom(statistics.message_of(used))
    return response


def _single(state: AgentState, call: Call, viewer: Viewer) -> Iterator[Nested]:
    """Give the containers that are no task's, as far as somebody wants and may see them."""
    wanted = call.get_containers
    for one in state.nested.running.values():
        if len(one.path) > 1 and not wanted.show_nested:
            continue
        executor = nested.executor_of(state, one.path)
        if executor is None:
            visible = wanted.show_standalone and viewer.standalone(one.path[0])
        else:
            visible = viewer.container(executor)
        if visible:
            yield one


def _nested(state: AgentState, viewer: Viewer) -> Iterator[AgentTask]:
    for framework in state.frameworks.values():
        for executor in framework.executors.values():
            if executor.kind is Kind.DEFAULT and viewer.container(executor):
                for task in executor.tasks.values():
                    if task.container is not None and not task.ended:
                        yield task
