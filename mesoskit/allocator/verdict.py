"""Why somebody is or is not offered something: the one place where that is decided.

Passes ask L{of_pair} for every client and agent that they look at; explanations ask all three.
What later features forbid (maintenance) belongs into L{of_pair}; what they
take away from an offer (quota limits, headroom) is between a L{mesoskit.allocator.records.View}
and its verdict.
"""

from mesoskit.allocator.interface import Reason
from mesoskit.allocator.records import Agent, Client, View

_ELIGIBLE = Reason.ELIGIBLE
_FILTERED = Reason.FILTERED
_TOO_SMALL = Reason.TOO_SMALL


def of_pair(client: Client, agent: Agent, view: View) -> Reason:
    """Tell whether a client may be offered what it sees of an agent."""
    resources = view.resources
    if not resources:
        return _nothing(client, agent, view)
    if client.constraints is not None and client.excludes(agent):
        return Reason.CONSTRAINED
    filter_ = client.filters.get(agent)
    if filter_ is not None and filter_.blocks(resources):
        return _FILTERED
    if agent.picky:
        reason = _of_kind(client, agent)
        if reason is not _ELIGIBLE:
            return reason
    if not view.fits(client.minimum):
        return _TOO_SMALL
    return _ELIGIBLE


def of_agent(agent: Agent) -> Reason:
    """Tell whether an agent may be offered at all."""
    if not agent.active:
        return Reason.AGENT_DEACTIVATED
    if not agent.listed:
        return Reason.NOT_WHITELISTED
    return _ELIGIBLE


def of_client(client: Client, allowed_roles: frozenset[str] | None) -> Reason:
    """Tell whether a client may be offered anything."""
    framework = client.framework
    role = client.role.name
    if not framework.known or not framework.active:
        return Reason.FRAMEWORK_DEACTIVATED
    if role not in framework.options.roles:
        return Reason.NOT_SUBSCRIBED
    if allowed_roles is not None and role not in allowed_roles:
        return Reason.ROLE_NOT_WHITELISTED
    if role in framework.options.suppressed_roles:
        return Reason.SUPPRESSED
    if framework.congested:
        return Reason.CONGESTED
    return _ELIGIBLE


def _nothing(client: Client, agent: Agent, view: View) -> Reason:
    if view.others:
        return Reason.RESERVED
    if agent.free:
        return Reason.INCAPABLE
    return Reason.HELD if client in agent.held else Reason.ALLOCATED


def _of_kind(client: Client, agent: Agent) -> Reason:
    able = agent.options.capabilities
    if client.multi_role and not able.multi_role:
        return Reason.AGENT_NOT_MULTI_ROLE
    if client.hierarchical and not able.hierarchical_role:
        return Reason.AGENT_NOT_HIERARCHICAL
    if agent.gpu and not client.gpu:
        return Reason.GPU
    if agent.remote and not client.regional:
        return Reason.REGION
    return _ELIGIBLE
