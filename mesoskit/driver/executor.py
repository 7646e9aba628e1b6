"""What the author of an executor writes: L{IExecutor}, and a base that does the usual."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Interface, implementer

if TYPE_CHECKING:
    from mesoskit.driver.executor_driver import ExecutorDriver
    from mesoskit.messages.executor_pb2 import Event
    from mesoskit.messages.mesos_pb2 import TaskInfo


class IExecutor(Interface):
    """An executor's own decisions; the names are those of Mesos' C{Executor}."""

    def subscribed(driver: ExecutorDriver, subscribed: Event.Subscribed) -> None:
        """The agent knows the executor, for the first time or again."""

    def disconnected(driver: ExecutorDriver, why: str) -> None:
        """The agent is gone. The driver waits for it if the framework is checkpointed."""

    def launch(driver: ExecutorDriver, task: TaskInfo) -> Any:
        """
        Run a task; each task of a group comes by itself.

        What returns L{None} reports all states by C{driver.update}. Where a coroutine or a
        Deferred is returned the driver reports: C{TASK_RUNNING}, then C{TASK_FINISHED} when it
        has fired (bytes that it returns become the status' C{data}), C{TASK_FAILED} where it
        fails, C{TASK_KILLED} where it was cancelled by a kill. What raises at once has failed.
        """

    def kill(driver: ExecutorDriver, task_id: str, grace: float | None) -> Any:
        """
        End a task, within C{grace} seconds where they are given.

        May return a coroutine or a Deferred, which is only watched for errors.
        """

    def message(driver: ExecutorDriver, data: bytes) -> None:
        """The framework has said something."""

    def shutdown(driver: ExecutorDriver) -> Any:
        """
        End all tasks: the executor is to go, within its grace period.

        May return a coroutine or a Deferred, which is waited for.
        """


@implementer(IExecutor)
class Executor:
    """
    An L{IExecutor} whose tasks are coroutines: override L{launch}.

    A kill, and a shutdown, cancels what C{launch} returned.
    """

    def subscribed(self, driver: ExecutorDriver, subscribed: Event.Subscribed) -> None:
        """Do nothing."""

    def disconnected(self, driver: ExecutorDriver, why: str) -> None:
        """Do nothing."""

    def launch(self, driver: ExecutorDriver, task: TaskInfo) -> Any:
        """Run a task; a subclass says how."""
        raise NotImplementedError(f"{type(self).__name__} has no launch")

    def kill(self, driver: ExecutorDriver, task_id: str, grace: float | None) -> Any:
        """Cancel what C{launch} returned."""
        driver.cancel(task_id)

    def message(self, driver: ExecutorDriver, data: bytes) -> None:
        """Do nothing."""

    def shutdown(self, driver: ExecutorDriver) -> Any:
        """Cancel what C{launch} returned for any task."""
        for task_id in list(driver.tasks):
            driver.cancel(task_id)
