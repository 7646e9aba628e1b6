"""Executors, and the messages that frameworks and executors send each other."""

from typing import TYPE_CHECKING

from mesoskit.master.records import Agent, Executor, Framework, Peer
from mesoskit.messages.internal_pb2 import (
    ExecutorToFrameworkMessage,
    ExitedExecutorMessage,
    FrameworkToExecutorMessage,
    ShutdownExecutorMessage,
)
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.ids import AgentId, ExecutorId, FrameworkId

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState


def add(state: "MasterState", agent: Agent, executor: Executor) -> None:
    """Put an executor on an agent."""
    agent.executors.setdefault(executor.framework_id, {})[executor.id] = executor
    state.past.add((state.now, "executor added", executor.id, executor.framework_id, agent.id))


def remove(state: "MasterState", agent: Agent, executor: Executor) -> None:
    """Forget an executor; what it held is free."""
    of_framework = agent.executors[executor.framework_id]
    del of_framework[executor.id]
    if not of_framework:
        del agent.executors[executor.framework_id]
    state.past.add((state.now, "executor removed", executor.id, executor.framework_id, agent.id))
    if executor.resources and agent.id in state.agents:
        state.allocator.recover_resources(
            state.now,
            executor.framework_id,
            agent.id,
            executor.role,
            executor.resources,
            None,
        )


def exited(state: "MasterState", peer: Peer, message: ExitedExecutorMessage) -> None:
    """Hear that an executor has ended, and tell its framework."""
    state.counters.messages_exited_executor += 1
    agent = peer.agent
    if agent is None or agent.id != message.slave_id.value:
        return
    framework_id = FrameworkId(message.framework_id.value)
    executor = agent.executor(framework_id, ExecutorId(message.executor_id.value))
    if executor is None:
        return
    remove(state, agent, executor)
    framework = state.frameworks.get(framework_id)
    if framework is None:
        return
    event = Event()
    event.type = Event.FAILURE
    failure = event.failure
    failure.agent_id.value = agent.id
    failure.executor_id.value = executor.id
    failure.status = message.status
    state.to_framework(framework, event)


def shutdown(state: "MasterState", framework: Framework, call: Call) -> None:
    """Have an executor shut down; nothing where its agent is not there."""
    agent = state.agents.get(AgentId(call.shutdown.agent_id.value))
    if agent is None:
        return
    message = ShutdownExecutorMessage()
    message.executor_id.value = call.shutdown.executor_id.value
    message.framework_id.value = framework.id
    state.to_agent(agent, message)


def message_to_executor(state: "MasterState", framework: Framework, call: Call) -> None:
    """Carry a framework's message to an executor; it may get lost."""
    state.counters.messages_framework_to_executor += 1
    carried = call.message
    agent = state.agents.get(AgentId(carried.agent_id.value))
    if agent is None or not agent.connected:
        state.counters.invalid_framework_to_executor_messages += 1
        return
    message = FrameworkToExecutorMessage()
    message.slave_id.value = agent.id
    message.framework_id.value = framework.id
    message.executor_id.value = carried.executor_id.value
    message.data = carried.data
    state.to_agent(agent, message)
    state.counters.valid_framework_to_executor_messages += 1


def message_to_framework(
    state: "MasterState", peer: Peer, message: ExecutorToFrameworkMessage
) -> None:
    """Carry an executor's message to its framework; it may get lost."""
    counters = state.counters
    counters.messages_executor_to_framework += 1
    agent = peer.agent
    framework = state.frameworks.get(FrameworkId(message.framework_id.value))
    if (
        agent is None
        or agent.id != message.slave_id.value
        or framework is None
        or not framework.connected
    ):
        counters.invalid_executor_to_framework_messages += 1
        return
    event = Event()
    event.type = Event.MESSAGE
    event.message.agent_id.value = agent.id
    event.message.executor_id.value = message.executor_id.value
    event.message.data = message.data
    state.to_framework(framework, event)
    counters.valid_executor_to_framework_messages += 1
