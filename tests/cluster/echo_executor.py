"""An executor for tests: its tasks do what their data says. Run as a program by an agent."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from twisted.internet.defer import Deferred

from mesoskit.driver import Executor, run_executor


class Echo(Executor):
    """
    Tasks C{finish}, C{fail}, C{wait} for a kill, or C{exit} with the whole executor; messages
    are sent back.
    """

    async def launch(self, driver: Any, task: Any) -> bytes:
        """Do what the task's data says."""
        word = task.data.decode()
        if word == "fail":
            raise RuntimeError("as it was asked to")
        if word == "wait":
            await Deferred()
        if word == "exit":
            os._exit(7)
        return b"done"

    def message(self, driver: Any, data: bytes) -> None:
        """Send a message back, with the executor's pid."""
        driver.send(b"%d %s" % (os.getpid(), data))


class Stubborn(Echo):
    """The same, without an end: neither SIGTERM nor SHUTDOWN is heeded."""

    def kill(self, driver: Any, task_id: str, grace: float | None) -> None:
        """Do not."""

    def shutdown(self, driver: Any) -> Any:
        """Never be done with it."""
        return Deferred()


if __name__ == "__main__":
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        run_executor(Stubborn())
    else:
        run_executor(Echo())
