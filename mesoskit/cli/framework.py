"""C{mesoskit framework}: which frameworks there are, and the end of one that nobody ends otherwise.

C{GET_FRAMEWORKS} and C{TEARDOWN} of the operator API.
"""

import sys
from collections.abc import Sequence
from typing import Final

from mesoskit.cli.command_line import JSON, Command, Line, flags_of, run_one_of
from mesoskit.flags import Flag, boolean

LIST: Final = flags_of(
    "mesoskit framework list",
    "Show the frameworks: their state, principal, roles, tasks and resources.",
    Flag("all", boolean, False, "Those that have ended, too; JSON has them in any case."),
    JSON,
)
SHOW: Final = flags_of(
    "mesoskit framework show",
    "Show all that the master knows of a framework, with its tasks and their agents.",
    JSON,
    words="FRAMEWORK",
)
TEARDOWN: Final = flags_of(
    "mesoskit framework teardown",
    "End a framework for good: its tasks are killed, and it may not come back with its id.",
    Flag("yes", boolean, False, "Do it: nothing takes it back."),
    words="FRAMEWORK",
)

USAGE: Final = """Show frameworks, and end those that nobody ends otherwise.

Usage: mesoskit framework list [--all] [--flag=value ...]
       mesoskit framework show FRAMEWORK
       mesoskit framework teardown FRAMEWORK --yes

  list      show the frameworks: their state, principal, roles, tasks and resources
  show      show all that is known of one
  teardown  end one for good, with all its tasks

FRAMEWORK is the id of a framework, the beginning of it, or its end (0001). Everything ends with 1
where it cannot be done. mesoskit framework list --help, show --help and teardown --help list the
flags.
"""


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    return run_one_of("mesoskit framework", USAGE, _COMMANDS, arguments)


def _list(line: Line) -> int:
    from mesoskit.cli import frameworks
    from mesoskit.cli.asking import Master
    from mesoskit.cli.table import aligned

    master = Master(line)
    if line.values.json:
        sys.stdout.write(master.json("GET_FRAMEWORKS") + "\n")
        return 0
    answer = master.ask("GET_FRAMEWORKS").get_frameworks
    known = list(frameworks.running(answer).values())
    if line.values.all:
        known += frameworks.completed(answer).values()
    tasks = frameworks.tasks_of(master.ask("GET_TASKS").get_tasks)
    rows = [frameworks.row(one, tasks[one.id]) for one in known]
    sys.stdout.write(aligned([frameworks.HEADS, *rows]))
    return 0


def _show(line: Line) -> int:
    from mesoskit.cli import agents, frameworks
    from mesoskit.cli.asking import Master

    master = Master(line)
    framework = frameworks.find(master, line.words[0], also_completed=True)
    if line.values.json:
        sys.stdout.write(frameworks.as_json(master, framework) + "\n")
        return 0
    known = master.ask("GET_TASKS").get_tasks
    tasks = [
        task
        for task in (*known.tasks, *known.unreachable_tasks)
        if task.framework_id.value == framework.id
    ]
    present = agents.present(master.ask("GET_AGENTS").get_agents)
    hosts = {one.id: one.host for one in present.values()}
    sys.stdout.write(frameworks.described(framework, tasks, hosts))
    return 0


def _teardown(line: Line) -> int:
    from mesoskit.cli import frameworks
    from mesoskit.cli.asking import CannotBeDone, Master
    from mesoskit.cli.table import number_of
    from mesoskit.messages.master_pb2 import Call

    master = Master(line)
    framework = frameworks.find(master, line.words[0])
    named = f"framework {framework.id} ({framework.info.name})"
    if not line.values.yes:
        tasks = frameworks.tasks_of(master.ask("GET_TASKS").get_tasks)[framework.id]
        raise CannotBeDone(
            f"{named} is {framework.state} and has {number_of(tasks, 'task')}:"
            " its end is for good, say --yes"
        )
    call = Call(type=Call.TEARDOWN)
    call.teardown.framework_id.value = framework.id
    master.do(call)
    sys.stdout.write(f"F{named[1:]} is torn down\n")
    return 0


_COMMANDS: Final = {
    "list": Command(LIST, 0, 0, _list),
    "show": Command(SHOW, 1, 1, _show),
    "teardown": Command(TEARDOWN, 1, 1, _teardown),
}
