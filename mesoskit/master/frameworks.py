"""Frameworks: how they come into the state, go quiet, and end."""

from typing import TYPE_CHECKING

from mesoskit.allocator.options import FrameworkOptions
from mesoskit.master import executors, offers, tasks, watching
from mesoskit.master.offer_constraints import NONE, Constraints
from mesoskit.master.records import Framework, Peer
from mesoskit.messages.internal_pb2 import (
    RunTaskMessage,
    ShutdownFrameworkMessage,
    UpdateFrameworkMessage,
)
from mesoskit.messages.mesos_pb2 import FrameworkInfo
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.ids import FrameworkId
from mesoskit.model.quantities import Quantities
from mesoskit.model.tasks import Reason, TaskState

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState


def framework_options(framework: Framework) -> FrameworkOptions:
    """Return what the allocator is told of a framework."""
    return FrameworkOptions(
        roles=frozenset(framework.roles),
        suppressed_roles=frozenset(framework.suppressed),
        capabilities=framework.capabilities,
        min_allocatable={
            role: [
                Quantities.from_message(one.quantities)
                for one in filters.min_allocatable_resources.quantities
            ]
            for role, filters in framework.info.offer_filters.items()
        },
        constraints=framework.constraints.roles,
    )


def add(
    state: "MasterState",
    info: FrameworkInfo,
    suppressed: tuple[str, ...],
    peer: Peer | None,
    constraints: Constraints = NONE,
) -> Framework:
    """
    Take in a framework that is new here.

    @param info: with its id.
    @param peer: who subscribed; L{None} for a framework that only agents have told of.
    """
    framework = Framework(info, state.now, state.options.max_completed_tasks_per_framework)
    framework.suppressed = suppressed
    framework.constraints = constraints
    state.frameworks[framework.id] = framework
    if peer is not None:
        bind(framework, peer)
        framework.active = True
    else:
        framework.recovered = True
        # Nobody may come for it any more; its tasks are given as long as its agents are.
        patience = max(info.failover_timeout, state.options.agent_reregister_timeout)
        state.deadlines.set(("failover", framework.id), state.now + patience)
    # Nobody's task is taken in before its framework is, so it can hold nothing yet.
    state.allocator.add_framework(
        state.now, framework.id, framework_options(framework), {}, framework.active
    )
    if peer is not None and peer.congested:
        state.allocator.set_congested(state.now, framework.id, True)
    state.past.add((state.now, "framework added", framework.id, info.name))
    state.note("info", f"Added framework {framework.id} ({info.name})")
    if state.watchers:
        watching.framework_added(state, framework)
    return framework


def bind(framework: Framework, peer: Peer) -> None:
    """Make a link the framework's own."""
    if peer.instance != framework.instance:
        if framework.instance:
            framework.superseded.append(framework.instance)
        framework.instance = peer.instance
    framework.peer = peer
    peer.framework = framework
    framework.pid = peer.pid
    framework.run_template = RunTaskMessage(framework=framework.info, pid=framework.pid)


def unbind(framework: Framework) -> Peer | None:
    """Part a framework from its link; return the link it had."""
    peer = framework.peer
    framework.peer = None
    if peer is not None:
        peer.framework = None
    return peer


def congestion(state: "MasterState", framework: Framework, congested: bool) -> None:
    """Make no offers to a framework while its link is full."""
    state.allocator.set_congested(state.now, framework.id, congested)


def lost(state: "MasterState", framework: Framework, why: str) -> None:
    """Go on without a framework whose link broke: it has its failover_timeout to come back."""
    unbind(framework)
    deactivate(state, framework)
    state.past.add((state.now, "framework disconnected", framework.id, why))
    timeout = framework.info.failover_timeout
    state.note(
        "info", f"Framework {framework.id} disconnected ({why}); it has {timeout:g} s to come back"
    )
    state.deadlines.set(("failover", framework.id), state.now + max(0.0, timeout))


def deactivate(state: "MasterState", framework: Framework) -> None:
    """Make no more offers to a framework, and take back those it has."""
    if framework.active:
        framework.active = False
        state.allocator.deactivate_framework(state.now, framework.id)
    for offer in list(framework.offers.values()):
        offers.rescind(state, offer)


def failover_timeout(state: "MasterState", framework_id: FrameworkId) -> None:
    """Remove a framework that did not come back in time."""
    framework = state.frameworks.get(framework_id)
    if framework is not None and not framework.connected:
        state.note("info", f"Framework {framework_id} did not come back in time")
        remove(state, framework)


def teardown(state: "MasterState", framework: Framework, call: Call) -> None:
    """Remove a framework at its own wish."""
    state.counters.messages_unregister_framework += 1
    peer = framework.peer
    remove(state, framework)
    if peer is not None:
        state.drop(peer, "Framework was torn down")


def remove(state: "MasterState", framework: Framework) -> None:
    """
    End a framework: every agent shuts its executors down, its tasks are killed (nobody is
    told), and its id cannot be used again while it is remembered.
    """
    now = state.now
    if framework.active:
        framework.active = False
        state.allocator.deactivate_framework(now, framework.id)
    for offer in list(framework.offers.values()):
        offers.discard(state, offer, None)
    unbind(framework)
    shutdown = ShutdownFrameworkMessage()
    shutdown.framework_id.value = framework.id
    for agent in state.agents.values():
        state.to_agent(agent, shutdown)
    message = f"Framework {framework.id} removed"
    reason = Reason.REASON_FRAMEWORK_REMOVED
    for task in list(framework.tasks.values()):
        tasks.end_task(state, task, TaskState.TASK_KILLED, reason, message, told=False)
    for task in list(framework.unreachable.values()):
        tasks.end_unreachable_task(state, task, TaskState.TASK_KILLED, reason, message, told=False)
    for agent in state.agents.values():
        for executor in list(agent.executors.get(framework.id, {}).values()):
            executors.remove(state, agent, executor)
    framework.unregistered_time = now
    framework.recovered = False
    state.deadlines.drop(("failover", framework.id))
    state.allocator.remove_framework(now, framework.id)
    del state.frameworks[framework.id]
    state.completed.add(framework)
    state.past.add((now, "framework removed", framework.id))
    state.note("info", f"Removed framework {framework.id} ({framework.info.name})")
    if state.watchers:
        watching.framework_removed(state, framework)


def error_event(message: str) -> Event:
    """Return the event that ends a framework's stream."""
    event = Event()
    event.type = Event.ERROR
    event.error.message = message
    return event


def update_message(framework: Framework) -> UpdateFrameworkMessage:
    """Return what tells an agent how things stand with a framework."""
    message = UpdateFrameworkMessage()
    message.framework_id.value = framework.id
    message.pid = framework.pid
    message.framework_info.CopyFrom(framework.info)
    return message
