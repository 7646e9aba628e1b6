"""Who may do what: actions, what they are done to, and who decides.

A question has three parts, as in Mesos (C{include/mesos/authorizer/authorizer.proto}): a
principal, an L{Action} and a L{Thing}. L{IAuthorizer} answers it, at once; the one that comes
with mesoskit reads Mesos' ACLs (L{mesoskit.model.authorization_acls}). A L{Subject} is a principal
with whoever decides for him: what every door asks.

What an ACL compares (a role, a user, a path, a principal) is in C{Thing.values} already; the
functions that make things hold Mesos' rules of where it is found. The messages beside it are
for authorizers that look at more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from zope.interface import Interface

from mesoskit.messages.mesos_pb2 import (
    CommandInfo,
    ExecutorInfo,
    FrameworkInfo,
    Resource,
    Task,
    TaskInfo,
)
from mesoskit.model.resources import Resources
from mesoskit.model.roles import STAR
from mesoskit.model.validation_framework import framework_roles


class Action(IntEnum):
    """What may be allowed or not; names and numbers are those of C{mesos.authorization.Action}."""

    UNKNOWN = 0
    REGISTER_FRAMEWORK = 1
    RUN_TASK = 2
    TEARDOWN_FRAMEWORK = 3
    RESERVE_RESOURCES = 4
    UNRESERVE_RESOURCES = 5
    CREATE_VOLUME = 6
    DESTROY_VOLUME = 7
    GET_ENDPOINT_WITH_PATH = 8
    VIEW_ROLE = 9
    UPDATE_WEIGHT = 10
    GET_QUOTA = 11
    UPDATE_QUOTA = 12
    VIEW_FRAMEWORK = 13
    VIEW_TASK = 14
    VIEW_EXECUTOR = 15
    ACCESS_SANDBOX = 16
    ACCESS_MESOS_LOG = 17
    VIEW_FLAGS = 18
    LAUNCH_NESTED_CONTAINER = 19
    KILL_NESTED_CONTAINER = 20
    WAIT_NESTED_CONTAINER = 21
    LAUNCH_NESTED_CONTAINER_SESSION = 22
    ATTACH_CONTAINER_INPUT = 23
    ATTACH_CONTAINER_OUTPUT = 24
    VIEW_CONTAINER = 25
    SET_LOG_LEVEL = 26
    REMOVE_NESTED_CONTAINER = 27
    REGISTER_AGENT = 28
    UPDATE_MAINTENANCE_SCHEDULE = 29
    GET_MAINTENANCE_SCHEDULE = 30
    START_MAINTENANCE = 31
    STOP_MAINTENANCE = 32
    GET_MAINTENANCE_STATUS = 33
    MARK_AGENT_GONE = 34
    LAUNCH_STANDALONE_CONTAINER = 35
    KILL_STANDALONE_CONTAINER = 36
    WAIT_STANDALONE_CONTAINER = 37
    REMOVE_STANDALONE_CONTAINER = 38
    MODIFY_RESOURCE_PROVIDER_CONFIG = 39
    VIEW_STANDALONE_CONTAINER = 40
    PRUNE_IMAGES = 41
    RESIZE_VOLUME = 42
    CREATE_BLOCK_DISK = 43
    DESTROY_BLOCK_DISK = 44
    CREATE_MOUNT_DISK = 45
    DESTROY_MOUNT_DISK = 46
    VIEW_RESOURCE_PROVIDER = 47
    MARK_RESOURCE_PROVIDER_GONE = 48
    DESTROY_RAW_DISK = 49
    UPDATE_QUOTA_WITH_CONFIG = 50
    DRAIN_AGENT = 51
    DEACTIVATE_AGENT = 52
    REACTIVATE_AGENT = 53


@dataclass(slots=True, eq=False)
class Thing:
    """
    What something is done to.

    @ivar values: what ACLs compare, all of which must be allowed; L{None}: it is not said, or
        there is nothing to say, and only who may do it to any may.
    @ivar framework: whose it is.
    @ivar task: as C{Task} or C{TaskInfo}, where there is one at hand.
    @ivar executor: likewise.
    @ivar resource: what is reserved, made a volume, or freed.
    @ivar command: that is to run in a container within another; C{values} are of that other.
    @ivar id: of the task, executor, agent or container.
    @ivar root: the id of the outermost container that a container is nested in.
    """

    values: tuple[str, ...] | None = None
    framework: FrameworkInfo | None = None
    task: Task | TaskInfo | None = None
    executor: ExecutorInfo | None = None
    resource: Resource | None = None
    command: CommandInfo | None = None
    id: str = ""
    root: str = ""


ANYTHING: Final = Thing()
"""The thing of actions that are not done to one among others."""


class IAuthorizer(Interface):
    """Decides who may do what; C{--authorizers} names what makes one."""

    def prepare(principal: str | None) -> Any:
        """
        Get ready to be asked about a principal, L{None} for whoever has not said who he is.

        It is called before a link of his is taken or a request of his answered.

        @return: L{None}, or a C{Deferred} that fires when questions can be answered; where it
            fails, or takes too long, he is refused.
        """

    def allows(principal: str | None, action: Action, thing: Thing) -> bool:
        """
        Say at once whether somebody may do something; the same answer to the same question, as
        long as the rules stay as they are.
        """


@dataclass(slots=True, frozen=True)
class Subject:
    """
    Who asks, and who decides for him.

    @ivar principal: L{None} for whoever has not said who he is.
    @ivar authorizer: L{None}: everything is allowed.
    """

    principal: str | None = None
    authorizer: Any = None

    def may(self, action: Action, thing: Thing = ANYTHING) -> bool:
        """Say whether he may."""
        return self.authorizer is None or bool(
            self.authorizer.allows(self.principal, action, thing)
        )

    @property
    def key(self) -> str:
        """What tells what he is shown from what others are."""
        return "" if self.authorizer is None else f" for {self.principal!r}"


ANYBODY: Final = Subject()
"""Who may do everything."""


@dataclass(slots=True, frozen=True)
class Needs:
    """
    What one must be allowed to come through a door: a route, a call or a message.

    @ivar actions: those that are asked about.
    @ivar first: whether whoever may not is refused before anything else is looked at; otherwise
        it is asked behind the door, of each thing: what may not be seen is left out, what may
        not be done is refused.
    @ivar why: where nothing is needed, the reason.
    @ivar thing: what is asked about first.
    """

    actions: tuple[Action, ...] = ()
    first: bool = False
    why: str = ""
    thing: Thing = ANYTHING

    def met(self, subject: Subject) -> bool:
        """Say whether a door may open to somebody."""
        return not self.first or all(subject.may(one, self.thing) for one in self.actions)


def needs(action: Action, value: str | None = None) -> Needs:
    """Say that a door is closed to whoever may not do this."""
    return Needs((action,), first=True, thing=ANYTHING if value is None else Thing((value,)))


def needs_inside(*actions: Action) -> Needs:
    """Say that behind a door each thing is asked about."""
    return Needs(actions)


def needs_nothing(why: str) -> Needs:
    """Say that a door is open to all who have come so far, and why."""
    return Needs(why=why)


# Things, by Mesos' rules (C{src/authorizer/local/authorizer.cpp}, C{src/master/authorization.cpp}).


def of_roles(info: FrameworkInfo) -> Thing:
    """Return what is registered with a framework: all of its roles."""
    return Thing(tuple(sorted(set(framework_roles(info)))), framework=info)


def of_framework(info: FrameworkInfo) -> Thing:
    """Return a framework to be looked at: its user counts."""
    return Thing((info.user,), framework=info)


def owned_framework(info: FrameworkInfo) -> Thing:
    """Return a framework to be torn down: its principal counts."""
    return Thing((info.principal,), framework=info)


def user_of_task(info: TaskInfo, framework: FrameworkInfo) -> str:
    """Return whom a task runs as: the command's user, the executor's, or the framework's."""
    if info.HasField("command") and info.command.HasField("user"):
        return info.command.user
    if info.HasField("executor") and info.executor.command.HasField("user"):
        return info.executor.command.user
    return framework.user


def of_task(info: TaskInfo, framework: FrameworkInfo) -> Thing:
    """Return a task to be run, or looked at where it is."""
    user = user_of_task(info, framework)
    return Thing((user,), framework=framework, task=info, id=info.task_id.value)


def of_shown_task(user: str | None, framework: FrameworkInfo, task_id: str) -> Thing:
    """
    Return a task to be looked at.

    @param user: the task's own, L{None} or empty where it has none.
    """
    return Thing((user or framework.user,), framework=framework, id=task_id)


def of_executor(info: ExecutorInfo | None, framework: FrameworkInfo) -> Thing:
    """
    Return an executor to be looked at, or its containers and sandbox: its command's user
    counts, or the framework's.
    """
    if info is not None and info.command.HasField("user"):
        user = info.command.user
    else:
        user = framework.user
    name = "" if info is None else info.executor_id.value
    return Thing((user,), framework=framework, executor=info, id=name)


def of_role(name: str) -> Thing:
    """Return a role."""
    return Thing((name,))


def of_path(path: str) -> Thing:
    """Return an endpoint."""
    return Thing((path,))


def of_reservations(resources: Iterable[Resource]) -> list[Thing]:
    """Return what is reserved, or made volumes of: one thing for each role."""
    things: dict[str, Thing] = {}
    for resource in resources:
        role = reservation_role(resource)
        if role not in things:
            things[role] = Thing((role,), resource=resource)
    return list(things.values())


def reservation_role(resource: Resource) -> str:
    """Return the role of a resource's innermost reservation, in whichever form it is written."""
    if len(resource.reservations):
        return resource.reservations[-1].role
    return resource.role or STAR


def of_unreserved(resources: Iterable[Resource]) -> list[Thing]:
    """
    Return what is unreserved: whoever reserved it counts. What nobody is known to have
    reserved may be freed by whoever may free any.
    """
    things: list[Thing] = []
    unknown = False
    for resource in resources:
        if len(resource.reservations):
            known = resource.reservations[-1]
        else:
            known = resource.reservation
        if known.HasField("principal"):
            things.append(Thing((known.principal,), resource=resource))
        else:
            unknown = True
    if unknown:
        things.append(ANYTHING)
    return things


def of_reservation(
    source: Sequence[Resource], resources: Sequence[Resource]
) -> list[tuple[Action, Thing]]:
    """
    Return what it takes to reserve resources.

    @param source: what they were before, where that is said: then it takes what leads from there
        to the last reservation that both have, and from there on.
    """
    reserve, unreserve = Action.RESERVE_RESOURCES, Action.UNRESERVE_RESOURCES
    if not source:
        return [(reserve, thing) for thing in of_reservations(resources)]
    goal = resources[0].reservations if resources else ()
    asked: list[tuple[Action, Thing]] = []
    for resource in source:
        common = 0
        for one, other in zip(resource.reservations, goal, strict=False):
            if one != other:
                break
            common += 1
        for layer in reversed(resource.reservations[common:]):
            values = (layer.principal,) if layer.HasField("principal") else None
            asked.append((unreserve, Thing(values, resource=resource)))
        asked += [(reserve, Thing((one.role,), resource=resource)) for one in goal[common:]]
    return asked


def of_volumes(volumes: Iterable[Resource]) -> list[Thing]:
    """Return persistent volumes to be destroyed: whoever made each counts."""
    things = [
        Thing((volume.disk.persistence.principal,), resource=volume)
        for volume in volumes
        if volume.HasField("disk") and volume.disk.HasField("persistence")
    ]
    return things or [ANYTHING]


def roles_of(resources: Resources) -> tuple[str, ...]:
    """
    Return the roles that whoever looks at these resources must be allowed to see.

    A reservation counts with each of its layers, and so does whom it is allocated to.
    """
    roles: dict[str, None] = {}
    for key, _ in resources:
        for reservation in key.reservations:
            roles[reservation.role] = None
        if key.allocation_role is not None:
            roles[key.allocation_role] = None
    return tuple(roles)
