"""Which function answers which message, and what is refused before any of them is asked.

The order of the refusals is that of Mesos' C{Master::Http::scheduler}
(C{src/master/http.cpp}): the call itself, then the framework, then whether it is this peer
that is subscribed. What is refused over HTTP is also refused on the native stream, with the
same status and text; libprocess peers are told nothing.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from mesoskit.master import (
    accept,
    agents,
    executors,
    frameworks,
    health,
    offers,
    reconcile,
    reregister,
    subscribe,
    tasks,
    updates,
)
from mesoskit.master.records import Framework, Peer
from mesoskit.messages import internal_pb2
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.model.events import PeerKind
from mesoskit.model.ids import FrameworkId
from mesoskit.model.validation_call import validate_scheduler_call

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState, Refusal

_SUBSCRIBE = Call.SUBSCRIBE

_Handler = Callable[["MasterState", Peer, Any], "Refusal | None"]
_CallHandler = Callable[["MasterState", Framework, Call], "Refusal | None"]


def receive(state: "MasterState", peer: Peer, call: Call) -> "Refusal | None":
    """Take a scheduler's call, or say why not."""
    error = validate_scheduler_call(call, peer.principal)
    if error is not None:
        return 400, f"Failed to validate scheduler::Call: {error}"
    kind = call.type
    if kind == _SUBSCRIBE:
        return subscribe.subscribe(state, peer, call)
    framework = peer.framework
    if framework is None or framework.id != call.framework_id.value:
        return _not_subscribed(state, peer, FrameworkId(call.framework_id.value))
    handler = CALLS.get(kind)
    if handler is None:
        return 501, "501 Not Implemented."
    framework.calls[kind] += 1
    return handler(state, framework, call)


def _not_subscribed(state: "MasterState", peer: Peer, framework_id: FrameworkId) -> "Refusal":
    framework = state.frameworks.get(framework_id)
    if framework is None:
        return 400, "Framework cannot be found"
    principal = peer.principal
    if principal is not None and principal != framework.info.principal:
        return 400, (
            f"Authenticated principal '{principal}' does not match principal"
            f" '{framework.info.principal}' set in `FrameworkInfo`"
        )
    if not framework.connected:
        return 403, "Framework is not subscribed"
    # Another link is: over HTTP this is told as what is wrong with the stream id.
    return 409, "Call is not from registered framework"


def not_understood(state: "MasterState", peer: Peer, message: Message) -> "Refusal":
    """Refuse a message that peers of this kind have no business to send."""
    name = message.DESCRIPTOR.full_name
    return 400, f"A master takes no {name} from {peer.kind.name.lower()}s"


def _nothing(state: "MasterState", framework: Framework, call: Call) -> None:
    """Take a call that asks for nothing that this master has: inverse offers, so far."""


def _request(state: "MasterState", framework: Framework, call: Call) -> None:
    """Take a hint that the allocator, like Mesos' own, makes no use of."""
    state.counters.messages_resource_request += 1


CALLS: Mapping[int, _CallHandler] = {
    Call.TEARDOWN: frameworks.teardown,
    Call.ACCEPT: accept.accept,
    Call.DECLINE: offers.decline,
    Call.ACCEPT_INVERSE_OFFERS: _nothing,
    Call.DECLINE_INVERSE_OFFERS: _nothing,
    Call.REVIVE: offers.revive,
    Call.SUPPRESS: offers.suppress,
    Call.KILL: tasks.kill,
    Call.SHUTDOWN: executors.shutdown,
    Call.ACKNOWLEDGE: updates.acknowledge,
    Call.ACKNOWLEDGE_OPERATION_STATUS: reconcile.acknowledge_operation,
    Call.RECONCILE: reconcile.reconcile,
    Call.RECONCILE_OPERATIONS: reconcile.reconcile_operations,
    Call.MESSAGE: executors.message_to_executor,
    Call.REQUEST: _request,
    Call.UPDATE_FRAMEWORK: subscribe.update_framework,
}
"""What is called for each type of call from a subscribed framework."""

HANDLERS: Mapping[PeerKind, Mapping[type, _Handler]] = {
    PeerKind.UNKNOWN: {},
    PeerKind.MASTER: {},
    PeerKind.FRAMEWORK: {Call: receive},
    PeerKind.AGENT: {
        internal_pb2.StatusUpdateMessage: updates.status_update,
        internal_pb2.PongSlaveMessage: health.pong,
        internal_pb2.RegisterSlaveMessage: agents.register,
        internal_pb2.ReregisterSlaveMessage: reregister.reregister,
        internal_pb2.UnregisterSlaveMessage: agents.unregister,
        internal_pb2.UpdateSlaveMessage: agents.update,
        internal_pb2.ExitedExecutorMessage: executors.exited,
        internal_pb2.ExecutorToFrameworkMessage: executors.message_to_framework,
    },
    PeerKind.EXECUTOR: {},
    PeerKind.TOOL: {},
}
"""What is called for a message of a class, by who may send it."""
