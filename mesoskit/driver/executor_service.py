"""An executor as a Twisted service, for a program that is more than that."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from mesoskit.driver.environment import ExecutorEnvironment
from mesoskit.driver.executor_driver import ExecutorDriver


class ExecutorService(Service):
    """
    An executor for as long as the service runs: L{run_executor
    <mesoskit.driver.running.run_executor>} is the whole of a program instead.

    When the agent has shut it down the service goes on, with nothing to do: L{over} says so,
    and the program should end then, within the grace period.

    @ivar driver: the executor's driver.
    """

    def __init__(
        self, reactor: Any, executor: Any, environment: ExecutorEnvironment | None = None
    ) -> None:
        """
        Prepare; raises L{NoAgent<mesoskit.driver.environment.NoAgent>}.

        @param executor: an L{IExecutor<mesoskit.driver.executor.IExecutor>}.
        @param environment: who it is; read from the process' variables by default.
        """
        given = ExecutorEnvironment.read() if environment is None else environment
        self.driver = ExecutorDriver(reactor, executor, given)

    def startService(self) -> None:
        """Subscribe."""
        super().startService()  # type: ignore[no-untyped-call]
        self.driver.start()

    def stopService(self) -> Deferred[None]:
        """End all tasks; fires when all is said, at the latest after the grace period."""
        super().stopService()  # type: ignore[no-untyped-call]
        over = self.driver.when_over()
        self.driver.shut_down("the service was stopped")
        return over

    def over(self) -> Deferred[None]:
        """Fire when the agent wants the process to end, or is gone for good."""
        return self.driver.when_over()
