"""Dialling the master that was elected in ZooKeeper, and leaving it for the next one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock

from mesoskit.cluster.ensemble import NotAllowed
from mesoskit.driver.elected import ElectedDial, detector_of, is_elected
from mesoskit.driver.masters import dialler
from mesoskit.driver.settings import DriverSettings
from mesoskit.wire.auth.identity import AuthenticationRefused
from mesoskit.wire.endpoints import EndpointError
from mesoskit.wire.link import Link
from mesoskit.wire.stream import DialFailed
from tests.base import SynchronousTestCase


class Detector:
    """Says what a test wants, as the real one says it."""

    def __init__(self) -> None:
        self.leader: str | None = None
        self.error: Exception | None = None
        self.waiting: list[Deferred[str | None]] = []
        self.closed = 0

    def detect(self, previous: str | None) -> Deferred[str | None]:
        if self.error is not None:
            return fail(self.error)
        if self.leader != previous:
            return succeed(self.leader)
        waiting: Deferred[str | None] = Deferred()
        self.waiting.append(waiting)
        return waiting

    def elect(self, leader: str | None) -> None:
        self.leader = leader
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            if not each.called:
                each.callback(leader)

    def close(self) -> Deferred[None]:
        self.closed += 1
        return succeed(None)


class FakeLink:
    """A link that remembers why it was given up."""

    def __init__(self) -> None:
        self.lost: list[str] = []

    def lose(self, why: str = "") -> None:
        self.lost.append(why)


class DialTests(SynchronousTestCase):
    """Whom it dials, and when again."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.detectors: list[Detector] = []
        self.dialled: list[str] = []
        self.answers: list[Any] = []
        self.dial = ElectedDial(self.clock, self.make, self.reach)
        self.receiver: Any = object()

    def make(self) -> Detector:
        self.detectors.append(Detector())
        return self.detectors[-1]

    def reach(self, place: str, receiver: Any) -> Deferred[Link]:
        self.dialled.append(place)
        answer: Deferred[Link] = Deferred()
        self.answers.append(answer)
        return answer

    def linked(self, place: str) -> FakeLink:
        """Return the link to a leader that has been dialled."""
        dialling = self.dial(self.receiver)
        self.detectors[-1].elect(place)
        link = FakeLink()
        self.answers[-1].callback(link)
        self.assertIs(cast(Any, self.successResultOf(dialling)), link)
        return link

    def test_leader_is_waited_for_and_dialled(self) -> None:
        self.assertEqual(self.detectors, [])
        self.linked("a:1")
        self.assertEqual(self.dialled, ["a:1"])

    def test_leader_that_does_not_answer_is_tried_again_and_the_next_at_once(self) -> None:
        dialling = self.dial(self.receiver)
        detector = self.detectors[0]
        detector.elect("a:1")
        for _ in range(3):
            self.answers[-1].errback(DialFailed("a:1", "connection refused"))
            self.clock.advance(1)
        self.assertEqual(self.dialled, ["a:1"] * 4)
        self.answers[-1].errback(DialFailed("a:1", "connection refused"))
        self.assertNoResult(dialling)
        detector.elect("b:1")
        self.assertEqual(self.dialled[4:], ["b:1"])
        self.answers[-1].callback(FakeLink())
        self.successResultOf(dialling)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_link_is_given_up_when_another_master_leads(self) -> None:
        link = self.linked("a:1")
        self.assertEqual(link.lost, [])
        self.detectors[0].elect("b:1")
        self.assertEqual(link.lost, ["another master leads: b:1"])
        again = self.dial(self.receiver)
        self.assertEqual(self.dialled[-1], "b:1")
        again.cancel()
        self.failureResultOf(again, CancelledError)

    def test_link_is_given_up_when_nobody_leads(self) -> None:
        link = self.linked("a:1")
        self.detectors[0].elect(None)
        self.assertEqual(link.lost, ["no master leads"])

    def test_master_that_does_not_believe_us_is_not_asked_again(self) -> None:
        dialling = self.dial(self.receiver)
        self.detectors[0].elect("a:1")
        self.answers[0].errback(AuthenticationRefused("the master", "who?"))
        self.failureResultOf(dialling, AuthenticationRefused)

    def test_cancelling_ends_the_waiting(self) -> None:
        dialling = self.dial(self.receiver)
        dialling.cancel()
        self.failureResultOf(dialling, CancelledError)
        dialling = self.dial(self.receiver)
        self.detectors[0].elect("a:1")
        self.answers[0].errback(DialFailed("a:1", "connection refused"))
        dialling.cancel()
        self.failureResultOf(dialling, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closed_it_lets_go_and_may_begin_anew(self) -> None:
        link = self.linked("a:1")
        self.successResultOf(self.dial.close())
        self.assertEqual(self.detectors[0].closed, 1)
        self.detectors[0].elect("b:1")
        self.assertEqual(link.lost, [])
        self.successResultOf(self.dial.close())
        self.linked("c:1")
        self.assertEqual(len(self.detectors), 2)

    def test_zookeeper_that_refuses_us_is_asked_anew_by_the_next_attempt(self) -> None:
        self.linked("a:1")
        self.detectors[0].error = NotAllowed("no")
        self.failureResultOf(self.dial(self.receiver), NotAllowed)
        self.assertEqual(self.detectors[0].closed, 1)
        self.linked("a:1")


class PlaceTests(SynchronousTestCase):
    """How it is said where masters are elected."""

    def test_what_says_so(self) -> None:
        for text in ("zk://h:1/m", "http+zk://h:1/m", "https+zk://h:1/m"):
            self.assertTrue(is_elected(text))
            detector_of(Clock(), text, DriverSettings(), False)
        self.assertFalse(is_elected("127.0.0.1:5050"))

    def test_what_is_wrong_is_said_at_once_and_without_a_password(self) -> None:
        for text in ("zk://bob:hush@h:1", "http+zk://bob:hush@/m"):
            error = self.assertRaises(EndpointError, dialler, Clock(), text)
            self.assertNotIn("hush", str(error))
            self.assertIn("bob:***@", str(error))

    def test_file_says_where(self) -> None:
        path = Path(self.mktemp())
        path.write_text("zk://h:1/m\n")
        self.assertIsInstance(dialler(Clock(), f"file://{path}"), ElectedDial)
        path.write_text("nowhere")
        self.assertRaises(EndpointError, dialler, Clock(), f"file://{path}")
        path.unlink()
        error = self.assertRaises(EndpointError, dialler, Clock(), f"file://{path}")
        self.assertIn("cannot be read", str(error))
