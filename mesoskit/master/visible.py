"""What somebody may see of the cluster, as the master's answers ask it.

Mesos leaves out what may not be seen, without a word (C{src/master/readonly_handler.cpp}): a
framework with all that it has, single tasks and executors, what is reserved to a role. Where Mesos
leaves something in that tells of what it leaves out (the ids of a role's frameworks, the numbers
of an agent's tasks), it is left out here too.
"""

from __future__ import annotations

from typing import Final

from mesoskit.master.records import Agent, Executor, Framework, Task
from mesoskit.messages import mesos_pb2
from mesoskit.model import authorization
from mesoskit.model.authorization import ANYBODY, Action
from mesoskit.model.authorization_sight import Sight


class Viewer(Sight):
    """What somebody may see of the cluster."""

    __slots__ = ()

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

    def agent(self, agent: Agent) -> bool:
        """Whether he may see all of an agent: what is reserved there, and to whom it is given."""
        return self.all or (
            self.roles_of(agent.total)
            and all(self.role(one.role) for one in agent.offers.values())
            and all(self.role(task.role) for task in agent.tasks)
            and all(self.role(one.role) for one in agent.all_executors())
        )


EVERYTHING: Final = Viewer(ANYBODY)
"""Who may see everything."""


def user_of(task: Task) -> str | None:
    """Return a task's own user, where it has one that is not its framework's."""
    return mesos_pb2.Task.FromString(task.detail).user if task.detail else None
