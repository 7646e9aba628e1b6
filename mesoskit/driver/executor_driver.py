"""An executor's side of the conversation with its agent."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from inspect import iscoroutine
from typing import Any, Final
from uuid import uuid4

from google.protobuf.message import Message
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.driver.alarms import Alarms
from mesoskit.driver.connection import Backoff, Connection, Dial
from mesoskit.driver.environment import ExecutorEnvironment
from mesoskit.driver.waiting import Waiting
from mesoskit.messages.executor_pb2 import Call, Event
from mesoskit.messages.mesos_pb2 import TaskInfo, TaskStatus
from mesoskit.model.tasks import TERMINAL, TaskState
from mesoskit.wire.link import CallRefused, Hello, Link, LinkLost, Receiver

EXECUTOR_ROLE: Final = 4
AGENT_ROLE: Final = 2

#: Seconds that a last acknowledgement is waited for; as long as Mesos' command executor does.
LAST_ACKNOWLEDGEMENT: Final = 60.0

#: Seconds to wait before an update is said again that the agent had no room for.
UPDATE_RETRY: Final = 1.0

#: Seconds that an agent is tried for at the start; it gives up on the executor as late.
FIRST_SUBSCRIPTION: Final = 60.0

#: Seconds that an agent may take to answer a subscription.
SUBSCRIBE_TIMEOUT: Final = 10.0

#: The part of C{MESOS_SUBSCRIPTION_BACKOFF_MAX} that is waited at most: it is also all the time
#: that a restarted agent gives an executor, and an attempt has to succeed well before its end.
PART_OF_BACKOFF: Final = 0.25

#: Updates that may wait for their acknowledgement.
MOST_UPDATES: Final = 100_000

_LATER: Final = frozenset({429, 500, 502, 503, 504})


class TooManyUpdates(Exception):
    """The agent has not acknowledged what was reported for too long."""


class RunningTask:
    """
    A task in this executor that has not ended.

    @ivar info: as launched.
    @ivar work: what C{launch} returned, if it was a coroutine or a Deferred.
    @ivar killed: whether its kill was asked for.
    @ivar cancelled: whether its work was cancelled; a second time would cancel the cleaning up.
    """

    __slots__ = ("cancelled", "info", "killed", "work")

    def __init__(self, info: TaskInfo) -> None:
        self.info = info
        self.work: Deferred[Any] | None = None
        self.killed = False
        self.cancelled = False


class ExecutorDriver:
    """
    One executor, subscribed to its agent for as long as there is one to wait for.

    Updates are kept, and said again at each new subscription, until the agent has acknowledged
    them; so are tasks that nothing was acknowledged of. An agent that goes away is waited for,
    for C{MESOS_RECOVERY_TIMEOUT}, if the framework is checkpointed; otherwise the executor shuts
    down at once.

    @ivar reactor: as given; what an executor that waits is to wait by.
    @ivar environment: who the executor is.
    @ivar tasks: the tasks that have not ended, by id. Not to be changed.
    @ivar updates: the statuses that were not acknowledged, by uuid, oldest first.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        executor: Any,
        environment: ExecutorEnvironment,
        *,
        dial: Dial | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """
        Prepare; L{run} begins.

        @param executor: an L{IExecutor<mesoskit.driver.executor.IExecutor>}.
        @param dial: dials the agent in place of the environment's socket; for tests.
        @param chance: gives random numbers in [0, 1).
        """
        self.environment = environment
        self.tasks: dict[str, RunningTask] = {}
        self.updates: dict[bytes, TaskStatus] = {}
        self.reactor = reactor
        self._executor = executor
        self._alarms = Alarms(reactor)
        self._connection = Connection(
            self,
            dialler(reactor, environment) if dial is None else dial,
            self._alarms,
            Backoff(min(0.1, environment.backoff), environment.backoff * PART_OF_BACKOFF),
            chance,
        )
        # Tasks of which nothing was acknowledged yet.
        self._unacknowledged: dict[str, TaskInfo] = {}
        self._link: Link | None = None
        # What was said in the SUBSCRIBE under way.
        self._told: set[bytes] = set()
        self._stopping = self._shutting_down = False
        self._stopped = False
        self._deaf = False
        self._over: Waiting[None] = Waiting()

    @property
    def subscribed(self) -> bool:
        """Whether the agent knows the executor now."""
        return self._link is not None

    def start(self) -> None:
        """Look for the agent, and subscribe."""
        if not self._stopping:
            self._alarms.set("agent", FIRST_SUBSCRIPTION, lambda: self._alone("no agent was found"))
            self._connection.start()

    def run(self) -> Deferred[None]:
        """L{start}, and fire when the process is to end. Cancelling it shuts down."""
        self.start()
        return self.when_over()

    def when_over(self) -> Deferred[None]:
        """Fire when all is said and the process is to end."""
        if self._stopped:
            done: Deferred[None] = Deferred()
            done.callback(None)
            return done
        return self._over.wait(lambda: self.shut_down("cancelled"))

    # What an executor does

    def update(
        self,
        task_id: str,
        state: int,
        message: str = "",
        *,
        data: bytes | None = None,
        reason: int | None = None,
        healthy: bool | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """
        Report a state of a task; it is said until the agent has it.

        A task that has ended, or that never was here, is not reported again. Raises
        L{TooManyUpdates}.

        @param state: a C{TaskState}.
        @param data: for the framework.
        @param reason: a C{TaskStatus.Reason}.
        """
        task = self.tasks.get(task_id)
        if task is None:
            name = TaskState(state).name
            self.log.warn(
                "{task} has ended or is not here: {state} unsaid", task=task_id, state=name
            )
            return
        if len(self.updates) >= MOST_UPDATES:
            raise TooManyUpdates(f"{MOST_UPDATES} updates wait for their acknowledgement already")
        status = TaskStatus(uuid=uuid4().bytes, source=TaskStatus.SOURCE_EXECUTOR)
        status.task_id.value = task_id
        status.state = state  # type: ignore[assignment]
        status.timestamp = self.reactor.seconds()
        status.message = message
        if data is not None:
            status.data = data
        if reason is not None:
            status.reason = reason  # type: ignore[assignment]
        if healthy is not None:
            status.healthy = healthy
        for key, value in (labels or {}).items():
            status.labels.labels.add(key=key, value=value)
        if state in TERMINAL:
            del self.tasks[task_id]
        self.updates[status.uuid] = status
        if self._link is not None:
            self._say(status)

    def send(self, data: bytes) -> None:
        """Say something to the framework. Nobody repeats it if it is lost on the way."""
        link = self._link
        if link is not None:
            call = self._call(Call.MESSAGE)
            call.message.data = data
            link.send(call)

    def cancel(self, task_id: str) -> None:
        """Cancel what C{launch} returned for a task, once; it ends as C{TASK_KILLED}."""
        task = self.tasks.get(task_id)
        if task is not None and task.work is not None and not task.cancelled:
            task.killed = task.cancelled = True
            task.work.cancel()

    def stop(self) -> Deferred[None]:
        """
        End: fires when all updates were acknowledged, or the agent had a minute for that.

        For an executor that knows by itself that there is nothing left to do. Tasks that have
        not ended are ended by the agent, with the process: see L{shut_down}.
        """
        over = self.when_over()
        if not self._stopping:
            self._stopping = True
            self._alarms.set("stop", LAST_ACKNOWLEDGEMENT, self._end)
        self._end_if_quiet()
        return over

    def shut_down(self, why: str) -> None:
        """End all tasks and go, within the grace period; as when the agent asks for it."""
        if self._shutting_down or self._stopped:
            return
        self._shutting_down = self._stopping = True
        self.log.info("shutting down: {why}", why=why)
        self._alarms.set("stop", self.environment.shutdown_grace, self._end)
        for task in self.tasks.values():
            task.killed = True
        done = maybeDeferred(lambda: _awaited(self._executor.shutdown(self)))
        done.addErrback(self._shrug, "shutdown")
        done.addCallback(lambda _: self._shut())

    def _shut(self) -> None:
        for task_id in list(self.tasks):
            # What it did not end by itself ends with the process.
            self.update(task_id, TaskState.TASK_KILLED, "Executor was shut down")
        self._end_if_quiet()

    def _end_if_quiet(self) -> None:
        if self._stopping and (self._deaf or not self.updates):
            self._end()

    def _end(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        self._link = None
        self._alarms.clear()
        self._connection.stop().addCallback(lambda _: self._over.fire(None))

    def abandon(self) -> None:
        """Vanish without a word, as a process that is killed; for tests."""
        self._stopping = self._stopped = True
        self._link = None
        self._alarms.clear()
        self._connection.stop()

    # The link: what L{Connection} tells

    def linked(self, link: Link) -> None:
        """The agent is there: subscribe."""
        call = self._call(Call.SUBSCRIBE)
        call.subscribe.unacknowledged_tasks.extend(self._unacknowledged.values())
        for status in self.updates.values():
            call.subscribe.unacknowledged_updates.add().status.CopyFrom(status)
        self._told = set(self.updates)
        self._alarms.set(
            "subscribe", SUBSCRIBE_TIMEOUT, lambda: self._connection.again("no answer to SUBSCRIBE")
        )
        link.call(call).addErrback(self._refused, link)

    def _refused(self, reason: Failure, link: Link) -> None:
        if link is not self._connection.link or isinstance(reason.value, LinkLost):
            return
        why = reason.getErrorMessage()
        if isinstance(reason.value, CallRefused) and reason.value.status in _LATER:
            self._connection.again(why)
        else:
            self._alone(f"the subscription was refused: {why}")

    def unlinked(self, why: str) -> None:
        """The agent is gone."""
        link, self._link = self._link, None
        self._alarms.drop("subscribe")
        if link is None:
            return
        self._tell("disconnected", why)
        if self.environment.checkpoint:
            timeout = self.environment.recovery_timeout
            self._alarms.set("agent", timeout, lambda: self._alone(f"no agent for {timeout:g} s"))
        else:
            self._alone(f"the agent is gone: {why}")

    def unreachable(self, why: str, refused: bool) -> None:
        """An attempt has failed; the time for all of them is limited."""

    def _alone(self, why: str) -> None:
        """There is no agent, and none will come: nobody will hear of anything that is said."""
        self._deaf = True
        self._link = None
        self._alarms.drop("subscribe")
        self._connection.stop()
        self.shut_down(why)

    def heard(self, message: Message) -> None:
        """The agent said something."""
        if message.__class__ is Event:
            handler = _EVENTS.get(message.type)
            if handler is not None:
                handler(self, message)

    # What the agent says

    def _on_subscribed(self, event: Event) -> None:
        self._link = self._connection.link
        self._connection.settled()
        self._alarms.drop("agent")
        self._alarms.drop("subscribe")
        told, self._told = self._told, set()
        for uuid, status in list(self.updates.items()):
            if uuid not in told:
                self._say(status)
        self._tell("subscribed", event.subscribed)

    def _on_launch(self, event: Event) -> None:
        self._launch(event.launch.task)

    def _on_launch_group(self, event: Event) -> None:
        for task in event.launch_group.task_group.tasks:
            self._launch(task)

    def _launch(self, info: TaskInfo) -> None:
        task_id = info.task_id.value
        if task_id in self.tasks:
            self.log.warn("{task} is here already", task=task_id)
            return
        task = self.tasks[task_id] = RunningTask(info)
        self._unacknowledged[task_id] = info
        try:
            result = self._executor.launch(self, info)
            if result is None:
                return
            self.update(task_id, TaskState.TASK_RUNNING)
            work: Deferred[Any] = _awaited(result)
        except Exception:
            self._failed(Failure(), task_id)  # type: ignore[no-untyped-call]
            return
        task.work = work
        work.addCallback(self._finished, task_id).addErrback(self._failed, task_id)

    def _finished(self, result: object, task_id: str) -> None:
        if task_id in self.tasks:
            data = result if isinstance(result, bytes) else None
            self.update(task_id, TaskState.TASK_FINISHED, data=data)

    def _failed(self, reason: Failure, task_id: str) -> None:
        task = self.tasks.get(task_id)
        if task is None:
            return
        if task.killed and isinstance(reason.value, CancelledError):
            self.update(task_id, TaskState.TASK_KILLED, "Killed")
            return
        self.log.failure("task {task} failed", reason, task=task_id)
        kind = type(reason.value).__name__
        self.update(task_id, TaskState.TASK_FAILED, f"{kind}: {reason.getErrorMessage()}")

    def _on_kill(self, event: Event) -> None:
        kill = event.kill
        task_id = kill.task_id.value
        task = self.tasks.get(task_id)
        if task is None:
            return
        task.killed = True
        policy = kill.kill_policy if kill.HasField("kill_policy") else task.info.kill_policy
        grace = None
        if policy.HasField("grace_period"):
            grace = policy.grace_period.nanoseconds / 1e9
        done = maybeDeferred(lambda: _awaited(self._executor.kill(self, task_id, grace)))
        done.addErrback(self._shrug, "kill")

    def _on_acknowledged(self, event: Event) -> None:
        acknowledged = event.acknowledged
        self.updates.pop(acknowledged.uuid, None)
        self._unacknowledged.pop(acknowledged.task_id.value, None)
        self._end_if_quiet()

    def _on_message(self, event: Event) -> None:
        self._tell("message", event.message.data)

    def _on_shutdown(self, event: Event) -> None:
        self.shut_down("the agent asked for it")

    def _on_error(self, event: Event) -> None:
        self._alone(f"the agent said: {event.error.message}")

    # What leaves

    def _call(self, kind: Call.Type) -> Call:
        call = Call(type=kind)
        call.framework_id.value = self.environment.framework_id
        call.executor_id.value = self.environment.executor_id
        return call

    def _say(self, status: TaskStatus) -> None:
        link = self._link
        if link is not None and status.uuid in self.updates:
            call = self._call(Call.UPDATE)
            call.update.status.CopyFrom(status)
            link.call(call).addErrback(self._not_taken, status)

    def _not_taken(self, reason: Failure, status: TaskStatus) -> None:
        if isinstance(reason.value, LinkLost):
            return
        if isinstance(reason.value, CallRefused) and reason.value.status in _LATER:
            self._alarms.set(status.uuid, UPDATE_RETRY, lambda: self._say(status))
            return
        self.log.failure("an update of {task} was refused", reason, task=status.task_id.value)
        self.updates.pop(status.uuid, None)
        self._end_if_quiet()

    def _tell(self, name: str, *arguments: object) -> None:
        try:
            getattr(self._executor, name)(self, *arguments)
        except Exception:
            self.log.failure("{name} failed", name=name)

    def _shrug(self, reason: Failure, name: str) -> None:
        if not isinstance(reason.value, CancelledError):
            self.log.failure("{name} failed", reason, name=name)


_EVENTS: Final[dict[int, Callable[[ExecutorDriver, Event], None]]] = {
    Event.SUBSCRIBED: ExecutorDriver._on_subscribed,
    Event.LAUNCH: ExecutorDriver._on_launch,
    Event.LAUNCH_GROUP: ExecutorDriver._on_launch_group,
    Event.KILL: ExecutorDriver._on_kill,
    Event.ACKNOWLEDGED: ExecutorDriver._on_acknowledged,
    Event.MESSAGE: ExecutorDriver._on_message,
    Event.SHUTDOWN: ExecutorDriver._on_shutdown,
    Event.ERROR: ExecutorDriver._on_error,
}


def _awaited(result: Any) -> Any:
    """Start a coroutine; give anything else back."""
    return Deferred.fromCoroutine(result) if iscoroutine(result) else result


def dialler(reactor: Any, environment: ExecutorEnvironment) -> Dial:
    """Return what dials the agent's socket."""
    from mesoskit import __version__
    from mesoskit.driver.unix import UnixEndpoint
    from mesoskit.wire.stream import dial

    hello = Hello(
        EXECUTOR_ROLE,
        f"mesoskit/{__version__}",
        token=environment.token,
        instance=uuid4().hex,
    )
    endpoint = UnixEndpoint(reactor, environment.socket)

    def attempt(receiver: Receiver) -> Deferred[Link]:
        return dial(endpoint, receiver, hello, clock=reactor, accept=[AGENT_ROLE])

    return attempt
