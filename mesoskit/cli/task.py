"""C{mesoskit task}: what runs where, a command beside a task, a terminal on it.

What C{mesos task list}, C{exec} and C{attach} of Apache Mesos' own command line do
(C{src/python/cli_new/lib/cli/plugins/task}). It asks any master, and the agent of the task.
"""

import sys
from collections.abc import Sequence
from typing import Final

from mesoskit.cli.command_line import Command, Line, flags_of, run_one_of
from mesoskit.cli.table import aligned
from mesoskit.flags import Flag, boolean, text

LIST: Final = flags_of(
    "mesoskit task list",
    "Show the tasks that run, and on which agents.",
    Flag("all", boolean, False, "Tasks that have ended, too."),
)
EXEC: Final = flags_of(
    "mesoskit task exec",
    "Run a command beside a task: in its sandbox, with its environment, as its user.",
    Flag("interactive", boolean, False, "Pass on what is typed (-i)."),
    Flag("tty", boolean, False, "Give the command a terminal (-t)."),
    Flag("user", text, None, "Whom the command runs as: as the task where it is not given."),
    words="TASK COMMAND [ARGUMENT ...]",
)
ATTACH: Final = flags_of(
    "mesoskit task attach",
    "Use the terminal of a task that has one; Ctrl-P Ctrl-Q leaves it.",
    Flag("stdin", boolean, True, "Pass on what is typed; --no-stdin: only look."),
    words="TASK",
)

USAGE: Final = """Show tasks, run commands beside them, and use their terminals.

Usage: mesoskit task list [--flag=value ...]
       mesoskit task exec [-it] [--flag=value ...] TASK COMMAND [ARGUMENT ...]
       mesoskit task attach [--flag=value ...] TASK

  list    show the tasks that run, and on which agents
  exec    run a command beside a task: in its sandbox, with its environment, as its user
  attach  use the terminal of a task that has one (ContainerInfo.tty_info); Ctrl-P Ctrl-Q leaves it

TASK is the id of a task, or the beginning of it. `exec` ends with the exit status of the command,
128 + N where signal N has ended it; everything ends with 1 where it cannot be done.
mesoskit task list --help, exec --help and attach --help list the flags.
"""


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    return run_one_of("mesoskit task", USAGE, _COMMANDS, arguments)


def _list(line: Line) -> int:
    from mesoskit.cli.task_client import Cluster

    rows = [("TASK", "STATE", "FRAMEWORK", "AGENT"), *Cluster(line).rows(line.values.all)]
    sys.stdout.write(aligned(rows))
    return 0


def _exec(line: Line) -> int:
    from mesoskit.cli.task_client import Cluster
    from mesoskit.cli.task_session import execute

    task, *command = line.words
    values = line.values
    found = Cluster(line).task(task)
    return execute(found, command, values.interactive, values.tty, values.user)


def _attach(line: Line) -> int:
    from mesoskit.cli.task_client import Cluster
    from mesoskit.cli.task_session import attach

    return attach(Cluster(line).task(line.words[0]), line.values.stdin)


_COMMANDS: Final = {
    "list": Command(LIST, 0, 0, _list),
    "exec": Command(EXEC, 2, 10_000, _exec, mixed=False),
    "attach": Command(ATTACH, 1, 1, _attach, mixed=False),
}
