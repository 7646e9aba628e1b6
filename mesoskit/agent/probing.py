"""How tasks are asked whether they are well: by a command, over HTTP, by a connection.

A probe is bounded in time, and so is how many there are at once; what waits for its turn does not
use up its time. A command is a container of its own beside the task's, destroyed whole when its
time is over.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.agent.container import ContainerSpec
from mesoskit.agent.containers import Containers
from mesoskit.agent.probe import Abandon, HttpGet, Probe, Probed, RunCommand, TcpConnect
from mesoskit.agent.processes import exit_text
from mesoskit.model.ids import ContainerId

MOST: Final = 64
"""How many probes there are at once; the others wait for their turn."""


class CheckFailed(Exception):
    """It could not be found out what a check is about; the message says why."""


class CheckLost(CheckFailed):
    """What is in the way is not the task: its check has no result at all."""


class Asking(Protocol):
    """What asks over the network; its Deferreds can be cancelled."""

    def http(self, what: HttpGet) -> Deferred[int]:
        """Give the status code of an answer."""
        ...

    def tcp(self, what: TcpConnect) -> Deferred[None]:
        """Connect, and let go again."""
        ...


class Prober:
    """
    Performs L{Probe}s.

    @param containers: gives what runs commands.
    @param network: makes what asks over the network, for the first who wants to.
    @param tell: is given every L{Probed}.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        containers: Callable[[], Containers],
        network: Callable[[], Asking],
        tell: Callable[[Probed], None],
        most: int = MOST,
    ) -> None:
        self._clock = clock
        self._containers = containers
        self._make_network = network
        self._network: Asking | None = None
        self._tell = tell
        self._most = most
        self._running: dict[int, Deferred[Any]] = {}
        self._waiting: deque[Probe] = deque()
        self._commands: dict[ContainerId, _Command] = {}

    def probe(self, effect: Probe) -> None:
        """Ask as soon as there is room."""
        if len(self._running) < self._most:
            self._begin(effect)
        else:
            self._waiting.append(effect)

    def abandon(self, effect: Abandon) -> None:
        """Give up a probe: nothing is told of it any more."""
        running = self._running.pop(effect.number, None)
        if running is not None:
            running.cancel()
            self._next()
        else:
            left = [one for one in self._waiting if one.number != effect.number]
            self._waiting = deque(left)

    def stop(self) -> None:
        """Give up all of them."""
        self._waiting.clear()
        running, self._running = self._running, {}
        for one in running.values():
            one.cancel()

    def exited(self, container: ContainerId, status: int | None) -> bool:
        """Hear that a container has ended; say whether it was one of a command here."""
        command = self._commands.pop(container, None)
        if command is None:
            return False
        self._containers().forget(container)
        command.ended(status)
        return True

    def _begin(self, effect: Probe) -> None:
        number = effect.number
        try:
            asked = self._ask(effect.what)
        except Exception as error:
            self.log.failure("probe {what}", what=effect.what)
            self._tell(Probed(number, None, f"{type(error).__name__}: {error}"))
            return
        self._running[number] = asked
        if effect.timeout is not None:
            asked.addTimeout(effect.timeout, self._clock)

        def over(result: Any) -> None:
            if self._running.pop(number, None) is None:
                return
            if isinstance(result, Failure):
                lost = isinstance(result.value, CheckLost)
                event = Probed(number, None, _why(result, effect), lost)
            else:
                event = Probed(number, result)
            self._tell(event)
            self._next()

        asked.addBoth(over)

    def _next(self) -> None:
        while self._waiting and len(self._running) < self._most:
            self._begin(self._waiting.popleft())

    def _ask(self, what: RunCommand | HttpGet | TcpConnect) -> Deferred[Any]:
        if isinstance(what, RunCommand):
            return self._run(what)
        network = self._network
        if network is None:
            network = self._network = self._make_network()
        if isinstance(what, HttpGet):
            return network.http(what)
        return network.tcp(what).addCallbacks(lambda _: 1, _no_connection)

    def _run(self, what: RunCommand) -> Deferred[int]:
        command = _Command(self._containers(), what.spec)
        self._commands[what.spec.id] = command

        def refused(reason: Failure) -> None:
            self._commands.pop(what.spec.id, None)
            command.refused(reason)

        self._containers().launch(what.spec).addCallbacks(command.launched, refused)
        return command.over.addCallback(_exit_status)


class _Command:
    """A command that runs, or is being started."""

    def __init__(self, containers: Containers, spec: ContainerSpec) -> None:
        self._containers = containers
        self._id = spec.id
        self._runs = False
        self._unwanted = False
        self.over: Deferred[int | None] = Deferred(self._cancelled)

    def launched(self, _pid: int) -> None:
        self._runs = True
        if self._unwanted:
            self._destroy()

    def refused(self, reason: Failure) -> None:
        if not self.over.called:
            self.over.errback(CheckFailed(f"the command did not start: {reason.getErrorMessage()}"))

    def ended(self, status: int | None) -> None:
        if not self.over.called and not self._unwanted:
            self.over.callback(status)

    def _cancelled(self, _over: Deferred[int | None]) -> None:
        self._unwanted = True
        if self._runs:
            self._destroy()

    def _destroy(self) -> None:
        # Where the launcher is gone, the command goes with its patience, which is none.
        self._containers.destroy(self._id).addErrback(lambda _: None)


def _exit_status(status: int | None) -> int:
    if status is None:
        raise CheckLost("nobody knows how the command ended")  # its launcher was killed
    if not os.WIFEXITED(status):
        raise CheckFailed(f"the command {exit_text(status)}")
    return os.WEXITSTATUS(status)


def _no_connection(reason: Failure) -> int:
    if isinstance(reason.value, CancelledError | TookTooLong):
        reason.raiseException()
    return 0


def _why(reason: Failure, effect: Probe) -> str:
    if isinstance(reason.value, TookTooLong):
        return f"it took longer than {effect.timeout:g} seconds"
    return reason.getErrorMessage() or type(reason.value).__name__
