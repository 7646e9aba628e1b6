"""The agents of a cluster, as operators look at them and tell them what to do."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mesoskit.cli.asking import CannotBeDone, Master
from mesoskit.cli.naming import meant
from mesoskit.cli.table import AMOUNTS, amount, facts, moment, section
from mesoskit.messages.master_pb2 import Response
from mesoskit.messages.mesos_pb2 import AgentInfo, DrainState, Task, TaskState
from mesoskit.model.attributes import Attributes
from mesoskit.model.durations import format_duration
from mesoskit.model.resources import Resources

REGISTRY: Final = "/registrar(1)/registry"
"""What alone tells of agents that are unreachable or gone."""


@dataclass(frozen=True)
class Agent:
    """
    An agent as a master knows it.

    @ivar state: C{active}, C{disconnected}, C{draining}, C{drained}, C{deactivated}; C{recovered},
        for one that has not come back to a new master; C{unreachable}, C{gone}.
    @ivar since: nanoseconds since 1970: when it began to drain, was lost, or registered last.
    @ivar info: what it says of itself, where that is known.
    @ivar shown: what GET_AGENTS shows of it, where it is registered.
    """

    id: str
    state: str
    since: int = 0
    info: AgentInfo | None = None
    shown: Response.GetAgents.Agent | None = None

    @property
    def host(self) -> str:
        """Its host name, where that is known."""
        return "" if self.info is None else self.info.hostname

    @property
    def registered(self) -> bool:
        """Whether it is registered now."""
        return self.shown is not None


def state_of(shown: Response.GetAgents.Agent) -> str:
    """Return the word for what a registered agent is in."""
    if shown.HasField("drain_info"):
        return "drained" if shown.drain_info.state == DrainState.DRAINED else "draining"
    if shown.deactivated:
        return "deactivated"
    return "active" if shown.active else "disconnected"


def present(answer: Response.GetAgents) -> dict[str, Agent]:
    """Return the agents that are registered, and those that a new master waits for, by id."""
    found = {}
    for shown in answer.agents:
        since = shown.reregistered_time.nanoseconds or shown.registered_time.nanoseconds
        if shown.HasField("drain_info"):
            since = shown.estimated_drain_start_time.nanoseconds or since
        info = shown.agent_info
        found[info.id.value] = Agent(info.id.value, state_of(shown), since, info, shown)
    for info in answer.recovered_agents:
        found.setdefault(info.id.value, Agent(info.id.value, "recovered", 0, info))
    return found


def absent(registry: Mapping[str, Any]) -> dict[str, Agent]:
    """Return the agents that the registry says are unreachable or gone, by id."""
    found = {}
    for state in ("unreachable", "gone"):
        for one in registry.get(state, {}).get("slaves", ()):
            name, since = one["id"]["value"], one["timestamp"]["nanoseconds"]
            found[name] = Agent(name, state, since)
    return found


def find(master: Master, text: str, also_gone: bool = False) -> Agent:
    """
    Return the one agent that is meant: by id, its end (C{S3}), its beginning, or its host name.

    All that could be meant is looked at, registered or not, before anything but a whole id is
    believed. Raises L{CannotBeDone}.
    """
    known = present(master.ask("GET_AGENTS").get_agents)
    if text not in known:
        lost = absent(master.shown(REGISTRY))
        known.update({name: one for name, one in lost.items() if also_gone or one.state != "gone"})
        if not also_gone and text in lost and lost[text].state == "gone":
            raise CannotBeDone(f"agent {text} is gone already, since {moment(lost[text].since)}")
    hosts: dict[str, list[str]] = {}
    for agent in known.values():
        hosts.setdefault(agent.host, []).append(agent.id)
    return meant(text, known, hosts, "agent")


def tasks_on(agents: Response.GetTasks) -> Counter[str]:
    """Return how many tasks each agent has, which have not ended for all that is known."""
    return Counter(task.agent_id.value for task in (*agents.tasks, *agents.unreachable_tasks))


def row(agent: Agent, tasks: int) -> list[str]:
    """Return what a table shows of an agent."""
    version, amounts = "", [""] * len(AMOUNTS)
    if agent.shown is not None:
        version = agent.shown.version
        total = Resources.from_message(agent.shown.total_resources)
        used = Resources.from_message(agent.shown.allocated_resources)
        amounts = [f"{amount(used.scalar(name))}/{amount(total.scalar(name))}" for name in AMOUNTS]
    return [
        agent.id,
        agent.host,
        agent.state,
        version,
        *amounts,
        str(tasks),
        moment(agent.since),
        attributes(agent),
    ]


HEADS: Final = ["AGENT", "HOST", "STATE", "VERSION", "CPUS", "MEM", "DISK", "TASKS", "SINCE"]
"""The heads of a table of agents, with C{ATTRIBUTES} behind."""


def attributes(agent: Agent) -> str:
    """Return an agent's attributes."""
    return "" if agent.info is None else str(Attributes.from_message(agent.info.attributes))


def described(agent: Agent, tasks: Iterable[Task], frameworks: Mapping[str, str]) -> str:
    """
    Return all that is known of an agent.

    @param tasks: those that it has.
    @param frameworks: the names of frameworks, by id.
    """
    pairs = [("Agent", agent.id), ("State", _state(agent)), ("Host", agent.host)]
    shown = agent.shown
    if shown is not None:
        pairs += [
            ("Address", shown.pid.rpartition("@")[2]),
            ("Version", shown.version),
            ("Registered", moment(shown.registered_time.nanoseconds)),
            ("Reregistered", moment(shown.reregistered_time.nanoseconds)),
        ]
    pairs.append(("Attributes", attributes(agent)))
    if agent.info is not None and agent.info.domain.HasField("fault_domain"):
        domain = agent.info.domain.fault_domain
        pairs.append(("Domain", f"{domain.region.name}/{domain.zone.name}"))
    if shown is not None:
        kinds = [AgentInfo.Capability.Type.Name(one.type) for one in shown.capabilities]
        pairs += [
            ("Capabilities", ", ".join(kinds)),
            ("Resources", str(Resources.from_message(shown.total_resources))),
            ("Used", str(Resources.from_message(shown.allocated_resources))),
            ("Offered", str(Resources.from_message(shown.offered_resources))),
        ]
    tasks = list(tasks)
    count = Counter(task.framework_id.value for task in tasks)
    rows = [["FRAMEWORK", "NAME", "TASKS"]]
    rows += [[name, frameworks.get(name, ""), str(number)] for name, number in count.items()]
    return facts(pairs) + section(rows) + section(task_rows(tasks, "FRAMEWORK"))


def _state(agent: Agent) -> str:
    text = agent.state
    if agent.since and agent.state in ("draining", "drained", "unreachable", "gone"):
        began = "draining began " if agent.state == "drained" else "since "
        text += f", {began}{moment(agent.since)}"
    if agent.shown is not None and agent.shown.HasField("drain_info"):
        config = agent.shown.drain_info.config
        if config.HasField("max_grace_period"):
            grace = format_duration(config.max_grace_period.nanoseconds / 10**9)
            text += f", each task within {grace}"
        if config.mark_gone:
            text += ", gone afterwards"
    return text


def task_rows(tasks: Iterable[Task], other: str) -> list[list[str]]:
    """Return a table of tasks; C{other} is AGENT or FRAMEWORK, whichever is to be shown."""
    rows = [["TASK", "STATE", other, "RESOURCES"]]
    for task in tasks:
        whose = task.agent_id if other == "AGENT" else task.framework_id
        resources = str(Resources.from_message(task.resources).unallocated())
        rows.append([task.task_id.value, TaskState.Name(task.state), whose.value, resources])
    return rows


def as_json(master: Master, agent: Agent) -> str:
    """Return what the master shows of an agent, as Mesos' JSON."""
    if agent.info is None:
        registry = master.shown(REGISTRY)
        found = [
            one
            for one in registry.get(agent.state, {}).get("slaves", ())
            if one["id"]["value"] == agent.id
        ]
    else:
        answer = json.loads(master.json("GET_AGENTS"))["get_agents"]
        found = [
            one for one in answer.get("agents", ()) if one["agent_info"]["id"]["value"] == agent.id
        ]
        found += [
            one for one in answer.get("recovered_agents", ()) if one["id"]["value"] == agent.id
        ]
    if not found:
        raise CannotBeDone(f"agent {agent.id} has just left")
    return json.dumps(found[0], separators=(",", ":"))
