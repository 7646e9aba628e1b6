"""A command as a program: one coroutine in a reactor, ended by its result or a signal."""

import os
import signal
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from mesoskit.app.late_tls import leave_tls_for_later

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a command to end."""

Main = Callable[[Any, "Deferred[int]"], Coroutine[Any, Any, int]]
"""Takes the reactor, and a Deferred that fires with the first signal; gives the exit status."""


def run(main: Main, insistent: bool = True) -> int:
    """
    Run a command's coroutine, and return the exit status.

    @param insistent: whether a second signal ends the process at once; otherwise it is ignored,
        for a command that would leave something behind.
    """
    # TLS takes a sixth of the time of a short task.
    leave_tls_for_later()

    async def body(reactor: Any) -> None:
        signalled: Deferred[int] = Deferred()

        def take(number: int) -> None:
            if not signalled.called:
                signalled.callback(number)
            elif insistent:
                os._exit(128 + number)

        def on_signal(number: int, frame: FrameType | None) -> None:
            reactor.callFromThread(take, number)

        def listen() -> None:
            # Not before: the reactor sets its own when it starts.
            for number in SIGNALS:
                # nohup, and shells that start something in the background, mean it.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, on_signal)

        reactor.callWhenRunning(listen)
        raise SystemExit(await main(reactor, signalled))

    try:
        react(body)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
