"""The command C{mesoskit}: what users and operators of a cluster do at their terminals.

Each command is a module that is imported when somebody asks for it, so that C{--help} and
mistakes cost no more than the start of Python.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final

from mesoskit import __version__

COMMANDS: Final = {
    "agent": (
        "mesoskit.cli.agent",
        "list agents, take machines out of the cluster and back",
    ),
    "execute": (
        "mesoskit.cli.execute",
        "run a command, a task or a group of tasks on a cluster (mesos-execute)",
    ),
    "framework": ("mesoskit.cli.framework", "list frameworks, end one for good"),
    "local": ("mesoskit.cli.local", "run a whole cluster in this terminal"),
    "master": ("mesoskit.cli.master", "show who leads, and how the cluster is"),
    "task": ("mesoskit.cli.task", "list tasks, run commands beside them, use their terminals"),
}
"""The module of each command, and a line about it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command.

    @param arguments: what stands behind C{mesoskit} on the command line.
    @return: the exit status: 1 for a mistake on the command line, after one line about it.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("--help", "-h", "help"):
        sys.stdout.write(usage())
        return 0 if given else 1
    name, *rest = given
    if name in ("version", "--version"):
        sys.stdout.write(f"mesoskit {__version__}\n")
        return 0
    if name not in COMMANDS:
        return wrong("mesoskit", f"unknown command {name!r}{nearest(name)}")
    try:
        run: Callable[[Sequence[str]], int] = import_module(COMMANDS[name][0]).run
        return run(rest)
    except KeyboardInterrupt:  # before the command could see to it itself
        return 130


def usage() -> str:
    """Return the help text of the command itself."""
    lines = ["Usage: mesoskit COMMAND [--flag=value ...]", ""]
    lines += [f"  {name:<10} {about}" for name, (_, about) in COMMANDS.items()]
    lines += [
        "  version    print the version",
        "",
        "mesoskit COMMAND --help lists the flags of a command. The daemons are twistd plugins:",
        "twistd --nodaemon mesos-master --help, twistd --nodaemon mesos-agent --help",
    ]
    return "\n".join(lines) + "\n"


def nearest(name: str) -> str:
    """Return what may have been meant, as the end of a sentence."""
    import difflib

    near = difflib.get_close_matches(name, [*COMMANDS, "version"], 1)
    return f": did you mean {near[0]}?" if near else ": see mesoskit --help"


def wrong(command: str, why: str) -> int:
    """Say in one line what is wrong with a command line, and return its exit status."""
    sys.stderr.write(f"{command}: {' '.join(why.split())}\n")
    return 1
