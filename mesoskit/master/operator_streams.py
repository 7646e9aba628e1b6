"""Operators who watch the cluster: the streams of SUBSCRIBE on the operator API.

A stream begins with SUBSCRIBED, which holds what there was when it began, and a HEARTBEAT;
what has changed since follows (C{Master::ReadOnlyHandler::subscribe} and C{Master::subscribe}
of Apache Mesos). An event is encoded once for all streams of a media type.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.master.answers import Listing, state_tree
from mesoskit.master.fragments import Fragments
from mesoskit.master.operator import Replied, Request, Unwatch, Watch
from mesoskit.master.visible import EVERYTHING, Viewer
from mesoskit.master.watching import Told, told_to
from mesoskit.messages.master_pb2 import Event
from mesoskit.messages.pieces import byte_pieces, json_pieces
from mesoskit.web.sending import Document, Documents
from mesoskit.wire import recordio
from mesoskit.wire.exchange import Exchange
from mesoskit.wire.heartbeats import Heartbeats
from mesoskit.wire.media import JSON, WRITERS
from mesoskit.wire.together import Together

OUTBOUND_CAP: Final = 8 * 1024 * 1024
"""An operator for whom more bytes of events than this wait is cut off."""

WAITING_CAP: Final = 256 * 1024 * 1024
"""Of all operators together; then he for whom most waits is cut off."""

HELD_CAP: Final = 256 * 1024 * 1024
"""While more bytes of SUBSCRIBED than this wait for slow clients, no other may subscribe."""

PATIENCE: Final = 8
"""An operator who takes nothing for so many heartbeats is cut off."""

_HEARTBEAT: Final = {
    media: recordio.encode(write(Event(type=Event.HEARTBEAT))) for media, write in WRITERS.items()
}


class OperatorStreams:
    """
    Everybody who watches.

    @param ask: has the state do something, as L{mesoskit.master.service.MasterService.request}.
    @param fragments: returns what SUBSCRIBED is made of.
    @param interval: seconds between two heartbeats.
    @param most: how many may watch; one more ends the oldest's stream.

    @ivar held: how many bytes of SUBSCRIBED wait for clients.
    @ivar waiting: counts how many of events do.
    """

    log = Logger()

    def __init__(
        self,
        ask: Callable[[Request], "Deferred[Replied]"],
        fragments: Callable[[], Fragments],
        *,
        clock: IReactorTime,
        interval: float,
        most: int,
    ) -> None:
        self.held = 0
        self.waiting = Together[OperatorStream](WAITING_CAP, _most_waits)
        self.heartbeats = Heartbeats(clock, interval)
        self._ask = ask
        self._fragments = fragments
        self._most = most
        self._numbers = count(1)
        self._documents = Documents(clock)
        # In the order in which they came.
        self._streams: dict[OperatorStream, None] = {}

    def __len__(self) -> int:
        """Return how many watch."""
        return len(self._streams)

    def subscribe(self, exchange: Exchange, media: str, viewer: Viewer = EVERYTHING) -> None:
        """Answer a SUBSCRIBE with a stream of this media type, of what C{viewer} may see."""
        if self.held > HELD_CAP:
            exchange.reply(503, "Too many subscribers have not taken the state yet")
            return

        def watched(replied: Replied) -> None:
            if replied.listing is None:
                exchange.reply(replied.status, replied.why)
            else:
                self._open(OperatorStream(self, exchange, media, viewer), replied.listing)

        def failed(reason: Failure) -> None:
            exchange.reply(503, reason.getErrorMessage())

        self._ask(Watch()).addCallbacks(watched, failed)

    def tell(self, told: Told) -> None:
        """Send an event to all who may see it."""
        records: dict[tuple[str, str], bytes | None] = {}
        for stream in list(self._streams):
            key = stream.media, stream.viewer.key
            if key in records:
                record = records[key]
            else:
                event = told_to(stream.viewer, told)
                record = None
                if event is not None:
                    record = recordio.encode(WRITERS[stream.media](event))
                records[key] = record
            if record is not None:
                stream.put(record)

    def lose_all(self) -> None:
        """End every stream."""
        for stream in list(self._streams):
            stream.close()

    def left(self, stream: "OperatorStream") -> None:
        """A stream has ended."""
        if stream in self._streams:
            del self._streams[stream]
            self.heartbeats.leave(stream)
            # A master that has stopped has nothing to tell anyway.
            self._ask(Unwatch()).addErrback(lambda _: None)

    def _open(self, stream: "OperatorStream", listing: Listing) -> None:
        while len(self._streams) >= max(1, self._most):
            oldest = next(iter(self._streams))
            self.log.info("{most} operators watch; the oldest's stream ends", most=self._most)
            oldest.close()
        self._streams[stream] = None
        stream.begin()
        snapshot = Document(
            lambda: _subscribed(listing, self._fragments(), stream, self.heartbeats.interval),
            str(next(self._numbers)),
        )
        made: Deferred[Any] = self._documents.get(snapshot)
        stream.making = made
        made.addCallback(stream.start)
        made.addErrback(self._broken, stream)

    def _broken(self, reason: Failure, stream: "OperatorStream") -> None:
        if isinstance(reason.value, CancelledError):
            return
        self.log.failure("SUBSCRIBED could not be made", reason)
        stream.cut()


def _subscribed(
    listing: Listing, fragments: Fragments, stream: "OperatorStream", interval: float
) -> Iterator[bytes]:
    tree = {
        "type": "SUBSCRIBED",
        "subscribed": {
            "get_state": state_tree(listing, fragments, stream.viewer),
            "heartbeat_interval_seconds": interval,
        },
    }
    if stream.media == JSON:
        return json_pieces(tree, ascii_only=True)
    return byte_pieces(Event, tree)


class OperatorStream:
    """
    One who watches.

    @ivar media: the type of its events.
    @ivar viewer: who watches.
    @ivar making: the SUBSCRIBED that is being made for it.
    """

    making: Deferred[Any] | None = None

    def __init__(
        self, streams: OperatorStreams, exchange: Exchange, media: str, viewer: Viewer
    ) -> None:
        self.media = media
        self.viewer = viewer
        self._streams = streams
        self._exchange = exchange
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._started = self._paused = self._over = False
        self._unheard = 0
        self._held = 0

    def begin(self) -> None:
        """Answer with the head; events wait until C{start}."""
        self._exchange.begin({"Content-Type": self.media}, self)

    def start(self, subscribed: bytes) -> None:
        """Send SUBSCRIBED, whose body this is, a heartbeat, and what has waited for them."""
        if self._over:
            return
        if self._streams.held > HELD_CAP:
            self.too_slow("too many others have not taken the state yet")
            return
        self._exchange.write(recordio.encode(subscribed))
        if self._paused:
            self._held = len(subscribed)
            self._streams.held += self._held
        self._started = True
        self._queue.appendleft(_HEARTBEAT[self.media])
        self._queued += len(self._queue[0])
        self._streams.heartbeats.join(self)
        self._flush()

    def put(self, record: bytes) -> None:
        """Send an event, as soon as the client takes it."""
        if self._over:
            return
        if self._started and not self._paused and not self._queue:
            self._exchange.write(record)
            return
        self._queue.append(record)
        self._queued += len(record)
        if self._queued > OUTBOUND_CAP:
            self.too_slow(f"more than {OUTBOUND_CAP} bytes wait")
        else:
            self._streams.waiting.holds(self, self._queued)

    def beat(self) -> None:
        """Send a heartbeat, unless more waits than the client takes."""
        if not self._paused:
            self._unheard = 0
            self.put(_HEARTBEAT[self.media])
            return
        self._unheard += 1
        if self._unheard >= PATIENCE:
            self.too_slow(f"it took nothing for {PATIENCE} heartbeats")

    def close(self) -> None:
        """End the stream; what waits for the client is lost."""
        if self._over:
            return
        waits = self._paused or not self._started
        self._leave()
        if waits:
            self._exchange.abort()
        else:
            self._exchange.finish()

    def cut(self) -> None:
        """Cut the connection."""
        if not self._over:
            self._leave()
            self._exchange.abort()

    # What the exchange tells.

    def pause(self) -> None:
        """The client takes no more for now."""
        self._paused = True

    def resume(self) -> None:
        """The client takes more again."""
        self._paused = False
        self._unheard = 0
        self._release()
        self._flush()

    def gone(self, why: str) -> None:
        """The client has left."""
        if not self._over:
            self._leave()

    def _flush(self) -> None:
        queue = self._queue
        while queue and self._started and not self._paused and not self._over:
            record = queue.popleft()
            self._queued -= len(record)
            self._exchange.write(record)
        if not self._over:
            self._streams.waiting.holds(self, self._queued)

    def _release(self) -> None:
        self._streams.held -= self._held
        self._held = 0

    def _leave(self) -> None:
        self._over = True
        if self.making is not None:
            self.making.cancel()
        self._queue.clear()
        self._queued = 0
        self._streams.waiting.gone(self)
        self._release()
        self._streams.left(self)

    def too_slow(self, why: str) -> None:
        """Cut off an operator who does not take what he is told."""
        peer = self._exchange.peer
        self._streams.log.warn(
            "{peer} watches too slowly, it is cut off: {why}", peer=peer, why=why
        )
        self.cut()


def _most_waits(stream: OperatorStream, held: int) -> None:
    stream.too_slow(f"{held} bytes wait, the most, and all together may have {WAITING_CAP}")
