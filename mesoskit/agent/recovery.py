"""What an agent does with what it finds of its own life before.

Recovery is how every agent begins, the first time with nothing to find: the store's
records (C{Recovered}) and the launcher's containers (C{RecoveredContainers}) come in, in
this order, and the policy decides what becomes of both. Only then the agent registers.

C{reconnect} (L{mesoskit.agent.reconnecting}): what ran runs on. What the agent plays itself it
has again at once; executors subscribe again, and have C{executor_reregistration_timeout} for
it. Recovery is over when each of them is back or known to be gone.

C{cleanup} (L{mesoskit.agent.cleaning}): nothing that ran goes on. That is also what becomes of
frameworks that do not checkpoint, whatever the policy, as in Mesos.

Either way containers that no record knows are destroyed, a task that had ended by itself while
nobody looked is reported as it ended, updates that were not acknowledged are sent again, and
the agent keeps its id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mesoskit.agent import (
    checkpoint,
    cleaning,
    completion,
    draining,
    failures,
    processes,
    rebuilding,
    reconnecting,
    registration,
)
from mesoskit.agent.container import Forget, RecoveredContainers
from mesoskit.agent.options import RECONNECT
from mesoskit.agent.phase import Phase
from mesoskit.messages.mesos_pb2 import AgentInfo
from mesoskit.model.events import Recovered, Stop, Store
from mesoskit.model.ids import AgentId, ContainerId
from mesoskit.model.resources import Resources

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

FAILED: Final = "Failed to perform recovery: "

INCOMPATIBLE: Final = (
    "Incompatible agent info detected: {difference}. Either start the agent as before, or choose a"
    " more permissive --reconfiguration_policy, or remove {path} to start as a new agent, which"
    " ends what still runs"
)

NAMED: Final = 10
"""How many records that cannot be read are named."""


class Recovery:
    """
    How far recovery is.

    @ivar read: the records have been read.
    @ivar found: the containers are known, and the policy has decided: executors may come.
    @ivar waiting: the executors that have not subscribed again, by container.
    @ivar done: nobody is waited for any more: the agent may register.
    @ivar rebooted: the machine was started again since the records were written.
    @ivar stale: the keys of what is stored of the agent itself and is not true any more.
    @ivar errors: how many records could not be read.
    @ivar seconds: how long it took.
    """

    __slots__ = ("done", "errors", "found", "read", "rebooted", "seconds", "stale", "waiting")

    def __init__(self) -> None:
        self.read = False
        self.found = False
        self.waiting: set[ContainerId] = set()
        self.done = False
        self.rebooted = False
        self.stale: list[str] = []
        self.errors = 0
        self.seconds = 0.0


def recovered(state: AgentState, event: Recovered) -> None:
    """The store was read."""
    recovery, options = state.recovery, state.options
    try:
        snapshot = checkpoint.read(event.snapshot)
    except checkpoint.CheckpointError as error:
        recovery.errors += 1
        return _refuse(state, str(error))
    if snapshot.unreadable:
        recovery.errors += len(snapshot.unreadable)
        if options.strict:
            return _refuse(state, _unreadable(state, snapshot))
        _go_on_without(state, snapshot)
    recovery.rebooted = "" not in (snapshot.boot, options.boot_id) and (
        snapshot.boot != options.boot_id
    )
    if snapshot.agent is None:
        _forget(state, event.snapshot, "the agent's own record is not there")
        recovery.read = True
        return None
    state.set_agent_id(AgentId(snapshot.agent.id.value))
    difference = incompatibility(state, snapshot.agent)
    if difference is not None:
        if not recovery.rebooted:
            return _refuse(state, INCOMPATIBLE.format(difference=difference, path=_path(state)))
        # As Mesos does: nothing is left that rested on the old id.
        state.set_agent_id(AgentId(""))
        _forget(state, event.snapshot, f"the machine was restarted, and {difference}")
        recovery.read = True
        return None
    if (snapshot.layout, snapshot.boot) != (checkpoint.LAYOUT, options.boot_id):
        recovery.stale.append(checkpoint.LIFE)
    if snapshot.agent != registration.agent_info(state):
        recovery.stale.append(checkpoint.AGENT)
    rebuilding.rebuild(state, snapshot)
    recovery.read = True
    return None


def _refuse(state: AgentState, why: str) -> None:
    state.out.append(Stop(FAILED + why, 1))


def _unreadable(state: AgentState, snapshot: checkpoint.Snapshot) -> str:
    (key, why), *more = snapshot.unreadable
    others = f" and {len(more)} more" if more else ""
    where = _path(state)
    return (
        f"stored record {key!r} in {where} cannot be read: {why}{others}. Start the agent with"
        " --strict=false to go on with what can be read (what it then knows nothing of it ends),"
        f" or remove {where} to start as a new agent"
    )


def _path(state: AgentState) -> str:
    return f"{state.options.work_dir}/checkpoints.sqlite"


def _go_on_without(state: AgentState, snapshot: checkpoint.Snapshot) -> None:
    """Forget what cannot be read, so that the next start is not troubled by it again."""
    for key, why in snapshot.unreadable[:NAMED]:
        state.note("error", f"Stored record {key!r} cannot be read, and is forgotten: {why}")
    if len(snapshot.unreadable) > NAMED:
        count = len(snapshot.unreadable) - NAMED
        state.note("error", f"{count} more stored records cannot be read, and are forgotten")
    state.out.append(Store(tuple((key, None) for key, _ in snapshot.unreadable)))


def _forget(state: AgentState, snapshot: dict[str, bytes], why: str) -> None:
    """Begin as a new agent: whatever is stored is of another one."""
    if snapshot:
        state.note("warn", f"Starting as a new agent: {why}")
        state.out.append(Store(tuple((key, None) for key in snapshot)))


def incompatibility(state: AgentState, before: AgentInfo) -> str | None:
    """
    Say what of the agent's info has changed in a way that the policy does not allow. The port
    may change, other than in Mesos: no executor of ours rests on it, and one over HTTP
    that does will be missed.
    """
    policy = state.options.reconfiguration_policy
    if policy == "any":
        return None
    now = registration.agent_info(state)
    for name in ("hostname", "domain"):
        if getattr(before, name) != getattr(now, name):
            return f"{name} was {getattr(before, name)} and is {getattr(now, name)}"
    old, new = Resources.from_message(before.resources), state.options.resources
    attributes = [one.SerializeToString() for one in now.attributes]
    if policy == "additive":
        fits = new.contains(old)
        kept = all(one.SerializeToString() in attributes for one in before.attributes)
    else:
        fits = new == old
        kept = sorted(one.SerializeToString() for one in before.attributes) == sorted(attributes)
    if not fits:
        return f"resources were {old} and are {new}"
    return None if kept else "the attributes have changed"


# Containers.


def containers(state: AgentState, event: RecoveredContainers) -> None:
    """The launcher has said what is left: the policy decides what becomes of it."""
    recovery = state.recovery
    if recovery.found or not recovery.read:
        return
    for container, limitation in event.limitations.items():
        owner = state.containers.get(container)
        if owner is not None:
            processes.limited(state, owner, limitation)
    for container in event.running:
        if container not in state.containers:
            state.doomed.add(container)
            state.destroy(container)
    for framework in list(state.frameworks.values()):
        keeps = state.options.recover == RECONNECT and framework.info.checkpoint
        settle = reconnecting.executor if keeps else cleaning.executor
        for executor in list(framework.executors.values()):
            settle(state, executor, event)
        completion.remove_framework_if_idle(state, framework)
    for container in event.exited:
        state.containers.pop(container, None)
        state.out.append(Forget(container))
    recovery.found = True
    if recovery.waiting:
        count = len(recovery.waiting)
        state.note("info", f"Waiting for {count} executors to subscribe again")
    _finish_if_all_are_known(state)


def accounted_for(state: AgentState, container: ContainerId) -> None:
    """An executor is back, or will not be: recovery need not wait for it."""
    recovery = state.recovery
    if not recovery.done and container in recovery.waiting:
        recovery.waiting.discard(container)
        if recovery.found:
            _finish_if_all_are_known(state)


def _finish_if_all_are_known(state: AgentState) -> None:
    recovery = state.recovery
    if recovery.waiting or recovery.done:
        return
    recovery.done = True
    recovery.seconds = state.now - (state.started_at or state.now)
    if state.agent_id:
        state.note("info", f"Finished recovery of agent {state.agent_id}: {_count(state)}")
    for key in recovery.stale:
        failures.store_later(state, key)
    if state.phase is Phase.RECOVERING:
        state.phase = Phase.DISCONNECTED
    draining.go_on(state)
    registration.begin(state)


def _count(state: AgentState) -> str:
    live = sum(not task.terminal for task in state.tasks.values())
    return f"{live} tasks live, {len(state.streams)} with updates on their way"
