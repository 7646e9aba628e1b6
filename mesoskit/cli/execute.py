"""C{mesoskit execute}: the command line, the terminal, and the exit status."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TextIO

from mesoskit.cli import wrong
from mesoskit.cli.request import FLAGS, Request, read
from mesoskit.flags import FlagError

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from mesoskit.wire.tls import TLS

EXIT_STATUS: Final = """

Exit status: 0 where every task has ended as TASK_FINISHED, 1 for any other end and for mistakes,
128 + N after signal N, which kills the tasks; a second signal ends the command at once.
"""


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    if "--help" in arguments:
        sys.stdout.write(FLAGS.usage() + EXIT_STATUS)
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
    from mesoskit.driver import TLS, Credential, CredentialError, Framework, TLSError

    execution = Execution(request, reactor, say, hint)
    credential = None
    try:
        if request.secret is not None:
            credential = Credential(request.framework.principal, request.secret)
        framework = Framework(
            reactor,
            request.master,
            request.framework,
            scheduler=execution,
            credential=credential,
            tls=TLS.from_environment() if request.tls is None else _checked(TLS(**request.tls)),
        )
    except CredentialError as error:
        return wrong(FLAGS.command, f"--principal and --secret: {error}")
    except TLSError as error:
        return wrong(FLAGS.command, f"--tls: {error}")
    except ValueError as error:
        return wrong(FLAGS.command, f"--master: {error}")
    signalled.addCallback(lambda number: execution.interrupt(128 + number))
    execution.start(framework)
    status = await execution.done
    await framework.stopService()
    return status


def _checked(tls: "TLS") -> "TLS":
    """Read the files now: a mistake in them should not look like a master that is not there."""
    tls.check()
    return tls


def say(line: str) -> None:
    """Print a line of the report."""
    _write(sys.stdout, line)


def hint(line: str) -> None:
    """Print a line for whoever waits at the terminal."""
    _write(sys.stderr, line)


def _write(stream: TextIO, line: str) -> None:
    # A terminal that was closed must not keep the tasks from being killed.
    with suppress(OSError):
        stream.write(line + "\n")
        stream.flush()
