"""
Executors that are gone, as the master is told of them: C{ExitedExecutorMessage}.

Nobody acknowledges it, as in Mesos, and a master that has not heard it keeps what the executor held
from everybody else. So it is said again where it may have got lost: where the executor was still
named in the registration that a master has now answered, and where what stood beside it could
not be stored, which then was not sent either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mesoskit.agent.frameworks import ExecutorState
from mesoskit.messages.internal_pb2 import ExitedExecutorMessage
from mesoskit.model.ids import ExecutorId, FrameworkId

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

REMEMBERED: Final = 256
"""How many of the last ones can be told again."""

STORING: Final = 5.0
"""Seconds that may pass until it is known that something could not be stored."""


def tell(
    state: AgentState, framework_id: FrameworkId, executor_id: ExecutorId, status: int | None
) -> None:
    """Tell the master that an executor is gone; C{-1} stands for an unknown status."""
    key = framework_id, executor_id
    known = -1 if status is None else status
    state.exits.pop(key, None)
    state.exits[key] = state.now, known
    if len(state.exits) > REMEMBERED:
        del state.exits[next(iter(state.exits))]
    _send(state, *key, known)


def tell_again(state: AgentState, since: float) -> None:
    """Tell of those that have ended since a moment, unless another one of that name is here."""
    for key, (when, status) in state.exits.items():
        if when >= since and not _is_here(state, *key):
            _send(state, *key, status)


def _is_here(state: AgentState, framework_id: FrameworkId, executor_id: ExecutorId) -> bool:
    framework = state.frameworks.get(framework_id)
    executor = None if framework is None else framework.executors.get(executor_id)
    return executor is not None and executor.state is not ExecutorState.TERMINATED


def _send(
    state: AgentState, framework_id: FrameworkId, executor_id: ExecutorId, status: int
) -> None:
    message = ExitedExecutorMessage(status=status)
    message.slave_id.value = state.agent_id
    message.framework_id.value = framework_id
    message.executor_id.value = executor_id
    state.to_master(message)
