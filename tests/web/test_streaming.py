"""Files on their way to clients: read as they are taken, and never left open."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mesoskit.web.streaming import PIECE, FilePart
from tests.base import SynchronousTestCase


class _Transport:
    def __init__(self) -> None:
        self.aborted = False
        self.transport = self

    def abortConnection(self) -> None:
        self.aborted = True


class _Request:
    """What is asked of a request of C{twisted.web}."""

    def __init__(self) -> None:
        self.channel = _Transport()
        self.written = b""
        self.producer: Any = None
        self.finished = False
        self._notices: list[Deferred[None]] = []

    def notifyFinish(self) -> Deferred[None]:
        self._notices.append(Deferred())
        return self._notices[-1]

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.written += data

    def finish(self) -> None:
        self.finished = True
        self.over()

    def over(self) -> None:
        """The request is done, or its client has left."""
        for notice in self._notices:
            notice.callback(None)
        self._notices = []


class FilePartTests(SynchronousTestCase):
    """A part of a file, read in threads that answer when the test says so."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        with open(self.path, "wb") as file:
            file.write(b"x" * 3 * PIECE)
        self.reads: list[tuple[Any, Deferred[Any]]] = []
        self.request = _Request()
        self.clock = Clock()

    def part(self, begin: int = 0, length: int = 3 * PIECE) -> FilePart:
        self.descriptor = os.open(self.path, os.O_RDONLY)
        return FilePart(self.descriptor, begin, length, self.later, self.clock)

    def later(self, function: Any) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        self.reads.append((function, deferred))
        return deferred

    def go_on(self) -> None:
        function, deferred = self.reads.pop(0)
        try:
            deferred.callback(function())
        except Exception:
            deferred.errback()

    def assert_closed(self) -> None:
        with self.assertRaises(OSError):
            os.fstat(self.descriptor)

    def test_nothing_is_read_while_nothing_is_taken(self) -> None:
        part = self.part()
        part.send(self.request)
        part.pauseProducing()
        self.go_on()
        self.assertEqual((PIECE, []), (len(self.request.written), self.reads))
        part.resumeProducing()
        part.resumeProducing()
        self.assertEqual(1, len(self.reads))
        self.go_on()
        self.go_on()
        self.assertEqual((3 * PIECE, True), (len(self.request.written), self.request.finished))
        self.assert_closed()

    def test_a_client_that_takes_nothing_for_long_is_cut_off(self) -> None:
        part = self.part()
        part.send(self.request)
        part.pauseProducing()
        self.go_on()
        self.clock.advance(299)
        part.resumeProducing()
        part.pauseProducing()
        self.go_on()
        self.clock.advance(299)
        self.assertFalse(self.request.channel.aborted)
        self.clock.advance(1)
        self.assertTrue(self.request.channel.aborted)
        self.request.over()
        self.assert_closed()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_a_file_that_becomes_shorter_cuts_the_connection(self) -> None:
        part = self.part()
        part.send(self.request)
        os.truncate(self.path, 10)
        self.go_on()
        self.go_on()
        self.assertTrue(self.request.channel.aborted)
        self.request.over()
        self.assert_closed()

    def test_a_file_that_cannot_be_read_cuts_the_connection(self) -> None:
        self.part().send(self.request)
        _, deferred = self.reads.pop()
        deferred.errback(OSError("broken"))
        self.assertTrue(self.request.channel.aborted)
        self.request.over()
        self.assert_closed()

    def test_a_client_that_leaves_during_a_read(self) -> None:
        self.part().send(self.request)
        self.request.over()
        os.fstat(self.descriptor)
        self.go_on()
        self.assertEqual(b"", self.request.written)
        self.assert_closed()

    def test_a_part(self) -> None:
        self.part(5, 7).send(self.request)
        self.go_on()
        self.assertEqual((b"x" * 7, True), (self.request.written, self.request.finished))
