"""Agents that come back: after a broken link, a restart, a partition, or to a new master.

What the agent brings is the truth about its tasks. Where the master knows the agent as
registered, the two compare notes: tasks that the agent does not have are put to it as
questions, executors that it does not have are forgotten. Where the master has
forgotten the agent, or thought it cut off, or never knew it, all of its tasks,
executors and frameworks are taken in (C{Master::reregisterSlave}).
"""

from typing import TYPE_CHECKING

from mesoskit.master import (
    agents,
    authorizing,
    draining,
    executors,
    frameworks,
    health,
    offers,
    registry,
    subscribe,
    tasks,
    watching,
)
from mesoskit.master.history import forget_completed
from mesoskit.master.records import Agent, Executor, Framework, Peer, Task
from mesoskit.messages import mesos_pb2
from mesoskit.messages.internal_pb2 import (
    ReconcileTasksMessage,
    ReregisterSlaveMessage,
    ShutdownFrameworkMessage,
    ShutdownMessage,
    SlaveReregisteredMessage,
)
from mesoskit.messages.mesos_pb2 import AgentInfo, ExecutorInfo
from mesoskit.model.ids import AgentId, ExecutorId, FrameworkId, TaskId
from mesoskit.model.resources import Resources
from mesoskit.model.statuses import (
    AGENT_CAME_BACK,
    NOT_ON_AGENT,
    UNKNOWN_AGENT_CAME_BACK,
    make_status,
    retell_status,
)
from mesoskit.model.tasks import TERMINAL, Reason, Source, TaskState
from mesoskit.model.validation_agent import validate_reregister_agent

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState, Refusal

_TERMINAL = frozenset(int(state) for state in TERMINAL)
_THE_MASTER_S = (int(TaskState.TASK_UNREACHABLE), int(TaskState.TASK_UNKNOWN))
_LINK_CAME_BACK = "Disconnected agent reregistered"


def reregister(
    state: "MasterState", peer: Peer, message: ReregisterSlaveMessage
) -> "Refusal | None":
    """Take an agent back, or tell it to shut down where that cannot be."""
    state.counters.messages_reregister_slave += 1
    agent_id = AgentId(message.slave.id.value)
    if agent_id in state.gone:
        return _shut_down(state, peer, agent_id, "Agent has been marked gone")
    error = (
        validate_reregister_agent(message)
        or agents.version_error(message.version)
        or agents.domain_error(state, message.slave)
        or _impossible_task(message)
    )
    if error is None and not agent_id:
        error = "Expecting 'slave.id' to be present"
    if error is None and peer.agent is not None and peer.agent.id != agent_id:
        error = f"Agent {peer.agent.id} is already registered over this connection"
    if error is not None:
        state.note("warn", f"Dropped the re-registration of agent {agent_id}: {error}")
        return 400, error
    if state.options.authorizer is not None:
        error = authorizing.agent_error(state, peer, message.slave, "reregister")
        if error is not None:
            state.note("warn", f"Dropped the re-registration of agent {agent_id}: {error}")
            return 403, error
    info = AgentInfo()
    info.CopyFrom(message.slave)
    known = state.agents.get(agent_id)
    if known is not None:
        return _back(state, peer, message, known, info)
    return _returned(state, peer, message, info)


def _impossible_task(message: ReregisterSlaveMessage) -> str | None:
    """Say which task is in a state that only a master gives a task."""
    for task in message.tasks:
        if int(task.state) in _THE_MASTER_S:
            name = TaskState(task.state).name
            return f"Task {task.task_id.value} cannot be {name} on its own agent"
    return None


def _shut_down(state: "MasterState", peer: Peer, agent_id: AgentId, why: str) -> "Refusal":
    state.send(peer, ShutdownMessage(message=why))
    state.note("warn", f"Told agent {agent_id} at {peer.address} to shut down: {why}")
    return 403, why


# An agent that is registered.


def _back(
    state: "MasterState",
    peer: Peer,
    message: ReregisterSlaveMessage,
    agent: Agent,
    info: AgentInfo,
) -> "Refusal | None":
    """Go on with an agent that the master has had all the time."""
    pid = agents.agent_pid(peer, info)
    if _host(pid) != _host(agent.pid) or info.hostname != agent.info.hostname:
        return _shut_down(
            state, peer, agent.id, "Agent attempted to reregister with different IP / hostname"
        )
    changed, total = info != agent.info, agent.total
    error = agents.take_over(agent, info, message)
    if error is not None:
        return _shut_down(state, peer, agent.id, error)
    if changed:
        state.effects.append(registry.admit(info))
    _relink(state, agent, peer, pid)
    agent.reregistered_time = state.now
    state.past.add((state.now, "agent reregistered", agent.id, peer.address))
    state.note("info", f"Agent {agent.id} at {pid} reregistered")
    _take_in_frameworks(state, message)
    reported = {(task.framework_id.value, task.task_id.value) for task in message.tasks}
    _forget_executors(state, agent, message)
    adopted = _adopt_missing(state, agent, message)
    if adopted or agent.total != total:
        for offer in list(agent.offers.values()):
            offers.rescind(state, offer)
    if adopted:
        # What it holds is not what the allocator was told bit by bit, so it is told anew.
        state.allocator.remove_agent(state.now, agent.id)
        state.allocator.add_agent(
            state.now, agent.id, agents.agent_options(agent), agent.total, agent.used()
        )
    else:
        state.allocator.update_agent(state.now, agent.id, agents.agent_options(agent), agent.total)
        if not agent.active:
            state.allocator.activate_agent(state.now, agent.id)
    agent.active = True
    if agent.deactivation is not None:
        agents.deactivate(state, agent)
    answer = SlaveReregisteredMessage(connection=agents.connection(state))
    answer.slave_id.value = agent.id
    _ask_after(state, agent, reported, answer)
    state.to_agent(agent, answer)
    for task in message.tasks:
        _kill_again(state, agent, task)
    draining.registered(state, agent)
    _tell_frameworks(state, agent, message)
    health.watch(state, agent)
    return None


def _host(pid: str) -> str:
    return pid.partition("@")[2].rpartition(":")[0]


def _relink(state: "MasterState", agent: Agent, peer: Peer, pid: str) -> None:
    """Make a link the agent's; the one it had, if it still stands, is not its any more."""
    before = agent.peer
    if before is not None and before is not peer:
        before.agent = None
        state.drop(before, f"Agent {agent.id} has registered again over another connection")
    agent.peer = peer
    state.disconnected.pop(agent.id, None)
    agent.pid = pid
    peer.agent = agent


def _forget_executors(state: "MasterState", agent: Agent, message: ReregisterSlaveMessage) -> None:
    reported = {
        (executor.framework_id.value, executor.executor_id.value)
        for executor in message.executor_infos
    }
    for executor in list(agent.all_executors()):
        if (executor.framework_id, executor.id) not in reported:
            executors.remove(state, agent, executor)


def _adopt_missing(state: "MasterState", agent: Agent, message: ReregisterSlaveMessage) -> bool:
    """
    Take in what the agent has and the master does not: tasks that were given up when the
    link broke while their executors went on. Return whether there was any.
    """
    found = False
    for executor in message.executor_infos:
        framework = state.frameworks.get(FrameworkId(executor.framework_id.value))
        known = agent.executor(
            FrameworkId(executor.framework_id.value), ExecutorId(executor.executor_id.value)
        )
        if framework is not None and known is None:
            _take_in_executor(state, agent, framework, executor)
            found = True
    for reported in message.tasks:
        framework = state.frameworks.get(FrameworkId(reported.framework_id.value))
        if framework is None or TaskId(reported.task_id.value) in framework.tasks:
            continue
        if reported.state in _TERMINAL and _ended(framework, reported.task_id.value):
            continue
        _tell_back(state, framework, reported, _LINK_CAME_BACK)
        _take_in_task(state, agent, framework, reported)
        found = True
    return found


def _ended(framework: Framework, task_id: str) -> bool:
    return any(task.id == task_id for task in framework.completed)


def _ask_after(
    state: "MasterState",
    agent: Agent,
    reported: set[tuple[str, str]],
    answer: SlaveReregisteredMessage,
) -> None:
    """
    Ask the agent after the tasks that it did not report: it has lost them, or never got
    them, and answers for each with an update (C{Master::reconcileKnownSlave}).
    """
    questions: dict[FrameworkId, ReconcileTasksMessage] = {}
    for task in agent.tasks:
        framework = task.framework
        if (framework.id, task.id) in reported:
            continue
        question = questions.get(framework.id)
        if question is None:
            question = questions[framework.id] = answer.reconciliations.add()
            question.framework_id.value = framework.id
            question.framework.CopyFrom(framework.info)
        question.statuses.add().CopyFrom(
            make_status(
                task.id,
                task.state if task.told_state is None else task.told_state,
                Source.SOURCE_MASTER,
                state.now,
                agent_id=agent.id,
                reason=Reason.REASON_RECONCILIATION,
                message="Reconciliation request",
            )
        )


def _kill_again(state: "MasterState", agent: Agent, reported: mesos_pb2.Task) -> None:
    """Say a kill again that the agent may not have heard."""
    framework = state.frameworks.get(FrameworkId(reported.framework_id.value))
    task = None if framework is None else framework.tasks.get(TaskId(reported.task_id.value))
    if task is None or task.agent is not agent or reported.state in _TERMINAL:
        return
    policy = agent.killed.get((task.framework.id, task.id))
    if policy is not None:
        state.to_agent(agent, tasks.kill_message(task, policy))


# An agent that is not.


def _returned(
    state: "MasterState", peer: Peer, message: ReregisterSlaveMessage, info: AgentInfo
) -> "Refusal | None":
    """Take in an agent that was recovered, unreachable or unknown, with all that it brings."""
    agent_id = AgentId(info.id.value)
    recovered = state.recovered.get(agent_id)
    agent = Agent(info, agents.agent_pid(peer, info), state.now)
    error = agents.take_over(agent, info, message)
    if error is not None:
        return _shut_down(state, peer, agent_id, error)
    if recovered is None or recovered != info:
        state.effects.append(registry.admit(info))
    was_unreachable = state.unreachable.pop(agent_id, None) is not None
    state.recovered.pop(agent_id, None)
    state.removals.cancel(state, agent_id)
    if not state.recovered:
        state.deadlines.drop(("recovered",))
    state.counters.slave_reregistrations += 1
    agent.reregistered_time = state.now
    _take_in_frameworks(state, message)
    told = None
    if recovered is None:
        told = AGENT_CAME_BACK if was_unreachable else UNKNOWN_AGENT_CAME_BACK
    _take_in_all(state, agent, message, told)
    agents.add(state, agent, peer)
    answer = SlaveReregisteredMessage(connection=agents.connection(state))
    answer.slave_id.value = agent.id
    state.send(peer, answer)
    draining.registered(state, agent)
    _tell_frameworks(state, agent, message)
    health.watch(state, agent)
    state.note(
        "info",
        f"Agent {agent_id} at {agent.pid} ({info.hostname}) reregistered with {agent.total}",
    )
    return None


def _take_in_frameworks(state: "MasterState", message: ReregisterSlaveMessage) -> None:
    """Take in the frameworks that only this agent knows; they may subscribe again."""
    for info in message.frameworks:
        framework_id = FrameworkId(info.id.value)
        known = state.frameworks.get(framework_id)
        if known is not None:
            if known.claimed:
                subscribe.settle_claim(state, known, info)
            continue
        ended = state.completed.get(framework_id)
        if ended is None or subscribe.undo_ended_claim(state, ended, info):
            kept = mesos_pb2.FrameworkInfo()
            kept.CopyFrom(info)
            frameworks.add(state, kept, (), None)


def _take_in_all(
    state: "MasterState", agent: Agent, message: ReregisterSlaveMessage, told: str | None
) -> None:
    """
    Take in the tasks and executors of an agent.

    @param told: what frameworks are told of its tasks; L{None} where they were never told
        that the agent was away.
    """
    for reported in message.tasks:
        framework = state.frameworks.get(FrameworkId(reported.framework_id.value))
        if framework is None or TaskId(reported.task_id.value) in framework.tasks:
            continue
        if told is not None:
            _tell_back(state, framework, reported, told)
        _take_in_task(state, agent, framework, reported)
    for task in list(state.unreachable_tasks.get(agent.id, ())):
        # It was not reported, so it is not there, and never will be again.
        tasks.end_unreachable_task(
            state,
            task,
            TaskState.TASK_GONE,
            Reason.REASON_RECONCILIATION,
            NOT_ON_AGENT,
            told=True,
        )
    for executor in message.executor_infos:
        framework = state.frameworks.get(FrameworkId(executor.framework_id.value))
        if framework is not None:
            _take_in_executor(state, agent, framework, executor)
    for archive in message.completed_frameworks:
        framework = state.frameworks.get(FrameworkId(archive.framework_info.id.value))
        if framework is not None:
            for ended in archive.tasks:
                task = _task(agent, framework, ended)
                task.agent = None
                framework.completed.append(task)


def _tell_back(
    state: "MasterState", framework: Framework, reported: mesos_pb2.Task, message: str
) -> None:
    """Tell a framework that one of its tasks is back, and how it is."""
    if framework.connected:
        told = (
            reported.status_update_state
            if reported.HasField("status_update_state")
            else reported.state
        )
        status = retell_status(reported, told, state.now, Reason.REASON_AGENT_REREGISTERED, message)
        tasks.tell(state, framework, status)


def _take_in_task(
    state: "MasterState", agent: Agent, framework: Framework, reported: mesos_pb2.Task
) -> None:
    task_id = TaskId(reported.task_id.value)
    before = framework.unreachable.pop(task_id, None)
    if before is not None:
        tasks.forget_unreachable(state, before)
    else:
        forget_completed(framework, task_id)
    task = _task(agent, framework, reported)
    framework.tasks[task_id] = task
    framework.live[task.state] += 1
    agent.tasks[task] = None
    state.past.add((state.now, task.state, task_id, framework.id, agent.id))
    if state.watchers:
        watching.task_added(state, task)


def _task(agent: Agent, framework: Framework, reported: mesos_pb2.Task) -> Task:
    """Return a task as its agent reports it."""
    resources = Resources.from_message(reported.resources)
    executor_id = None
    if reported.HasField("executor_id"):
        executor_id = ExecutorId(reported.executor_id.value)
    task = Task(
        TaskId(reported.task_id.value),
        reported.name,
        framework,
        agent,
        executor_id,
        resources.unallocated(),
        _role(resources, framework),
    )
    task.state = reported.state
    if reported.HasField("status_update_state") and reported.status_update_uuid:
        # What the framework was told is behind what its task has come to.
        task.told_state = reported.status_update_state
        task.told_uuid = reported.status_update_uuid
    for status in reported.statuses:
        task.add_status(status.state, status.SerializeToString())
    detail = mesos_pb2.Task()
    detail.CopyFrom(reported)
    for name in _NOT_DETAIL:
        detail.ClearField(name)
    task.detail = detail.SerializePartialToString()
    return task


_NOT_DETAIL = (
    "name",
    "task_id",
    "framework_id",
    "executor_id",
    "agent_id",
    "state",
    "resources",
    "statuses",
    "status_update_state",
    "status_update_uuid",
)


def _role(resources: Resources, framework: Framework) -> str:
    """Return the role that resources are allocated to; agents without MULTI_ROLE do not say."""
    roles = resources.allocation_roles()
    if roles:
        return min(roles)
    return framework.roles[0] if framework.roles else "*"


def _take_in_executor(
    state: "MasterState", agent: Agent, framework: Framework, info: ExecutorInfo
) -> None:
    kept = ExecutorInfo()
    kept.CopyFrom(info)
    resources = Resources.from_message(info.resources)
    executor = Executor(
        framework.id, agent.id, kept, resources.unallocated(), _role(resources, framework)
    )
    executors.add(state, agent, executor)


def _tell_frameworks(state: "MasterState", agent: Agent, message: ReregisterSlaveMessage) -> None:
    """Tell the agent how things stand with the frameworks that it knows."""
    for info in message.frameworks:
        framework_id = FrameworkId(info.id.value)
        framework = state.frameworks.get(framework_id)
        if framework is not None:
            state.to_agent(agent, frameworks.update_message(framework))
        elif framework_id in state.completed:
            shutdown = ShutdownFrameworkMessage()
            shutdown.framework_id.value = framework_id
            state.to_agent(agent, shutdown)
