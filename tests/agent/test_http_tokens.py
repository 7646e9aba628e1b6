"""Executors that must prove which container they are: Mesos' tokens over HTTP, ours at the door."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mesoskit.agent.executors import TOKEN_WANTED
from mesoskit.app.http_authentication import token_maker
from mesoskit.messages.executor_pb2 import Call
from mesoskit.messages.stream_pb2 import Role
from mesoskit.web.authentication import Realm
from mesoskit.web.authentication_basic import BasicAuthenticator
from mesoskit.web.authentication_jwt import JwtAuthenticator
from mesoskit.wire.auth import jwt
from mesoskit.wire.auth.checkers import of_mapping
from tests.agent.bench import FRAMEWORK_ID
from tests.agent.http_peers import ExecutorHttpTestCase, call, subscription, update
from tests.web.asking import ask
from tests.web.test_authentication import basic

KEY = b"0123456789abcdef0123456789abcdef"
REALM = "mesos-agent-executor"


class TokenCase(ExecutorHttpTestCase):
    """An agent that asks executors for proof, and one executor."""

    required = True

    def setUp(self) -> None:
        super().setUp()
        options = replace(
            self.service.state.options,
            authenticate_http_executors=self.required,
            authentication_token=token_maker(KEY),
        )
        self.service.state.options = options
        if self.required:
            self.service.guard.ask(
                Realm.EXECUTORS,
                JwtAuthenticator(REALM, KEY, self.world.reactor.seconds),
                BasicAuthenticator(REALM, of_mapping({"ops": "s"})),
            )
        self.run_task()

    @property
    def bearer(self) -> str:
        """What the executor finds in its environment, as it is shown."""
        return "Bearer " + self.environment["MESOS_EXECUTOR_AUTHENTICATION_TOKEN"]

    def claiming(self, **claims: str) -> str:
        """Return another token that is signed with the key."""
        mine = jwt.verify(self.bearer.partition(" ")[2], KEY, 0.0)
        return "Bearer " + jwt.sign({**mine, **claims}, KEY)


class TokenTests(TokenCase):
    """Over HTTP."""

    def test_token_says_what_mesos_has_it_say(self) -> None:
        said = jwt.verify(self.bearer.partition(" ")[2], KEY, 0.0)
        (executor,) = self.service.state.frameworks[FRAMEWORK_ID].executors.values()  # type: ignore[index]
        self.assertEqual({"fid": FRAMEWORK_ID, "eid": "e", "cid": executor.container}, said)

    def test_executor_with_its_token_lives_as_ever(self) -> None:
        stream = self.stream(subscription(), Authorization=self.bearer)
        self.assertEqual(["SUBSCRIBED", "LAUNCH"], stream.types())
        self.assertEqual(202, self.post(update(), Authorization=self.bearer)[0])
        self.turn()
        self.assertEqual("ACKNOWLEDGED", stream.types()[-1])
        self.assertEqual(["TASK_RUNNING"], self.master.states())

    def test_whoever_has_none_is_sent_away(self) -> None:
        for body in (subscription(), update(), call(Call.HEARTBEAT), b"garbage"):
            status, headers, text = self.post(body)
            self.assertEqual(401, status)
            self.assertEqual(
                f'Bearer realm="{REALM}",Basic realm="{REALM}"', headers["www-authenticate"]
            )
            self.assertIn(b'"Bearer" authenticator returned:\n401 Unauthorized.', text)

    def test_why_a_token_is_not_believed(self) -> None:
        forged = jwt.sign({"fid": FRAMEWORK_ID}, bytes(32))
        for shown, why in (
            ("Bearer", "Malformed 'Authorization' header"),
            (f"{self.bearer} x", "Malformed 'Authorization' header"),
            ("Digest x", "Scheme 'Digest' unsupported"),
            ('"><b> x', "Scheme '?' unsupported"),
            ("Bearer x", "Invalid JWT: Expected 3 components in token, got 1"),
            (f"Bearer {forged}", "Invalid JWT: Token signature does not match"),
            ("Bearer " + jwt.sign({}, KEY), "JWT claims missing"),
        ):
            status, headers, _ = self.post(update(), Authorization=shown)
            self.assertEqual(401, status)
            expected = f'error="invalid_token", error_description="{why}"'
            self.assertIn(expected, headers["www-authenticate"])

    def test_claims_must_be_those_of_the_call(self) -> None:
        self.stream(subscription(), Authorization=self.bearer)
        container = jwt.verify(self.bearer.partition(" ")[2], KEY, 0.0)["cid"]
        principal = f'{{"claims":{{"cid":"{container}","eid":"e","fid":"f"}}}}'
        why = (
            f"Authenticated principal '{principal}' does not contain an 'fid' claim with the"
            f" framework ID {FRAMEWORK_ID}, which is set in the call"
        )
        self.assertEqual((403, why), self.refusal(update(), self.claiming(fid="f")))
        status, why = self.refusal(update(), self.claiming(eid="x"))
        self.assertEqual(403, status)
        self.assertIn("does not contain an 'eid' claim with the executor ID e, which", why)
        status, why = self.refusal(subscription(), self.claiming(cid="old"))
        self.assertEqual(403, status)
        self.assertIn("does not contain a 'cid' claim with the correct active ContainerID", why)
        # Others are told first that there is no such thing, as by Mesos.
        self.assertEqual(
            (400, "Executor cannot be found"),
            self.refusal(subscription("other"), self.bearer),
        )

    def test_name_and_secret_are_no_claim(self) -> None:
        status, why = self.refusal(subscription(), basic("ops", "s"))
        self.assertEqual(403, status)
        self.assertIn("Authenticated principal 'ops' does not contain an 'fid' claim", why)

    def test_executor_cannot_speak_for_another(self) -> None:
        mine = self.bearer
        self.stream(subscription(), Authorization=mine)
        self.run_task("t2", "e2")
        theirs = self.bearer
        self.assertNotEqual(mine, theirs)
        stream = self.stream(subscription("e2"), Authorization=theirs)
        for body in (subscription("e2"), call(Call.MESSAGE, "e2", message={"data": b"x"})):
            self.assertEqual(403, self.refusal(body, mine)[0])
        self.assertFalse(stream.ended)

    def test_call_without_its_stream_is_still_heard(self) -> None:
        self.stream(subscription(), Authorization=self.bearer).leave()
        self.assertEqual(202, self.post(update(), Authorization=self.bearer)[0])
        self.assertEqual({}, self.service.state.proofs)

    def test_one_that_was_at_the_door_may_come_over_http(self) -> None:
        native = self.world.connect(
            self.service, Role.EXECUTOR, self.environment["MESOSKIT_EXECUTOR_TOKEN"]
        )
        self.world.send(native, subscription())
        self.assertEqual(202, self.post(update(), Authorization=self.bearer)[0])

    def refusal(self, body: Call, shown: str) -> tuple[int, str]:
        status, _, text = self.post(body, Authorization=shown)
        return status, text.decode()


class DoorTests(TokenCase):
    """Over native links."""

    def test_link_without_a_token_is_refused(self) -> None:
        native = self.world.connect(self.service, Role.EXECUTOR)
        self.turn()
        self.assertEqual(f"the peer said: {TOKEN_WANTED}", native.lost_why)
        self.assertEqual({}, self.service.state.peers)

    def test_our_own_token_is_taken(self) -> None:
        native = self.world.connect(
            self.service, Role.EXECUTOR, self.environment["MESOSKIT_EXECUTOR_TOKEN"]
        )
        self.world.send(native, subscription())
        self.assertIsNone(native.lost_why)
        self.assertEqual(2, len(native.messages))


class UnrequiredTests(TokenCase):
    """An agent with a key that asks nobody: as with Mesos, executors have tokens all the same."""

    required = False

    def test_tokens_are_given_and_not_looked_at(self) -> None:
        stream = self.stream(subscription(), Authorization="Bearer nonsense")
        self.assertEqual(["SUBSCRIBED", "LAUNCH"], stream.types())
        self.assertTrue(self.bearer)


class SecrecyTests(TokenCase):
    """Tokens are nobody else's business."""

    def test_no_page_shows_them(self) -> None:
        self.stream(subscription(), Authorization=self.bearer)
        secrets = [
            self.environment[name]
            for name in ("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "MESOSKIT_EXECUTOR_TOKEN")
        ]
        turn: Callable[[], None] = self.turn
        for path in ("state", "flags", "containers", "metrics/snapshot", "files/debug"):
            answer: Any = ask(self.service.port, f"GET /{path}", turn)
            self.assertEqual(200, answer.status, path)
            for secret in secrets:
                self.assertNotIn(secret.encode(), answer.body)
        self.assertNotIn("lambda", repr(self.service.state.options))
        self.assertNotIn("authentication_token", repr(self.service.state.options))
