"""Offers: made of what the allocator decides, and gone again in one of four ways.

An offer is outstanding until it is accepted (L{mesoskit.master.accept}), declined, rescinded
(its framework is told) or discarded (it is not, because it knows or cannot hear). Whatever
the way, what was offered goes back to the allocator here or there, once.
"""

from typing import TYPE_CHECKING, Final

from mesoskit.allocator.interface import Allocation
from mesoskit.master.records import Agent, Framework, Offer
from mesoskit.messages import mesos_pb2
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.ids import FrameworkId, OfferId
from mesoskit.model.resources import POST, PRE
from mesoskit.model.roles import validate_role

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

FULL_FILTER: Final = 5.0
"""Seconds for which an agent that may have no more executors is kept from who would be offered it:
what C{Filters} say by default."""


def allocate(state: "MasterState") -> None:
    """Let the allocator decide, and send each framework what it is offered in one event."""
    by_framework: dict[FrameworkId, list[Allocation]] = {}
    for allocation in state.allocator.allocate(state.now):
        by_framework.setdefault(allocation.framework_id, []).append(allocation)
    for framework_id, allocations in by_framework.items():
        _offer(state, framework_id, allocations)


def _offer(state: "MasterState", framework_id: FrameworkId, allocations: list[Allocation]) -> None:
    framework = state.frameworks.get(framework_id)
    event = Event()
    event.type = Event.OFFERS
    for allocation in allocations:
        agent = state.agents.get(allocation.agent_id)
        if framework is None or not framework.active or agent is None or not agent.active:
            state.allocator.recover_resources(
                state.now,
                framework_id,
                allocation.agent_id,
                allocation.role,
                allocation.resources,
                None,
            )
            continue
        if _is_full(state, agent):
            state.allocator.recover_resources(
                state.now,
                framework_id,
                allocation.agent_id,
                allocation.role,
                allocation.resources,
                FULL_FILTER,
            )
            continue
        offer = _make(state, framework, agent, allocation)
        _write(offer, event.offers.offers.add())
    if framework is not None and len(event.offers.offers):
        framework.offers_sent += len(event.offers.offers)
        state.to_framework(framework, event)


def _is_full(state: "MasterState", agent: Agent) -> bool:
    """Tell whether an agent has as many executors as it may (C{Master::offer})."""
    most = state.options.max_executors_per_agent
    return most is not None and sum(map(len, agent.executors.values())) >= most


def _make(
    state: "MasterState", framework: Framework, agent: Agent, allocation: Allocation
) -> Offer:
    offer_id = OfferId(f"{state.info.id}-O{state.next_offer}")
    state.next_offer += 1
    offer = Offer(offer_id, framework, agent, allocation.role, allocation.resources)
    state.offers[offer_id] = framework.offers[offer_id] = agent.offers[offer_id] = offer
    if state.options.offer_timeout is not None:
        state.deadlines.set(("offer", offer_id), state.now + state.options.offer_timeout)
    state.past.add((state.now, "offered", offer_id, framework.id, agent.id))
    return offer


def _write(offer: Offer, message: mesos_pb2.Offer) -> None:
    """Write an offer as its framework can read it."""
    framework, agent = offer.framework, offer.agent
    message.CopyFrom(agent.offer_template)
    message.id.value = offer.id
    message.framework_id.value = framework.id
    resources = offer.resources
    if framework.multi_role:
        message.allocation_info.role = offer.role
        resources = resources.allocated(offer.role)
    message.resources.extend(resources.to_message(POST if framework.refinement else PRE))
    for executor_id in agent.executors.get(framework.id, ()):
        message.executor_ids.add().value = executor_id


def offer_template(agent: Agent) -> mesos_pb2.Offer:
    """Return what all offers of an agent have in common."""
    info = agent.info
    template = mesos_pb2.Offer(hostname=info.hostname)
    template.agent_id.value = agent.id
    process, _, address = agent.pid.partition("@")
    ip, _, port = address.rpartition(":")
    # A port that cannot be one is a peer's nonsense, not a reason to go down.
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else info.port
    url = template.url
    url.scheme = "http"
    url.address.hostname = info.hostname
    url.address.ip = ip
    url.address.port = number
    url.path = "/" + process
    template.attributes.MergeFrom(info.attributes)
    if info.HasField("domain"):
        template.domain.CopyFrom(info.domain)
    return template


def forget(state: "MasterState", offer: Offer) -> None:
    """Take an offer out of all tables; what it offered is the caller's to account for."""
    del state.offers[offer.id]
    del offer.framework.offers[offer.id]
    del offer.agent.offers[offer.id]
    if state.options.offer_timeout is not None:
        state.deadlines.drop(("offer", offer.id))


def discard(state: "MasterState", offer: Offer, refuse_seconds: float | None) -> None:
    """Take an offer back without a word; with C{refuse_seconds} under a filter."""
    forget(state, offer)
    state.allocator.recover_resources(
        state.now,
        offer.framework.id,
        offer.agent.id,
        offer.role,
        offer.resources,
        refuse_seconds,
    )


def rescind(state: "MasterState", offer: Offer) -> None:
    """Take an offer back and tell its framework."""
    framework = offer.framework
    framework.offers_rescinded += 1
    state.past.add((state.now, "rescinded", offer.id, framework.id, offer.agent.id))
    if framework.connected:
        event = Event()
        event.type = Event.RESCIND
        event.rescind.offer_id.value = offer.id
        state.to_framework(framework, event)
    discard(state, offer, None)


def timeout(state: "MasterState", offer_id: OfferId) -> None:
    """Rescind an offer that was not answered within C{--offer_timeout}."""
    offer = state.offers.get(offer_id)
    if offer is not None:
        rescind(state, offer)


def decline(state: "MasterState", framework: Framework, call: Call) -> None:
    """Take back what a framework does not want, under the filter that it asks for."""
    state.counters.messages_decline_offers += 1
    refuse_seconds = call.decline.filters.refuse_seconds
    for one in call.decline.offer_ids:
        offer = framework.offers.get(OfferId(one.value))
        if offer is not None:
            framework.offers_declined += 1
            state.past.add((state.now, "declined", offer.id, framework.id, offer.agent.id))
            discard(state, offer, refuse_seconds)


def revive(state: "MasterState", framework: Framework, call: Call) -> None:
    """End a framework's filters, and its suppression, in some or all of its roles."""
    state.counters.messages_revive_offers += 1
    roles = tuple(dict.fromkeys(call.revive.roles))
    error = _not_its_roles(framework, roles)
    if error is not None:
        state.note("warn", f"Dropped REVIVE of framework {framework.id}: revive role {error}")
        return
    revived = roles or framework.roles
    framework.suppressed = tuple(role for role in framework.suppressed if role not in revived)
    state.allocator.revive_offers(state.now, framework.id, roles)


def suppress(state: "MasterState", framework: Framework, call: Call) -> None:
    """Make a framework no offers in some or all of its roles until it revives them."""
    state.counters.messages_suppress_offers += 1
    roles = tuple(dict.fromkeys(call.suppress.roles))
    error = _not_its_roles(framework, roles)
    if error is not None:
        state.note(
            "warn", f"Dropped SUPPRESS of framework {framework.id}: suppression role {error}"
        )
        return
    framework.suppressed = tuple(
        dict.fromkeys((*framework.suppressed, *(roles or framework.roles)))
    )
    state.allocator.suppress_offers(state.now, framework.id, roles)


def _not_its_roles(framework: Framework, roles: tuple[str, ...]) -> str | None:
    for role in roles:
        error = validate_role(role)
        if error is not None:
            return f"'{role}' is invalid: {error}"
        if role not in framework.roles:
            return f"'{role}' is not one of the frameworks's subscribed roles"
    return None
