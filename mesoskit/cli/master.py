"""C{mesoskit master}: who leads, and how the cluster is, on one screen."""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from mesoskit.cli.command_line import Command, Line, flags_of, run_command
from mesoskit.flags import Flag, boolean

if TYPE_CHECKING:
    from mesoskit.cli.asking import Master
    from mesoskit.messages.master_pb2 import Response

FLAGS: Final = flags_of(
    "mesoskit master",
    "Show which master leads, and how its agents, frameworks, tasks and resources are.",
    Flag(
        "json",
        boolean,
        False,
        "What the operator API answers, as Mesos' JSON: a line of GET_MASTER, one of GET_METRICS.",
    ),
)


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit status: 1 where nobody leads."""
    return run_command(Command(FLAGS, 0, 0, _show), arguments)


def _show(line: Line) -> int:
    from mesoskit.cli.asking import Master

    master = Master(line)
    if line.values.json:
        for name in ("GET_MASTER", "GET_METRICS"):
            sys.stdout.write(master.json(name) + "\n")
        return 0
    sys.stdout.write(screen(master))
    return 0


def screen(master: "Master") -> str:
    """Return what an operator wants to know first of all. Raises what L{Master} raises."""
    from mesoskit.cli import agents, frameworks
    from mesoskit.cli.table import facts, moment
    from mesoskit.messages.mesos_pb2 import TaskState

    leader = master.ask("GET_MASTER").get_master
    info = leader.master_info
    shown = master.ask("GET_AGENTS").get_agents
    known = {**agents.absent(master.shown(agents.REGISTRY)), **agents.present(shown)}
    answer = master.ask("GET_FRAMEWORKS").get_frameworks
    there = [*frameworks.running(answer).values(), *frameworks.completed(answer).values()]
    tasks = master.ask("GET_TASKS").get_tasks
    now = [*tasks.tasks, *tasks.unreachable_tasks]
    return facts(
        [
            ("Master", f"{info.hostname}:{info.port}, {info.id}"),
            ("Version", info.version),
            ("Started", moment(int(leader.start_time * 10**9))),
            ("Leads since", moment(int(leader.elected_time * 10**9))),
            ("Agents", counted(one.state for one in known.values())),
            ("Frameworks", counted(one.state for one in there)),
            ("Tasks", counted(TaskState.Name(one.state) for one in now)),
            ("Ended", counted(TaskState.Name(one.state) for one in tasks.completed_tasks)),
        ]
    ) + resources(shown)


def counted(states: Iterable[str]) -> str:
    """Return C{3 active, 1 draining}; C{none} where there is nothing to count."""
    ordered = sorted(Counter(states).items(), key=lambda one: (-one[1], one[0]))
    return ", ".join([f"{number} {state}" for state, number in ordered]) or "none"


def resources(shown: "Response.GetAgents") -> str:
    """Return a table of what all registered agents have, and what becomes of it."""
    from mesoskit.cli.table import amount, section
    from mesoskit.model.resources import Resources

    has, used, offered = (
        Resources.sum(Resources.from_message(getattr(one, name)) for one in shown.agents)
        for name in ("total_resources", "allocated_resources", "offered_resources")
    )
    rows = [["RESOURCE", "TOTAL", "USED", "OFFERED", "USED OF TOTAL"]]
    for name in ("cpus", "gpus", "mem", "disk"):
        total, uses = has.scalar(name), used.scalar(name)
        if total:
            share = f"{uses / total:.0%}"
            rows.append([name, amount(total), amount(uses), amount(offered.scalar(name)), share])
    return section(rows)
