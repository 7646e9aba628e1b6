"""The v1 executor API as a carrier: C{POST /api/v1/executor} (C{src/slave/http.cpp} of Mesos)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from mesoskit.messages.executor_pb2 import Call, Event
from mesoskit.wire import recordio
from mesoskit.wire.exchange import Exchange
from mesoskit.wire.media import WRITERS
from mesoskit.wire.v1 import V1Carrier
from mesoskit.wire.v1_stream import V1Stream


class ExecutorCarrier(V1Carrier):
    """
    Executors over HTTP.

    Each call says whose it is, so it belongs to the stream of that executor; streams have no
    ids, and what clients send in place of one means nothing.
    """

    call_class = Call
    event_class = Event
    heartbeat: ClassVar[Mapping[str, bytes]] = {
        media: recordio.encode(write(Event(type=Event.HEARTBEAT)))
        for media, write in WRITERS.items()
    }
    by_stream_id = False

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._executors: dict[str, V1Stream] = {}

    def opens(self, call: Any) -> bool:
        """SUBSCRIBE does."""
        return bool(call.type == Call.SUBSCRIBE)

    def wants_answer_in_a_type(self, call: Any) -> bool:
        """No call does."""
        return False

    def stream_of(self, exchange: Exchange, call: Any) -> V1Stream | None:
        """Return the stream of the executor that the call names."""
        return self._executors.get(_name(call.framework_id, call.executor_id))

    def sent(self, stream: V1Stream, event: Any) -> None:
        """Learn from SUBSCRIBED whose stream it is; a heartbeat follows after each interval."""
        if event.type == Event.SUBSCRIBED:
            subscribed = event.subscribed
            stream.subject = _name(
                subscribed.framework_info.id, subscribed.executor_info.executor_id
            )
            self._executors[stream.subject] = stream
            self.heartbeats.join(stream)

    def ended(self, stream: V1Stream) -> None:
        """Forget whose stream it was, unless another has taken its place."""
        if self._executors.get(stream.subject) is stream:
            del self._executors[stream.subject]


def _name(framework_id: Any, executor_id: Any) -> str:
    """Return one name for both: a slash is in no id that an agent has taken."""
    return f"{framework_id.value}/{executor_id.value}"
