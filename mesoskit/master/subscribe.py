"""SUBSCRIBE and UPDATE_FRAMEWORK.

What becomes of a SUBSCRIBE (C{Master::subscribe} and C{Master::_subscribe} of the v1 API;
a call of the old driver is turned into this one where it comes in):

====================================  =====================================================
the framework's id                    what happens
====================================  =====================================================
none                                  a new framework, with a new id
of a completed framework              ERROR "Framework has been removed", and the link ends
nobody's                              a new framework, with that id
of one that only agents know yet      it is subscribed, and its tasks are its own again
of one that is disconnected           it is subscribed again
of one that is subscribed elsewhere   the other gets ERROR "Framework failed over", and its
                                      link ends
of one whose place another has taken  ERROR "Framework failed over", and the link ends, as
                                      long as the other is there
of one subscribed over this link      its offers are rescinded, and it is subscribed again
of one of another principal           ERROR "Changing framework's principal is not allowed.",
                                      and the link ends
====================================  =====================================================

After a failover anybody could come with an id that he has seen, before the agents that know whose
it is. Whoever proved who he is and comes so has a claim (C{claimed}), which the first
agent that has the framework settles. Until then nobody else is told that it is not his, and where
it was claimed and ended by one whose it is not, it has not ended.

In each other case than the first, and those of an ERROR, all agents hear how things stand
(C{UpdateFrameworkMessage}). Whose place was taken is known of peers that say of which instance
they are, as those of the native stream do: one that was cut off then could not be told.
"""

from typing import TYPE_CHECKING, Final

from mesoskit.master import authorizing, frameworks, offers, watching
from mesoskit.master.offer_constraints import NONE, Constraints, InvalidConstraints, understood
from mesoskit.master.records import Framework, Peer, framework_roles
from mesoskit.messages.mesos_pb2 import FrameworkInfo
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.ids import FrameworkId
from mesoskit.model.validation_framework import (
    validate_admission,
    validate_constrained_roles,
    validate_framework_update,
    validate_principal_kept,
    validate_suppressed_roles,
)

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState, Refusal

_FAILED_OVER: Final = "Framework failed over"


def subscribe(state: "MasterState", peer: Peer, call: Call) -> "Refusal | None":
    """Take a SUBSCRIBE; what is wrong with it is told in an ERROR event, and the link ends."""
    info = FrameworkInfo()
    info.CopyFrom(call.subscribe.framework_info)
    suppressed = tuple(dict.fromkeys(call.subscribe.suppressed_roles))
    framework_id = FrameworkId(info.id.value)
    if framework_id:
        state.counters.messages_reregister_framework += 1
    else:
        state.counters.messages_register_framework += 1
    if peer.principal is not None and not info.HasField("principal"):
        info.principal = peer.principal
    ended = state.completed.get(framework_id)
    if ended is not None and _may_be_told_otherwise(state, ended, info):
        state.drop(peer, f"Framework {framework_id} was claimed, and ended, by somebody else")
        return None
    constraints = NONE
    error = _invalid(state, info) or _invalid_options(info, call.subscribe)
    if error is None:
        constraints, error = _constraints(state, call.subscribe)
    if error is not None:
        _refuse(state, peer, error)
        return None
    error = _not_allowed(state, info)
    if error is not None:
        _refuse(state, peer, error)
        return None
    standing = peer.framework
    if standing is not None and standing.id != framework_id:
        if framework_id:
            return 400, f"Framework {standing.id} is already subscribed over this connection"
        _subscribed(state, standing)
        return None
    if not framework_id:
        info.id.value = _new_id(state)
        framework = frameworks.add(state, info, suppressed, peer, constraints)
        framework.calls[Call.SUBSCRIBE] += 1
        _subscribed(state, framework)
        return None
    known = state.frameworks.get(framework_id)
    if known is None:
        known = frameworks.add(state, info, suppressed, None, constraints)
        known.claimed = peer.principal is not None
    if known.connected and peer.instance != known.instance and peer.instance in known.superseded:
        # It was cut off when another one took its place, so nobody could tell it.
        _refuse(state, peer, _FAILED_OVER)
        return None
    # These two cannot change, and Mesos does not say so here.
    info.user = known.info.user
    if info.checkpoint != known.info.checkpoint:
        info.checkpoint = known.info.checkpoint
    error = validate_principal_kept(known.info, info)
    if error is not None:
        if _may_be_told_otherwise(state, known, info):
            # It may be this one's as well, who must not give up then.
            state.drop(peer, f"Framework {framework_id} was claimed by somebody else")
            return None
        _refuse(state, peer, error)
        return None
    known.calls[Call.SUBSCRIBE] += 1
    _update(state, known, info, suppressed, constraints)
    _take_over(state, known, peer)
    _subscribed(state, known)
    tell_agents(state, known)
    if state.watchers:
        watching.framework_updated(state, known)
    return None


def _may_be_told_otherwise(state: "MasterState", known: Framework, info: FrameworkInfo) -> bool:
    """Tell whether agents may yet say that a claimed framework is another's than who claimed it."""
    return (
        known.claimed
        and state.now < state.started + state.options.agent_reregister_timeout
        and validate_principal_kept(known.info, info) is not None
    )


def undo_ended_claim(state: "MasterState", ended: Framework, told: FrameworkInfo) -> bool:
    """
    Hear from an agent whose a framework is that has ended while it was claimed: where another
    principal claimed it, it has not ended. Return whether it was so.

    @param told: as L{settle_claim} takes it.
    """
    disputed = ended.claimed and told.HasField("principal")
    ended.claimed = False
    if not disputed or validate_principal_kept(told, ended.info) is None:
        return False
    state.note("warn", f"Framework {ended.id} was not {ended.info.principal!r}'s to end")
    state.completed.forget(ended.id)
    return True


def settle_claim(state: "MasterState", framework: Framework, told: FrameworkInfo) -> None:
    """
    Hear from an agent whose a claimed framework is: another principal loses it, and it can be
    subscribed by its own.

    @param told: the framework as the agent has it since it was launched there.
    """
    framework.claimed = False
    error = validate_principal_kept(told, framework.info)
    if error is None or not told.HasField("principal"):
        return
    state.note("warn", f"Framework {framework.id} is not that of {framework.info.principal!r}")
    if framework.peer is not None:
        _refuse(state, framework.peer, error)
    info = FrameworkInfo()
    info.CopyFrom(told)
    _update(state, framework, info, (), NONE)
    framework.recovered = True
    patience = max(info.failover_timeout, state.options.agent_reregister_timeout)
    state.deadlines.set(("failover", framework.id), state.now + patience)
    tell_agents(state, framework)
    if state.watchers:
        watching.framework_updated(state, framework)


def update_framework(state: "MasterState", framework: Framework, call: Call) -> "Refusal | None":
    """Take over another FrameworkInfo without a new subscription."""
    info = FrameworkInfo()
    info.CopyFrom(call.update_framework.framework_info)
    suppressed = tuple(dict.fromkeys(call.update_framework.suppressed_roles))
    error = _invalid(state, info)
    if error is not None:
        return 400, f"Supplied FrameworkInfo is not valid: {error}"
    error = validate_framework_update(framework.info, info)
    if error is not None:
        return 400, f"FrameworkInfo update is not valid: {error}"
    constraints = NONE
    error = _invalid_options(info, call.update_framework)
    if error is None:
        constraints, error = _constraints(state, call.update_framework)
    if error is not None:
        return 400, f"'UpdateFramework' call is not valid: {error}"
    error = _not_allowed(state, info)
    if error is not None:
        return 403, error
    changed = info != framework.info
    _update(state, framework, info, suppressed, constraints)
    if changed:
        tell_agents(state, framework)
    if state.watchers:
        watching.framework_updated(state, framework)
    return None


def tell_agents(state: "MasterState", framework: Framework) -> None:
    """Tell all connected agents how things stand with a framework."""
    message = frameworks.update_message(framework)
    for agent in state.agents.values():
        state.to_agent(agent, message)


def _invalid(state: "MasterState", info: FrameworkInfo) -> str | None:
    """Return what is wrong with a FrameworkInfo here and now, or L{None}."""
    return validate_admission(
        info,
        state.options.roles,
        state.options.root_submissions,
        FrameworkId(info.id.value) in state.completed,
    )


def _invalid_options(
    info: FrameworkInfo, said: Call.Subscribe | Call.UpdateFramework
) -> str | None:
    """Return what is wrong with the roles that a framework suppresses or constrains."""
    roles = framework_roles(info)
    return validate_suppressed_roles(roles, said.suppressed_roles) or validate_constrained_roles(
        roles, said.offer_constraints
    )


def _constraints(
    state: "MasterState", said: Call.Subscribe | Call.UpdateFramework
) -> tuple[Constraints, str | None]:
    """Return the offer constraints, and what is wrong with them or L{None}."""
    try:
        return understood(said.offer_constraints, state.options.compile_regex), None
    except InvalidConstraints as error:
        return NONE, f"Offer constraints are not valid: {error}"


def _not_allowed(state: "MasterState", info: FrameworkInfo) -> str | None:
    if state.options.authorizer is None:
        return None
    return authorizing.registration_error(state, info)


def _refuse(state: "MasterState", peer: Peer, error: str) -> None:
    state.send(peer, frameworks.error_event(error))
    if peer.framework is not None:
        # The subscription that stands ends with the link it stands on.
        frameworks.lost(state, peer.framework, error)
    state.drop(peer, error)
    state.note("warn", f"Refused the subscription of a framework at {peer.address}: {error}")


def _new_id(state: "MasterState") -> str:
    number = state.next_framework
    state.next_framework += 1
    return f"{state.info.id}-{number:04d}"


def _update(
    state: "MasterState",
    framework: Framework,
    info: FrameworkInfo,
    suppressed: tuple[str, ...],
    constraints: Constraints,
) -> None:
    """
    Take over a FrameworkInfo; offers to roles that it has left are rescinded. Those that its
    constraints now exclude are not, as in Mesos.
    """
    framework.update(info)
    framework.suppressed = suppressed
    framework.constraints = constraints
    state.allocator.update_framework(
        state.now, framework.id, frameworks.framework_options(framework)
    )
    for offer in list(framework.offers.values()):
        if offer.role not in framework.roles:
            offers.rescind(state, offer)


def _take_over(state: "MasterState", framework: Framework, peer: Peer) -> None:
    """Make a link the framework's, whatever it had before."""
    now = state.now
    state.deadlines.drop(("failover", framework.id))
    if framework.recovered:
        framework.recovered = False
        framework.registered_time = now
    framework.reregistered_time = now
    before = framework.peer
    if before is peer:
        for offer in list(framework.offers.values()):
            offers.rescind(state, offer)
    elif before is not None:
        state.to_framework(framework, frameworks.error_event(_FAILED_OVER))
        state.drop(before, _FAILED_OVER)
        frameworks.unbind(framework)
        for offer in list(framework.offers.values()):
            offers.discard(state, offer, None)
    frameworks.bind(framework, peer)
    if not framework.active:
        framework.active = True
        state.allocator.activate_framework(now, framework.id)
    state.allocator.set_congested(now, framework.id, peer.congested)
    state.past.add((now, "framework subscribed", framework.id, peer.address))
    state.note("info", f"Framework {framework.id} subscribed at {peer.address}")


def _subscribed(state: "MasterState", framework: Framework) -> None:
    event = Event()
    event.type = Event.SUBSCRIBED
    subscribed = event.subscribed
    subscribed.framework_id.value = framework.id
    subscribed.heartbeat_interval_seconds = state.options.http_heartbeat_interval
    subscribed.master_info.CopyFrom(state.info)
    state.to_framework(framework, event)
