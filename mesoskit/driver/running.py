"""An executor as the whole of a program."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from mesoskit.driver.environment import ExecutorEnvironment


def run_executor(executor: Any, environment: ExecutorEnvironment | None = None) -> None:
    """
    Run an executor until it is shut down, and exit.

    For a plain script: C{run_executor(MyExecutor())}. It logs to standard error, which is a
    file in the sandbox. When it ends, at the latest when its grace period has passed, the
    processes that it has started go with it where it leads their process group.

    Raises L{NoAgent<mesoskit.driver.environment.NoAgent>} where no agent has started it.

    @param executor: an L{IExecutor<mesoskit.driver.executor.IExecutor>}.
    @param environment: who it is; read from the process' variables by default.
    """
    given = ExecutorEnvironment.read() if environment is None else environment

    from mesoskit.app.late_tls import leave_tls_for_later

    # A quarter of an executor's start; who wants TLS gets it when it is first used.
    leave_tls_for_later(endpoints=False)

    from twisted.internet.task import react
    from twisted.logger import globalLogBeginner, textFileLogObserver

    from mesoskit.driver.executor_driver import ExecutorDriver

    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)

    def main(reactor: Any) -> Any:
        driver = ExecutorDriver(reactor, executor, given)
        return driver.run().addCallback(lambda _: _leave())

    react(main)


def _leave() -> None:
    """Take child processes along, where the agent has made this the leader of a group."""
    if os.getpgrp() == os.getpid():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)
