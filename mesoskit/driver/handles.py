"""Tasks as their framework sees them: handles that say how each one goes and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred, fail, succeed

from mesoskit.driver.errors import FAILURES, ended
from mesoskit.messages.mesos_pb2 import TaskInfo, TaskStatus
from mesoskit.model.tasks import TaskState

Waiters = list["Deferred[TaskStatus]"]

_RUNNING = int(TaskState.TASK_RUNNING)
_FINISHED = int(TaskState.TASK_FINISHED)


class Killer(Protocol):
    """What kills a handle's task."""

    def kill(self, handle: TaskHandle, grace: float | None) -> None:
        """Ask for the task's end until it has come."""
        ...


class TaskHandle:
    """
    One task that was launched.

    Each call of L{running}, L{terminal} and L{kill} gives a Deferred of its own; none is
    left hanging: what the cluster has lost ends through reconciliation, and what the framework
    does not observe any more ends with L{FrameworkStopped} or L{FrameworkError}.

    @ivar id: the task's id.
    @ivar agent_id: where it was launched, C{""} where that is not known.
    @ivar info: what was launched; L{None} for a task of a former life of the framework.
    @ivar status: the last C{TaskStatus}, L{None} before the first.
    @ivar over: whether nothing more will be learned.
    """

    __slots__ = (
        "__weakref__",
        "_ended",
        "_finish",
        "_first_run",
        "_killer",
        "_running",
        "agent_id",
        "id",
        "info",
        "over",
        "status",
    )

    def __init__(
        self,
        killer: Killer,
        id: str,  # noqa: A002
        agent_id: str,
        info: TaskInfo | None,
    ) -> None:
        self._killer = killer
        self.id = id
        self.agent_id = agent_id
        self.info = info
        self.status: TaskStatus | None = None
        self.over = False
        self._first_run: TaskStatus | None = None
        self._running: Waiters | None = None
        # Those who wait for the end, and whether a bad one is a failure to them.
        self._ended: list[tuple[Deferred[TaskStatus], bool]] | None = None
        # What makes the exception of an end that the cluster said nothing of.
        self._finish: Callable[[], Exception] | None = None

    def __repr__(self) -> str:
        return f"<TaskHandle {self.id} {self.state.name}>"

    @property
    def state(self) -> TaskState:
        """The last state that was heard of; C{TASK_STAGING} before the first."""
        status = self.status
        return TaskState.TASK_STAGING if status is None else TaskState(status.state)

    def running(self) -> Deferred[TaskStatus]:
        """
        Return the status with which the task began to run.

        Also fires for a task of which only its good end was heard. Fails with
        L{TaskEnded<mesoskit.driver.errors.TaskEnded>} where it never ran. Cancelling it forgets
        the waiting, not the task.
        """
        if self._first_run is not None:
            return succeed(self._first_run)
        if self.over:
            return self._outcome(strict=True)
        waiters = self._running
        if waiters is None:
            waiters = self._running = []
        deferred: Deferred[TaskStatus] = Deferred(waiters.remove)
        waiters.append(deferred)
        return deferred

    def terminal(self) -> Deferred[TaskStatus]:
        """
        Return the last status of a task that ends as C{TASK_FINISHED}.

        Fails with L{TaskEnded<mesoskit.driver.errors.TaskEnded>} for any other end: state,
        reason and message are the exception's. Cancelling it, by a time-out for instance, kills
        the task.
        """
        if self.over:
            return self._outcome(strict=True)
        return self._wait(self._given_up, strict=True)

    def kill(self, grace: float | None = None) -> Deferred[TaskStatus]:
        """
        Kill the task, and return its last status, whatever it is.

        The kill is repeated until the task has ended, over every loss of the link.

        @param grace: seconds between SIGTERM and SIGKILL; as the task says by default.
        """
        if self.over:
            return self._outcome(strict=False)
        waiter = self._wait(self._forget, strict=False)
        self._killer.kill(self, grace)
        return waiter

    # What the driver tells it

    def take(self, status: TaskStatus) -> None:
        """Take a new status, and tell those who wait."""
        if self.over:
            return
        self.status = status
        state = status.state
        if state == _RUNNING:
            if self._first_run is None:
                self._first_run = status
                waiters, self._running = self._running, None
                if waiters:
                    _fire(waiters, status)
        elif state == _FINISHED or state in FAILURES:
            self.finish()

    def finish(self) -> None:
        """Take the last status to be the end."""
        self._end(None)

    def abandon(self, why: Callable[[], Exception]) -> None:
        """Take it that nothing more will be heard; C{why} makes an exception for each waiter."""
        if not self.over:
            self._end(why)

    # What is left

    def _end(self, why: Callable[[], Exception] | None) -> None:
        self.over = True
        self._finish = why
        status = self.status
        running, self._running = self._running, None
        ended_, self._ended = self._ended, None
        good = why is None and status is not None and status.state == _FINISHED
        for deferred in running or ():
            self._tell(deferred, good)
        for deferred, strict in ended_ or ():
            self._tell(deferred, good or (why is None and not strict))

    def _tell(self, deferred: Deferred[TaskStatus], good: bool) -> None:
        if deferred.called:
            return  # cancelled by one who was told before
        if good:
            assert self.status is not None
            deferred.callback(self.status)
        else:
            deferred.errback(self._failure())

    def _failure(self) -> Exception:
        if self._finish is not None:
            return self._finish()
        assert self.status is not None
        return ended(self.status)

    def _outcome(self, strict: bool) -> Deferred[TaskStatus]:
        status = self.status
        if self._finish is None and status is not None:
            if not strict or status.state == _FINISHED:
                return succeed(status)
        return fail(self._failure())

    def _wait(
        self, cancelled: Callable[[Deferred[TaskStatus]], None], strict: bool
    ) -> Deferred[TaskStatus]:
        deferred: Deferred[TaskStatus] = Deferred(cancelled)
        if self._ended is None:
            self._ended = []
        self._ended.append((deferred, strict))
        return deferred

    def _forget(self, deferred: Deferred[TaskStatus]) -> None:
        if self._ended is not None:
            self._ended = [each for each in self._ended if each[0] is not deferred]

    def _given_up(self, deferred: Deferred[TaskStatus]) -> None:
        self._forget(deferred)
        if not self.over:
            self._killer.kill(self, None)


def _fire(waiters: Waiters, status: TaskStatus) -> None:
    for deferred in waiters:
        if not deferred.called:
            deferred.callback(status)
