"""Where the leading master is, for commands that ask it over HTTP without a reactor."""

import signal
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TookTooLong

from mesoskit.cli.running import SIGNALS, run
from mesoskit.cli.task_client import TaskError
from mesoskit.cluster.zk_url import hidden
from mesoskit.driver.elected import detector_of, is_elected
from mesoskit.driver.settings import DriverSettings
from mesoskit.wire.endpoints import EndpointError

PATIENCE: Final = 10.0
"""Seconds that a command waits for masters to elect one."""


def leading(master: str) -> str:
    """
    Return where to ask: C{master} itself, or, where that is C{zk://...}, who leads there now.

    Raises L{TaskError}.
    """
    if not is_elected(master):
        return master
    try:
        detector_of(None, master, DriverSettings(), by_name=False)
    except EndpointError as error:
        raise TaskError(str(error)) from None
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
        raise TaskError(f"{hidden(master)}: {why}")
    return found[0]
