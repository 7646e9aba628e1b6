"""C{mesoskit task}: what runs where, a command beside a task, a terminal on it.

What C{mesos task list}, C{exec} and C{attach} of Apache Mesos' own command line do
(C{src/python/cli_new/lib/cli/plugins/task}). It asks any master, and the agent of the task.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from mesoskit.cli import wrong
from mesoskit.flags import Flag, FlagError, Flags, Values, boolean, text

DEFAULT_MASTER: Final = "127.0.0.1:5050"

_COMMON: Final = (
    Flag(
        "master",
        text,
        None,
        "Any master, as host:port, https://host:port, zk://... (or https+zk://...), or a file://"
        f" that says so; {DEFAULT_MASTER} where it is not given.",
    ),
    Flag("principal", text, None, "Who asks, where masters and agents want to know."),
    Flag(
        "secret",
        text,
        None,
        "What proves it: better file:///path, for others can read command lines.",
        secret=True,
    ),
    Flag("tls_ca_file", text, None, "Authorities that masters and agents are believed from, PEM."),
    Flag("tls_cert_file", text, None, "A certificate for those that ask for one, PEM."),
    Flag("tls_key_file", text, None, "Its key, PEM."),
)

LIST: Final = Flags(
    "mesoskit task list",
    [Flag("all", boolean, False, "Tasks that have ended, too."), *_COMMON],
    variables=("master",),
)
EXEC: Final = Flags(
    "mesoskit task exec",
    [
        Flag("interactive", boolean, False, "Pass on what is typed (-i)."),
        Flag("tty", boolean, False, "Give the command a terminal (-t)."),
        Flag("user", text, None, "Whom the command runs as: as the task where it is not given."),
        *_COMMON,
    ],
    variables=("master",),
)
ATTACH: Final = Flags(
    "mesoskit task attach",
    [
        Flag("stdin", boolean, True, "Pass on what is typed; --no-stdin: only look."),
        *_COMMON,
    ],
    variables=("master",),
)

USAGE: Final = """Usage: mesoskit task list [--flag=value ...]
       mesoskit task exec [-it] [--flag=value ...] TASK COMMAND [ARGUMENT ...]
       mesoskit task attach [--flag=value ...] TASK

  list    show the tasks that run, and on which agents
  exec    run a command beside a task: in its sandbox, with its environment, as its user
  attach  use the terminal of a task that has one (ContainerInfo.tty_info); Ctrl-P Ctrl-Q leaves it

TASK is the id of a task, or the beginning of it. `exec` ends with the exit status of the command,
128 + N where signal N has ended it; everything ends with 1 where it cannot be done.
mesoskit task list --help, exec --help and attach --help list the flags.
"""

_SHORT: Final = {"i": "--interactive", "t": "--tty"}


@dataclass(frozen=True)
class Line:
    """
    A command line, read.

    @ivar words: what follows the flags.
    """

    values: Values
    words: tuple[str, ...]

    @property
    def master(self) -> str:
        """Where a master is."""
        return self.values.master or DEFAULT_MASTER


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        sys.stdout.write(USAGE)
        return 0 if arguments else 1
    name, *rest = arguments
    known = _COMMANDS.get(name)
    if known is None:
        return wrong("mesoskit task", f"unknown command {name!r}: list, exec and attach are there")
    flags, fewest, most, command = known
    given, words = split(rest)
    if "--help" in given:
        sys.stdout.write(flags.usage() + "\n")
        return 0
    _have_streams()
    try:
        values = flags.parse(given)
        if not fewest <= len(words) <= most:
            raise FlagError(f"{len(words)} words besides the flags; see mesoskit task --help")
        if (values.secret is None) is not (values.principal is None):
            raise FlagError("--principal and --secret belong together")
        # Only now: a mistake should not wait for what is imported here.
        from mesoskit.cli.task_client import TaskError

        try:
            status = command(Line(values, tuple(words)))
            sys.stdout.flush()
        except TaskError as error:
            return wrong(flags.command, str(error))
        except BrokenPipeError:  # whoever reads what we write has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 128 + signal.SIGPIPE
        return status
    except FlagError as error:
        return wrong(flags.command, str(error))


def _have_streams() -> None:
    """Open what is closed of the standard streams, lest a connection takes its place."""
    opened = os.open(os.devnull, os.O_RDWR)
    while opened <= 2:
        opened = os.dup(opened)
    os.close(opened)


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the flags, short ones written out, and the words from the first of them on."""
    flags: list[str] = []
    for place, argument in enumerate(arguments):
        if argument == "--":
            return flags, list(arguments[place + 1 :])
        if not argument.startswith("-") or argument == "-":
            words = list(arguments[place:])
            if words[1:2] == ["--"]:  # as kubectl's users write it
                del words[1]
            return flags, words
        if argument.startswith("--"):
            flags.append(argument)
        else:
            flags.extend(_SHORT.get(letter, f"-{letter}") for letter in argument[1:])
    return flags, []


def _list(line: Line) -> int:
    from mesoskit.cli.task_client import Cluster

    rows = [("TASK", "STATE", "FRAMEWORK", "AGENT")]
    rows += Cluster(line).rows(line.values.all)
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        sys.stdout.write("  ".join([*cells, row[3]]).rstrip() + "\n")
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


_COMMANDS: Final[dict[str, tuple[Flags, int, int, Callable[[Line], int]]]] = {
    "list": (LIST, 0, 0, _list),
    "exec": (EXEC, 2, 10_000, _exec),
    "attach": (ATTACH, 1, 1, _attach),
}
"""The flags of each command, how few and how many words may follow them, and what does it."""
