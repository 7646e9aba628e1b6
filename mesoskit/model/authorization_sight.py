"""What somebody may see, as far as master and agent show the same things."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from mesoskit.messages.mesos_pb2 import FrameworkInfo
from mesoskit.model import authorization
from mesoskit.model.authorization import Action, Subject
from mesoskit.model.resources import Resources

T = TypeVar("T")


class HasInfo(Protocol):
    """A daemon's record of a framework."""

    @property
    def info(self) -> FrameworkInfo:
        """What the framework says of itself."""


class Sight:
    """
    What somebody may see.

    @param subject: who looks, and who decides for him.

    @ivar all: he may see everything; nothing needs to be asked then.
    @ivar key: what tells what he is shown from what others are.
    """

    __slots__ = ("_may", "all", "key", "subject")

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.all = subject.authorizer is None
        self.key = subject.key
        self._may = subject.may

    def framework(self, framework: HasInfo) -> bool:
        """Whether he may see a framework at all."""
        return self.all or self._may(
            Action.VIEW_FRAMEWORK, authorization.of_framework(framework.info)
        )

    def role(self, name: str) -> bool:
        """Whether he may see a role, and what is reserved to it."""
        return self.all or self._may(Action.VIEW_ROLE, authorization.of_role(name))

    def flags(self) -> bool:
        """Whether he may see the flags."""
        return self.all or self._may(Action.VIEW_FLAGS)

    def roles_of(self, resources: Resources) -> bool:
        """Whether he may see all roles that resources are reserved or allocated to."""
        return self.all or all(map(self.role, authorization.roles_of(resources)))

    def resources(self, resources: Resources) -> Resources:
        """Return what he may see of resources."""
        if self.roles_of(resources):
            return resources
        return resources.filter(
            lambda key: (
                all(self.role(one.role) for one in key.reservations)
                and (key.allocation_role is None or self.role(key.allocation_role))
            )
        )

    def unless_all(self, sees: Callable[[T], bool]) -> Callable[[T], bool] | None:
        """Return one of these functions, or L{None} where it would always say yes."""
        return None if self.all else sees
