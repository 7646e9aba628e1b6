"""A daemon's authorizer at its doors: patience with it, and no harm by its errors."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mesoskit.model.authorization import (
    Action,
    IAuthorizer,
    Subject,
    Thing,
    needs,
    needs_inside,
    needs_nothing,
)
from mesoskit.web.authentication import Guard, IHttpAuthenticator, Realm
from mesoskit.web.authorizing import PATIENCE, Authorizing, Careful, needs_text
from mesoskit.web.routes import Reply, Route, RoutesResource
from mesoskit.wire.exchange import Asked, Away, Principal
from mesoskit.wire.port import PortFactory
from tests.base import SynchronousTestCase
from tests.web.asking import Answer, ask


@implementer(IAuthorizer)
class Remote:
    """
    An authorizer that must ask somebody.

    @ivar asked: about whom, and what fires when it has heard.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, Deferred[None]]] = []
        self.allowed: set[str | None] = set()

    def prepare(self, principal: str | None) -> Deferred[None]:
        heard: Deferred[None] = Deferred()
        self.asked.append((principal, heard))
        return heard

    def allows(self, principal: str | None, action: Action, thing: Thing) -> bool:
        if principal == "broken":
            raise RuntimeError("out of order")
        return principal in self.allowed


@implementer(IHttpAuthenticator)
class Believing:
    """Takes who asks at his word."""

    scheme = "Who"

    def authenticate(self, asked: Asked) -> Principal | Away:
        who = asked.header("x-who")
        return Principal(None, {"fid": "f"}) if who == "claims" else Principal(who)


def secret(service: Any, request: Any) -> Reply:
    """Show who may see it."""
    return Reply(body=f"{request.principal} {request.subject.may(Action.VIEW_FLAGS)}".encode())


class Doors(SynchronousTestCase):
    """Routes wait for an authorizer that must ask somebody."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.remote = Remote()
        self.authorizing = Authorizing(Careful(self.remote), self.clock)
        guard = Guard("master", self.clock, {Realm.READONLY: [Believing()]}, nameless=True)
        resource = RoutesResource(
            None,
            [Route("secret", secret, realm=Realm.READONLY)],
            "master",
            self.clock,
            guard=guard,
            authorizing=self.authorizing,
            needs={"secret": needs(Action.VIEW_FLAGS)},
        )
        self.port = PortFactory(None, lambda: resource, clock=self.clock)

    def ask(self, who: str) -> Answer:
        return ask(self.port, "GET /secret", self.answer, X_Who=who)

    def answer(self) -> None:
        self.clock.advance(0)

    def test_whoever_may(self) -> None:
        def heard() -> None:
            self.remote.allowed.add("p")
            self.remote.asked[0][1].callback(None)
            self.clock.advance(0)

        self.answer = heard  # type: ignore[method-assign]
        answer = self.ask("p")
        self.assertEqual((answer.status, answer.body), (200, b"p True"))
        self.assertEqual(self.remote.asked[0][0], "p")

    def test_whoever_may_not(self) -> None:
        self.answer = lambda: self.remote.asked[0][1].callback(None)  # type: ignore[method-assign]
        answer = self.ask("p")
        self.assertEqual((answer.status, answer.body), (403, b"403 Forbidden."))

    def test_nobody_is_answered_before(self) -> None:
        self.assertEqual(self.ask("p").status, 0)

    def test_not_when_it_fails(self) -> None:
        def failed() -> None:
            self.remote.asked[0][1].errback(RuntimeError("no answer"))

        self.answer = failed  # type: ignore[method-assign]
        self.assertEqual(self.ask("p").status, 503)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_nor_when_it_takes_too_long(self) -> None:
        self.answer = lambda: self.clock.advance(PATIENCE + 1)  # type: ignore[method-assign]
        answer = self.ask("p")
        self.assertEqual(answer.status, 503)
        self.assertIn(b"what is allowed", answer.body)
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_nor_when_it_raises_an_error(self) -> None:
        self.answer = lambda: self.remote.asked[-1][1].callback(None)  # type: ignore[method-assign]
        for _ in range(3):
            self.assertEqual(self.ask("broken").status, 403)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1, "a row of them is one line")

    def test_claims_without_a_name_may_nothing(self) -> None:
        self.remote.allowed |= {None, "claims", ""}
        self.answer = lambda: self.remote.asked[0][1].callback(None)  # type: ignore[method-assign]
        self.assertEqual(self.ask("claims").status, 403)


class OfContainers(SynchronousTestCase):
    """Executors who have proved which container is theirs."""

    def setUp(self) -> None:
        self.authorizing = Authorizing(Remote(), Clock())

    def may(self, action: Action, root: str, **claims: str) -> bool:
        subject = self.authorizing.subject(Principal(None, claims))
        return subject.may(action, Thing(id=f"{root}.n", root=root))

    def test_they_may_do_what_is_done_within_it(self) -> None:
        for name in ("LAUNCH", "WAIT", "KILL", "REMOVE"):
            action = Action[f"{name}_NESTED_CONTAINER"]
            self.assertTrue(self.may(action, "c", fid="f", eid="e", cid="c"), name)
        self.assertTrue(self.may(Action.LAUNCH_NESTED_CONTAINER_SESSION, "c", cid="c"))
        self.assertTrue(self.may(Action.ATTACH_CONTAINER_OUTPUT, "c", cid="c"))

    def test_and_nothing_else(self) -> None:
        self.assertFalse(self.may(Action.LAUNCH_NESTED_CONTAINER, "another", cid="c"))
        self.assertFalse(self.may(Action.LAUNCH_NESTED_CONTAINER, "", cid=""))
        self.assertFalse(self.may(Action.ATTACH_CONTAINER_INPUT, "c", cid="c"))
        self.assertFalse(self.may(Action.LAUNCH_STANDALONE_CONTAINER, "c", cid="c"))
        self.assertFalse(self.may(Action.VIEW_FLAGS, "c", cid="c"))


class Carriers(SynchronousTestCase):
    """Calls that belong to links wait as well."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.remote = Remote()
        self.authorizing = Authorizing(self.remote, self.clock)

    def test_who_asks_is_known_when_questions_can_be_answered(self) -> None:
        found: Any = self.authorizing.identify(lambda asked: Principal("p"))(None)  # type: ignore[arg-type]
        self.assertNoResult(found)
        self.remote.asked[0][1].callback(None)
        self.assertEqual(self.successResultOf(found), Principal("p"))

    def test_who_is_sent_away_need_not_be_asked_about(self) -> None:
        away = Away(401)
        found = self.authorizing.identify(lambda asked: away)(None)  # type: ignore[arg-type]
        self.assertIs(found, away)
        self.assertEqual(self.remote.asked, [])

    def test_who_cannot_be_asked_about_is_sent_away(self) -> None:
        later: Deferred[Any] = Deferred()
        found: Any = self.authorizing.identify(lambda asked: later)(None)  # type: ignore[arg-type]
        later.callback(None)
        self.assertEqual(self.remote.asked[0][0], None)
        self.remote.asked[0][1].errback(RuntimeError("no answer"))
        self.assertEqual(self.successResultOf(found).status, 503)
        self.flushLoggedErrors(RuntimeError)

    def test_nothing_stands_between_where_nobody_decides(self) -> None:
        def identify(asked: Any) -> None:
            return None

        self.assertIs(Authorizing(None, self.clock).identify(identify), identify)
        self.assertIsNone(Authorizing(None, self.clock).prepare("p"))


class CarefulTests(SynchronousTestCase):
    """An authorizer of somebody else's."""

    def test_it_is_one_itself(self) -> None:
        self.assertTrue(verifyObject(IAuthorizer, Careful(Remote())))

    def test_what_is_no_answer_is_a_yes_or_no(self) -> None:
        class Odd(Remote):
            def allows(self, *_: Any) -> Any:
                return "yes"

        self.assertIs(Subject("p", Careful(Odd())).may(Action.VIEW_FLAGS), True)

    def test_an_error_on_the_way_is_a_failure(self) -> None:
        class Broken(Remote):
            def prepare(self, principal: str | None) -> Any:
                raise RuntimeError("broken")

        ready: Any = Authorizing(Careful(Broken()), Clock()).prepare("p")
        self.assertEqual(self.successResultOf(ready).status, 503)
        self.flushLoggedErrors(RuntimeError)

        class Failing(Remote):
            def prepare(self, principal: str | None) -> Any:
                return fail(RuntimeError("failed"))

        ready = Authorizing(Careful(Failing()), Clock()).prepare("p")
        self.assertEqual(self.successResultOf(ready).status, 503)
        self.flushLoggedErrors(RuntimeError)


class HelpTests(SynchronousTestCase):
    """Help pages say what one must be allowed."""

    def test_sentences(self) -> None:
        self.assertIn("is refused (view_flags)", needs_text(needs(Action.VIEW_FLAGS)))
        both = needs_inside(Action.VIEW_TASK, Action.VIEW_FRAMEWORK, Action.VIEW_TASK)
        self.assertIn("(view_tasks, view_frameworks)", needs_text(both))
        for nothing in (None, needs_nothing("because")):
            self.assertEqual(needs_text(nothing), "")

    def test_they_are_on_the_pages(self) -> None:
        routes = [Route("secret", secret), Route("open", secret)]
        table = {"secret": needs(Action.VIEW_FLAGS), "open": needs_nothing("because")}
        resource = RoutesResource(None, routes, "master", Clock(), needs=table)
        pages = {path: resource.help.page(["master", path]) or "" for path in table}
        self.assertIn("### AUTHORIZATION ###", pages["secret"])
        self.assertIn("view_flags", pages["secret"])
        self.assertNotIn("AUTHORIZATION", pages["open"])
