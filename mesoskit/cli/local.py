"""C{mesoskit local}: a whole cluster in one terminal, gone when the terminal is left."""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mesoskit.cli import wrong
from mesoskit.flags import Flag, FlagError, Flags, Values, integer, port, text

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

MOST_AGENTS: Final = 100


def agents(value: str) -> int:
    """Read C{--agents}."""
    number = integer(value)
    if not 1 <= number <= MOST_AGENTS:
        raise ValueError(f"expected a number from 1 to {MOST_AGENTS}")
    return number


FLAGS: Final = Flags(
    "mesoskit local",
    [
        Flag("agents", agents, 1, "How many agents to run.", aliases=("num_agents", "num_slaves")),
        Flag("ip", text, "127.0.0.1", "Address to listen on."),
        Flag("port", port, 5050, "Port of the master; 0 for any free one."),
        Flag(
            "resources",
            text,
            "",
            "What each agent offers: cpus:2;mem:512. What is not named is all that the machine"
            " has, and an agent's own part of the ports.",
        ),
        Flag(
            "work_dir",
            text,
            None,
            "Where sandboxes and logs are kept; a temporary directory by default, removed at the"
            " end.",
            is_path=True,
        ),
    ],
    prefix="",
    about="Run a whole cluster, a master and its agents, in this terminal until Ctrl-C.",
)


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    if "--help" in arguments:
        sys.stdout.write(FLAGS.usage() + "\n")
        return 0
    try:
        values = FLAGS.parse(arguments)
    except FlagError as error:
        return wrong(FLAGS.command, str(error))
    from mesoskit.cli.running import run as run_in_reactor

    return run_in_reactor(
        lambda reactor, signalled: local(values, reactor, signalled), insistent=False
    )


async def local(values: Values, reactor: Any, signalled: "Deferred[int]") -> int:
    """
    Run a cluster until a signal, or until a part of it ends by itself; returns the exit status.

    @param signalled: fires with the number of a signal.
    """
    from twisted.python.failure import Failure

    from mesoskit.app.daemon import describe
    from mesoskit.cli.local_cluster import LocalCluster, logging_to

    folder = Path(tempfile.mkdtemp(prefix="mesoskit-local-"))
    work_dir = folder if values.work_dir is None else Path(values.work_dir).absolute()
    cluster = LocalCluster(reactor, values, work_dir, folder)
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        with logging_to(work_dir / "log"):
            # What was signalled so far is heard when there is something to stop.
            signalled.addCallback(lambda number: cluster.end("", 0))
            try:
                await cluster.start()
                sys.stdout.write(
                    f"Master at {cluster.address}, agents: {values.agents}, logs and sandboxes"
                    f" in {work_dir}; Ctrl-C stops it all\n"
                )
                sys.stdout.flush()
                why, status = await cluster.ended
            finally:
                await cluster.stop()
        return wrong(FLAGS.command, why) if why else status
    except Exception:
        return wrong(FLAGS.command, describe(Failure()))  # type: ignore[no-untyped-call]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
