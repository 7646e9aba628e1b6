"""What operators ask of a master: the requests that change its state.

A request is an event like any other, C{Requested}, and is answered by one effect,
C{Replied}, under the same number. What C{/teardown} and C{MARK_AGENT_GONE} mean is
Mesos' (C{src/master/http.cpp}).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesoskit.master import draining, frameworks, health, weights
from mesoskit.master.answers import Listing
from mesoskit.model.ids import AgentId, FrameworkId

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState


@dataclass(slots=True)
class Teardown:
    """Remove a framework."""

    framework_id: FrameworkId


@dataclass(slots=True)
class MarkAgentGone:
    """Take it that an agent will never come back."""

    agent_id: AgentId


@dataclass(slots=True)
class DrainAgent:
    """
    End all tasks of an agent.

    @ivar nanoseconds: the most that a task may take to end; L{None} for what it says itself.
    @ivar mark_gone: whether the agent is gone once nothing runs there.
    """

    agent_id: AgentId
    nanoseconds: int | None = None
    mark_gone: bool = False


@dataclass(slots=True)
class DeactivateAgent:
    """Offer an agent no more."""

    agent_id: AgentId


@dataclass(slots=True)
class ReactivateAgent:
    """Offer an agent again."""

    agent_id: AgentId


@dataclass(slots=True)
class UpdateWeights:
    """
    Give roles other weights.

    @ivar weights: what L{mesoskit.master.weights.read} returned.
    """

    weights: Mapping[str, float]


@dataclass(slots=True)
class Watch:
    """Tell of all that changes from now on (L{mesoskit.master.watching})."""


@dataclass(slots=True)
class Unwatch:
    """One who watched does so no more."""


Request = (
    Teardown
    | MarkAgentGone
    | DrainAgent
    | DeactivateAgent
    | ReactivateAgent
    | UpdateWeights
    | Watch
    | Unwatch
)


@dataclass(slots=True)
class Requested:
    """An operator wants something; C{number} is the service's, for the answer."""

    number: int
    request: Request


@dataclass(slots=True)
class Replied:
    """
    The answer to a request: a status as in HTTP, and a text for people.

    @ivar listing: to a L{Watch}, what there was when it began.
    """

    number: int
    status: int
    why: str = ""
    listing: Listing | None = None


def requested(state: "MasterState", event: Requested) -> None:
    """Do what an operator asks for."""
    request, listing = event.request, None
    if not state.ready:
        status, why = 503, "Master has not finished recovery"
    elif isinstance(request, Teardown):
        status, why = _teardown(state, request)
    elif isinstance(request, Watch):
        state.watchers += 1
        status, why, listing = 200, "", Listing(state)
    elif isinstance(request, Unwatch):
        state.watchers -= 1
        status, why = 200, ""
    elif isinstance(request, UpdateWeights):
        weights.update(state, request.weights)
        status, why = 200, ""
    elif isinstance(request, DrainAgent):
        status, why = draining.drain(
            state, request.agent_id, request.nanoseconds, request.mark_gone
        )
    elif isinstance(request, DeactivateAgent):
        status, why = draining.deactivate(state, request.agent_id)
    elif isinstance(request, ReactivateAgent):
        status, why = draining.reactivate(state, request.agent_id)
    elif health.mark_gone(state, request.agent_id):
        status, why = 200, ""
    else:
        status, why = 404, f"Agent '{request.agent_id}' not found"
    state.effects.append(Replied(event.number, status, why, listing))


def _teardown(state: "MasterState", request: Teardown) -> tuple[int, str]:
    framework = state.frameworks.get(request.framework_id)
    if framework is None:
        return 400, "No framework found with specified ID"
    peer = framework.peer
    frameworks.remove(state, framework)
    if peer is not None:
        state.drop(peer, "Framework was torn down by an operator")
    return 200, ""
