"""C{mesoskit execute}: the command line, the terminal, and the exit status."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mesoskit.cli import wrong
from mesoskit.cli.request import FLAGS, Request, read
from mesoskit.flags import FlagError

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    if "--help" in arguments:
        sys.stdout.write(FLAGS.usage() + "\n")
        return 0
    try:
        request = read(arguments)
    except FlagError as error:
        return wrong(FLAGS.command, str(error))
    # Only now: a mistake should not wait for a reactor.
    from mesoskit.cli.running import run as run_in_reactor

    return run_in_reactor(lambda reactor, signalled: execute(request, reactor, signalled))


async def execute(request: Request, reactor: Any, signalled: "Deferred[int]") -> int:
    """
    Run what was asked for, and return the exit status.

    @param signalled: fires with the number of a signal that wants it to end.
    """
    from mesoskit.cli.execution import Execution
    from mesoskit.driver import Framework

    execution = Execution(request, reactor, say, hint)
    try:
        framework = Framework(reactor, request.master, request.framework, scheduler=execution)
    except ValueError as error:
        return wrong(FLAGS.command, f"--master: {error}")
    signalled.addCallback(lambda number: execution.interrupt(128 + number))
    execution.start(framework)
    status = await execution.done
    await framework.stopService()
    return status


def say(line: str) -> None:
    """Print a line of the report."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def hint(line: str) -> None:
    """Print a line for whoever waits at the terminal."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
