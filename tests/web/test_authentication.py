"""What is asked of those who come over HTTP, and how they are refused."""

from __future__ import annotations

import hmac
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from mesoskit.agent import http as agent_http
from mesoskit.master import http as master_http
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.web.authentication import PATIENCE, Guard, Realm, combined
from mesoskit.web.authentication_basic import BasicAuthenticator, IPrincipal, PortalChecker
from mesoskit.web.authentication_jwt import JwtAuthenticator
from mesoskit.web.routes import Reply, Route
from mesoskit.wire.auth import jwt
from mesoskit.wire.auth.checkers import of_file, of_mapping
from mesoskit.wire.auth.credentials import credentials_file
from mesoskit.wire.auth.failures import EVERY, FREE, Failures, address_of
from mesoskit.wire.exchange import Asked, Away, Principal
from mesoskit.wire.port import PortFactory
from tests.base import SynchronousTestCase
from tests.master.bench import scheduler_call, subscription
from tests.master.http_peers import Connection, HttpTestCase
from tests.web.asking import Answer, ask

SECRETS = {"ops": "s3:cret", "größe": "gehéim"}


def basic(principal: str, secret: str) -> str:
    """Return an C{Authorization} header."""
    return "Basic " + b64encode(f"{principal}:{secret}".encode()).decode()


#: Where Mesos has its endpoints (C{src/master/master.cpp}, C{src/slave/slave.cpp},
#: C{src/files/files.cpp}, libprocess); what is not here is ours.
MESOS = {
    Realm.OPEN: "health version help redirect system/stats.json __processes__",
    Realm.READONLY: """flags frameworks maintenance/status metrics/snapshot registrar(1)/registry
        roles slaves state state-summary tasks files/browse files/read files/download files/debug
        allocator/offer_constraints_debug containers containerizer/debug monitor/statistics""",
    Realm.READWRITE: """api/v1 create-volumes destroy-volumes logging/toggle machine/down machine/up
        maintenance/schedule profiler/start profiler/stop quota reserve teardown unreserve
        weights""",
    Realm.FRAMEWORKS: "api/v1/scheduler",
    Realm.EXECUTORS: "api/v1/executor",
}


class Asking:
    """A request, as far as it counts here."""

    path = "/state"
    method = "GET"

    def __init__(self, authorization: str | None = None, peer: str = "10.0.0.1:4000") -> None:
        self.peer = peer
        self._authorization = authorization

    def header(self, name: str) -> str | None:
        return self._authorization if name == "authorization" else None


@implementer(ICredentialsChecker)
class Slow:
    """A checker whose answers wait until the test lets them come."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self) -> None:
        self.waiting: list[tuple[Any, Deferred[Any]]] = []
        self.cancelled = 0

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred(self._cancel)
        self.waiting.append((credentials, answer))
        return answer

    def _cancel(self, answer: object) -> None:
        self.cancelled += 1

    def let(self, number: int = 0) -> None:
        credentials, answer = self.waiting.pop(number)
        answer.callback(credentials.username)


class RealmTests(HttpTestCase):
    """Every route says whom it asks, and means it."""

    def test_every_route_is_in_a_realm_or_says_that_it_is_in_none(self) -> None:
        for room in (master_http, agent_http):
            for route in room.ROUTES:
                self.assertIsNotNone(
                    route.realm, f"{room.__name__}: {route.path!r} says no realm (Realm.OPEN: none)"
                )

    def test_realms_are_those_of_mesos(self) -> None:
        theirs = {path: realm for realm, paths in MESOS.items() for path in paths.split()}
        for room in (master_http, agent_http):
            for route in room.ROUTES:
                if route.path in theirs:
                    self.assertIs(theirs[route.path], route.realm, route.path)
                else:
                    self.assertIn(route.path, ("", "metrics", "offers/explain"))

    def test_nobody_is_asked_where_no_flag_says_so(self) -> None:
        for path in ("state", "flags", "metrics/snapshot", "logging/toggle"):
            self.assertEqual(200, self.ask(f"GET /{path}").status, path)
        # What proves who asks means nothing where nobody asks.
        self.assertEqual(200, self.ask("GET /state", Authorization=basic("x", "y")).status)

    def test_every_route_asks_as_its_realm_says(self) -> None:
        for realm in set(Realm) - {Realm.OPEN}:
            name = f"mesos-master-{realm.value}"
            self.service.guard.ask(realm, BasicAuthenticator(name, of_mapping(SECRETS)))
        for route in self.service.resource().table:
            for path in (route.path, f"master/{route.path}") if route.prefixed else (route.path,):
                for method in ("GET", "POST", "DELETE"):
                    answer = self.ask(f"{method} /{path}")
                    if route.realm is Realm.OPEN:
                        self.assertNotIn(answer.status, (401, 403), path)
                        continue
                    self.assertEqual((401, b"401 Unauthorized."), (answer.status, answer.body))
                    assert route.realm is not None
                    self.assertEqual(
                        f'Basic realm="mesos-master-{route.realm.value}"',
                        answer.headers["www-authenticate"],
                    )
                    self.assertEqual("text/plain; charset=utf-8", answer.headers["content-type"])
                answer = self.ask(f"GET /{path}", Authorization=basic("ops", "s3:cret"))
                self.assertNotEqual(401, answer.status, path)

    def test_whoever_is_nobody_is_not_even_sent_to_the_leader(self) -> None:
        self.service.guard.ask(Realm.READONLY, BasicAuthenticator("r", of_mapping(SECRETS)))
        self.service.leader = None
        self.assertEqual(401, self.ask("GET /state").status)
        shown = basic("ops", "s3:cret")
        self.assertEqual(503, self.ask("GET /state", Authorization=shown).status)

    def test_handlers_are_told_who_asks(self) -> None:
        told: list[str | None] = []

        def tell(service: Any, request: Any) -> Any:
            told.append(request.principal)
            return Reply()

        row = Route("tell", tell, realm=Realm.READONLY)
        resource = master_http.MasterResource(self.service, (row,))
        self.patch(self.service, "resource", lambda: resource)
        self.service.port = PortFactory(None, self.service.resource, clock=self.clock)
        self.ask("GET /tell", Authorization=basic("ops", "s3:cret"))
        self.service.guard.ask(Realm.READONLY, BasicAuthenticator("r", of_mapping(SECRETS)))
        self.ask("GET /tell", Authorization=basic("ops", "s3:cret"))
        self.assertEqual([None, "ops"], told)

    def test_pages_of_other_sites_change_nothing(self) -> None:
        """A browser that knows a secret shows it for whatever page it is on."""
        self.service.guard.ask(Realm.READWRITE, BasicAuthenticator("r", of_mapping(SECRETS)))
        shown = basic("ops", "s3:cret")
        for path in ("teardown", "master/teardown", "api/v1", "weights"):
            statuses = [
                self.ask(f"POST /{path}", Authorization=shown, Sec_Fetch_Site=site).status
                for site in ("cross-site", "same-origin", "same-site", "none")
            ]
            self.assertEqual(403, statuses[0], path)
            self.assertNotIn(403, statuses[1:], path)
        # To look is no harm.
        self.assertEqual(200, self.ask("GET /state", Sec_Fetch_Site="cross-site").status)
        self.assertEqual(200, self.ask("POST /state", Sec_Fetch_Site="cross-site").status)

    def test_metrics_count_what_became_of_it(self) -> None:
        self.service.guard.ask(Realm.READONLY, BasicAuthenticator("r", of_mapping(SECRETS)))
        self.ask("GET /state")
        self.ask("GET /state", Authorization=basic("ops", "wrong"))
        for _ in range(2):
            answer = self.ask("GET /metrics/snapshot", Authorization=basic("ops", "s3:cret"))
        shown = {
            name.rpartition("/")[2]: value
            for name, value in answer.json().items()
            if name.startswith("mesoskit/http_authentication/")
        }
        self.assertEqual({"believed": 2.0, "missing": 1.0, "failed": 1.0, "limited": 0.0}, shown)

    def ask(self, request: str, **headers: str) -> Answer:
        return ask(self.service.port, request, self.turn, **headers)


class BasicTests(SynchronousTestCase):
    """Names and secrets."""

    def setUp(self) -> None:
        self.authenticator = BasicAuthenticator("here", of_mapping(SECRETS))

    def who(self, header: str | None) -> Any:
        said: Any = self.authenticator.authenticate(Asking(header))
        return self.successResultOf(said) if isinstance(said, Deferred) else said

    def test_right_secrets(self) -> None:
        for name, secret in SECRETS.items():
            self.assertEqual(Principal(name), self.who(basic(name, secret)))
        self.assertEqual(Principal("ops"), self.who(basic("ops", "s3:cret").replace("B", "b", 1)))

    def test_everything_else_is_refused_alike(self) -> None:
        refused = Away(401, "401 Unauthorized.", {"WWW-Authenticate": 'Basic realm="here"'})
        for header in (
            None,
            "",
            "Basic",
            "Basic ",
            "Bearer x",
            basic("ops", "wrong"),
            basic("ops", ""),
            basic("nobody", "s3:cret"),
            basic("", "s3:cret"),
            "Basic " + b64encode(b"ops").decode(),
            "Basic " + b64encode(b"\xff:s").decode(),
            "Basic !!!",
            "Basic b3BzOnM",
            basic("ops", "s3:cret") + ", " + basic("ops", "s3:cret"),
            basic("x" * 100_000, "s"),
        ):
            self.assertEqual(refused, self.who(header), header)

    @given(st.text(max_size=40))
    def test_nonsense_is_refused(self, header: str) -> None:
        for one in (header, f"Basic {header}"):
            self.assertIsInstance(self.who(one), Away)

    def test_unknown_names_cost_what_wrong_secrets_cost(self) -> None:
        """The same is done for both: one comparison, of digests of one length."""
        compared: list[tuple[int, int]] = []

        def compare(a: bytes, b: bytes) -> bool:
            compared.append((len(a), len(b)))
            return a == b

        self.patch(hmac, "compare_digest", compare)
        for name, secret in (("ops", "x"), ("ops", "x" * 500), ("nobody", "x"), ("nobody", "")):
            self.who(basic(name, secret))
        self.assertEqual([(32, 32)] * 4, compared)

    def test_file_is_read_again_when_it_changes(self) -> None:
        path = Path(self.mktemp())

        def write(secret: str) -> None:
            path.write_text(json.dumps({"credentials": [{"principal": "p", "secret": secret}]}))
            path.chmod(0o600)

        write("one")
        self.authenticator = BasicAuthenticator("here", of_file(credentials_file(str(path))))
        self.assertEqual(Principal("p"), self.who(basic("p", "one")))
        write("another")
        self.assertEqual(401, self.who(basic("p", "one")).status)
        self.assertEqual(Principal("p"), self.who(basic("p", "another")))

    def test_portals_and_checkers_of_a_site_s_own(self) -> None:
        @implementer(IPrincipal)
        class Somebody:
            principal = "mapped"

        @implementer(IRealm)
        class Realms:
            def requestAvatar(self, avatar_id: Any, mind: Any, *wanted: Any) -> Any:
                return IPrincipal, Somebody(), lambda: left.append(avatar_id)

        left: list[bytes] = []
        portal = Portal(Realms(), [of_mapping(SECRETS)])
        self.authenticator = BasicAuthenticator("here", PortalChecker(portal))
        self.assertEqual(Principal("mapped"), self.who(basic("ops", "s3:cret")))
        self.assertEqual([b"ops"], left)
        self.assertEqual(401, self.who(basic("ops", "wrong")).status)


class CombinedTests(SynchronousTestCase):
    """Several authenticators of a realm, as Mesos combines them."""

    def guard(self, nameless: bool = True) -> Guard:
        guard = Guard("agent", Clock(), nameless=nameless)
        guard.ask(
            Realm.READONLY,
            BasicAuthenticator("r", of_mapping(SECRETS)),
            JwtAuthenticator("r", b"k" * 32, lambda: 1000.0),
        )
        return guard

    def test_refusals_are_told_together(self) -> None:
        said: Any = self.guard().identify(Realm.READONLY, Asking())
        self.assertEqual(
            Away(
                401,
                '"Basic" authenticator returned:\n401 Unauthorized.\n\n'
                '"Bearer" authenticator returned:\n401 Unauthorized.',
                {"WWW-Authenticate": 'Basic realm="r",Bearer realm="r"'},
            ),
            said,
        )

    def test_one_that_believes_is_enough(self) -> None:
        guard = self.guard()
        shown = basic("ops", "s3:cret")
        self.assertEqual(Principal("ops"), guard.identify(Realm.READONLY, Asking(shown)))
        token = jwt.sign({"fid": "f"}, b"k" * 32)
        said = guard.identify(Realm.READONLY, Asking(f"Bearer {token}"))
        self.assertEqual(Principal(None, {"fid": "f"}), said)
        self.assertEqual('{"claims":{"fid":"f"}}', str(said))
        # The master has no use for claims alone.
        said = self.guard(nameless=False).identify(Realm.READONLY, Asking(f"Bearer {token}"))
        assert isinstance(said, Away)
        self.assertEqual(403, said.status)
        self.assertIn("contains claims, but no value string", said.why)

    def test_forbidden_counts_only_where_nobody_says_unauthorized(self) -> None:
        no, never = Away(401, "no", {"WWW-Authenticate": "A"}), Away(403, "never")
        self.assertEqual(never, combined([("A", never)]))
        both = combined([("A", never), ("B", no)])
        self.assertEqual((401, '"B" authenticator returned:\nno'), (both.status, both.why))
        self.assertEqual(403, combined([("A", never), ("B", never)]).status)


class BrokenTests(HttpTestCase):
    """An authenticator of somebody else's that does not work."""

    def test_nobody_comes_in_and_nothing_breaks(self) -> None:
        class Broken:
            scheme = "Broken"

            def authenticate(self, asked: Asked) -> Principal:
                raise ZeroDivisionError("database password is x")

        self.service.guard.ask(Realm.READONLY, Broken())
        self.service.guard.ask(Realm.FRAMEWORKS, Broken())
        answer = ask(self.service.port, "GET /state", self.turn)
        self.assertEqual(503, answer.status)
        self.assertNotIn(b"password", answer.body)
        self.assertEqual(503, self.post(subscription())[0])
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))


class FailureTests(SynchronousTestCase):
    """Guessing is slow."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.guard = Guard("master", self.clock)
        self.guard.ask(Realm.READONLY, BasicAuthenticator("r", of_mapping(SECRETS)))

    def status(self, secret: str | None, peer: str = "10.0.0.1:4000") -> int:
        shown = None if secret is None else basic("ops", secret)
        said = self.guard.identify(Realm.READONLY, Asking(shown, peer))
        return said.status if isinstance(said, Away) else 200

    def test_an_address_that_fails_too_often_is_not_looked_at(self) -> None:
        statuses = [self.status(f"guess{number}") for number in range(FREE + 5)]
        self.assertEqual([401] * FREE + [429] * 5, statuses)
        self.assertEqual(429, self.status("s3:cret"))
        self.assertEqual(429, self.status("other", "10.0.0.1:5000"))
        self.assertEqual(200, self.status("s3:cret", "10.0.0.2:4000"))
        self.assertEqual(401, self.status(None))
        self.assertEqual((FREE, 7), (self.guard.failures.count, self.guard.failures.limited))

    def test_it_may_try_again_now_and_then(self) -> None:
        for number in range(FREE):
            self.status(f"guess{number}")
        said: Any = self.guard.identify(Realm.READONLY, Asking(basic("ops", "x")))
        self.assertEqual("2", said.headers["Retry-After"])
        self.clock.advance(EVERY)
        self.assertEqual([401, 429], [self.status("x"), self.status("x")])
        self.clock.advance(EVERY)
        self.assertEqual([200] * 5, [self.status("s3:cret") for _ in range(5)])

    def test_whoever_was_believed_there_works_on(self) -> None:
        self.assertEqual(200, self.status("s3:cret"))
        for number in range(2 * FREE):
            self.status(f"guess{number}")
        self.assertEqual([429, 200], [self.status("x"), self.status("s3:cret")])

    def test_all_that_is_remembered_is_bounded(self) -> None:
        failures = Failures(self.clock)
        for number in range(10_000):
            failures.failed(f"10.{number >> 8}.{number & 255}.1:1")
            failures.believed("10.0.0.1:1", f"Basic {number}")
        self.assertLessEqual(len(failures._until), 4096)
        self.assertLessEqual(len(failures._believed), 4096)
        self.assertNotIn(b"Basic", b"".join(failures._believed))

    def test_addresses(self) -> None:
        for peer, address in (
            ("127.0.0.1:80", "127.0.0.1"),
            ("[2001:db8::1:2:3:4]:80", "2001:db8::/64"),
            ("[fe80::1%eth0]:80", "fe80::/64"),
            ("unix", "unix"),
            ("", ""),
        ):
            self.assertEqual(address, address_of(peer))


class SlowTests(HttpTestCase):
    """A checker that takes its time."""

    def setUp(self) -> None:
        super().setUp()
        self.checker = Slow()
        for realm in (Realm.READONLY, Realm.FRAMEWORKS):
            self.service.guard.ask(realm, BasicAuthenticator("r", self.checker))

    def open(self, request: bytes) -> tuple[Any, Any]:
        protocol: Any = self.service.port.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
        transport = StringTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(request)
        self.turn()
        return protocol, transport

    def state(self) -> bytes:
        shown = basic("ops", "x")
        return f"GET /state HTTP/1.1\r\nHost: x\r\nAuthorization: {shown}\r\n\r\n".encode()

    def test_answer_comes_when_it_is_known_who_asks(self) -> None:
        _, transport = self.open(self.state())
        self.assertEqual(b"", transport.value())
        self.checker.let()
        self.turn()
        self.assertIn(b"200 OK", transport.value())

    def test_one_that_takes_too_long_is_given_up(self) -> None:
        _, transport = self.open(self.state())
        self.clock.advance(PATIENCE + 0.1)
        self.assertIn(b"503 ", transport.value())
        self.assertEqual(1, self.checker.cancelled)
        self.flushLoggedErrors()

    def test_failure_is_logged_and_not_told(self) -> None:
        _, transport = self.open(self.state())
        self.checker.waiting.pop()[1].errback(ZeroDivisionError("database password is x"))
        self.assertIn(b"503 ", transport.value())
        self.assertNotIn(b"password", transport.value())
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_client_that_leaves_meanwhile(self) -> None:
        protocol, transport = self.open(self.state())
        protocol.connectionLost(Failure(ConnectionDone()))
        self.checker.let()
        self.assertEqual(b"", transport.value())

    def test_wrong_secret(self) -> None:
        _, transport = self.open(self.state())
        self.checker.waiting.pop()[1].errback(UnauthorizedLogin())
        self.assertIn(b"401 ", transport.value())

    def test_calls_of_a_client_do_not_overtake_each_other(self) -> None:
        stream = Connection(self)
        stream.send(self.request(subscription(), Authorization=basic("ops", "x")))
        self.checker.let()
        self.turn()
        head, _, _ = stream.heard.partition(b"\r\n\r\n")
        stream_id = head.decode().split("Mesos-Stream-Id: ")[1].split("\r\n")[0]
        (framework,) = self.service.state.frameworks.values()
        order: list[str] = []
        calls = Connection(self)
        for kind in (Call.SUPPRESS, Call.REVIVE, Call.SUPPRESS):
            call = scheduler_call(kind, framework.id)
            calls.send(self.request(call, stream_id, Authorization=basic("ops", "x")))
        received = self.service.peers.received
        self.patch(
            self.service.schedulers,
            "receiver",
            _Watched(received, order),
        )
        self.checker.let(1)
        self.checker.let(1)
        self.assertEqual([], order)
        self.checker.let()
        self.turn()
        self.assertEqual(["SUPPRESS", "REVIVE", "SUPPRESS"], order)
        self.assertEqual([202] * 3, [status for status, _, _ in calls.answers()])
        self.assertEqual({}, self.service.schedulers._unknown)


class _Watched:
    """A receiver that remembers in which order calls come."""

    def __init__(self, received: Any, order: list[str]) -> None:
        self._received = received
        self._order = order

    def received(self, link: Any, message: Any, call: Any) -> None:
        self._order.append(Call.Type.Name(message.type))
        self._received(link, message, call)
