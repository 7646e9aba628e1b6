"""C{mesoskit agent}: which agents there are, and taking machines out of a cluster and back.

What C{mesos agent list} of Apache Mesos' own command line shows
(C{src/python/cli_new/lib/cli/plugins/agent}), and the calls of the operator API that change agents.
"""

import sys
from collections.abc import Sequence
from typing import Any, Final

from mesoskit.cli.command_line import JSON, Command, Line, flags_of, run_one_of
from mesoskit.flags import Flag, boolean, duration

LIST: Final = flags_of(
    "mesoskit agent list",
    "Show the agents: their state, what of their resources is used, and how many tasks they have.",
    Flag(
        "all",
        boolean,
        False,
        "Those that are unreachable or gone, too; with --json a second line: the registry.",
    ),
    JSON,
)
SHOW: Final = flags_of(
    "mesoskit agent show",
    "Show all that the master knows of an agent, with its tasks and their frameworks.",
    JSON,
    words="AGENT",
)
DRAIN: Final = flags_of(
    "mesoskit agent drain",
    "Offer an agent no more and end its tasks, so that its machine can be switched off.",
    Flag(
        "grace",
        duration,
        None,
        "The most that a task may take to end, whatever it asks for: 30secs, 10mins.",
    ),
    Flag("mark_gone", boolean, False, "Mark it gone afterwards: it never comes back."),
    Flag(
        "wait", boolean, False, "Look on until it has drained, or is gone; a line for each change."
    ),
    Flag("timeout", duration, 3600.0, "The most to wait; the agent drains on after it."),
    words="AGENT",
)
DEACTIVATE: Final = flags_of(
    "mesoskit agent deactivate",
    "Offer an agent no more; what runs there runs on.",
    words="AGENT",
)
REACTIVATE: Final = flags_of(
    "mesoskit agent reactivate",
    "Offer an agent again that was deactivated or has drained.",
    words="AGENT",
)
GONE: Final = flags_of(
    "mesoskit agent gone",
    "Mark an agent gone: it never comes back, and all its tasks have ended for good.",
    Flag("yes", boolean, False, "Do it: nothing takes it back."),
    words="AGENT",
)

USAGE: Final = """Show agents, and take machines out of the cluster and back.

Usage: mesoskit agent list [--all] [--flag=value ...]
       mesoskit agent show AGENT
       mesoskit agent drain AGENT [--grace=30secs] [--mark_gone] [--wait] [--timeout=1hrs]
       mesoskit agent deactivate AGENT
       mesoskit agent reactivate AGENT
       mesoskit agent gone AGENT --yes

  list        show the agents: their state, resources and tasks
  show        show all that is known of one
  drain       offer it no more and end its tasks; --wait: until that is done
  deactivate  offer it no more
  reactivate  offer it again
  gone        say that it never comes back; its tasks end for good

AGENT is the id of an agent, the beginning of it, its end (S3), or a host name. Everything ends
with 1 where it cannot be done. mesoskit agent list --help, show --help ... list the flags.
"""


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    return run_one_of("mesoskit agent", USAGE, _COMMANDS, arguments)


def _list(line: Line) -> int:
    from mesoskit.cli import agents
    from mesoskit.cli.asking import Master
    from mesoskit.cli.table import aligned

    master = Master(line)
    if line.values.json:
        sys.stdout.write(master.json("GET_AGENTS") + "\n")
        if line.values.all:
            import json

            sys.stdout.write(json.dumps(master.shown(agents.REGISTRY)) + "\n")
        return 0
    known = agents.present(master.ask("GET_AGENTS").get_agents)
    if line.values.all:
        known = {**agents.absent(master.shown(agents.REGISTRY)), **known}
    tasks = agents.tasks_on(master.ask("GET_TASKS").get_tasks)
    rows = [agents.row(one, tasks[one.id]) for one in known.values()]
    rows.sort(key=lambda row: row[0])
    sys.stdout.write(aligned([[*agents.HEADS, "ATTRIBUTES"], *rows]))
    return 0


def _show(line: Line) -> int:
    from mesoskit.cli import agents
    from mesoskit.cli.asking import Master

    master = Master(line)
    agent = agents.find(master, line.words[0], also_gone=True)
    if line.values.json:
        sys.stdout.write(agents.as_json(master, agent) + "\n")
        return 0
    known = master.ask("GET_TASKS").get_tasks
    tasks = [
        task for task in (*known.tasks, *known.unreachable_tasks) if task.agent_id.value == agent.id
    ]
    frameworks = master.ask("GET_FRAMEWORKS").get_frameworks.frameworks
    names = {one.framework_info.id.value: one.framework_info.name for one in frameworks}
    sys.stdout.write(agents.described(agent, tasks, names))
    return 0


def _drain(line: Line) -> int:
    from mesoskit.cli import agents, draining
    from mesoskit.cli.asking import Master

    values, master = line.values, Master(line)
    agent = agents.find(master, line.words[0])
    call, wanted = _call("DRAIN_AGENT", agent.id)
    if values.grace is not None:
        wanted.max_grace_period.FromNanoseconds(round(values.grace * 1e9))
    wanted.mark_gone = values.mark_gone
    master.do(call)
    if values.wait:
        draining.wait(master, agent.id, values.mark_gone, values.timeout, _say)
    else:
        _say(f"Agent {_named(agent)} drains")
    return 0


def _deactivate(line: Line) -> int:
    return _change(line, "DEACTIVATE_AGENT", "is not offered any more")


def _reactivate(line: Line) -> int:
    return _change(line, "REACTIVATE_AGENT", "is offered again")


def _change(line: Line, name: str, what: str) -> int:
    from mesoskit.cli import agents
    from mesoskit.cli.asking import Master

    master = Master(line)
    agent = agents.find(master, line.words[0])
    master.do(_call(name, agent.id)[0])
    _say(f"Agent {_named(agent)} {what}")
    return 0


def _gone(line: Line) -> int:
    from mesoskit.cli import agents
    from mesoskit.cli.asking import CannotBeDone, Master
    from mesoskit.cli.table import number_of

    master = Master(line)
    agent = agents.find(master, line.words[0])
    if not line.values.yes:
        tasks = agents.tasks_on(master.ask("GET_TASKS").get_tasks)[agent.id]
        raise CannotBeDone(
            f"agent {_named(agent)} is {agent.state} and has {number_of(tasks, 'task')}:"
            " gone is for good, say --yes"
        )
    master.do(_call("MARK_AGENT_GONE", agent.id)[0])
    _say(f"Agent {_named(agent)} is gone")
    return 0


def _call(name: str, agent_id: str) -> tuple[Any, Any]:
    """Return a call about an agent, and the part of it that is its own."""
    from mesoskit.messages.master_pb2 import Call

    call = Call(type=name)
    part = getattr(call, name.lower())
    part.agent_id.value = agent_id
    return call, part


def _named(agent: Any) -> str:
    return f"{agent.id} at {agent.host}" if agent.host else str(agent.id)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


_COMMANDS: Final = {
    "list": Command(LIST, 0, 0, _list),
    "show": Command(SHOW, 1, 1, _show),
    "drain": Command(DRAIN, 1, 1, _drain),
    "deactivate": Command(DEACTIVATE, 1, 1, _deactivate),
    "reactivate": Command(REACTIVATE, 1, 1, _reactivate),
    "gone": Command(GONE, 1, 1, _gone),
}
