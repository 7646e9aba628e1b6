"""What big answers are made of, kept encoded until it changes.

With 10,000 tasks, of which few change between two looks, an answer is mostly joined together.
A part is kept for each form in which somebody asked for it: as C{/state} shows it, and as the
operator API does in its two types.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import orjson
from google.protobuf.message import Message

from mesoskit.master import answers, views
from mesoskit.master.records import Agent, Executor, Framework, Offer, Task
from mesoskit.messages.master_pb2 import Response
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.messages.pieces import Form, list_of, written
from mesoskit.model.resources import ENDPOINT, Resources

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

MANY: Final = 500
"""So many records are looked at between two pieces, where nothing is written of them."""

_SUMMED: Final = 100
"""So many offers are added up between two pieces."""


class _Forms:
    """One thing as the operator API shows it, in the types that somebody asked for."""

    __slots__ = ("bytes", "json")

    def __init__(self) -> None:
        self.json: bytes | None = None
        self.bytes: bytes | None = None

    def get(self, form: Form, make: Callable[[Any], Message], thing: Any) -> bytes:
        """Return what is kept in this form, or make it."""
        if form is Form.JSON:
            kept = self.json
            if kept is None:
                kept = self.json = written(make(thing), form)
        else:
            kept = self.bytes
            if kept is None:
                kept = self.bytes = written(make(thing), form)
        return kept


class _Task(_Forms):
    """
    What is shown of a task, and what it was like then.

    @ivar view: as C{/state} shows it.
    @ivar began: when its first status was made; L{None} where nobody has asked.
    """

    __slots__ = ("began", "last", "state", "statuses", "uuid", "view")

    def __init__(self, task: Task, last: bytes | None, began: float | None) -> None:
        super().__init__()
        self.state = task.state
        self.statuses = len(task.statuses)
        self.last = last
        self.uuid = task.told_uuid
        self.view: bytes | None = None
        self.began = began


class _Agent(_Forms):
    """
    What is shown of an agent, and what it was like then.

    @ivar view: as C{/state} shows it.
    @ivar used: what is used there, as L{Agent.used} returns it.
    """

    __slots__ = ("holders", "offers", "state", "used", "view")

    def __init__(
        self,
        agent: Agent,
        state: tuple[Any, ...],
        holders: tuple[Any, ...],
        offers: tuple[Any, ...],
    ) -> None:
        super().__init__()
        self.state = state
        self.holders = holders
        self.offers = offers
        self.used = agent.used()
        self.view: bytes | None = None


class _Framework(_Forms):
    """What is shown of a framework besides what it holds, and what it was like then."""

    __slots__ = ("state",)

    def __init__(self, state: tuple[Any, ...]) -> None:
        super().__init__()
        self.state = state


class _Fixed(_Forms):
    """What is shown of an executor or an offer, which do not change."""

    __slots__ = ()


class Fragments:
    """
    What is shown of tasks, agents, frameworks, executors and offers, encoded.

    Not much more is kept than the state holds: every document ends with a L{sweep}.
    """

    def __init__(self) -> None:
        self._tasks: dict[Task, _Task] = {}
        self._agents: dict[Agent, _Agent] = {}
        self._frameworks: dict[Framework, _Framework] = {}
        self._executors: dict[Executor, _Fixed] = {}
        self._offers: dict[Offer, _Fixed] = {}

    def __len__(self) -> int:
        """Return how many are kept."""
        return (
            len(self._tasks)
            + len(self._agents)
            + len(self._frameworks)
            + len(self._executors)
            + len(self._offers)
        )

    def clear(self) -> None:
        """Forget everything: nobody looks any more."""
        self._tasks.clear()
        self._agents.clear()
        self._frameworks.clear()
        self._executors.clear()
        self._offers.clear()

    def sweep(self, state: "MasterState") -> Iterator[bytes]:
        """Forget what the state does not hold any more, with breaks (the empty pieces given)."""
        frameworks = list(chain(state.frameworks.values(), state.completed))
        there = sum(len(f.tasks) + len(f.unreachable) + len(f.completed) for f in frameworks)
        if len(self._tasks) > there + there // 4 + MANY:
            known, kept = self._tasks, {}
            tasks = [task for framework in frameworks for task in _tasks_of(framework)]
            for number, task in enumerate(tasks):
                if task in known:
                    kept[task] = known[task]
                if number % MANY == 0:
                    yield b""
            self._tasks = kept
        if len(self._agents) > len(state.agents):
            agents = state.agents.values()
            self._agents = {one: self._agents[one] for one in agents if one in self._agents}
        if len(self._frameworks) > len(frameworks):
            heads = self._frameworks
            self._frameworks = {one: heads[one] for one in frameworks if one in heads}
        if len(self._executors) > 2 * len(state.agents) + MANY:
            executors = [e for agent in state.agents.values() for e in agent.all_executors()]
            if len(self._executors) > len(executors) + len(executors) // 4 + MANY:
                fixed = self._executors
                self._executors = {one: fixed[one] for one in executors if one in fixed}
                yield b""
        if len(self._offers) > len(state.offers) + len(state.offers) // 4 + MANY:
            made = self._offers
            self._offers = {one: made[one] for one in state.offers.values() if one in made}
            yield b""

    # As /state and its kin show them.

    def task_view(self, task: Task) -> bytes:
        """Return a task as C{/state} shows it."""
        known = self._task(task)
        if known.view is None:
            known.view = orjson.dumps(views.task_view(task))
        return known.view

    def began(self, task: Task) -> float:
        """Return when a task's first status was made, 0 where it has none."""
        known = self._task(task)
        if known.began is None:
            known.began = first_moment(task)
        return known.began

    def agent_view(self, agent: Agent) -> bytes:
        """Return an agent as C{/state} shows it."""
        known = self._agent(agent)
        if known.view is None:
            known.view = orjson.dumps(views.agent_view(agent, known.used))
        return known.view

    def used(self, agent: Agent) -> views.Held:
        """Return what is used on an agent."""
        return self._agent(agent).used

    # As the operator API shows them.

    def task(self, task: Task, form: Form) -> bytes:
        """Return a task as GET_TASKS shows it."""
        return self._task(task).get(form, Task.to_message, task)

    def agent(self, agent: Agent, form: Form) -> bytes:
        """Return an agent as GET_AGENTS shows it."""
        known = self._agent(agent)
        used = known.used
        return known.get(form, lambda one: answers.agent_message(one, used), agent)

    def executor(self, executor: Executor, form: Form) -> bytes:
        """Return an executor as GET_EXECUTORS shows it."""
        known = self._executors.get(executor)
        if known is None:
            known = self._executors[executor] = _Fixed()
        return known.get(form, answers.executor_message, executor)

    def offer(self, offer: Offer, form: Form) -> bytes:
        """Return an offer as operators see it."""
        known = self._offers.get(offer)
        if known is None:
            known = self._offers[offer] = _Fixed()
        return known.get(form, answers.offer_message, offer)

    def framework(
        self, framework: Framework, executors: Iterable[Executor], form: Form
    ) -> Generator[bytes, None, bytes]:
        """
        Write a framework as GET_FRAMEWORKS shows it, with breaks (the empty pieces given).

        @param executors: those that it has.
        """
        offers = list(framework.offers.values())
        shown: list[bytes] = []
        offered = Resources.EMPTY
        for begin in range(0, len(offers), _SUMMED):
            some = offers[begin : begin + _SUMMED]
            offered = Resources.sum((offered, answers.offered(some)))
            yield b""
        for number, offer in enumerate(offers):
            shown.append(self.offer(offer, form))
            if number % 8 == 0:
                yield b""
        used = yield from _used(framework, executors)
        rest = Response.GetFrameworks.Framework(recovered=framework.recovered)
        rest.allocated_resources.extend(used.to_message(ENDPOINT))
        rest.offered_resources.extend(offered.to_message(ENDPOINT))
        head, tail = self._head(framework, form), written(rest, form, partial=True)
        between = list_of(Response.GetFrameworks.Framework, "offers", shown, form)
        if form is Form.BYTES:
            return b"".join((head, between, tail))
        return b"".join((head[:-1], b"," if between else b"", between, b",", tail[1:]))

    # What is kept.

    def _task(self, task: Task) -> _Task:
        statuses = task.statuses
        last = statuses[-1] if statuses else None
        known = self._tasks.get(task)
        if (
            known is not None
            and known.last is last
            and known.state == task.state
            and known.statuses == len(statuses)
            and known.uuid is task.told_uuid
        ):
            return known
        began = known.began if known is not None and known.statuses else None
        known = self._tasks[task] = _Task(task, last, began)
        return known

    def _agent(self, agent: Agent) -> _Agent:
        state: tuple[Any, ...] = (
            agent.active,
            agent.deactivation,
            agent.info,
            agent.total,
            agent.pid,
            agent.version,
            agent.reregistered_time,
            agent.capabilities,
            agent.deactivation,
        )
        holders: tuple[Any, ...] = tuple([task for task in agent.tasks if task.holds_resources])
        if agent.executors:
            holders += tuple(agent.all_executors())
        offers = tuple(agent.offers)
        known = self._agents.get(agent)
        if (
            known is not None
            and known.offers == offers
            and known.holders == holders
            and all(one is other for one, other in zip(known.state, state, strict=True))
        ):
            return known
        known = self._agents[agent] = _Agent(agent, state, holders, offers)
        return known

    def _head(self, framework: Framework, form: Form) -> bytes:
        """Return what comes before a framework's offers."""
        state = (
            framework.info,
            framework.active,
            framework.connected,
            framework.registered_time,
            framework.reregistered_time,
            framework.unregistered_time,
            framework.constraints,
        )
        known = self._frameworks.get(framework)
        if known is None or known.state[0] is not framework.info or known.state[1:] != state[1:]:
            known = self._frameworks[framework] = _Framework(state)
        kept = known.json if form is Form.JSON else known.bytes
        if kept is None:
            message = answers.framework_brief(framework)
            message.ClearField("recovered")
            kept = written(message, form, partial=True)
            if form is Form.JSON:
                known.json = kept
            else:
                known.bytes = kept
        return kept


def first_moment(task: Task) -> float:
    """Return when a task's first status was made."""
    return TaskStatus.FromString(task.statuses[0]).timestamp if task.statuses else 0.0


def _tasks_of(framework: Framework) -> Iterable[Task]:
    return chain(framework.tasks.values(), framework.unreachable.values(), framework.completed)


def _used(framework: Framework, executors: Iterable[Executor]) -> Generator[bytes, None, Resources]:
    """Add up what a framework's tasks and executors hold, with breaks (the pieces it gives)."""
    held: dict[str, Resources] = {}
    tasks = list(framework.tasks.values())
    for begin in range(0, len(tasks), MANY):
        parts: dict[str, list[Resources]] = {}
        for task in tasks[begin : begin + MANY]:
            if task.holds_resources:
                parts.setdefault(task.role, []).append(task.resources)
        for role, some in parts.items():
            held[role] = Resources.sum((held.get(role, Resources.EMPTY), *some))
        yield b""
    for number, executor in enumerate(executors):
        before = held.get(executor.role, Resources.EMPTY)
        held[executor.role] = before + executor.resources
        if number % MANY == 0:
            yield b""
    return Resources.sum(each.allocated(role) for role, each in held.items())
