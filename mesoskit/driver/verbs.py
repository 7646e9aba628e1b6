"""The calls of a framework that the driver keeps no book of."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred

from mesoskit.driver import calls
from mesoskit.messages.mesos_pb2 import OfferID, Request
from mesoskit.messages.scheduler_pb2 import Call


class Verbs:
    """
    What a framework can ask of its master.

    Each Deferred fires when the master has taken the call. It fails with
    L{CallRefused<mesoskit.wire.link.CallRefused>}, with C{LinkLost} where it is not known whether
    the call was taken, or with L{NotSubscribed<mesoskit.driver.errors.NotSubscribed>}.
    """

    def call(self, call: Call) -> Deferred[None]:
        """Make a call, with the framework's id."""
        raise NotImplementedError

    def reconcile(self, tasks: Iterable[tuple[str, str]] = ()) -> Deferred[None]:
        """
        Ask for the state of tasks, given as (task id, agent id) pairs, or of all tasks.

        The answers come as statuses. Fires when the master has taken the call. The driver does
        this by itself after each subscription, and from time to time.
        """
        return self.call(calls.reconcile(tasks))

    def revive(self, roles: Iterable[str] = ()) -> Deferred[None]:
        """Ask for offers again, for all roles or for these, whatever was declined."""
        return self.call(calls.roles_call(Call.REVIVE, roles))

    def suppress(self, roles: Iterable[str] = ()) -> Deferred[None]:
        """Ask for no more offers, for all roles or for these, until L{revive}."""
        return self.call(calls.roles_call(Call.SUPPRESS, roles))

    def shutdown_executor(self, executor_id: str, agent_id: str) -> Deferred[None]:
        """Shut an executor down, with all its tasks."""
        call = Call(type=Call.SHUTDOWN)
        call.shutdown.executor_id.value = executor_id
        call.shutdown.agent_id.value = agent_id
        return self.call(call)

    def message(self, agent_id: str, executor_id: str, data: bytes) -> Deferred[None]:
        """Send a message to an executor. Nobody repeats it if it is lost on the way."""
        call = Call(type=Call.MESSAGE)
        call.message.agent_id.value = agent_id
        call.message.executor_id.value = executor_id
        call.message.data = data
        return self.call(call)

    def request(self, requests: Iterable[Request]) -> Deferred[None]:
        """Say what resources are wanted. Mesos' own allocator, and ours, make no use of it."""
        call = Call(type=Call.REQUEST)
        call.request.requests.extend(requests)
        return self.call(call)

    def accept_inverse_offers(
        self, ids: Iterable[str], refuse_seconds: float = 5.0
    ) -> Deferred[None]:
        """Agree to give resources back for an agent's maintenance."""
        call = Call(type=Call.ACCEPT_INVERSE_OFFERS)
        call.accept_inverse_offers.inverse_offer_ids.extend(OfferID(value=each) for each in ids)
        call.accept_inverse_offers.filters.refuse_seconds = refuse_seconds
        return self.call(call)

    def decline_inverse_offers(
        self, ids: Iterable[str], refuse_seconds: float = 5.0
    ) -> Deferred[None]:
        """Refuse to give resources back, for now."""
        call = Call(type=Call.DECLINE_INVERSE_OFFERS)
        call.decline_inverse_offers.inverse_offer_ids.extend(OfferID(value=each) for each in ids)
        call.decline_inverse_offers.filters.refuse_seconds = refuse_seconds
        return self.call(call)

    def reconcile_operations(self, operations: Iterable[tuple[str, str]] = ()) -> Deferred[None]:
        """Ask for the state of operations, given as (operation id, agent id) pairs, or of all."""
        call = Call(type=Call.RECONCILE_OPERATIONS)
        call.reconcile_operations.SetInParent()
        for operation_id, agent_id in operations:
            operation = call.reconcile_operations.operations.add()
            operation.operation_id.value = operation_id
            if agent_id:
                operation.agent_id.value = agent_id
        return self.call(call)
