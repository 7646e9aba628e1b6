"""Fresh figures of what containers use, for whoever asks over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater

if TYPE_CHECKING:
    from mesoskit.agent.service import AgentService

_FRESH: Final = 1.0
"""Figures that are not older than this are shown as they are, in seconds."""


def measured(service: AgentService) -> Deferred[Any]:
    """Look what containers use, unless somebody has just done so; fires when it is known."""
    usage = service.state.usage
    newest = max((one.timestamp for one in usage.values()), default=0.0)
    running = (*service.state.containers, *service.state.nested.running)
    if not running or (set(usage) >= set(running) and newest + _FRESH > service.reactor.seconds()):
        return succeed(None)
    looked: Deferred[Any] = service.hands.read_usage()
    # What is told now is heard in the turn that follows.
    return looked.addCallback(lambda _: deferLater(service.reactor, 0))
