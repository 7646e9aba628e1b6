"""The master's big JSON documents, made in pieces: C{/state} and its kin.

What is shown of one task or one agent is kept encoded (L{mesoskit.master.fragments}) until it
changes. The records that a document is about are listed when it begins and shown as they are
when their turn comes: it may mix moments, and never misses a task that existed throughout.

What whoever asks may not see is left out (L{mesoskit.master.visible}). What is kept encoded is the
same for all who may see all of it; an agent of which somebody may see a part is made for him.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson

from mesoskit.master import views
from mesoskit.master.fragments import MANY, Fragments
from mesoskit.master.records import Agent, Executor, Framework, Task
from mesoskit.master.visible import EVERYTHING, Viewer
from mesoskit.model.resources import Resources
from mesoskit.model.tasks import TaskState

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

dumps = orjson.dumps

_UNSEEN = 100
"""So many tasks are left out between two pieces."""


class _Of:
    """A framework with all that it had when a document began."""

    __slots__ = ("completed", "executors", "framework", "tasks", "unreachable")

    def __init__(self, framework: Framework) -> None:
        self.framework = framework
        self.tasks = list(framework.tasks.values())
        self.unreachable = list(framework.unreachable.values())
        self.completed = list(framework.completed)
        self.executors: list[Executor] = []

    def __len__(self) -> int:
        """Return how many tasks there are."""
        return len(self.tasks) + len(self.unreachable) + len(self.completed)

    def all_tasks(self) -> Iterable[Task]:
        """Return the tasks in the order in which C{/tasks} knows them."""
        return chain(self.tasks, self.unreachable, reversed(self.completed))


class _Cluster:
    """The records that a document is about, as they were when it began."""

    def __init__(self, state: "MasterState", viewer: Viewer, only: str | None = None) -> None:
        self.state = state
        self.viewer = viewer
        self.agents = list(state.agents.values())
        named, sees = _named(only), viewer.framework
        self.live = [_Of(one) for one in state.frameworks.values() if named(one.id) and sees(one)]
        self.completed = [_Of(one) for one in state.completed if named(one.id) and sees(one)]
        by_id = {one.framework.id: one for one in self.live}
        for agent in self.agents:
            for framework_id, executors in agent.executors.items():
                one = by_id.get(framework_id)
                if one is not None:
                    one.executors.extend(executors.values())

    def tasks(self) -> Iterator[Task]:
        """Give all tasks."""
        for one in chain(self.live, self.completed):
            yield from one.all_tasks()


def _named(name: str | None) -> Callable[[str], bool]:
    return (lambda _: True) if name is None else (lambda one: one == name)


# The documents.


def state(
    state: "MasterState",
    flags: dict[str, str],
    fragments: Fragments,
    viewer: Viewer = EVERYTHING,
) -> Iterator[bytes]:
    """Give C{/state}: everything."""
    cluster = _Cluster(state, viewer)
    shown = flags if viewer.flags() else None
    yield dumps(views.head_view(state, shown))[:-1] + b',"slaves":['
    yield from _listed(_agent(fragments, agent, viewer) for agent in cluster.agents)
    recovered = [views.recovered_view(one, viewer) for one in state.recovered.values()]
    yield b'],"recovered_slaves":' + dumps(recovered) + b","
    yield from _frameworks(cluster, fragments)
    yield b',"orphan_tasks":[],"unregistered_frameworks":[]}'
    yield from fragments.sweep(state)


def summary(
    state: "MasterState", fragments: Fragments, viewer: Viewer = EVERYTHING
) -> Iterator[bytes]:
    """Give C{/state-summary}: no tasks, but how many there are in each state."""
    cluster = _Cluster(state, viewer)
    head: dict[str, Any] = {"hostname": state.info.hostname}
    if state.options.cluster is not None:
        head["cluster"] = state.options.cluster
    counts = _Counts(viewer)
    for one in cluster.live:
        yield from counts.count(one)
    yield dumps(head)[:-1] + b',"slaves":['
    yield from _listed(
        _agent(fragments, agent, viewer)[:-1] + b"," + counts.of_agent(agent.id)[1:]
        for agent in cluster.agents
    )
    yield b'],"frameworks":['
    comma = b""
    for one in cluster.live:
        used = yield from _used(one)
        shown = views.framework_head(one.framework, used, views.offered(one.framework))
        yield comma + dumps(shown)[:-1] + b"," + counts.of_framework(one.framework.id)[1:]
        comma = b","
    yield b"]}"
    yield from fragments.sweep(state)


def agents(
    state: "MasterState",
    fragments: Fragments,
    agent_id: str | None = None,
    viewer: Viewer = EVERYTHING,
) -> Iterator[bytes]:
    """Give C{/slaves}: all agents, or the one asked for."""
    wanted = _named(agent_id)
    shown = [agent for agent in state.agents.values() if wanted(agent.id)]
    yield b'{"slaves":['
    yield from _listed(_with_full(fragments, agent, viewer) for agent in shown)
    recovered = [
        views.recovered_view(info, viewer)
        for known, info in state.recovered.items()
        if wanted(known)
    ]
    yield b'],"recovered_slaves":' + dumps(recovered) + b"}"
    yield from fragments.sweep(state)


def _agent(fragments: Fragments, agent: Agent, viewer: Viewer) -> bytes:
    """Return an agent as whoever asks may see it."""
    if viewer.roles_of(agent.total):
        return fragments.agent_view(agent)
    return dumps(views.agent_view(agent, fragments.used(agent), viewer))


def _with_full(fragments: Fragments, agent: Agent, viewer: Viewer) -> bytes:
    full = views.full_view(agent, fragments.used(agent), viewer)
    return _agent(fragments, agent, viewer)[:-1] + b"," + dumps(full)[1:]


def frameworks(
    state: "MasterState",
    fragments: Fragments,
    framework_id: str | None = None,
    viewer: Viewer = EVERYTHING,
) -> Iterator[bytes]:
    """Give C{/frameworks}: all frameworks, or the one asked for."""
    yield b"{"
    yield from _frameworks(_Cluster(state, viewer, framework_id), fragments)
    yield b',"unregistered_frameworks":[]}'
    yield from fragments.sweep(state)


def tasks(
    state: "MasterState",
    fragments: Fragments,
    limit: int = 100,
    offset: int = 0,
    ascending: bool = False,
    framework_id: str | None = None,
    task_id: str | None = None,
    viewer: Viewer = EVERYTHING,
) -> Iterator[bytes]:
    """
    Give C{/tasks}: tasks of all frameworks, live, unreachable and completed, by the time of
    their first status; without end where C{limit} is negative, as Mesos' size without a sign is.
    """
    wanted = _named(task_id)
    found: list[tuple[float, Task]] = []
    for number, task in enumerate(_Cluster(state, viewer, framework_id).tasks()):
        if wanted(task.id) and viewer.task(task):
            found.append((fragments.began(task), task))
            yield b""
        elif number % _UNSEEN == 0:
            yield b""
    found.sort(key=lambda one: one[0], reverse=not ascending)
    yield b'{"tasks":['
    end = len(found) if limit < 0 else offset + limit
    yield from _listed(fragments.task_view(task) for _, task in found[offset:end])
    yield b"]}"
    yield from fragments.sweep(state)


def roles(
    state: "MasterState", fragments: Fragments, viewer: Viewer = EVERYTHING
) -> Iterator[bytes]:
    """Give C{/roles}: every role that a framework is in, or that something is reserved to."""
    used: dict[str, Resources] = {}
    reserved: dict[str, Resources] = {}
    for agent in list(state.agents.values()):
        for held in fragments.used(agent).values():
            _add(used, held)
        _add(reserved, agent.total.reserved())
        yield b""
    yield dumps(views.roles_view(state, used, reserved, viewer))
    yield from fragments.sweep(state)


def _add(sums: dict[str, Resources], more: Mapping[str, Resources]) -> None:
    for role, resources in more.items():
        known = sums.get(role)
        sums[role] = resources if known is None else Resources.sum((known, resources))


# Their parts.


def _listed(items: Iterable[bytes]) -> Iterator[bytes]:
    """Give items with commas between them."""
    comma = b""
    for item in items:
        yield comma + item
        comma = b","


def _frameworks(cluster: _Cluster, fragments: Fragments) -> Iterator[bytes]:
    viewer = cluster.viewer
    yield b'"frameworks":['
    yield from _whole(cluster.live, fragments, viewer)
    yield b'],"completed_frameworks":['
    yield from _whole(cluster.completed, fragments, viewer)
    yield b"]"


def _seen(tasks: Iterable[Task], fragments: Fragments, viewer: Viewer) -> Iterator[bytes]:
    """Give the tasks that may be seen with commas between them, and breaks."""
    comma = b""
    for number, task in enumerate(tasks):
        if viewer.task(task):
            yield comma + fragments.task_view(task)
            comma = b","
        elif number % _UNSEEN == 0:
            yield b""


def _whole(frameworks: list[_Of], fragments: Fragments, viewer: Viewer) -> Iterator[bytes]:
    comma = b""
    for one in frameworks:
        used = yield from _used(one)
        executors = [each for each in one.executors if viewer.executor(each, one.framework)]
        before, after = views.framework_view(one.framework, used, executors)
        yield comma + dumps(before)[:-1]
        comma = b","
        for name, of in (
            (b"tasks", one.tasks),
            (b"unreachable_tasks", one.unreachable),
            (b"completed_tasks", one.completed),
        ):
            yield b',"%b":[' % name
            if viewer.all:
                yield from _listed(fragments.task_view(task) for task in of)
            else:
                yield from _seen(of, fragments, viewer)
            yield b"]"
        yield b"," + dumps(after)[1:]


def _used(one: _Of) -> Generator[bytes, None, Resources]:
    """Add up what a framework uses (what this returns), with breaks (the pieces it gives)."""
    total = Resources.sum(executor.resources for executor in one.executors)
    for begin in range(0, len(one.tasks), MANY):
        some = one.tasks[begin : begin + MANY]
        held = Resources.sum([task.resources for task in some if task.holds_resources])
        total = Resources.sum((total, held))
        yield b""
    return total


class _Counts:
    """How many tasks that may be seen are in each state, by framework and by agent."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._frameworks: dict[str, list[int]] = {}
        self._agents: dict[str, list[int]] = {}
        self._frameworks_of: dict[str, dict[str, None]] = {}
        self._agents_of: dict[str, dict[str, None]] = {}

    def count(self, one: _Of) -> Iterator[bytes]:
        """Count a framework's tasks."""
        framework_id = one.framework.id
        counts = self._frameworks[framework_id] = [0] * len(TaskState)
        agents = self._agents_of[framework_id] = {}
        viewer = self._viewer
        for number, task in enumerate(one.all_tasks()):
            if number % MANY == 0:
                yield b""
            if not viewer.all and not viewer.task(task):
                continue
            counts[task.state] += 1
            agent_id = task.agent_id
            if agent_id not in self._agents:
                self._agents[agent_id] = [0] * len(TaskState)
            self._agents[agent_id][task.state] += 1
            self._frameworks_of.setdefault(agent_id, {})[framework_id] = None
            agents[agent_id] = None

    def of_agent(self, agent_id: str) -> bytes:
        """Return the counts of an agent, and whose tasks they are."""
        shown = views.counted(self._agents.get(agent_id))
        return dumps({**shown, "framework_ids": list(self._frameworks_of.get(agent_id, ()))})

    def of_framework(self, framework_id: str) -> bytes:
        """Return the counts of a framework, and where its tasks are."""
        shown = views.counted(self._frameworks.get(framework_id))
        return dumps({**shown, "slave_ids": list(self._agents_of.get(framework_id, ()))})
