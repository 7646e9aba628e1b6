"""The tasks of a cluster, as C{mesoskit task} finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mesoskit.cli.asking import CannotBeDone, Master, Server
from mesoskit.messages import agent_pb2
from mesoskit.messages.mesos_pb2 import ContainerID, Task, TaskState
from mesoskit.model.tasks import TERMINAL

if TYPE_CHECKING:
    from mesoskit.cli.command_line import Line

_LOCAL: Final = frozenset(("0.0.0.0", "::"))


class Target:
    """
    A task that runs.

    @ivar agent: who runs it.
    @ivar container: its container's id.
    """

    def __init__(self, agent: Server, container: ContainerID, name: str) -> None:
        self.agent = agent
        self.container = container
        self.name = name


class Cluster:
    """What the leading master knows."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._master = Master(line)

    def _agents(self) -> dict[str, Any]:
        agents = self._master.ask("GET_AGENTS").get_agents.agents
        return {one.agent_info.id.value: one for one in agents}

    def rows(self, ended: bool) -> list[tuple[str, str, str, str]]:
        """Return id, state, framework and agent of each task."""
        tasks = self._master.ask("GET_TASKS").get_tasks
        hosts = {name: one.agent_info.hostname for name, one in self._agents().items()}
        shown = list(tasks.tasks)
        if ended:
            shown += [*tasks.unreachable_tasks, *tasks.completed_tasks]
        return [
            (
                task.task_id.value,
                TaskState.Name(task.state),
                task.framework_id.value,
                hosts.get(task.agent_id.value, task.agent_id.value),
            )
            for task in shown
        ]

    def task(self, name: str) -> Target:
        """Return the one task that runs and whose id is or begins so. Raises L{CannotBeDone}."""
        running = [
            task
            for task in self._master.ask("GET_TASKS").get_tasks.tasks
            if task.state not in TERMINAL
        ]
        found = [task for task in running if task.task_id.value == name]
        found = found or [task for task in running if task.task_id.value.startswith(name)]
        if not found:
            raise CannotBeDone(f"no task runs whose id is or begins with {name!r}")
        if len(found) > 1:
            names = ", ".join(sorted(task.task_id.value for task in found)[:5])
            raise CannotBeDone(
                f"{len(found)} tasks run whose ids are or begin with {name!r}: {names}"
            )
        (task,) = found
        agent = self._agents().get(task.agent_id.value)
        if agent is None:
            raise CannotBeDone(f"the agent {task.agent_id.value} of task {name} is not there")
        address = agent.pid.rpartition("@")[2]
        host, _, port = address.rpartition(":")
        if host in _LOCAL:
            host = agent.agent_info.hostname
        scheme = "https" if self._master.secure else "http"
        server = Server(f"{scheme}://{host}:{port}", self._line)
        return Target(server, _container_of(task), task.task_id.value)


def _container_of(task: Task) -> ContainerID:
    for status in reversed(task.statuses):
        if status.container_status.HasField("container_id"):
            return status.container_status.container_id
    raise CannotBeDone(f"task {task.task_id.value} has no container yet")


def agent_call(name: str) -> agent_pb2.Call:
    """Return a call to an agent, to be filled."""
    return agent_pb2.Call(type=name)
