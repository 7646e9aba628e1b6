"""Which agent has a sandbox, and whose it is: what the master finds out of a path.

Paths are those that agents themselves know (C{src/slave/slave.cpp}): a sandbox's own,
C{<work_dir>/slaves/<id>/frameworks/<id>/executors/<id>/runs/<id>}, or without what stands before
C{/frameworks}. The first says where the agent is; for the second it is whoever runs, or last
ran, the executor. What is really there the agent decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final

from mesoskit.master.records import Agent, Framework, Task
from mesoskit.model import authorization
from mesoskit.model.authorization import ANYTHING, Thing
from mesoskit.model.ids import AgentId, ExecutorId, FrameworkId

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

# The first that fits, as the agent reads it: what follows is in the sandbox, and its owner's.
_SANDBOX: Final = re.compile(
    r"(?:/(?P<work_dir>.*?)/slaves/(?P<agent>[^/]+))?"
    r"/frameworks/(?P<framework>[^/]+)/executors/(?P<executor>[^/]+)/runs/[^/]+(?:/.*)?",
    re.DOTALL,
)
_BEFORE: Final = re.compile(r"/.*?/slaves/([^/]+)(?:/.*)?", re.DOTALL)


@dataclass(slots=True, frozen=True)
class Place:
    """
    Where a sandbox is.

    @ivar agent: which has it, and is connected.
    @ivar thing: whose it is, for who decides who may see it.
    """

    agent: Agent
    thing: Thing


class NoPlace(Exception):
    """
    There is no agent to ask.

    @ivar status: as over HTTP; 404 where a path tells nothing.
    @ivar why: for people; empty where a path tells nothing.
    """

    def __init__(self, status: int, why: str = "") -> None:
        super().__init__(why)
        self.status = status
        self.why = why


def find(state: MasterState, path: str, agent_id: str | None) -> Place:
    """
    Return where a path leads. Raises L{NoPlace}.

    @param agent_id: the agent, where whoever asks names it.
    """
    plain = "/" + "/".join(name for name in path.split("/") if name not in ("", "."))
    match = _SANDBOX.fullmatch(plain)
    if agent_id is None and match is None:
        before = _BEFORE.fullmatch(plain)
        agent_id = before and before[1]
    elif agent_id is None and match is not None:
        agent_id = match["agent"]
    framework, executor_id = None, ExecutorId("")
    if match is not None:
        framework = _framework(state, FrameworkId(match["framework"]))
        executor_id = ExecutorId(match["executor"])
    if agent_id is None:
        agent_id = None if framework is None else _last_agent(state, framework, executor_id)
    if agent_id is None:
        raise NoPlace(404)
    agent = connected(state, AgentId(agent_id))
    if framework is None:
        return Place(agent, ANYTHING)
    return Place(agent, _thing(agent, framework, executor_id))


def connected(state: MasterState, agent_id: AgentId) -> Agent:
    """Return an agent that can be asked. Raises L{NoPlace}."""
    agent = state.agents.get(agent_id)
    if agent is not None:
        if agent.peer is None:
            raise NoPlace(503, f"Agent {agent_id} is disconnected.\n")
        return agent
    if agent_id in state.recovered:
        raise NoPlace(503, f"Agent {agent_id} has not come back yet to this master.\n")
    if agent_id in state.unreachable:
        raise NoPlace(503, f"Agent {agent_id} is unreachable.\n")
    if agent_id in state.gone:
        raise NoPlace(404, f"Agent {agent_id} is gone for good.\n")
    raise NoPlace(404, f"There is no agent '{agent_id[:200]}'.\n")


def _framework(state: MasterState, framework_id: FrameworkId) -> Framework | None:
    return state.frameworks.get(framework_id) or state.completed.get(framework_id)


def _tasks(framework: Framework, executor_id: ExecutorId) -> Iterator[Task]:
    """Give the tasks of an executor, those that run first, then the latest."""
    tasks = (
        framework.tasks.values(),
        framework.unreachable.values(),
        reversed(framework.completed),
    )
    for task in chain(*tasks):
        # The executor of a command task bears the task's id, and the task none.
        if (task.executor_id or task.id) == executor_id:
            yield task


def _last_agent(
    state: MasterState, framework: Framework, executor_id: ExecutorId
) -> AgentId | None:
    """Return the agent that runs an executor, or ran it last as far as it is known."""
    for agent in state.agents.values():
        if agent.executor(framework.id, executor_id) is not None:
            return agent.id
    task = next(_tasks(framework, executor_id), None)
    return None if task is None else task.agent_id


def _thing(agent: Agent, framework: Framework, executor_id: ExecutorId) -> Thing:
    """Return a sandbox as what is looked at; what is not known any more only some may see."""
    executor = agent.executor(framework.id, executor_id)
    if executor is not None:
        return authorization.of_executor(executor.info, framework.info)
    task = next(_tasks(framework, executor_id), None)
    if task is None:
        return ANYTHING
    user = task.to_message().user
    return authorization.of_shown_task(user, framework.info, task.id)
