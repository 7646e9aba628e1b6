"""The v1 scheduler API as a carrier: C{POST /api/v1/scheduler} (C{Master::Http::scheduler})."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.wire import recordio
from mesoskit.wire.link import Refused
from mesoskit.wire.media import WRITERS
from mesoskit.wire.v1 import V1Carrier
from mesoskit.wire.v1_stream import V1Stream

#: The status of a refusal that is about the link: it is not the one that is subscribed.
NOT_THE_SUBSCRIBED_LINK: Final = 409


class SchedulerCarrier(V1Carrier):
    """
    Frameworks over HTTP.

    The receiver refuses with 409 what comes from another link than the framework's; here
    that is told as what is wrong with the stream id.
    """

    call_class = Call
    event_class = Event
    heartbeat: ClassVar[Mapping[str, bytes]] = {
        media: recordio.encode(write(Event(type=Event.HEARTBEAT)))
        for media, write in WRITERS.items()
    }

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._frameworks: dict[str, V1Stream] = {}

    def opens(self, call: Any) -> bool:
        """SUBSCRIBE does."""
        return bool(call.type == Call.SUBSCRIBE)

    def wants_answer_in_a_type(self, call: Any) -> bool:
        """RECONCILE_OPERATIONS does, for it once was answered with a message."""
        return bool(call.type == Call.RECONCILE_OPERATIONS)

    def status_of(self, call: Any) -> int:
        """202, but for UPDATE_FRAMEWORK, which is done when it is answered."""
        return 200 if call.type == Call.UPDATE_FRAMEWORK else 202

    def sent(self, stream: V1Stream, event: Any) -> None:
        """Let a heartbeat follow SUBSCRIBED, and one more each interval."""
        if event.type == Event.SUBSCRIBED:
            stream.subject = event.subscribed.framework_id.value
            self._frameworks[stream.subject] = stream
            stream.beat()
            self.heartbeats.join(stream)

    def ended(self, stream: V1Stream) -> None:
        """Forget whose stream it was, unless another has taken its place."""
        if self._frameworks.get(stream.subject) is stream:
            del self._frameworks[stream.subject]

    def refusal(self, outcome: Refused, call: Any, stream_id: str | None) -> Refused:
        """Say what is wrong with the stream id, where that is what is wrong."""
        if outcome.status != NOT_THE_SUBSCRIBED_LINK:
            return outcome
        framework_id = call.framework_id.value
        if framework_id not in self._frameworks:
            return Refused(403, "Framework is not connected via HTTP")
        if stream_id is None:
            return Refused(
                400, "All non-subscribe calls should include the 'Mesos-Stream-Id' header"
            )
        return Refused(
            400,
            f"The stream ID '{stream_id}' included in this request didn't match the stream ID"
            f" currently associated with framework ID {framework_id}",
        )
