"""Connections to a Docker engine that stop being HTTP, and who listens and speaks over them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from mesoskit.agent.containers.docker_console import Ear, Mouth, Resizes
from mesoskit.agent.containers.docker_http import Engine, EngineError
from mesoskit.agent.containers.docker_streams import MAX_HEAD, Duplex
from mesoskit.agent.launcher_console import MAX_UNHEARD, STDOUT
from tests.base import SynchronousTestCase

UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


class Transport(StringTransport):
    """One that is dropped at once, and of which one side can be closed."""

    dropped = False
    closed = False

    def abortConnection(self) -> None:
        self.dropped = True

    def loseWriteConnection(self) -> None:
        self.closed = True


def refused(code: int, body: bytes) -> EngineError:
    return EngineError(code, body.decode())


class DuplexTests(SynchronousTestCase):
    """The connection."""

    def setUp(self) -> None:
        self.make()

    def make(self) -> None:
        self.duplex = Duplex(b"POST / HTTP/1.1\r\n\r\n", refused)
        self.transport = Transport()
        self.duplex.makeConnection(self.transport)
        self.heard = b""

    def hear(self) -> None:
        def received(data: bytes) -> None:
            self.heard += data

        self.duplex.hear(received)

    def lost(self) -> None:
        self.duplex.connectionLost(Failure(ConnectionDone()))

    @given(st.binary(max_size=40), st.integers(1, 30), st.booleans())
    def test_it_begins_with_the_head_however_that_is_cut(
        self, data: bytes, size: int, early: bool
    ) -> None:
        self.make()
        if early:
            self.hear()
        whole = UPGRADED + data
        for at in range(0, len(whole), size):
            self.duplex.dataReceived(whole[at : at + size])
        self.successResultOf(self.duplex.begun)
        if not early:
            self.assertEqual(self.heard, b"")
            self.hear()
        self.assertEqual(self.heard, data)
        self.assertNoResult(self.duplex.over)
        self.lost()
        self.successResultOf(self.duplex.over)

    def test_older_engines_say_200(self) -> None:
        self.duplex.dataReceived(b"HTTP/1.1 200 OK\r\n\r\n")
        self.successResultOf(self.duplex.begun)

    def test_a_refusal_is_told_with_its_words_when_all_of_it_is_there(self) -> None:
        self.duplex.dataReceived(b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nno ")
        self.assertNoResult(self.duplex.begun)
        self.duplex.dataReceived(b"such")
        error = self.failureResultOf(self.duplex.begun, EngineError).value
        self.assertEqual((error.status, str(error)), (404, "no such"))
        self.assertTrue(self.transport.dropped)

    def test_a_refusal_of_unknown_length_ends_with_the_connection(self) -> None:
        self.duplex.dataReceived(b"HTTP/1.1 500 Oh\r\n\r\nwell")
        self.lost()
        error = self.failureResultOf(self.duplex.begun, EngineError).value
        self.assertEqual((error.status, str(error)), (500, "well"))

    def test_a_connection_that_says_nothing_is_no_answer(self) -> None:
        self.lost()
        error = self.failureResultOf(self.duplex.begun, EngineError).value
        self.assertEqual(error.status, 0)

    def test_a_head_without_an_end_is_given_up(self) -> None:
        self.duplex.dataReceived(b"x" * (MAX_HEAD + 1))
        self.failureResultOf(self.duplex.begun, EngineError)
        self.assertTrue(self.transport.dropped)

    def test_nothing_is_read_before_somebody_hears_nor_while_he_does_not(self) -> None:
        self.duplex.dataReceived(UPGRADED + b"a")
        self.assertEqual(self.transport.producerState, "paused")
        self.hear()
        self.assertEqual((self.heard, self.transport.producerState), (b"a", "producing"))
        self.duplex.pause(True)
        self.assertEqual(self.transport.producerState, "paused")
        self.duplex.dataReceived(b"b")  # it was on its way
        self.assertEqual(self.heard, b"a")
        self.lost()
        self.assertEqual(self.heard, b"ab")

    def test_input_ends_by_itself_and_with_the_output(self) -> None:
        self.duplex.dataReceived(UPGRADED)
        self.hear()
        self.duplex.write(b"in")
        self.assertTrue(self.transport.value().endswith(b"\r\n\r\nin"))
        self.duplex.close_input()
        self.assertTrue(self.transport.closed)
        self.duplex.readConnectionLost()
        self.assertTrue(self.transport.dropped)


class Listener:
    """Hears what comes out."""

    def __init__(self) -> None:
        self.heard_of: list[bytes] = []
        self.ended = 0

    def heard(self, kind: int, data: bytes) -> None:
        self.heard_of.append(data)

    def over(self) -> None:
        self.ended += 1


class EarTests(SynchronousTestCase):
    """Who listens."""

    def setUp(self) -> None:
        self.listener = Listener()
        self.left: list[Ear] = []

    def ear(self, **more: Any) -> Ear:
        return Ear(self.listener, self.left.append, **more)

    def test_what_comes_while_he_is_away_waits_and_so_does_the_end(self) -> None:
        ear = self.ear()
        ear.say(STDOUT, b"a")
        ear.end()
        self.assertEqual((self.listener.heard_of, self.listener.ended), ([], 0))
        ear.pause(False)
        self.assertEqual((self.listener.heard_of, self.listener.ended), ([b"a"], 1))
        ear.stop()
        self.assertEqual((self.left, self.listener.ended), ([ear], 1))

    def test_too_far_behind_is_the_end_but_not_for_a_session(self) -> None:
        ear = self.ear()
        session = self.ear(held=lambda: None)
        for one in (ear, session):
            one.say(STDOUT, b"x" * MAX_UNHEARD)
            one.say(STDOUT, b"x")
        self.assertEqual((self.left, self.listener.ended), ([ear], 1))
        ear.pause(False)
        self.assertEqual(self.listener.heard_of, [])
        session.pause(False)
        self.assertEqual(len(self.listener.heard_of), 2)

    def test_who_has_left_hears_nothing(self) -> None:
        ear = self.ear()
        ear.say(STDOUT, b"a")
        ear.stop()
        ear.pause(False)
        ear.say(STDOUT, b"b")
        ear.end()
        self.assertEqual((self.listener.heard_of, self.listener.ended), ([], 0))


class MouthTests(SynchronousTestCase):
    """Who speaks."""

    def setUp(self) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.over = 0

    def resize(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))

    def ended(self) -> None:
        self.over += 1

    def mouth(self, terminal: bool) -> tuple[Mouth, Transport]:
        duplex = Duplex(b"", refused)
        transport = Transport()
        duplex.makeConnection(transport)
        duplex.dataReceived(UPGRADED)
        return Mouth(duplex, terminal, self.resize, lambda full: None, self.ended), transport

    def test_no_bytes_are_the_end_of_input_but_not_at_a_terminal(self) -> None:
        for terminal, written in ((False, b"a"), (True, b"ab")):
            mouth, transport = self.mouth(terminal)
            for data in (b"a", b"", b"b"):
                mouth.put(data)
            self.assertEqual((transport.closed, transport.value()), (not terminal, written))

    def test_only_a_terminal_has_a_size(self) -> None:
        for terminal in (False, True):
            self.mouth(terminal)[0].resize(7, 1 << 20)
        self.assertEqual(self.sizes, [(7, 0xFFFF)])

    def test_he_is_told_once_that_nothing_is_taken_any_more(self) -> None:
        mouth, _ = self.mouth(True)
        mouth.end()
        mouth.end()
        self.assertEqual(self.over, 1)


class SlowEngine:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.answers: list[Deferred[None]] = []

    def ask(self, method: str, path: str, query: dict[str, int]) -> Deferred[None]:
        self.asked.append((query["h"], query["w"]))
        self.answers.append(Deferred())
        return self.answers[-1]


class ResizesTests(SynchronousTestCase):
    """How an engine hears of the size of a terminal."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.slow = SlowEngine()
        engine: Engine = self.slow  # type: ignore[assignment]
        self.resize = Resizes(self.clock, engine, "/exec/1")

    def test_of_a_storm_it_hears_the_first_and_the_last(self) -> None:
        for rows in range(1, 100):
            self.resize(rows, 80)
        self.assertEqual(self.slow.asked, [(1, 80)])
        self.slow.answers[0].callback(None)
        self.assertEqual(self.slow.asked, [(1, 80), (99, 80)])
        self.slow.answers[1].callback(None)
        self.resize(5, 5)
        self.assertEqual(self.slow.asked[2:], [(5, 5)])

    def test_what_has_not_begun_yet_is_told_again_and_not_for_ever(self) -> None:
        self.resize(1, 2)
        for _ in range(10):
            if not self.slow.answers[-1].called:
                self.slow.answers[-1].errback(EngineError(500, "it is not running"))
            self.clock.advance(1.0)
        self.assertEqual(self.slow.asked, [(1, 2)] * 5)
