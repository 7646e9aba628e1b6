"""The frameworks of a cluster, as operators look at them."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mesoskit.cli.agents import task_rows
from mesoskit.cli.asking import CannotBeDone, Master
from mesoskit.cli.naming import meant
from mesoskit.cli.table import AMOUNTS, amount, facts, moment, section
from mesoskit.messages.master_pb2 import Response
from mesoskit.messages.mesos_pb2 import FrameworkInfo, Task
from mesoskit.model.durations import InvalidDuration, format_duration
from mesoskit.model.resources import Resources


@dataclass(frozen=True)
class Framework:
    """
    A framework as a master knows it.

    @ivar state: C{active}; C{inactive}, for one that is there and wants no offers;
        C{disconnected}; C{recovered}, for one that a new master knows from agents alone;
        C{completed}.
    """

    id: str
    state: str
    shown: Response.GetFrameworks.Framework

    @property
    def info(self) -> FrameworkInfo:
        """What it says of itself."""
        return self.shown.framework_info


HEADS: Final = ["FRAMEWORK", "NAME", "STATE", "PRINCIPAL", "TASKS", "CPUS", "MEM", "DISK", "ROLES"]
"""The heads of a table of frameworks."""


def state_of(shown: Response.GetFrameworks.Framework) -> str:
    """Return the word for what a framework that has not ended is in."""
    if shown.recovered:
        return "recovered"
    if not shown.connected:
        return "disconnected"
    return "active" if shown.active else "inactive"


def running(answer: Response.GetFrameworks) -> dict[str, Framework]:
    """Return the frameworks that have not ended, by id."""
    found = {}
    for shown in answer.frameworks:
        name = shown.framework_info.id.value
        found[name] = Framework(name, state_of(shown), shown)
    return found


def completed(answer: Response.GetFrameworks) -> dict[str, Framework]:
    """Return the frameworks that have ended, as far as the master still knows them, by id."""
    return {
        shown.framework_info.id.value: Framework(shown.framework_info.id.value, "completed", shown)
        for shown in answer.completed_frameworks
    }


def find(master: Master, text: str, also_completed: bool = False) -> Framework:
    """
    Return the one framework that is meant: by id, its end or its beginning.

    Raises L{CannotBeDone}.
    """
    answer = master.ask("GET_FRAMEWORKS").get_frameworks
    known = running(answer)
    if also_completed:
        known = {**completed(answer), **known}
    return meant(text, known, {}, "framework")


def tasks_of(answer: Response.GetTasks) -> Counter[str]:
    """Return how many tasks each framework has that have not ended for all that is known."""
    return Counter(task.framework_id.value for task in (*answer.tasks, *answer.unreachable_tasks))


def roles(info: FrameworkInfo) -> str:
    """Return the roles that a framework is in."""
    return ", ".join(info.roles) or info.role


def row(framework: Framework, tasks: int) -> list[str]:
    """Return what a table shows of a framework."""
    used = Resources.from_message(framework.shown.allocated_resources)
    return [
        framework.id,
        framework.info.name,
        framework.state,
        framework.info.principal,
        str(tasks),
        *(amount(used.scalar(name)) for name in AMOUNTS),
        roles(framework.info),
    ]


def described(framework: Framework, tasks: Iterable[Task], hosts: Mapping[str, str]) -> str:
    """
    Return all that is known of a framework.

    @param tasks: those that it has.
    @param hosts: the host names of agents, by id.
    """
    info, shown = framework.info, framework.shown
    capabilities = [FrameworkInfo.Capability.Type.Name(one.type) for one in info.capabilities]
    try:
        timeout = format_duration(info.failover_timeout) if info.failover_timeout else "none"
    except InvalidDuration:  # longer than anybody lives
        timeout = f"{info.failover_timeout:g}secs"
    pairs = [
        ("Framework", framework.id),
        ("Name", info.name),
        ("State", framework.state),
        ("Principal", info.principal),
        ("User", info.user),
        ("Roles", roles(info)),
        ("Host", info.hostname),
        ("Web UI", info.webui_url),
        ("Failover timeout", timeout),
        ("Checkpoint", "yes" if info.checkpoint else "no"),
        ("Capabilities", ", ".join(capabilities)),
        ("Registered", moment(shown.registered_time.nanoseconds)),
        ("Reregistered", moment(shown.reregistered_time.nanoseconds)),
        ("Ended", moment(shown.unregistered_time.nanoseconds)),
        ("Used", str(Resources.from_message(shown.allocated_resources))),
        ("Offered", str(Resources.from_message(shown.offered_resources))),
    ]
    tasks = list(tasks)
    count = Counter(task.agent_id.value for task in tasks)
    rows = [["AGENT", "HOST", "TASKS"]]
    rows += [[name, hosts.get(name, ""), str(number)] for name, number in count.items()]
    return facts(pairs) + section(rows) + section(task_rows(tasks, "AGENT"))


def as_json(master: Master, framework: Framework) -> str:
    """Return what GET_FRAMEWORKS shows of a framework, as Mesos' JSON."""
    answer = json.loads(master.json("GET_FRAMEWORKS"))["get_frameworks"]
    for name in ("frameworks", "completed_frameworks"):
        for one in answer.get(name, ()):
            if one["framework_info"]["id"]["value"] == framework.id:
                return json.dumps(one, separators=(",", ":"))
    raise CannotBeDone(f"framework {framework.id} has just been forgotten")
