"""Calls about single containers: from the API to the state, and its answers back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from mesoskit.agent.container_call import CallAbandoned, ContainerAnswer, ContainerCall, SessionOver
from mesoskit.messages.agent_pb2 import Call
from mesoskit.model.authorization import Subject


class ContainerCalls:
    """
    Gives calls numbers, and hands the answers to whoever waits for them.

    @param tell: is given every event.
    """

    def __init__(self, tell: Callable[[Any], None]) -> None:
        self._tell = tell
        self._last = 0
        self._waiting: dict[int, Deferred[ContainerAnswer]] = {}

    def ask(self, call: Call, who: Subject) -> Deferred[ContainerAnswer]:
        """Make a call; whoever does not wait any more cancels the Deferred."""
        self._last += 1
        number = self._last

        def left(answer: Deferred[ContainerAnswer]) -> None:
            if self._waiting.pop(number, None) is not None:
                self._tell(CallAbandoned(number))

        answer: Deferred[ContainerAnswer] = Deferred(left)
        self._waiting[number] = answer
        self._tell(ContainerCall(number, call, who))
        return answer

    def answer(self, effect: ContainerAnswer) -> None:
        """Perform the effect."""
        answer = self._waiting.pop(effect.number, None)
        if answer is not None:
            answer.callback(effect)

    def session_over(self, container: str) -> None:
        """Nobody listens to the container of a session any more."""
        self._tell(SessionOver(container))

    def stop(self) -> None:
        """Answer nobody any more."""
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer.errback(CancelledError("the agent is shutting down"))
