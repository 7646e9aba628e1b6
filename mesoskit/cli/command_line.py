"""The command lines of commands that ask masters: flags, words, and the exit status.

C{mesoskit task}, C{agent} and C{framework} are families of commands, C{mesoskit master} is one:
all take the same flags for where a master is and who asks.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mesoskit.cli import wrong
from mesoskit.flags import Flag, FlagError, Flags, Values, boolean, text

DEFAULT_MASTER: Final = "127.0.0.1:5050"

COMMON: Final = (
    Flag(
        "master",
        text,
        None,
        "Any master, as host:port, https://host:port, zk://... (or https+zk://...), or a file://"
        f" that says so; {DEFAULT_MASTER} where it is not given. MESOS_MASTER in the environment"
        " says it, too.",
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
"""Where a master is, who asks, and whom to believe."""

JSON: Final = Flag("json", boolean, False, "What the operator API answers, as Mesos' JSON.")
"""Of commands that show something."""

_SHORT: Final = {"i": "--interactive", "t": "--tty"}


@dataclass(frozen=True)
class Line:
    """
    A command line, read.

    @ivar words: what stands there besides the flags.
    """

    values: Values
    words: tuple[str, ...]

    @property
    def master(self) -> str:
        """Where a master is."""
        return self.values.master or DEFAULT_MASTER


@dataclass(frozen=True)
class Command:
    """
    One command.

    @ivar fewest: how few words it needs besides the flags.
    @ivar most: and how many it takes.
    @ivar do: does it and returns the exit status; raises L{mesoskit.cli.asking.CannotBeDone}.
    @ivar mixed: whether flags may stand behind words; not where these are another's command line.
    """

    flags: Flags
    fewest: int
    most: int
    do: Callable[[Line], int]
    mixed: bool = True


def flags_of(
    command: str, about: str, *flags: Flag, words: str = "", common: Sequence[Flag] = COMMON
) -> Flags:
    """Return the flags of a command, with those that all have; C{about} begins its help."""
    return Flags(command, [*flags, *common], variables=("master",), about=about, words=words)


def run_one_of(
    family: str, usage: str, commands: Mapping[str, Command], arguments: Sequence[str]
) -> int:
    """Run the command of a family that the first argument names; return the exit status."""
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        sys.stdout.write(usage)
        return 0 if arguments else 1
    name, *rest = arguments
    known = commands.get(name)
    if known is None:
        *names, last = commands
        return wrong(family, f"unknown command {name!r}: {', '.join(names)} and {last} are there")
    return run_command(known, rest)


def run_command(command: Command, arguments: Sequence[str]) -> int:
    """Run a command; return its exit status, 1 with one line about it where it cannot be done."""
    flags = command.flags
    given, words = split(arguments, flags.flags, command.mixed)
    if "--help" in given:
        sys.stdout.write(flags.usage() + "\n")
        return 0
    have_streams()
    try:
        values = flags.parse(given)
        if not command.fewest <= len(words) <= command.most:
            raise FlagError(
                f"{len(words)} words besides the flags, {_range(command)} wanted; see --help"
            )
        if (values.secret is None) is not (values.principal is None):
            raise FlagError("--principal and --secret belong together")
        # Only now: a mistake should not wait for what is imported here.
        from mesoskit.cli.asking import CannotBeDone

        try:
            status = command.do(Line(values, tuple(words)))
            sys.stdout.flush()
        except CannotBeDone as error:
            return wrong(flags.command, str(error))
        except BrokenPipeError:  # whoever reads what we write has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 128 + signal.SIGPIPE
        return status
    except FlagError as error:
        return wrong(flags.command, str(error))


def _range(command: Command) -> str:
    if command.fewest == command.most:
        return f"{command.fewest} {'is' if command.fewest == 1 else 'are'}"
    return f"{command.fewest} and more are"


def have_streams() -> None:
    """Open what is closed of the standard streams, lest a connection takes its place."""
    opened = os.open(os.devnull, os.O_RDWR)
    while opened <= 2:
        opened = os.dup(opened)
    os.close(opened)


def split(
    arguments: Sequence[str], flags: Sequence[Flag] = (), mixed: bool = False
) -> tuple[list[str], list[str]]:
    """
    Return the flags, short ones written out, and the words.

    @param flags: those that there are: what follows C{--name} of one with a value is the value.
    @param mixed: whether flags may stand behind words; else all from the first word on are words.
    """
    with_values = {flag.name for flag in flags if not flag.is_boolean}
    found: list[str] = []
    words: list[str] = []
    rest = list(reversed(arguments))
    while rest:
        argument = rest.pop()
        if argument == "--":
            return found, words + rest[::-1]
        if not argument.startswith("-") or argument == "-":
            words.append(argument)
            if mixed:
                continue
            words += rest[::-1]
            if words[1:2] == ["--"]:  # as kubectl's users write it
                del words[1]
            return found, words
        if not argument.startswith("--"):
            found.extend(_SHORT.get(letter, f"-{letter}") for letter in argument[1:])
            continue
        found.append(argument)
        if argument[2:].replace("-", "_") in with_values and rest and rest[-1][:2] != "--":
            found.append(rest.pop())
    return found, words
