"""A framework with a credential, or without one where it is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mesoskit.driver import AuthenticationFailed, Credential, CredentialError, DriverSettings
from mesoskit.messages.mesos_pb2 import FrameworkInfo
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.wire.auth.admission import Admission
from mesoskit.wire.auth.authenticator import Authenticator
from mesoskit.wire.auth.checkers import of_mapping
from mesoskit.wire.auth.identity import Patience
from mesoskit.wire.endpoints import server_endpoint
from mesoskit.wire.link import Hello, Link
from mesoskit.wire.plan import Settling
from mesoskit.wire.stream import StreamFactory
from tests.driver.peers import FrameworkCase, Master

RIGHT = Credential("ops", "s3cret")


class Asking(Master):
    """
    A master that asks who comes.

    @ivar deaf: whether it never says anything to a proof.
    @ivar principals: who came.
    """

    deaf = False
    required: tuple[int, ...] = (3,)

    def listen(self, endpoint: str) -> None:
        self.principals: list[str | None] = []
        factory = StreamFactory(self, Hello(self.role), clock=self.host, settle=self.settle)
        server_endpoint(self.host, endpoint).listen(factory)

    def settle(self, session: Any) -> Settling:
        settling = Admission(Authenticator(of_mapping({"ops": "s3cret"})), self.required)(session)
        if self.deaf:
            settling.received = lambda message: None  # type: ignore[method-assign]
        return settling

    def connected(self, link: Link) -> None:
        self.principals.append(link.principal)
        super().connected(link)


class AuthenticationTests(FrameworkCase):
    """Against a master that wants to know."""

    def setUp(self) -> None:
        super().setUp()
        self.master.leave()
        self.master = self.asking = Asking(self.network)

    def check_refused(self, why: str, **more: Any) -> None:
        framework = self.framework(start=False, **more)
        running = framework.run()
        subscribed = framework.when_subscribed()
        self.advance()
        for waiting in (running, subscribed, framework.when_subscribed()):
            error = self.failureResultOf(waiting, AuthenticationFailed).value
            self.assertIn(why, str(error))
        attempts = len(self.asking.principals)
        self.advance(120)
        self.assertEqual(len(self.asking.principals), attempts)

    def test_with_the_right_secret(self) -> None:
        framework = self.framework(credential=RIGHT)
        self.assertTrue(framework.subscribed)
        self.assertEqual(self.asking.principals, ["ops"])

    def test_with_a_file(self) -> None:
        path = Path(self.mktemp())
        path.touch(0o600)
        path.write_text('{"principal": "ops", "secret": "s3cret"}')
        self.assertTrue(self.framework(credential=path).subscribed)
        path.chmod(0o644)
        with self.assertRaisesRegex(CredentialError, "others than its owner"):
            self.framework(credential=str(path))

    def test_principal_is_filled_in_and_stays(self) -> None:
        framework = self.framework(credential=RIGHT)
        framework.update(FrameworkInfo(user="", name="other"))
        self.advance()
        [subscribe] = self.master.of_type(Call.SUBSCRIBE)
        [update] = self.master.of_type(Call.UPDATE_FRAMEWORK)
        self.assertEqual(subscribe.subscribe.framework_info.principal, "ops")
        self.assertEqual(update.update_framework.framework_info.principal, "ops")
        self.assertFalse(self.framework(start=False).info.HasField("principal"))
        named = self.framework(start=False, credential=RIGHT, fields={"principal": "me"})
        self.assertEqual(named.info.principal, "me")

    def test_with_a_wrong_secret(self) -> None:
        self.check_refused("Master refused authentication", credential=Credential("ops", "x"))
        self.assertEqual(self.asking.principals, [])

    def test_with_none(self) -> None:
        self.check_refused("each framework must authenticate here")
        self.assertEqual(self.asking.principals, [])

    def test_it_authenticates_again_after_each_break(self) -> None:
        framework = self.framework(credential=RIGHT)
        for _ in range(3):
            self.host.cut()
            self.advance(10)
            self.assertTrue(framework.subscribed)
        self.assertEqual(self.asking.principals, ["ops"] * 4)

    def test_it_tries_again_where_nothing_is_answered(self) -> None:
        self.asking.deaf = True
        settings = DriverSettings(authentication=Patience(2, 4, 1))
        framework = self.framework(credential=RIGHT, settings=settings)
        self.advance(60)
        self.assertFalse(framework.subscribed)
        self.asking.deaf = False
        self.advance(60)
        self.assertTrue(framework.subscribed)
