"""What somebody may see of the cluster, as the master's answers ask it.

Mesos leaves out what may not be seen, without a word (C{src/master/readonly_handler.cpp}): a
framework with all that it has, single tasks and executors, what is reserved to a role. Where Mesos
leaves something in that tells of what it leaves out (the ids of a role's frameworks, the numbers
of an agent's tasks), it is left out here too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from mesoskit.master.records import Agent, Executor, Framework, Task
from mesoskit.messages import mesos_pb2
from mesoskit.model import authorization
from mesoskit.model.authorization import ANYBODY, Action, Subject
from mesoskit.model.resources import Resources

T = TypeVar("T")


class Viewer:
    """
    Who looks.

    @param subject: who he is, and who decides for him.

    @ivar all: he may see everything; nothing needs to be asked then.
    @ivar key: what tells what he is shown from what others are.
    """

    __slots__ = ("_may", "all", "key", "subject")

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.all = subject.authorizer is None
        self.key = subject.key
        self._may = subject.may

    def framework(self, framework: Framework) -> bool:
        """Whether he may see a framework at all."""
        return self.all or self._may(
            Action.VIEW_FRAMEWORK, authorization.of_framework(framework.info)
        )

    def task(self, task: Task) -> bool:
        """Whether he may see a task of a framework that he sees."""
        return self.all or self._may(
            Action.VIEW_TASK,
            authorization.of_shown_task(user_of(task), task.framework.info, task.id),
        )

    def executor(self, executor: Executor, framework: Framework) -> bool:
        """Whether he may see an executor of a framework that he sees."""
        return self.all or self._may(
            Action.VIEW_EXECUTOR, authorization.of_executor(executor.info, framework.info)
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

    def agent(self, agent: Agent) -> bool:
        """Whether he may see all of an agent: what is reserved there, and to whom it is given."""
        return self.all or (
            self.roles_of(agent.total)
            and all(self.role(one.role) for one in agent.offers.values())
            and all(self.role(task.role) for task in agent.tasks)
            and all(self.role(one.role) for one in agent.all_executors())
        )

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


EVERYTHING: Final = Viewer(ANYBODY)
"""Who may see everything."""


def user_of(task: Task) -> str | None:
    """Return a task's own user, where it has one that is not its framework's."""
    return mesos_pb2.Task.FromString(task.detail).user if task.detail else None
