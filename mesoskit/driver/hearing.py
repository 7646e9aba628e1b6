"""What a framework's master says, event by event, and who is told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.driver.receipts import Receipt
from mesoskit.messages.mesos_pb2 import OperationStatus, TaskStatus
from mesoskit.messages.scheduler_pb2 import Event

if TYPE_CHECKING:
    from mesoskit.driver.census import Census
    from mesoskit.driver.offers import OfferBook
    from mesoskit.driver.receipts import Receipts
    from mesoskit.driver.reconciliation import Reconciler
    from mesoskit.driver.tasks import Tasks


class Hearing:
    """
    The half of L{mesoskit.driver.framework.Framework} that hears the master's events.

    Updates are taken once each, given to the task's handle and to the scheduler, and acknowledged
    when they were dealt with.
    """

    log: Logger
    _offers: OfferBook
    _tasks: Tasks
    _receipts: Receipts
    _reconciler: Reconciler
    _census: Census
    _scheduler: Any
    _decides: bool
    _acknowledge: bool

    def acknowledge(self, status: TaskStatus) -> None:
        """Say that a status was dealt with."""
        raise NotImplementedError

    def acknowledge_operation(self, status: OperationStatus) -> None:
        """Say that an operation's status was dealt with."""
        raise NotImplementedError

    def _send_acknowledgement(self, status: TaskStatus) -> None:
        raise NotImplementedError

    def event(self, event: Event) -> None:
        """The master said something."""
        handler = _EVENTS.get(event.type)
        if handler is not None:
            handler(self, event)

    def _on_offers(self, event: Event) -> None:
        offers = self._offers.make(event.offers.offers)
        if self._decides:
            self._tell("resource_offers", offers)
        else:
            self._offers.hand_out(offers)

    def _on_rescind(self, event: Event) -> None:
        offer_id = event.rescind.offer_id.value
        self._offers.rescind(offer_id)
        self._tell("offer_rescinded", offer_id)

    def _on_inverse_offers(self, event: Event) -> None:
        self._tell("inverse_offers", list(event.inverse_offers.inverse_offers))

    def _on_update(self, event: Event) -> None:
        status = event.update.status
        uuid = status.uuid
        if uuid:
            receipt = self._receipts.take(uuid)
            if receipt is not Receipt.NEW:
                if receipt is Receipt.DONE:
                    self._send_acknowledgement(status)
                return
        task_id = status.task_id.value
        if self._census.hears(task_id, status):
            return
        self._tasks.take(task_id, status)
        self._reconciler.answered(task_id)
        if self._decides:
            self._deal("status_update", status, uuid, self.acknowledge)
        elif uuid and self._acknowledge:
            self._receipts.done(uuid)
            self._send_acknowledgement(status)

    def _on_operation(self, event: Event) -> None:
        status = event.update_operation_status.status
        uuid = status.uuid.value
        if uuid:
            receipt = self._receipts.take(uuid)
            if receipt is not Receipt.NEW:
                if receipt is Receipt.DONE:
                    self.acknowledge_operation(status)
                return
        self._deal("operation_status", status, uuid, self.acknowledge_operation)

    def _deal(
        self, name: str, status: Any, uuid: bytes, acknowledge: Callable[[Any], None]
    ) -> None:
        """Give a status to the scheduler, and acknowledge it when that is done with it."""
        try:
            result = getattr(self._scheduler, name)(self, status)
        except Exception:
            self._not_dealt(Failure(), name, uuid)  # type: ignore[no-untyped-call]
            return
        if result is None:
            if uuid and self._acknowledge:
                acknowledge(status)
            return
        done: Deferred[Any] = maybeDeferred(lambda: result)
        done.addCallback(lambda _: acknowledge(status) if uuid and self._acknowledge else None)
        done.addErrback(self._not_dealt, name, uuid)

    def _not_dealt(self, reason: Failure, name: str, uuid: bytes) -> None:
        self.log.failure("{name} failed; the status will come again", reason, name=name)
        if uuid:
            self._receipts.failed(uuid)

    def _on_message(self, event: Event) -> None:
        message = event.message
        self._tell(
            "framework_message", message.agent_id.value, message.executor_id.value, message.data
        )

    def _on_failure(self, event: Event) -> None:
        failure = event.failure
        agent_id = failure.agent_id.value
        if failure.HasField("executor_id"):
            status = failure.status if failure.HasField("status") else -1
            self._tell("executor_lost", agent_id, failure.executor_id.value, status)
        else:
            self._reconciler.lost(agent_id)
            self._tell("agent_lost", agent_id)

    def _tell(self, name: str, *arguments: object) -> None:
        """Call the scheduler back; what it raises is its own affair."""
        try:
            getattr(self._scheduler, name)(self, *arguments)
        except Exception:
            self.log.failure("{name} failed", name=name)


_EVENTS: Final[dict[int, Callable[[Hearing, Event], None]]] = {
    Event.OFFERS: Hearing._on_offers,
    Event.RESCIND: Hearing._on_rescind,
    Event.INVERSE_OFFERS: Hearing._on_inverse_offers,
    Event.UPDATE: Hearing._on_update,
    Event.UPDATE_OPERATION_STATUS: Hearing._on_operation,
    Event.MESSAGE: Hearing._on_message,
    Event.FAILURE: Hearing._on_failure,
}
