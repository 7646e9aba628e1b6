"""The exchange, both sides, message by message: what is taken in which order, and what ends it."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import CramMD5Credentials
from twisted.internet.defer import Deferred

from mesoskit.messages.authentication_pb2 import (
    AuthenticateMessage,
    AuthenticationCompletedMessage,
    AuthenticationErrorMessage,
    AuthenticationFailedMessage,
    AuthenticationMechanismsMessage,
    AuthenticationStartMessage,
    AuthenticationStepMessage,
)
from mesoskit.wire.auth import cram_md5, scram
from mesoskit.wire.auth.authenticatee import Authenticatee, IAuthenticatee
from mesoskit.wire.auth.authenticator import Authenticator, IAuthenticator
from mesoskit.wire.auth.checkers import SecretsChecker, of_mapping
from mesoskit.wire.auth.credentials import Credential
from mesoskit.wire.auth.mechanisms import CRAM_MD5, SCRAM_SHA_256, BrokenExchange, at_least
from mesoskit.wire.auth.sessions import Broken, Completed, Failed
from tests.base import SynchronousTestCase

SECRETS = {"ops": "s3cret", "a b": "with blank", "x,y=z": "t", "é": "ü"}


def mechanisms(*names: str) -> Message:
    return AuthenticationMechanismsMessage(mechanisms=names)


def start(name: str = CRAM_MD5, data: bytes = b"") -> Message:
    return AuthenticationStartMessage(mechanism=name, data=data)


def step(data: bytes) -> Message:
    return AuthenticationStepMessage(data=data)


COMPLETED = AuthenticationCompletedMessage()
FAILED = AuthenticationFailedMessage()


class Side:
    """One exchange of a side that is played by hand: what it said, and how it ended."""

    def __init__(self, begin: Callable[[Any, Any], Any]) -> None:
        self.said: list[Any] = []
        self.ends: list[Any] = []
        self.exchange = begin(self.said.append, self.ends.append)

    def hear(self, *messages: Message) -> None:
        for message in messages:
            self.exchange.received(message)

    @property
    def last(self) -> Any:
        return self.said[-1]

    @property
    def kinds(self) -> list[str]:
        """What it said, in short: Mechanisms, Step …"""
        prefix, suffix = "Authentication", "Message"
        return [
            message.DESCRIPTOR.name.removeprefix(prefix).removesuffix(suffix)
            for message in self.said
        ]


def server(authenticator: Any = None) -> Side:
    return Side((authenticator or Authenticator(of_mapping(SECRETS))).begin)


def client(principal: str = "ops", secret: str = "s3cret", minimum: str = CRAM_MD5) -> Side:
    mine = Authenticatee(Credential(principal, secret), minimum)
    return Side(lambda say, ended: mine.begin("slave(1)@127.0.0.1:5051", say, ended))


def talk(one: Side, other: Side) -> None:
    """Let both hear each other till nobody says anything."""
    heard = [0, 0]
    moved = True
    while moved:
        moved = False
        for number, (speaker, listener) in enumerate(((one, other), (other, one))):
            new = speaker.said[heard[number] :]
            heard[number] = len(speaker.said)
            for message in new:
                if isinstance(message, AuthenticateMessage):
                    continue
                listener.hear(message)
                moved = True


class TogetherTests(SynchronousTestCase):
    """Both of our sides."""

    def test_interfaces_are_provided(self) -> None:
        self.assertTrue(IAuthenticator.providedBy(Authenticator(of_mapping({}))))
        self.assertTrue(IAuthenticatee.providedBy(Authenticatee(Credential("p", "s"))))

    def test_right_secret(self) -> None:
        for taken in (CRAM_MD5, SCRAM_SHA_256):
            for principal, secret in SECRETS.items():
                one, other = server(), client(principal, secret)
                if taken == CRAM_MD5:
                    one.said[0] = mechanisms(CRAM_MD5)
                talk(one, other)
                self.assertEqual((one.ends, other.ends), ([Completed(principal)],) * 2)
                self.assertEqual(other.said[1].mechanism, taken)

    def test_the_strongest_that_both_have_is_used(self) -> None:
        for least_here, least_there, used in (
            (CRAM_MD5, CRAM_MD5, SCRAM_SHA_256),
            (SCRAM_SHA_256, CRAM_MD5, SCRAM_SHA_256),
            (CRAM_MD5, SCRAM_SHA_256, SCRAM_SHA_256),
        ):
            one = server(Authenticator(of_mapping(SECRETS), least_here))
            other = client(minimum=least_there)
            talk(one, other)
            self.assertEqual(other.said[1].mechanism, used)
            self.assertEqual(one.ends, [Completed("ops")])

    def test_nobody_can_tell_a_wrong_secret_from_an_unknown_principal(self) -> None:
        for taken in (CRAM_MD5, SCRAM_SHA_256):
            said = []
            for principal, secret in (("ops", "wrong"), ("nobody", "s3cret"), ("nobody", "x")):
                one, other = server(), client(principal, secret)
                if taken == CRAM_MD5:
                    one.said[0] = mechanisms(CRAM_MD5)
                talk(one, other)
                self.assertEqual((one.ends, other.ends), ([Failed()],) * 2)
                said.append((one.kinds, [len(m.SerializeToString()) for m in one.said[2:]]))
            self.assertEqual(said[0], said[1])
            self.assertEqual(said[0], said[2])

    def test_the_same_work_is_done_for_an_unknown_principal(self) -> None:
        """Counted, for times vary: hashes over secrets, and derivations of keys."""
        counted: list[str] = []

        def counting(name: str, function: Any) -> Any:
            def wrapper(*arguments: Any, **named: Any) -> Any:
                counted.append(name)
                return function(*arguments, **named)

            return wrapper

        authenticator = Authenticator(of_mapping(SECRETS))
        for module, name, what in (
            (cram_md5, "digest", "md5"),
            (scram, "digest", "sha"),
            (scram, "pbkdf2_hmac", "derive"),
        ):
            self.patch(module, name, counting(what, getattr(module, name)))
        for data in (b"ops " + b"0" * 32, b"unknown " + b"0" * 32):
            one = server(authenticator)
            one.hear(start(), step(data))
            self.assertEqual(counted, ["md5"])
            counted.clear()
        work = []
        for known in (b"ops", b"unknown"):
            one = server(authenticator)
            one.hear(start(SCRAM_SHA_256, b"n,,n=%b,r=abc" % known))
            nonce = one.last.data.split(b",")[0]
            one.hear(step(b"c=biws,%b,p=%b" % (nonce, b64encode(b"0" * 32))))
            self.assertEqual(one.ends, [Failed()])
            work.append(list(counted))
            counted.clear()
        self.assertEqual(work[0], work[1])
        self.assertNotIn("derive", work[0])

    def test_challenges_are_never_the_same(self) -> None:
        authenticator = Authenticator(of_mapping(SECRETS))
        challenges = set()
        for _ in range(200):
            one = server(authenticator)
            one.hear(start())
            challenges.add(one.last.data)
            self.assertRegex(one.last.data, rb"^<\d+\.\d+@mesos>$")
        self.assertEqual(len(challenges), 200)

    def test_change_of_secrets_counts_from_the_next_exchange_on(self) -> None:
        now = [{"ops": "old"}]
        authenticator = Authenticator(SecretsChecker(lambda: now[0]))
        now[0] = {"ops": "s3cret"}
        one, other = server(authenticator), client()
        talk(one, other)
        self.assertEqual(one.ends, [Completed("ops")])


class RememberingTests(SynchronousTestCase):
    """Nobody between may take the better mechanism out of the list."""

    def test_minimum_is_not_undercut(self) -> None:
        other = client(minimum=SCRAM_SHA_256)
        other.hear(mechanisms(CRAM_MD5))
        [end] = other.ends
        self.assertIn("it has CRAM-MD5, wanted is SCRAM-SHA-256", end.why)
        one = server(Authenticator(of_mapping(SECRETS), SCRAM_SHA_256))
        self.assertEqual(list(one.last.mechanisms), [SCRAM_SHA_256])
        one.hear(start(CRAM_MD5))
        self.assertEqual(one.kinds, ["Mechanisms", "Error"])

    def test_what_served_once_is_not_undercut_later(self) -> None:
        mine = Authenticatee(Credential("ops", "s3cret"))

        def other() -> Side:
            return Side(lambda say, ended: mine.begin("", say, ended))

        first = other()
        talk(server(), first)
        self.assertEqual(mine.last, SCRAM_SHA_256)
        second = other()
        second.hear(mechanisms(CRAM_MD5))
        self.assertIsInstance(second.ends[0], Broken)
        self.assertEqual(len(second.said), 1)

    def test_secret_that_saslprep_would_change_goes_by_cram_md5_or_not_at_all(self) -> None:
        one, other = server(Authenticator(of_mapping({"ops": "\u2168"}))), client("ops", "\u2168")
        talk(one, other)
        self.assertEqual(other.said[1].mechanism, CRAM_MD5)
        self.assertEqual(one.ends, [Completed("ops")])
        other = client("ops", "\u2168", SCRAM_SHA_256)
        other.hear(mechanisms(CRAM_MD5, SCRAM_SHA_256))
        self.assertIsInstance(other.ends[0], Broken)

    def test_unknown_minimum_is_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "'PLAIN' is no mechanism; expected one of"):
            at_least("PLAIN")


class OrderTests(SynchronousTestCase):
    """What comes when it should not ends the exchange, with a word about it."""

    def good(self, challenge: bytes) -> Message:
        return step(cram_md5.response(b"ops", b"s3cret", challenge))

    def test_authenticator(self) -> None:
        table: list[tuple[list[Message], str]] = [
            ([step(b"x")], "Unexpected authentication 'step' received"),
            ([start(), start()], "Unexpected authentication 'start' received"),
            ([start("PLAIN")], "mechanism 'PLAIN' is not taken here"),
            ([start("")], "mechanism '' is not taken here"),
            ([start("P" * 1_000_000)], "is not taken here"),
            ([start(data=b"ops x")], "does not begin with a response"),
            ([start(), step(b"nothing")], "a principal, a blank and digits"),
            ([start(), step(b"x" * 1_000_000)], "has 1000000 bytes, more than 8192"),
            ([start(SCRAM_SHA_256, b"x" * 8193)], "has 8193 bytes, more than 8192"),
            ([COMPLETED], "AuthenticationCompletedMessage does not belong"),
            ([FAILED], "does not belong"),
            ([mechanisms("x")], "does not belong"),
            ([AuthenticationErrorMessage(error="x")], "does not belong"),
        ]
        for number, (messages, why) in enumerate(table):
            one = server()
            one.hear(*messages)
            self.assertEqual(one.kinds[-1], "Error", number)
            self.assertIn(why, one.last.error)
            self.assertLess(len(one.last.error), 400)
            self.assertEqual(one.ends, [Broken(one.last.error)])
            said = len(one.said)
            one.hear(start(), step(b"ops x"))
            self.assertEqual((len(one.said), len(one.ends)), (said, 1))

    def test_names_that_nobody_has(self) -> None:
        for data in (
            b" " + b"0" * 32,
            b"\xff\xfe " + b"0" * 32,
            b"x" * 1025 + b" " + b"0" * 32,
            b"ops ",
            b"ops 0",
            b"ops \xff",
            b"ops " + b"0" * 8000,
        ):
            one = server()
            one.hear(start(), step(data))
            self.assertEqual((one.kinds[-1], one.ends), ("Failed", [Failed()]), data[:20])

    def test_response_is_good_for_its_challenge_alone(self) -> None:
        one = server()
        one.hear(start())
        good = self.good(one.last.data)
        one.hear(good)
        self.assertEqual(one.ends, [Completed("ops")])
        two = server()
        two.hear(start(), good)
        self.assertEqual(two.ends, [Failed()])
        one.hear(good)
        self.assertEqual(len(one.ends), 1)

    def test_digits_in_capitals_are_not_the_response(self) -> None:
        one = server()
        one.hear(start())
        one.hear(step(cram_md5.response(b"ops", b"s3cret", one.last.data).replace(b"ops", b"OPS")))
        self.assertEqual(one.ends, [Failed()])

    def test_authenticatee(self) -> None:
        both = mechanisms(CRAM_MD5)
        table: list[tuple[list[Message], str]] = [
            ([step(b"x")], "Unexpected authentication 'step' received"),
            ([COMPLETED], "Unexpected authentication 'completed' received"),
            ([both, COMPLETED], "Unexpected authentication 'completed' received"),
            ([both, both], "Unexpected authentication 'mechanisms' received"),
            ([mechanisms()], "it has none"),
            ([mechanisms("PLAIN", "EXTERNAL")], "it has PLAIN, EXTERNAL"),
            ([mechanisms("P" * 1_000_000)], "no mechanism that will do"),
            ([both, step(b"")], "the challenge is empty"),
            ([both, step(b"x" * 1_000_000)], "more than 8192"),
            ([both, step(b"<1>"), step(b"<2>")], "CRAM-MD5 has one challenge"),
            ([AuthenticationErrorMessage(error="No authenticator loaded")], "No authenticator"),
            ([AuthenticationErrorMessage()], "the other side said"),
            ([AuthenticateMessage(pid="x")], "does not belong"),
            ([start()], "does not belong"),
        ]
        for number, (messages, why) in enumerate(table):
            other = client()
            other.hear(*messages)
            self.assertEqual(len(other.ends), 1, number)
            self.assertIn(why, other.ends[0].why)
            self.assertLess(len(other.ends[0].why), 800)
            said = len(other.said)
            other.hear(both, step(b"<3>"), COMPLETED)
            self.assertEqual((len(other.said), len(other.ends)), (said, 1))

    def test_authenticatee_is_refused_at_any_time(self) -> None:
        for messages in ([FAILED], [mechanisms(CRAM_MD5), step(b"<1>"), FAILED]):
            other = client()
            other.hear(*messages)
            self.assertEqual(other.ends, [Failed()])

    def test_a_secret_signs_one_text_alone(self) -> None:
        """However often it is asked: nobody gets a table of responses from one link."""
        other = client()
        other.hear(mechanisms(CRAM_MD5), *(step(b"<%d>" % n) for n in range(5)))
        self.assertEqual(other.kinds, ["Authenticate", "Start", "Step"])


class RecordedTests(SynchronousTestCase):
    """Responses that Mesos 1.12 gave to its own master, and what the master said to them."""

    def test_responses_are_those_of_mesos(self) -> None:
        for principal, secret, number, response in (
            ("agent", "agentsecret", b"990007176.48949", "1aa9320868f3d6bcd83191164df78197"),
            ("agent", "wrong", b"3950030631.48798", "10b1622f5ab229dd1bd05c6be8a44d36"),
            ("fw", "fwsecret", b"1163205681.48829", "9f07d2a2e994f4d56efeb4207766d706"),
            ("fw", "wrong", b"305779794.48824", "3cde5c439f2d5e148d6ccc283ab6b5c3"),
        ):
            ours = cram_md5.CramClient(Credential(principal, secret))
            said = ours.step(b"<%b@mesos-ref>" % number)
            self.assertEqual(said, f"{principal} {response}".encode())

    def test_messages_are_those_of_mesos(self) -> None:
        other = client("fw", "fwsecret")
        self.assertEqual(other.said[0].SerializeToString(), b"\x0a\x17slave(1)@127.0.0.1:5051")
        other.hear(
            AuthenticationMechanismsMessage.FromString(bytes.fromhex("0a084352414d2d4d4435"))
        )
        self.assertEqual(other.said[1].SerializeToString().hex(), "0a084352414d2d4d44351200")


class ScramTests(SynchronousTestCase):
    """SCRAM-SHA-256, by the example of RFC 7677 and beyond it."""

    def test_example_of_the_rfc(self) -> None:
        nonce = b64decode(b"rOprNGfwEbeRWgbNEkqO")
        ours = scram.ScramClient(Credential("user", "pencil"), nonce)
        self.assertEqual(ours.start(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
        both = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
        final = ours.step(b"r=%b,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096" % both)
        self.assertEqual(
            final, b"c=biws,r=%b,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=" % both
        )
        self.assertFalse(ours.done)
        ours.step(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
        self.assertTrue(ours.done)

    def test_server_is_not_believed_without_its_proof(self) -> None:
        for messages, why in (
            ([COMPLETED], "Unexpected authentication 'completed'"),
            ([step(b"v=" + b64encode(b"0" * 32)), COMPLETED], "does not know the secret"),
            ([step(b"e=other-error")], "attribute v= is not where"),
        ):
            one, other = server(), client()
            other.hear(one.last)
            one.hear(other.last)
            other.hear(one.last)
            other.hear(*messages)
            self.assertEqual(len(other.ends), 1)
            self.assertIn(why, other.ends[0].why)

    def test_bad_beginnings(self) -> None:
        for data, why in (
            (b"", "begins with n,,"),
            (b"n,,", "attribute n= is not"),
            (b"x,,n=ops,r=abc", "begins with n,,"),
            (b"p=tls-unique,,n=ops,r=abc", "channel binding"),
            (b"n,a=root,n=ops,r=abc", "as somebody else"),
            (b"n,,r=abc,n=ops", "attribute n= is not"),
            (b"n,,n=ops", "attribute r= is not"),
            (b"n,,n=ops,r=", "printable ASCII"),
            (b"n,,n=ops,r=a\x00b", "printable ASCII"),
            (b"n,,m=x,n=ops,r=abc", "attribute n= is not"),
            (b"n,,n=ops,r=abc,m=x", "extension"),
            (b"n,,n=o=ps,r=abc", "must be =3D"),
            (b"\xff,,n=ops,r=abc", "begins with n,,"),
        ):
            one = server()
            one.hear(start(SCRAM_SHA_256, data))
            self.assertEqual(one.kinds[-1], "Error", data)
            self.assertIn(why, one.last.error)

    def test_bad_proofs(self) -> None:
        proof = b64encode(b"0" * 32)
        for data, why in (
            (b"", "proof is missing"),
            (b"c=biws,{nonce}", "proof is missing"),
            (b"c=eSws,{nonce},p=" + proof, "channel binding differs"),
            (b"c=!,{nonce},p=" + proof, "base64"),
            (b"c=biws,r=abc,p=" + proof, "not the one of this exchange"),
            (b"c=biws,{nonce}x,p=" + proof, "not the one of this exchange"),
            (b"c=biws,{nonce},p=AAAA", "32 bytes, not 3"),
            (b"c=biws,{nonce},p=\xff", "base64"),
            (b"{nonce},c=biws,p=" + proof, "attribute c= is not"),
        ):
            one = server()
            one.hear(start(SCRAM_SHA_256, b"n,,n=ops,r=abc"))
            nonce = one.last.data.split(b",")[0]
            one.hear(step(data.replace(b"{nonce}", nonce)))
            self.assertEqual(one.kinds[-1], "Error", data)
            self.assertIn(why, one.last.error)

    def test_bad_challenges(self) -> None:
        ours = b64encode(b"x" * 24)
        for data, why in (
            (b"", "attribute r= is not"),
            (b"r=other,s=AAAA,i=4096", "not the one of this exchange"),
            (b"r=%b,s=AAAA,i=4096" % ours, "not the one of this exchange"),
            (b"r=%b1,s=!,i=4096" % ours, "base64"),
            (b"r=%b1,s=AAAA,i=4095" % ours, "iterations; from 4096"),
            (b"r=%b1,s=AAAA,i=-1" % ours, "iterations; from 4096"),
            (b"r=%b1,s=AAAA,i=%b" % (ours, b"9" * 5000), "iterations; from 4096"),
            (b"r=%b1,s=AAAA,i=200001" % ours, "iterations; from 4096 to 200000"),
        ):
            there = scram.ScramClient(Credential("ops", "s"), b"x" * 24)
            there.start()
            with self.assertRaisesRegex(BrokenExchange, why):
                there.step(data)

    def test_names_are_escaped(self) -> None:
        there = scram.ScramClient(Credential("x,y=z", "t"), b"x" * 24)
        self.assertIn(b"n=x=2Cy=3Dz,", there.start())


class SlowChecker:
    """Takes its time."""

    credentialInterfaces = ()

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        self.asked.append(Deferred())
        return self.asked[-1]


class CheckerTests(SynchronousTestCase):
    """Other checkers in the place of ours."""

    def test_a_user_store_of_twisted_cred(self) -> None:
        store = InMemoryUsernamePasswordDatabaseDontUse(ops=b"s3cret")
        for secret, end in (("s3cret", Completed("ops")), ("wrong", Failed())):
            for taken in ([CRAM_MD5], [SCRAM_SHA_256]):
                one, other = server(Authenticator(store)), client(secret=secret)
                one.said[0] = mechanisms(*taken)
                talk(one, other)
                self.assertEqual(one.ends, [end])

    def test_what_comes_while_it_thinks_does_not_belong_there(self) -> None:
        checker = SlowChecker()
        one = server(Authenticator(checker))  # type: ignore[arg-type]
        one.hear(start(), step(b"ops x"), step(b"ops x"))
        self.assertEqual(one.kinds, ["Mechanisms", "Step", "Error"])
        checker.asked[0].callback(b"ops")
        self.assertEqual(len(one.ends), 1)
        self.assertIsInstance(one.ends[0], Broken)

    def test_cancelled_exchange_says_nothing_more(self) -> None:
        checker = SlowChecker()
        one = server(Authenticator(checker))  # type: ignore[arg-type]
        one.hear(start(), step(b"ops x"))
        one.exchange.cancel()
        one.hear(start())
        self.assertEqual((one.kinds, one.ends), (["Mechanisms", "Step"], []))

    def test_checker_that_fails_believes_nobody(self) -> None:
        for answer in (b"", (), None, b"\xff", ZeroDivisionError("boom")):
            checker = SlowChecker()
            one = server(Authenticator(checker))  # type: ignore[arg-type]
            one.hear(start(), step(b"ops x"))
            if isinstance(answer, Exception):
                checker.asked[0].errback(answer)
            else:
                checker.asked[0].callback(answer)
            self.assertEqual(one.ends, [Failed()], answer)
        self.flushLoggedErrors(ZeroDivisionError, UnicodeDecodeError)

    def test_checker_that_believes_without_looking_cannot_prove_that_it_knows(self) -> None:
        checker = SlowChecker()
        one, other = server(Authenticator(checker)), client()  # type: ignore[arg-type]
        talk(one, other)
        checker.asked[0].callback(b"ops")
        self.assertIsInstance(one.ends[0], Broken)

    def test_response_is_the_one_of_twisted_cred(self) -> None:
        theirs = CramMD5Credentials(b"host")
        challenge = theirs.getChallenge()
        response = cram_md5.response(b"ops", b"s3cret", challenge)
        theirs.setResponse(response)
        self.assertTrue(theirs.checkPassword(b"s3cret"))
        self.assertFalse(theirs.checkPassword(b"other"))


messages = st.one_of(
    st.builds(start, st.sampled_from([CRAM_MD5, SCRAM_SHA_256, "x"]), st.binary(max_size=40)),
    st.just(start()),
    st.just(start(SCRAM_SHA_256, b"n,,n=ops,r=abc")),
    st.builds(step, st.binary(max_size=60)),
    st.builds(
        lambda parts: step(b",".join(parts)),
        st.lists(
            st.sampled_from(
                [b"c=biws", b"r=abc", b"p=AAAA", b"v=", b"n", b"", b"m=", b"s=", b"i=1"]
            )
            | st.binary(max_size=8),
            max_size=6,
        ),
    ),
    st.builds(lambda names: mechanisms(*names), st.lists(st.sampled_from([CRAM_MD5, "x"]))),
    st.sampled_from([COMPLETED, FAILED, AuthenticationErrorMessage(error="x")]),
)


class FuzzTests(SynchronousTestCase):
    """Nothing that a peer can say raises, or is believed without the secret."""

    authenticator = Authenticator(of_mapping(SECRETS))

    @given(st.lists(messages, max_size=6))
    def test_authenticator_believes_nothing_of_it(self, said: list[Message]) -> None:
        one = server(self.authenticator)
        one.hear(*said)
        assert not any(isinstance(end, Completed) for end in one.ends)
        assert len(one.ends) <= 1

    @given(st.lists(messages, max_size=6))
    def test_authenticatee_ends_once(self, said: list[Message]) -> None:
        other = client()
        other.hear(*said)
        assert len(other.ends) <= 1
        assert not any(b"s3cret" in message.SerializeToString() for message in other.said)
