"""The dialer: a link to whoever leads, again and again."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from mesoskit.agent.masters import LONGEST_WAIT, MasterDialer, StandaloneMaster
from mesoskit.messages.stream_pb2 import Role
from mesoskit.wire.auth.identity import AuthenticationRefused
from mesoskit.wire.link import Hello
from tests.base import SynchronousTestCase


class Detector:
    """Says what a test wants."""

    def __init__(self) -> None:
        self.waiting: Deferred[str | None] = Deferred()
        self.asked: list[str | None] = []

    def detect(self, previous: str | None) -> Deferred[str | None]:
        self.asked.append(previous)
        self.waiting = Deferred()
        return self.waiting

    def close(self) -> Deferred[None]:
        return succeed(None)


class Receiver:
    """Hears links."""

    def connected(self, link: Any) -> None: ...

    def received(self, link: Any, message: Any, call: Any) -> None: ...

    def congestion(self, link: Any, congested: bool) -> None: ...

    def lost(self, link: Any, why: str) -> None: ...


class DialerTests(SynchronousTestCase):
    """Where to, and how often."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.detector = Detector()
        self.dialer = self.make(self.detector)

    def make(self, detector: Any) -> MasterDialer:
        dialer = MasterDialer(self.reactor, detector, Receiver(), Hello(Role.AGENT, "test"))
        dialer.start()
        return dialer

    def dialled(self) -> list[tuple[str, int]]:
        return [(host, port) for host, port, *_ in self.reactor.tcpClients]

    def refuse(self) -> None:
        factory = self.reactor.tcpClients[-1][2]
        factory.clientConnectionFailed(
            self.reactor.connectors[-1], Failure(error.ConnectionRefusedError())
        )

    def test_nobody_is_dialled_before_somebody_leads(self) -> None:
        self.assertEqual(self.dialled(), [])
        self.detector.waiting.callback("127.0.0.1:5050")
        self.assertEqual(self.dialled(), [("127.0.0.1", 5050)])
        self.assertEqual(self.detector.asked, [None, "127.0.0.1:5050"])

    def test_master_that_cannot_be_reached_is_dialled_again_with_longer_waits(self) -> None:
        self.detector.waiting.callback("127.0.0.1:5050")
        waits = []
        for _ in range(12):
            self.refuse()
            count, start = len(self.dialled()), self.reactor.seconds()
            for _ in range(2000):
                if len(self.dialled()) > count:
                    break
                self.reactor.advance(0.01)
            waits.append(self.reactor.seconds() - start)
        self.assertLessEqual(waits[0], 0.12)
        self.assertTrue(all(wait >= LONGEST_WAIT / 2 for wait in waits[-3:]), waits)
        self.assertTrue(all(wait <= LONGEST_WAIT + 0.1 for wait in waits), waits)

    def test_new_leader_is_dialled_at_once(self) -> None:
        self.detector.waiting.callback("127.0.0.1:5050")
        self.detector.waiting.callback("127.0.0.2:5050")
        self.assertEqual(self.dialled()[-1], ("127.0.0.2", 5050))
        self.reactor.advance(100)
        self.assertEqual(len(self.dialled()), 2)

    def test_without_a_leader_nobody_is_dialled(self) -> None:
        self.detector.waiting.callback("127.0.0.1:5050")
        self.refuse()
        self.detector.waiting.callback(None)
        self.reactor.advance(100)
        self.assertEqual(len(self.dialled()), 1)

    def test_detector_that_fails_is_asked_again(self) -> None:
        self.detector.waiting.errback(Failure(OSError("no ensemble")))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 0)
        self.reactor.advance(LONGEST_WAIT)
        self.assertEqual(self.detector.asked, [None, None])

    def test_stopped_dialer_does_nothing_more(self) -> None:
        self.detector.waiting.callback("127.0.0.1:5050")
        self.refuse()
        self.dialer.stop()
        self.reactor.advance(100)
        self.assertEqual(len(self.dialled()), 1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_master_that_does_not_believe_us_is_not_dialled_again(self) -> None:
        refused: list[str] = []

        class Nobody:
            def dial(self, endpoint: str, *given: Any, **more: Any) -> Deferred[Any]:
                assert (endpoint, more["accept"]) == ("127.0.0.1:5050", (Role.MASTER,))
                return fail(AuthenticationRefused(endpoint))

        who: Any = Nobody()
        dialer = MasterDialer(
            self.reactor,
            StandaloneMaster("127.0.0.1:5050"),
            Receiver(),
            Hello(Role.AGENT, "test"),
            identity=who,
            refused=refused.append,
        )
        dialer.start()
        self.reactor.advance(100)
        self.assertEqual(refused, ["Master refused authentication"])
        dialer.stop()

    def test_standalone_master_never_changes(self) -> None:
        detector = StandaloneMaster("127.0.0.1:5050")
        self.assertEqual(self.successResultOf(detector.detect(None)), "127.0.0.1:5050")
        self.assertNoResult(detector.detect("127.0.0.1:5050"))
