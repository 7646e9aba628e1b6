"""What the master knows when it looks at a task that is to be launched."""

from collections.abc import Callable, Container, Iterable, Mapping

from mesoskit.messages.mesos_pb2 import ExecutorInfo
from mesoskit.model.capabilities import AgentCapability
from mesoskit.model.resources import Resources


def _no_tasks(_executor_id: str) -> Iterable[bool]:
    return ()


class LaunchContext:
    """
    One framework's launches on one agent, from one C{ACCEPT}.

    The containers and the mapping are looked into, never changed: the master's own dicts
    will do, and then a task launched a moment ago is there already.

    @ivar framework_id: who launches.
    @ivar agent_id: whose offers were accepted.
    @ivar agent: what that agent can do.
    @ivar tasks: the framework's task ids in use, on whatever agent.
    @ivar unreachable: the ids of its tasks that are unreachable.
    @ivar executors: its executors on this agent, by id.
    @ivar offered: what is left of the offers. Reduce it by C{total} after each task launched.
    @ivar tasks_share_cgroups: gives, for the id of an executor in C{executors}, whether
        each of its tasks on this agent (unreachable ones too) shares its cgroups:
        L{mesoskit.model.validation_command.shares_cgroups}.
    @ivar total: what the task or group that was last found right takes from C{offered}: its own
        resources, and the executor's if that is new.
    """

    __slots__ = (
        "agent",
        "agent_id",
        "executors",
        "framework_id",
        "offered",
        "tasks",
        "tasks_share_cgroups",
        "total",
        "unreachable",
    )

    def __init__(
        self,
        framework_id: str,
        agent_id: str,
        offered: Resources,
        agent: AgentCapability,
        tasks: Container[str] = (),
        unreachable: Container[str] = (),
        executors: Mapping[str, ExecutorInfo] | None = None,
        tasks_share_cgroups: Callable[[str], Iterable[bool]] = _no_tasks,
    ) -> None:
        self.framework_id = framework_id
        self.agent_id = agent_id
        self.offered = offered
        self.agent = agent
        self.tasks = tasks
        self.unreachable = unreachable
        self.executors = {} if executors is None else executors
        self.tasks_share_cgroups = tasks_share_cgroups
        self.total = Resources.EMPTY
