"""What a framework may be told by callback: L{IScheduler}, and a base that does nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Interface, implementer

from mesoskit.messages.mesos_pb2 import InverseOffer, OperationStatus, TaskStatus

if TYPE_CHECKING:
    from mesoskit.driver.errors import FrameworkError
    from mesoskit.driver.framework import Framework
    from mesoskit.driver.offers import Offer


class IScheduler(Interface):
    """
    A framework's own decisions, as callbacks; the names are those of Mesos' C{Scheduler}.

    L{Scheduler} has all of them, doing nothing. What one raises is logged and changes nothing,
    but that a status is not acknowledged then. Offers are objects; one that is forgotten is
    declined.
    """

    def subscribed(framework: Framework) -> None:
        """The master knows the framework, for the first time or again."""

    def disconnected(framework: Framework, why: str) -> None:
        """The master is gone, and all offers with it; the driver looks for it by itself."""

    def resource_offers(framework: Framework, offers: list[Offer]) -> None:
        """There are resources to use."""

    def offer_rescinded(framework: Framework, offer_id: str) -> None:
        """An offer cannot be used any more."""

    def inverse_offers(framework: Framework, offers: list[InverseOffer]) -> None:
        """An agent is to be maintained, and its resources are asked back."""

    def status_update(framework: Framework, status: TaskStatus) -> Any:
        """
        A task has changed, or a reconciliation is answered.

        May return a Deferred or a coroutine: the status is acknowledged, where that is automatic,
        when it has fired. If it fails, or if this raises, the status comes again.
        """

    def operation_status(framework: Framework, status: OperationStatus) -> Any:
        """An operation with an id has changed; as with C{status_update}."""

    def framework_message(
        framework: Framework, agent_id: str, executor_id: str, data: bytes
    ) -> None:
        """An executor has said something."""

    def agent_lost(framework: Framework, agent_id: str) -> None:
        """An agent is gone; what becomes of its tasks is told by their statuses."""

    def executor_lost(framework: Framework, agent_id: str, executor_id: str, status: int) -> None:
        """An executor has ended, with this wait status (-1: not known)."""

    def error(framework: Framework, error: FrameworkError) -> None:
        """The master has ended the framework; nothing follows."""


@implementer(IScheduler)
class Scheduler:
    """An L{IScheduler} that does nothing: override what matters."""

    def subscribed(self, framework: Framework) -> None:
        """Do nothing."""

    def disconnected(self, framework: Framework, why: str) -> None:
        """Do nothing."""

    def resource_offers(self, framework: Framework, offers: list[Offer]) -> None:
        """Do nothing, so that the offers are declined."""

    def offer_rescinded(self, framework: Framework, offer_id: str) -> None:
        """Do nothing."""

    def inverse_offers(self, framework: Framework, offers: list[InverseOffer]) -> None:
        """Do nothing."""

    def status_update(self, framework: Framework, status: TaskStatus) -> Any:
        """Do nothing, so that the status is acknowledged."""

    def operation_status(self, framework: Framework, status: OperationStatus) -> Any:
        """Do nothing, so that the status is acknowledged."""

    def framework_message(
        self, framework: Framework, agent_id: str, executor_id: str, data: bytes
    ) -> None:
        """Do nothing."""

    def agent_lost(self, framework: Framework, agent_id: str) -> None:
        """Do nothing."""

    def executor_lost(
        self, framework: Framework, agent_id: str, executor_id: str, status: int
    ) -> None:
        """Do nothing."""

    def error(self, framework: Framework, error: FrameworkError) -> None:
        """Do nothing."""
