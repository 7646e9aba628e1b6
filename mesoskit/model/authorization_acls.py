"""Mesos' ACLs: what they are, how they decide, and the authorizer that goes by them.

C{docs/authorization.md}, C{include/mesos/authorizer/acls.proto} and
C{src/authorizer/local/authorizer.cpp} of Apache Mesos. For each action there is a list of rules;
the first that speaks of this principal and this thing decides, and where none does, C{permissive}.
Reading them is L{mesoskit.model.authorization_text}'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from zope.interface import implementer

from mesoskit.model.authorization import ANYTHING, Action, IAuthorizer, Thing

SOME: Final = "SOME"
ANY: Final = "ANY"
NONE: Final = "NONE"

_BELOW: Final = "/%"
"""The end of a role that stands for all roles under it, and not for itself."""

_REMEMBERED: Final = 16384
"""So many decisions are remembered; then all are forgotten."""

_LONG: Final = 256
"""Decisions about longer names are not remembered: whoever asks could choose how much is kept."""

AUTHORIZABLE_ENDPOINTS: Final = frozenset(
    (
        "/containers",
        "/containerizer/debug",
        "/files/debug",
        "/logging/toggle",
        "/metrics/snapshot",
        "/monitor/statistics",
    )
)
"""The only paths that C{get_endpoints} may name (C{src/common/authorization.cpp})."""


class Entity:
    """
    Some principals or things.

    @ivar type: L{SOME}: those named; L{ANY}; or L{NONE}.
    @ivar values: those named.
    @ivar below: the beginnings of roles that are named with all under them, C{eng/}.
    """

    __slots__ = ("below", "type", "values")

    def __init__(
        self,
        type: str = SOME,  # noqa: A002
        values: tuple[str, ...] = (),
        hierarchical: bool = False,
    ) -> None:
        self.type = type
        given = values if type == SOME else ()
        deep = tuple(one for one in given if hierarchical and one.endswith(_BELOW))
        self.values = frozenset(one for one in given if one not in deep)
        self.below = tuple(one[:-1] for one in deep)

    def matches(self, value: str | None) -> bool:
        """
        Say whether a rule that names these speaks of C{value}.

        @param value: L{None} for one that is not said: rules about ANY or NONE speak of it.
        """
        if self.type != SOME:
            return True
        if value is None:
            return False
        return value in self.values or (bool(self.below) and value.startswith(self.below))

    @property
    def allows(self) -> bool:
        """Whether what a rule that names these speaks of is allowed by it."""
        return self.type != NONE


class Rule(NamedTuple):
    """One ACL: who, and what it may be done to."""

    principals: Entity
    things: Entity

    def decides(self, principal: str | None, value: str | None) -> bool | None:
        """Say yes or no, or L{None} where this rule says nothing about these."""
        if not self.principals.matches(principal) or not self.things.matches(value):
            return None
        return self.principals.allows and self.things.allows


class List(NamedTuple):
    """
    What one list of ACLs is about.

    @ivar things: the name of the field beside C{principals}.
    @ivar actions: what its rules decide.
    @ivar hierarchical: C{eng/%} stands for all roles under C{eng}.
    @ivar nameless: things are not told apart, so a rule can only say ANY or NONE.
    """

    things: str
    actions: tuple[Action, ...]
    hierarchical: bool = False
    nameless: bool = False


def _roles(*actions: Action) -> List:
    return List("roles", actions, hierarchical=True)


def _users(*actions: Action) -> List:
    return List("users", actions)


def _any(things: str, *actions: Action) -> List:
    return List(things, actions, nameless=True)


LISTS: Final[Mapping[str, List]] = {
    "register_frameworks": _roles(Action.REGISTER_FRAMEWORK),
    "run_tasks": _users(Action.RUN_TASK),
    "teardown_frameworks": List("framework_principals", (Action.TEARDOWN_FRAMEWORK,)),
    "reserve_resources": _roles(Action.RESERVE_RESOURCES),
    "unreserve_resources": List("reserver_principals", (Action.UNRESERVE_RESOURCES,)),
    "create_volumes": _roles(Action.CREATE_VOLUME),
    "destroy_volumes": List("creator_principals", (Action.DESTROY_VOLUME,)),
    "resize_volumes": _roles(Action.RESIZE_VOLUME),
    "create_block_disks": _roles(Action.CREATE_BLOCK_DISK),
    "destroy_block_disks": _roles(Action.DESTROY_BLOCK_DISK),
    "create_mount_disks": _roles(Action.CREATE_MOUNT_DISK),
    "destroy_mount_disks": _roles(Action.DESTROY_MOUNT_DISK),
    "destroy_raw_disks": _roles(Action.DESTROY_RAW_DISK),
    "get_quotas": _roles(Action.GET_QUOTA),
    "update_quotas": _roles(Action.UPDATE_QUOTA, Action.UPDATE_QUOTA_WITH_CONFIG),
    "view_roles": _roles(Action.VIEW_ROLE),
    "update_weights": _roles(Action.UPDATE_WEIGHT),
    "get_endpoints": List("paths", (Action.GET_ENDPOINT_WITH_PATH,)),
    "view_frameworks": _users(Action.VIEW_FRAMEWORK),
    "view_tasks": _users(Action.VIEW_TASK),
    "view_executors": _users(Action.VIEW_EXECUTOR),
    "access_sandboxes": _users(Action.ACCESS_SANDBOX),
    "access_mesos_logs": _any("logs", Action.ACCESS_MESOS_LOG),
    "view_flags": _any("flags", Action.VIEW_FLAGS),
    "set_log_level": _any("level", Action.SET_LOG_LEVEL),
    "register_agents": _any("agents", Action.REGISTER_AGENT),
    "update_maintenance_schedules": _any("machines", Action.UPDATE_MAINTENANCE_SCHEDULE),
    "get_maintenance_schedules": _any("machines", Action.GET_MAINTENANCE_SCHEDULE),
    "start_maintenances": _any("machines", Action.START_MAINTENANCE),
    "stop_maintenances": _any("machines", Action.STOP_MAINTENANCE),
    "get_maintenance_statuses": _any("machines", Action.GET_MAINTENANCE_STATUS),
    "drain_agents": _any("agents", Action.DRAIN_AGENT),
    "deactivate_agents": _any("agents", Action.DEACTIVATE_AGENT),
    "reactivate_agents": _any("agents", Action.REACTIVATE_AGENT),
    "mark_agents_gone": _any("agents", Action.MARK_AGENT_GONE),
    "launch_nested_containers_as_user": List("users", ()),
    "launch_nested_containers_under_parent_with_user": _users(Action.LAUNCH_NESTED_CONTAINER),
    "launch_nested_container_sessions_as_user": List("users", ()),
    "launch_nested_container_sessions_under_parent_with_user": _users(
        Action.LAUNCH_NESTED_CONTAINER_SESSION
    ),
    "kill_nested_containers": _users(Action.KILL_NESTED_CONTAINER),
    "wait_nested_containers": _users(Action.WAIT_NESTED_CONTAINER),
    "remove_nested_containers": _users(Action.REMOVE_NESTED_CONTAINER),
    "attach_containers_input": _users(Action.ATTACH_CONTAINER_INPUT),
    "attach_containers_output": _users(Action.ATTACH_CONTAINER_OUTPUT),
    "view_containers": _users(Action.VIEW_CONTAINER),
    "launch_standalone_containers": _any("users", Action.LAUNCH_STANDALONE_CONTAINER),
    "kill_standalone_containers": _any("users", Action.KILL_STANDALONE_CONTAINER),
    "wait_standalone_containers": _any("users", Action.WAIT_STANDALONE_CONTAINER),
    "remove_standalone_containers": _any("users", Action.REMOVE_STANDALONE_CONTAINER),
    "view_standalone_containers": _any("users", Action.VIEW_STANDALONE_CONTAINER),
    "modify_resource_provider_configs": _any(
        "resource_providers", Action.MODIFY_RESOURCE_PROVIDER_CONFIG
    ),
    "mark_resource_providers_gone": _any("resource_providers", Action.MARK_RESOURCE_PROVIDER_GONE),
    "view_resource_providers": _any("resource_providers", Action.VIEW_RESOURCE_PROVIDER),
    "prune_images": _any("images", Action.PRUNE_IMAGES),
}
"""Every list, by its name in C{acls.proto}."""

LIST_OF: Final[Mapping[Action, str]] = {
    action: name for name, one in LISTS.items() for action in one.actions
}
"""Which list decides an action."""

_WITHIN: Final[Mapping[Action, str]] = {
    Action.LAUNCH_NESTED_CONTAINER: "launch_nested_containers_as_user",
    Action.LAUNCH_NESTED_CONTAINER_SESSION: "launch_nested_container_sessions_as_user",
}
"""Which further list decides as whom a command may run in a container within another."""


@dataclass(slots=True, frozen=True)
class Acls:
    """
    All rules.

    @ivar permissive: what holds where no rule speaks.
    @ivar rules: by the name of their list, in their order.
    """

    permissive: bool = True
    rules: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)


def decide(acls: Acls, principal: str | None, action: Action, thing: Thing = ANYTHING) -> bool:
    """
    Say whether somebody may do something: all there is to a decision.

    @param principal: L{None} for whoever has not said who he is: only rules about ANY or NONE
        principals speak of him.
    """
    name = LIST_OF.get(action)
    if name is None:
        return False
    values = None if LISTS[name].nameless else thing.values
    if values is None:
        allowed = _first(acls, name, principal, None)
    elif values:
        allowed = all(_first(acls, name, principal, value) for value in values)
    else:
        allowed = acls.permissive
    command = thing.command
    if allowed and command is not None and action in _WITHIN:
        user = command.user if command.HasField("user") else None
        return _first(acls, _WITHIN[action], principal, user)
    return allowed


def _first(acls: Acls, name: str, principal: str | None, value: str | None) -> bool:
    for rule in acls.rules.get(name, ()):
        decision = rule.decides(principal, value)
        if decision is not None:
            return decision
    return acls.permissive


@implementer(IAuthorizer)
class LocalAuthorizer:
    """
    Decides by ACLs alone.

    @ivar acls: the rules; they never change.
    """

    def __init__(self, acls: Acls) -> None:
        self.acls = acls
        self._known: dict[tuple[str | None, Action, tuple[str, ...] | None], bool] = {}

    def prepare(self, principal: str | None) -> None:
        """There is nothing to wait for."""

    def allows(self, principal: str | None, action: Action, thing: Thing) -> bool:
        """Say whether somebody may do something."""
        if thing.command is not None:
            return decide(self.acls, principal, action, thing)
        key = principal, action, thing.values
        known = self._known.get(key)
        if known is None:
            known = decide(self.acls, principal, action, thing)
            if sum(map(len, thing.values or ())) + len(principal or "") <= _LONG:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[key] = known
        return known
