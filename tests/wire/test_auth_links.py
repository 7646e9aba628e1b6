"""Authentication under native links: who comes in, who does not, and when it breaks off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from zope.interface import implementer

from mesoskit.messages.authentication_pb2 import (
    AuthenticateMessage,
    AuthenticationStartMessage,
    AuthenticationStepMessage,
)
from mesoskit.messages.codec import decode, encode
from mesoskit.messages.names import wire_name
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.messages.stream_pb2 import Hello as WireHello
from mesoskit.wire.auth import cram_md5
from mesoskit.wire.auth.admission import Admission
from mesoskit.wire.auth.authenticatee import Authenticatee
from mesoskit.wire.auth.authenticator import Authenticator
from mesoskit.wire.auth.checkers import of_mapping
from mesoskit.wire.auth.credentials import Credential
from mesoskit.wire.auth.failures import Failures
from mesoskit.wire.auth.identity import AuthenticationRefused, Identity, Patience
from mesoskit.wire.auth.mechanisms import CRAM_MD5, SCRAM_SHA_256
from mesoskit.wire.exchange import Away
from mesoskit.wire.link import Hello
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.stream import DialFailed, StreamFactory, dial
from tests.base import SynchronousTestCase
from tests.wire.contract import LinkContract, Pair
from tests.wire.ears import AGENT, FRAMEWORK, MASTER, Ear, text
from tests.wire.strangers import Stranger, StrangerCase
from tests.wire.transports import Wires

SECRETS = {"ops": "s3cret"}
ROLES = (2, 3)


def admission(required: tuple[int, ...] = ROLES, minimum: str = CRAM_MD5) -> Admission:
    return Admission(Authenticator(of_mapping(SECRETS), minimum), required)


def identity(secret: str = "s3cret", minimum: str = CRAM_MD5, **more: Any) -> Identity:
    return Identity(Authenticatee(Credential("ops", secret), minimum), **more)


@implementer(IStreamClientEndpoint)
class Endpoint:
    """Connects to what a factory makes."""

    def __init__(self, clock: Clock, factory: Any, piece: int = 0) -> None:
        self.clock = clock
        self.factory = factory
        self.piece = piece
        self.wires: Any = None

    def connect(self, factory: Any) -> Deferred[Any]:
        protocol: Any = factory.buildProtocol(None)
        done: Deferred[Any] = Deferred()
        self.wires = Wires(self.clock, self.factory.buildProtocol(None), protocol, self.piece)
        done.callback(protocol)
        return done


class AuthenticatedContractTests(LinkContract, SynchronousTestCase):
    """The promises of links, where the peer has proved who it is before."""

    piece = 0
    mechanism = SCRAM_SHA_256

    def make_pair(
        self, a: Ear, b: Ear, hello_a: Hello, hello_b: Hello, settings_b: StreamSettings
    ) -> Pair:
        clock = Clock()
        settle = admission()
        if self.mechanism == CRAM_MD5:
            settle._authenticator._mechanisms.pop(SCRAM_SHA_256)
        factory = StreamFactory(a, hello_a, clock=clock, settings=self.settings, settle=settle)
        endpoint = Endpoint(clock, factory, self.piece)
        identity().dial(endpoint, b, hello_b, clock=clock, settings=settings_b).addErrback(
            lambda _: None
        )
        wires: Pair = endpoint.wires
        return wires

    def test_connected_comes_first_and_once_with_what_the_peer_said(self) -> None:
        _pair, a, b = self.link()
        self.assertEqual((a.heard, b.heard), (["connected"], ["connected"]))
        self.assertEqual((a.link.principal, b.link.principal), ("ops", None))
        self.assertTrue(a.link.hello.authenticates)
        self.assertEqual(b.link.hello, MASTER)


class CramMD5ContractTests(AuthenticatedContractTests):
    """The same by CRAM-MD5, in small pieces."""

    piece = 7
    mechanism = CRAM_MD5
    settings = StreamSettings(high_water=64 * 1024, low_water=16 * 1024, maximum_calls=20, batch=99)

    def congest(self, pair: Any, ear: Ear) -> int:
        pair.piece = 9_973
        return super().congest(pair, ear)

    def test_large_messages_among_small_ones(self) -> None:
        self.piece = 9_973
        super().test_large_messages_among_small_ones()


class ListeningTests(StrangerCase):
    """The side that listens, with a peer that is played by hand."""

    def setUp(self) -> None:
        self.settle = admission()
        super().setUp()

    def another(self) -> None:
        """Let the stranger go, and another one come."""
        self.wires.cut()
        self.factory.counters.errors.clear()
        self.stranger, self.wires = self.come()

    def tell(self, *messages: Message) -> None:
        """Send these in one frame."""
        self.say(items=[{"name": wire_name(m), "body": encode(m)} for m in messages])

    @property
    def heard(self) -> list[Any]:
        """What the stranger was sent since the hellos."""
        return [
            decode(item.name, item.body) for frame in self.stranger.frames for item in frame.items
        ]

    def kinds(self) -> list[str]:
        return [message.DESCRIPTOR.name for message in self.heard]

    def begin(self) -> bytes:
        """Come as far as a challenge; returns it."""
        self.greet(authenticates=True)
        self.tell(AuthenticateMessage(pid="x"))
        self.tell(AuthenticationStartMessage(mechanism=CRAM_MD5))
        challenge: bytes = self.heard[-1].data
        return challenge

    def response(self, challenge: bytes, principal: bytes = b"ops") -> Message:
        return AuthenticationStepMessage(data=cram_md5.response(principal, b"s3cret", challenge))

    def check_refused(self, kind: str, why: str) -> None:
        self.check_sent_away(kind, why)
        self.assertEqual(self.stranger.frames[-1].status, 401)
        self.assertEqual(self.ear.heard, [])

    def test_by_the_book(self) -> None:
        challenge = self.begin()
        self.assertEqual(self.ear.heard, [])
        self.tell(self.response(challenge), text("too early"))
        self.assertEqual(
            self.kinds(),
            [
                "AuthenticationMechanismsMessage",
                "AuthenticationStepMessage",
                "AuthenticationCompletedMessage",
            ],
        )
        self.assertEqual(list(self.heard[0].mechanisms), [SCRAM_SHA_256, CRAM_MD5])
        self.assertEqual(self.ear.link.principal, "ops")
        self.assertEqual(self.ear.words, ["too early"])

    def test_who_must_and_will_not_is_refused_at_its_hello(self) -> None:
        for role, name in ((2, "agent"), (3, "framework")):
            self.another()
            self.greet(role=role)
            self.check_refused("unauthenticated", f"each {name} must authenticate here")
            self.assertEqual(len(self.stranger.frames), 1)

    def test_who_need_not_is_nobody_in_particular(self) -> None:
        self.greet(role=5)
        self.assertIsNone(self.ear.link.principal)

    def test_who_need_not_but_can_is_known(self) -> None:
        self.factory.plan.settle = admission(required=())
        self.test_by_the_book()

    def test_anything_else_before_it_is_refused(self) -> None:
        subscribe = Call(type=Call.SUBSCRIBE)
        for message, why in (
            (subscribe, "a mesos.v1.scheduler.Call came before it was settled who sends it"),
            (text("x"), "begins with AuthenticateMessage"),
        ):
            self.another()
            self.greet(authenticates=True, role=3)
            self.tell(message)
            self.check_refused("unauthenticated", why)

    def test_anything_else_in_the_middle_of_it_is_refused(self) -> None:
        challenge = self.begin()
        self.tell(Call(type=Call.SUBSCRIBE), self.response(challenge))
        self.check_refused("unauthenticated", "mesos.v1.scheduler.Call came before")

    def test_wrong_secret_and_unknown_principal_are_told_the_same(self) -> None:
        told = []
        for data in (b"ops " + b"0" * 32, b"nobody " + b"0" * 32, b"\xff " + b"0" * 32):
            self.another()
            self.begin()
            self.tell(AuthenticationStepMessage(data=data))
            self.check_refused("authentication", "authentication failed")
            self.assertEqual(self.kinds()[-1], "AuthenticationFailedMessage")
            told.append([f.SerializeToString() for f in self.stranger.frames[-2:]])
        self.assertEqual(told[0], told[1])
        self.assertEqual(told[0], told[2])

    def guess(self) -> None:
        """Come as far as a claim that is not true."""
        self.begin()
        self.tell(AuthenticationStepMessage(data=b"ops " + b"0" * 32))

    def test_whoever_guesses_too_often_waits_for_the_bad_news(self) -> None:
        self.settle.failures = Failures(self.clock, free=2, every=2.0)
        for _ in range(2):
            self.guess()
            self.check_refused("authentication", "authentication failed")
            self.another()
        self.guess()
        # What one says meanwhile does not make them come sooner.
        self.tell(AuthenticateMessage(pid="x"), AuthenticationStepMessage(data=b"x"), text("x"))
        self.assertEqual(self.kinds()[-1], "AuthenticationStepMessage")
        self.assertEqual(self.stranger.errors, [])
        self.clock.advance(2.0)
        self.wires.spin()
        self.assertEqual(self.kinds()[-1], "AuthenticationFailedMessage")
        self.check_refused("authentication", "authentication failed")

    def test_whoever_is_right_does_not_wait(self) -> None:
        self.settle.failures = Failures(self.clock, free=0, every=5.0)
        for _ in range(9):
            self.guess()
            self.another()
        self.tell_the_truth()
        self.assertEqual(self.ear.link.principal, "ops")

    def tell_the_truth(self) -> None:
        self.tell(self.response(self.begin()))

    def test_whoever_leaves_while_he_waits_is_forgotten(self) -> None:
        self.settle.failures = Failures(self.clock, free=0, every=2.0)
        self.guess()
        self.wires.cut()
        self.clock.advance(30.0)
        self.assertEqual(self.ear.heard, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_broken_exchange_is_told(self) -> None:
        self.begin()
        self.tell(AuthenticationStartMessage(mechanism=CRAM_MD5))
        self.check_refused("authentication", "Unexpected authentication 'start' received")
        self.assertEqual(self.kinds()[-1], "AuthenticationErrorMessage")

    def test_second_authentication_begins_anew(self) -> None:
        old = self.begin()
        self.tell(AuthenticateMessage(pid="x"))
        self.tell(AuthenticationStartMessage(mechanism=CRAM_MD5))
        self.assertNotEqual(self.heard[-1].data, old)
        self.tell(self.response(self.heard[-1].data))
        self.assertEqual(self.ear.link.principal, "ops")

    def test_response_to_the_challenge_before_is_not_believed(self) -> None:
        old = self.begin()
        self.tell(AuthenticateMessage(pid="x"), AuthenticationStartMessage(mechanism=CRAM_MD5))
        self.tell(self.response(old))
        self.check_refused("authentication", "authentication failed")

    def test_second_authentication_while_the_first_is_checked(self) -> None:
        """What the first one's checker says later counts for nothing."""
        asked: list[Deferred[Any]] = []

        class Slow:
            credentialInterfaces = ()

            def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
                asked.append(Deferred())
                return asked[-1]

        self.factory.plan.settle = Admission(Authenticator(Slow()), ROLES)  # type: ignore[arg-type]
        self.tell(self.response(self.begin()))
        self.tell(AuthenticateMessage(pid="x"))
        asked[0].callback(b"ops")
        self.wires.spin()
        self.assertEqual(self.ear.heard, [])
        self.assertEqual(self.kinds()[-1], "AuthenticationMechanismsMessage")

    def test_large_names_stay_outside(self) -> None:
        self.greet(authenticates=True)
        self.tell(AuthenticateMessage(pid="x" * 1_000_000))
        self.check_sent_away("oversize", "over the limit of 65536")
        self.assertEqual(self.ear.heard, [])

    def test_silence_at_each_step_is_ended_in_time(self) -> None:
        for step in range(4):
            self.another()
            self.go(step)
            self.clock.advance(14)
            self.wires.spin()
            self.assertEqual(self.stranger.errors, [])
            self.clock.advance(1)
            self.wires.spin()
            self.check_refused("settle-timeout", "not authenticated within 15 s")

    def test_leaving_at_each_step_leaves_nothing(self) -> None:
        for step in range(4):
            self.another()
            self.go(step)
            self.wires.cut()
            self.assertEqual(self.factory.protocols, set())
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.assertEqual(self.ear.heard, [])

    def go(self, steps: int) -> None:
        """Take so many steps after hello, but not the last."""
        self.greet(authenticates=True)
        said: list[Callable[[], None]] = [
            lambda: self.tell(AuthenticateMessage(pid="")),
            lambda: self.tell(AuthenticationStartMessage(mechanism=CRAM_MD5)),
            lambda: self.tell(AuthenticateMessage(pid="again")),
        ]
        for each in said[:steps]:
            each()

    def test_secrets_are_not_logged(self) -> None:
        events: list[Any] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.tell(self.response(self.begin()))
        self.assertTrue(any("ops" in str(event) for event in events))
        self.assertNotIn("s3cret", str(events))


class FuzzTests(SynchronousTestCase):
    """Whatever messages come in whatever order: nobody is let in without the secret."""

    settle = admission()

    @given(
        st.booleans(),
        st.lists(
            st.one_of(
                st.sampled_from(
                    [
                        AuthenticateMessage(pid="x"),
                        AuthenticationStartMessage(mechanism=CRAM_MD5),
                        AuthenticationStartMessage(mechanism=SCRAM_SHA_256, data=b"n,,n=ops,r=abc"),
                        Call(type=Call.SUBSCRIBE),
                    ]
                ),
                st.builds(AuthenticationStepMessage, data=st.binary(max_size=60)),
                st.builds(
                    AuthenticationStepMessage, data=st.binary(max_size=40).map(b"ops ".__add__)
                ),
            ),
            max_size=8,
        ),
        st.integers(0, 2),
    )
    def test_nobody_comes_in(self, says_so: bool, said: list[Message], call: int) -> None:
        clock, ear, stranger = Clock(), Ear(), Stranger()
        factory = StreamFactory(ear, MASTER, clock=clock, settle=self.settle)
        wires = Wires(clock, factory.buildProtocol(None), stranger)
        stranger.say(
            hello=WireHello(
                version=1, role="AGENT", software="x", heartbeat_ms=5000, authenticates=says_so
            )
        )
        for message in said:
            item = {"name": wire_name(message), "body": encode(message), "call": call}
            stranger.say(items=[item])
        wires.spin()
        clock.advance(15)
        wires.spin()
        assert ear.heard == []
        assert stranger.lost == 1
        assert "internal" not in factory.counters.errors
        assert clock.getDelayedCalls() == []


class DiallingTests(SynchronousTestCase):
    """The side that dials."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.here, self.there = Ear(), Ear()

    def dial(self, who: Identity, settle: Any = None, hello: Hello = AGENT) -> Deferred[Any]:
        """Dial a master; L{self.failure} tells why there is no link."""
        self.factory = StreamFactory(
            self.there, MASTER, clock=self.clock, settle=settle or admission()
        )
        self.endpoint = Endpoint(self.clock, self.factory)
        dialling = who.dial(self.endpoint, self.here, hello, clock=self.clock)
        self.endpoint.wires.spin()
        return dialling

    def test_link_comes_when_the_peer_knows_who_we_are(self) -> None:
        link = self.successResultOf(self.dial(identity(), hello=FRAMEWORK))
        self.assertIs(link, self.here.link)
        self.assertEqual(self.there.link.principal, "ops")

    def test_wrong_secret_is_an_error_of_its_own(self) -> None:
        reason = self.failureResultOf(self.dial(identity("wrong")), AuthenticationRefused)
        self.assertIn("Master refused authentication", str(reason.value))
        self.assertEqual((self.here.heard, self.there.heard), ([], []))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_common_mechanism_is_another_error(self) -> None:
        who = identity(minimum=SCRAM_SHA_256)
        settle = admission()
        settle._authenticator._mechanisms.pop(SCRAM_SHA_256)
        reason = self.failureResultOf(self.dial(who, settle), DialFailed)
        self.assertNotIsInstance(reason.value, AuthenticationRefused)
        self.assertIn("no mechanism that will do", reason.value.why)

    def test_better_mechanism_is_not_given_up_once_it_served(self) -> None:
        who = identity()
        self.successResultOf(self.dial(who))
        self.endpoint.wires.cut()
        settle = admission()
        settle._authenticator._mechanisms.pop(SCRAM_SHA_256)
        reason = self.failureResultOf(self.dial(who, settle), DialFailed)
        self.assertIn("it has CRAM-MD5, wanted is SCRAM-SHA-256", reason.value.why)

    def test_peer_that_knows_nobody_refuses(self) -> None:
        settle = Admission(Authenticator(of_mapping({})))
        self.failureResultOf(self.dial(identity(), settle), AuthenticationRefused)

    def test_peer_that_says_nothing_is_left_after_a_growing_time(self) -> None:
        who = identity(patience=Patience(2, 9, 1), chance=lambda: 0.5)

        class Deaf:
            def __init__(self, session: Any) -> None: ...

            def start(self) -> None: ...

            def received(self, message: Message) -> None: ...

        for seconds in (2.5, 3, 4, 6, 9, 9):
            dialling = self.dial(who, Deaf)
            self.clock.advance(seconds - 0.01)
            self.endpoint.wires.spin()
            self.assertNoResult(dialling)
            self.clock.advance(0.02)
            self.endpoint.wires.spin()
            reason = self.failureResultOf(dialling, DialFailed)
            self.assertEqual(reason.value.why, f"not authenticated within {seconds:g} s")
        self.successResultOf(self.dial(who))
        dialling = self.dial(who, Deaf)
        self.clock.advance(2.5)
        self.endpoint.wires.spin()
        self.failureResultOf(dialling, DialFailed)

    def test_peer_that_is_not_there_does_not_make_us_more_patient(self) -> None:
        class Nowhere:
            def connect(self, factory: Any) -> Deferred[Any]:
                return fail(OSError("nobody is there"))

        who = identity(patience=Patience(2, 9, 1), chance=lambda: 0.5)
        for _ in range(9):
            endpoint: Any = Nowhere()
            self.failureResultOf(who.dial(endpoint, self.here, AGENT, clock=self.clock), DialFailed)
        self.assertEqual(who._attempts, 0)

    def test_broken_connection_is_no_refusal(self) -> None:
        settle = Admission(Authenticator(of_mapping(SECRETS)))
        factory = StreamFactory(self.there, MASTER, clock=self.clock, settle=settle)
        for steps in range(8):
            endpoint = Endpoint(self.clock, factory)
            dialling = identity().dial(endpoint, self.here, AGENT, clock=self.clock)
            for _ in range(steps):
                self.clock.advance(0)
                endpoint.wires.a.step()
                endpoint.wires.b.step()
            if endpoint.wires.b.protocol.session.principal is None and not self.here.heard:
                endpoint.wires.cut()
                reason = self.failureResultOf(dialling, DialFailed)
                self.assertNotIsInstance(reason.value, AuthenticationRefused)
                self.here.heard.clear()
                self.there.heard.clear()

    def test_who_needs_a_credential_and_has_none_is_told(self) -> None:
        factory = StreamFactory(self.there, MASTER, clock=self.clock, settle=admission())
        endpoint = Endpoint(self.clock, factory)
        dialling = dial(endpoint, self.here, FRAMEWORK, clock=self.clock)
        endpoint.wires.spin()
        error = self.failureResultOf(dialling, DialFailed).value
        self.assertEqual(error.status, 401)
        self.assertIn("each framework must authenticate here", error.why)
        self.assertEqual(self.here.heard, [])

    def test_times_that_cannot_work_are_refused(self) -> None:
        for wrong in ((0, 1, 1), (5, 4, 1), (1, float("inf"), 1), (1, 2, -1)):
            with self.assertRaisesRegex(ValueError, "authentication_"):
                Patience(*wrong)


class PreparingTests(SynchronousTestCase):
    """A peer that has proved who it is waits until it can be said what it may do."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[str | None] = []
        self.ready: Deferred[Away | None] = Deferred()
        self.ear, self.framework = Ear(), Ear()
        settle = admission()
        settle.prepare = self.prepare
        factory = StreamFactory(self.ear, MASTER, clock=self.clock, settle=settle)
        self.endpoint = Endpoint(self.clock, factory)
        self.dialled = identity().dial(self.endpoint, self.framework, FRAMEWORK, clock=self.clock)
        self.endpoint.wires.spin()

    def prepare(self, principal: str | None) -> Deferred[Away | None]:
        self.asked.append(principal)
        return self.ready

    def test_nobody_is_let_in_before(self) -> None:
        self.assertEqual(self.asked, ["ops"])
        self.assertEqual((self.ear.heard, self.framework.heard), ([], []))
        self.assertNoResult(self.dialled)
        self.ready.callback(None)
        self.endpoint.wires.spin()
        self.assertEqual((self.ear.heard, self.framework.heard), (["connected"], ["connected"]))
        self.assertEqual(self.ear.link.principal, "ops")

    def test_who_cannot_be_asked_about_is_refused(self) -> None:
        self.ready.callback(Away(503, "not now"))
        self.endpoint.wires.spin()
        self.assertEqual(self.ear.heard, [])
        self.assertIn("not now", str(self.failureResultOf(self.dialled).value))

    def test_who_leaves_meanwhile_is_forgotten(self) -> None:
        self.dialled.addErrback(lambda _: None)
        self.dialled.cancel()
        self.endpoint.wires.spin()
        self.ready.callback(None)
        self.assertEqual(self.ear.heard, [])
