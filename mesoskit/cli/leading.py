"""Where the leading master is, for commands that ask it over HTTP without a reactor."""

import os
import signal
import subprocess
import sys
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TookTooLong

from mesoskit.cli.asking import CannotBeDone, NotNow
from mesoskit.cli.running import SIGNALS, run
from mesoskit.cluster.zk_url import hidden
from mesoskit.driver.elected import detector_of, is_elected
from mesoskit.driver.settings import DriverSettings
from mesoskit.wire.endpoints import EndpointError

PATIENCE: Final = 10.0
"""Seconds that a command waits for masters to elect one."""

LONGEST: Final = 60.0
"""Seconds that a process may take to find out, on a machine that has much else to do."""


def leading(master: str) -> str:
    """
    Return where to ask: C{master} itself, or, where that is C{zk://...}, who leads there now.

    Raises L{CannotBeDone}.
    """
    if not is_elected(master):
        return master
    try:
        detector_of(None, master, DriverSettings(), by_name=False)
    except EndpointError as error:
        raise CannotBeDone(str(error)) from None
    found: list[str] = []
    wrong: list[str] = []

    async def find(reactor: Any, signalled: "Deferred[int]") -> int:
        detector = detector_of(reactor, master, DriverSettings(), by_name=False)()
        detecting = detector.detect(None)
        signalled.addCallback(lambda _: detecting.cancel())
        try:
            leader = await detecting.addTimeout(PATIENCE, reactor)
            found.extend([leader] if leader else [])
        except TookTooLong:
            nobody = "no master leads there" if detector.connected else "ZooKeeper did not answer"
            wrong.append(f"{nobody} for {PATIENCE:g} s")
        except Exception as error:
            wrong.append(str(error))
        await detector.close()
        return 0

    before = {number: signal.getsignal(number) for number in SIGNALS}
    run(find)
    for number, handler in before.items():
        signal.signal(number, handler)
    if not found:
        why = next(filter(None, wrong), "asked to end before a master was found")
        raise NotNow(f"{hidden(master)}: {why}")
    return found[0]


def leading_again(master: str) -> str:
    """
    Return the same once more: in a process of its own, for no reactor runs twice in one.

    Raises L{CannotBeDone}.
    """
    if not is_elected(master):
        return master
    # On its standard input, for the text may hold a password; with our modules, not with those of
    # whatever directory this is.
    command = [sys.executable, "-P", "-c", f"from {__name__} import main; main()"]
    ours = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        done = subprocess.run(
            command,
            input=master,
            env=ours,
            timeout=LONGEST,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotNow(f"{hidden(master)}: nobody said for {LONGEST:g} s who leads") from None
    if done.returncode:
        *_, said = ["nobody could look who leads", *done.stderr.strip().splitlines()]
        raise NotNow(said)
    return done.stdout.strip()


def main() -> None:
    """Print who leads at the address that is given on standard input."""
    try:
        sys.stdout.write(leading(sys.stdin.read()))
    except CannotBeDone as error:
        sys.exit(str(error))
