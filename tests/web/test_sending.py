"""Big answers: in slices, shared, zipped, and no faster than they are taken."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers

from mesoskit.web.sending import MAKING, SLICE, Document, Documents, Sender, accepts_gzip
from tests.base import SynchronousTestCase


class SlowDocuments(SynchronousTestCase):
    """Documents of which each piece takes half a slice."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.documents = Documents(self.clock)
        self.begun = 0
        self.moments: list[str] = []
        self.moment = "a"

    def pieces(self) -> Iterator[bytes]:
        self.begun += 1
        for _ in range(10):
            self.clock.rightNow += SLICE / 2
            yield self.moment.encode()

    def get(self) -> Deferred[bytes]:
        return self.documents.get(Document(self.pieces, "x"))

    def turn(self) -> None:
        """Let one call that is due happen, and no other."""
        call = self.clock.calls.pop(0)
        self.assertLessEqual(call.getTime(), self.clock.seconds())
        call.called = 1
        call.func(*call.args, **call.kw)

    def test_it_is_made_in_slices(self) -> None:
        answer = self.get()
        turns = 0
        while not answer.called:
            turns += 1
            self.turn()
        self.assertEqual(b"a" * 10, self.successResultOf(answer))
        self.assertGreaterEqual(turns, 3)

    def test_who_asks_meanwhile_shares_the_next_and_sees_what_came_before_he_asked(self) -> None:
        first = self.get()
        self.turn()
        self.moment = "b"
        later = [self.get(), self.get()]
        while not later[1].called:
            self.turn()
        self.assertIn(b"a", self.successResultOf(first))
        self.assertEqual([b"b" * 10] * 2, [self.successResultOf(one) for one in later])
        self.assertEqual(2, self.begun)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_one_that_fails_fails_for_who_asked_for_it(self) -> None:
        def broken() -> Iterator[bytes]:
            yield b"x"
            raise ValueError("broken")

        failed = self.documents.get(Document(broken, "x"))
        self.failureResultOf(failed, ValueError)
        answer = self.get()
        while not answer.called:
            self.turn()
        self.successResultOf(answer)


class ManyDocuments(SynchronousTestCase):
    """Many who ask for different documents at once."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.documents = Documents(self.clock)
        self.begun: list[str] = []
        self.over: list[str] = []

    def get(self, key: str) -> Deferred[bytes]:
        def pieces() -> Iterator[bytes]:
            self.begun.append(key)
            for _ in range(4):
                self.clock.rightNow += SLICE * 2
                yield b"x"
            self.over.append(key)

        return self.documents.get(Document(pieces, key))

    def test_a_few_are_made_at_a_time_and_the_others_in_their_order(self) -> None:
        names = [f"{number:02}" for number in range(20)]
        answers = [self.get(name) for name in names]
        self.assertEqual(names[:MAKING], self.begun)
        shared = self.get("19")
        for _ in range(200):
            self.clock.advance(0)
            self.assertLessEqual(len(self.begun) - len(self.over), MAKING)
        self.assertEqual([b"xxxx"] * 21, [self.successResultOf(one) for one in (*answers, shared)])
        self.assertEqual(names, self.begun)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_what_everybody_has_left_is_not_begun(self) -> None:
        answers = [self.get(str(number)) for number in range(MAKING + 2)]
        again = self.get("0")
        for answer in (answers[0], answers[MAKING], again):
            answer.cancel()
            self.failureResultOf(answer, CancelledError)
        for _ in range(50):
            self.clock.advance(0)
        self.assertEqual([str(n) for n in (*range(MAKING), MAKING + 1)], self.begun)
        self.assertEqual(b"xxxx", self.successResultOf(answers[-1]))
        late = self.get(str(MAKING))
        for _ in range(50):
            self.clock.advance(0)
        self.assertEqual(b"xxxx", self.successResultOf(late))
        self.assertEqual([], self.clock.getDelayedCalls())


class Request:
    """A request whose client takes nothing until it is told to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.finished = False
        self.producer: Any = None
        self.over: Deferred[None] = Deferred()

    def notifyFinish(self) -> Deferred[None]:
        return self.over

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.producer.pauseProducing()

    def finish(self) -> None:
        self.finished = True
        self.over.callback(None)


class Sending(SynchronousTestCase):
    """One body for slow clients."""

    def test_no_more_is_written_than_is_taken(self) -> None:
        request, sender = Request(), Sender()
        body = bytes(1_000_000)
        sender.send(request, body)
        self.assertEqual(1, len(request.written))
        while request.producer is not None:
            request.producer.resumeProducing()
        self.assertEqual((body, True), (b"".join(request.written), request.finished))

    def test_what_waits_is_bounded(self) -> None:
        sender = Sender()
        body = bytes(100_000_000)
        requests = [Request() for _ in range(4)]
        for request in requests[:2]:
            self.assertTrue(sender.room_for(body))
            sender.send(request, body)
        another, third = bytes(100_000_001), bytes(100_000_002)
        self.assertTrue(sender.room_for(another))
        sender.send(requests[2], another)
        self.assertFalse(sender.room_for(third))
        self.assertTrue(sender.room_for(body))
        for request in requests[:3]:
            request.producer.stopProducing()
            request.over.callback(None)
        self.assertTrue(sender.room_for(third))

    def test_big_bodies_are_zipped_in_a_thread_and_once(self) -> None:
        sender, threads = Sender(), []

        def in_thread(function: Any) -> Deferred[bytes]:
            done: Deferred[bytes] = Deferred()
            threads.append((function, done))
            return done

        body = b"mesos " * 100_000
        zipped = sender.gzip(body, in_thread)
        self.assertNoResult(zipped)
        ((function, done),) = threads
        done.callback(function())
        self.assertEqual(body, gzip.decompress(self.successResultOf(zipped)))
        self.successResultOf(sender.gzip(body, in_thread))
        small = self.successResultOf(sender.gzip(b"x" * 2000, in_thread))
        self.assertEqual(b"x" * 2000, zlib.decompress(small, 31))
        self.assertEqual(1, len(threads))

    def test_header_that_is_no_text_is_read_all_the_same(self) -> None:
        request = Request()
        request.requestHeaders = Headers({b"accept-encoding": [b"\xff, gzip"]})  # type: ignore[attr-defined]
        self.assertTrue(accepts_gzip(request))

    def test_who_takes_gzip(self) -> None:
        for value, expected in (
            ("gzip", True),
            ("deflate, gzip;q=0.5", True),
            ("GZIP", True),
            ("*", True),
            ("gzip;q=0", False),
            ("gzip; q=0.0", False),
            ("deflate", False),
            ("", False),
        ):
            request = Request()
            request.requestHeaders = Headers({"accept-encoding": [value]})  # type: ignore[attr-defined]
            self.assertIs(expected, accepts_gzip(request), value)
