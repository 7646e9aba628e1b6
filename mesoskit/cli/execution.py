"""The framework behind C{mesoskit execute}: one task, or one group; it ends with them."""

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from mesoskit.cli import report
from mesoskit.cli.request import Request
from mesoskit.cluster.zk_url import hidden
from mesoskit.driver import AuthenticationFailed, Framework, FrameworkError, Offer, Scheduler
from mesoskit.messages.mesos_pb2 import Offer as OfferMessage
from mesoskit.messages.mesos_pb2 import TaskInfo, TaskState, TaskStatus
from mesoskit.model.resource_key import ResourceKey
from mesoskit.model.resources import Resources
from mesoskit.model.tasks import TERMINAL

Say = Callable[[str], None]

PATIENCE: Final = 5.0
"""Seconds after which a word is said about what is being waited for."""

KILL_PATIENCE: Final = 15.0
"""Seconds that an interrupted run waits for the end of its tasks."""


class Execution(Scheduler):
    """
    One run: takes the first offer that fits, launches, and reports until all tasks have ended.

    @param say: prints a line of the report.
    @param hint: prints a line about what is being waited for.

    @ivar done: fires with the exit status: 0 only where every task has finished.
    """

    def __init__(self, request: Request, clock: IReactorTime, say: Say, hint: Say) -> None:
        self._request = request
        self._clock = clock
        self._say = say
        self._hint = hint
        self._ids = [task.task_id.value for task in request.tasks]
        self._agent_id = ""
        self._ended: dict[str, int] = {}
        self._timers: list[IDelayedCall] = []
        self._interrupted: int | None = None
        self.framework: Framework | None = None
        self.done: Deferred[int] = Deferred()

    def start(self, framework: Framework) -> None:
        """Subscribe."""
        self.framework = framework
        framework.startService()
        self._later(PATIENCE, self._still_waiting)

    def interrupt(self, status: int) -> None:
        """Kill what runs, and be done with this exit status when it has ended."""
        self._interrupted = status
        live = [task for task in self._ids if task not in self._ended]
        if not self._agent_id or not live:
            self._finish(status)
            return
        self._later(KILL_PATIENCE, self._finish, status)
        for task_id in live:
            self._kill(task_id)

    # What the driver says

    def subscribed(self, framework: Framework) -> None:
        """The master knows us."""
        self._say(f"Subscribed with ID {framework.id}")

    def disconnected(self, framework: Framework, why: str) -> None:
        """The driver comes back by itself."""
        if not self.done.called:
            self._hint(f"Disconnected from the master: {why}; trying again")

    def resource_offers(self, framework: Framework, offers: list[Offer]) -> None:
        """Launch on the first offer that is large enough, decline the others."""
        for offer in offers:
            if self._agent_id or self._interrupted is not None or not self._fits(offer):
                framework.decline(offer).addErrback(_ignore)
            else:
                self._launch(framework, offer)

    def status_update(self, framework: Framework, status: TaskStatus) -> None:
        """Report it, and see whether that was all."""
        task_id = status.task_id.value
        for line in report.update(status):
            self._say(line)
        if status.state == TaskState.TASK_RUNNING and self._request.kill_after is not None:
            self._later(self._request.kill_after, self._kill, task_id)
        if status.state in TERMINAL and task_id in self._ids:
            self._ended[task_id] = status.state
            if len(self._ended) == len(self._ids):
                good = all(end == TaskState.TASK_FINISHED for end in self._ended.values())
                self._finish(self._interrupted or (0 if good else 1))

    def error(self, framework: Framework, error: FrameworkError) -> None:
        """The master wants nothing of us."""
        if isinstance(error, AuthenticationFailed):
            self._hint(str(error))
        else:
            self._hint(f"Received an ERROR event: {error}")
        self._finish(1)

    # What follows

    def _fits(self, offer: Offer) -> bool:
        return offer.resources.unallocated().to_unreserved().contains(self._request.required)

    def _launch(self, framework: Framework, offer: Offer) -> None:
        request, left = self._request, offer.resources.unallocated()
        self._agent_id = offer.agent_id
        tasks = []
        for given in request.tasks:
            task = TaskInfo()
            task.CopyFrom(given)
            task.ClearField("agent_id")
            taken = taking(left, Resources.from_message(given.resources))
            left -= taken
            del task.resources[:]
            task.resources.extend(taken.to_message())
            tasks.append(task)
        operations: list[TaskInfo | OfferMessage.Operation] = list(tasks)
        if request.executor is not None:
            operation = OfferMessage.Operation(type=OfferMessage.Operation.LAUNCH_GROUP)
            operation.launch_group.executor.CopyFrom(request.executor)
            operation.launch_group.task_group.tasks.extend(tasks)
            operations = [operation]
        framework.accept(offer, operations).addErrback(self._refused)
        framework.suppress().addErrback(_ignore)
        self._say(report.submitted(request.tasks, request.executor is not None, offer.agent_id))

    def _refused(self, reason: Failure) -> None:
        self._hint(f"The launch was refused: {reason.getErrorMessage()}")
        self._finish(1)

    def _kill(self, task_id: str) -> None:
        if self.framework is not None and task_id not in self._ended:
            self._say(f"Asked to kill task '{task_id}' on agent '{self._agent_id}'")
            self.framework.kill(task_id, self._agent_id).addErrback(_ignore)

    def _still_waiting(self) -> None:
        if self.framework is not None and not self.framework.subscribed:
            trouble = self.framework.trouble.rstrip(".")
            what = f": {trouble}" if trouble else f" at {hidden(self._request.master)}"
            self._hint(f"No answer yet from a master{what}; still trying")
            self._later(PATIENCE, self._still_waiting)
        elif not self._agent_id:
            self._hint(f"Waiting for an offer with {self._request.required}")

    def _later(self, delay: float, call: Callable[..., None], *arguments: Any) -> None:
        self._timers.append(self._clock.callLater(delay, call, *arguments))

    def _finish(self, status: int) -> None:
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self._timers.clear()
        if not self.done.called:
            self.done.callback(status)


def taking(offered: Resources, wanted: Resources) -> Resources:
    """
    Return the offered resources that make up what is wanted, reserved ones first, as
    C{mesos-execute} takes them.
    """
    parts = sorted(offered, key=lambda part: not part[0].reservations)
    taken = Resources()
    for key, value in parts:
        part = Resources([(key, value)])
        common = wanted.minus(wanted.minus(part.to_unreserved()))
        match = common.map_keys(_to(key))
        if match and part.contains(match):
            taken += match
            wanted = wanted.minus(common)
    return taken + wanted


def _to(key: ResourceKey) -> Callable[[ResourceKey], ResourceKey]:
    return lambda _: key


def _ignore(reason: Failure) -> None:
    """Nothing hangs on it: whatever was not said, the end of the framework says."""
