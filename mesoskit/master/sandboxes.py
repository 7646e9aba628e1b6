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

_RUN: Final = r"/frameworks/(?P<framework>[^/]+)/executors/(?P<executor>[^/]+)/runs/[^/]+(?:/.*)?"
# As the agent reads it: the first that fits says whose the sandbox is, what follows is in it. A
# path that began with C{/frameworks} and was taken for a work directory would be somebody else's.
_BARE: Final = re.compile(_RUN, re.DOTALL)
_WHOLE: Final = re.compile(rf"/.*?/slaves/(?P<agent>[^/]+){_RUN}", re.DOTALL)
# How many tasks of an executor are looked at for who may see its sandboxes.
_RUNS: Final = 100
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
    named, framework_id, executor_id = names(path)
    framework = _framework(state, framework_id)
    agent_id = agent_id or named
    if agent_id is None and framework is not None:
        agent_id = _last_agent(state, framework, executor_id)
    if agent_id is None:
        raise NoPlace(404)
    agent = connected(state, AgentId(agent_id))
    if framework is None:
        return Place(agent, ANYTHING)
    return Place(agent, _thing(agent, framework, executor_id))


def names(path: str) -> tuple[str | None, FrameworkId, ExecutorId]:
    """
    Return whose sandbox a path is in: the agent, the framework, the executor.

    The agent is L{None} where the path does not name it; the others are empty.
    """
    plain = "/" + "/".join(name for name in path.split("/") if name not in ("", "."))
    bare = _BARE.fullmatch(plain)
    if bare is not None:
        return None, FrameworkId(bare["framework"]), ExecutorId(bare["executor"])
    whole = _WHOLE.fullmatch(plain)
    if whole is not None:
        return whole["agent"], FrameworkId(whole["framework"]), ExecutorId(whole["executor"])
    before = _BEFORE.fullmatch(plain)
    return before and before[1], FrameworkId(""), ExecutorId("")


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
    """
    Return the agent that runs an executor, or ran it last as far as it is known.

    Raises L{NoPlace} where several run one of that name.
    """
    running = {
        agent.id for agent in state.agents.values() if agent.executor(framework.id, executor_id)
    }
    for task in framework.tasks.values():
        if (task.executor_id or task.id) == executor_id:
            running.add(task.agent_id)
    if len(running) > 1:
        several = f"Executor '{executor_id}' runs on {len(running)} agents"
        raise NoPlace(400, f"{several}: name one of them with 'agent_id=value' in query.\n")
    if running:
        return running.pop()
    last = next(_tasks(framework, executor_id), None)
    return None if last is None else last.agent_id


def _thing(agent: Agent, framework: Framework, executor_id: ExecutorId) -> Thing:
    """Return a sandbox as what is looked at; what is not known any more only some may see."""
    executor = agent.executor(framework.id, executor_id)
    if executor is not None:
        return authorization.of_executor(executor.info, framework.info)
    tasks = [task for task in _tasks(framework, executor_id) if task.agent_id == agent.id]
    # Its runs may have had different users: who sees one may see them all.
    users = {task.to_message().user or framework.info.user for task in tasks[:_RUNS]}
    if not users:
        return ANYTHING
    return Thing(tuple(sorted(users)), framework=framework.info, id=executor_id)
