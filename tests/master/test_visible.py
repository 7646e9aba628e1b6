"""What somebody may see of the cluster: endpoint by endpoint, call by call, event by event."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from mesoskit.cluster.memory import MemoryStore
from mesoskit.master import authorizing, documents, webui
from mesoskit.master.answers import TREES, Listing
from mesoskit.master.fragments import Fragments
from mesoskit.master.http import MasterResource
from mesoskit.master.options import MasterOptions
from mesoskit.master.service import MasterService
from mesoskit.master.visible import EVERYTHING, Viewer
from mesoskit.messages.master_pb2 import Call as OperatorCall
from mesoskit.messages.mesos_pb2 import CommandInfo
from mesoskit.messages.pieces import json_pieces
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.model.authorization import Subject
from mesoskit.model.authorization_acls import LocalAuthorizer
from mesoskit.model.events import PeerKind
from mesoskit.web import routes
from mesoskit.web.authentication import Guard, IHttpAuthenticator, Realm
from mesoskit.wire.exchange import Asked, Away, Principal
from tests.base import SynchronousTestCase
from tests.master.bench import (
    AWARE,
    Bench,
    acknowledge,
    executor,
    registration,
    scheduler_call,
    subscription,
    task,
    update,
)
from tests.model.test_authorization import rules
from tests.web.asking import Answer, ask

#: C{eng} sees what users C{alice} and C{root} have and the roles under C{eng}, C{all} sees all.
ACLS: dict[str, Any] = {
    name: [(["all"], "ANY"), (["eng"], ["alice"]), ("ANY", "NONE")]
    for name in ("view_frameworks", "view_tasks", "view_executors", "access_sandboxes")
} | {
    "view_roles": [(["all"], "ANY"), (["eng"], ["eng", "eng/%", "*"]), ("ANY", "NONE")],
    "view_flags": [(["all"], "ANY"), ("ANY", "NONE")],
    "get_endpoints": [(["all"], "ANY"), ("ANY", "NONE")],
    "get_quotas": [(["all"], "ANY"), ("ANY", "NONE")],
    "teardown_frameworks": [(["all"], "ANY"), (["eng"], ["marathon"]), ("ANY", "NONE")],
}

#: Paths that are answered by what is visible, and what of it must not be seen by whom.
PATHS = (
    "/state",
    "/state-summary",
    "/slaves",
    "/frameworks",
    "/tasks?limit=100",
    "/roles",
    "/offers/explain?role=eng",
    "/allocator/offer_constraints_debug",
    "/registrar(1)/registry",
)

_OF_ROLES = (
    "/slaves",
    "/roles",
    "/allocator/offer_constraints_debug",
    "/registrar(1)/registry",
)


@implementer(IHttpAuthenticator)
class Believing:
    """Takes who asks at his word."""

    scheme = "Who"

    def authenticate(self, asked: Asked) -> Principal | Away:
        who = asked.header("x-who")
        return Principal(None, {"fid": "f"}) if who == "claims" else Principal(who)


def populated(**options: Any) -> Bench:
    """
    Return a cluster of two users.

    C{alice} and C{bob} have a framework each, with a task, an executor, a completed task and a
    completed framework; one of alice's tasks runs as root. Everything of bob's has C{bob} in it.
    """
    bench = Bench(hostname="127.0.0.1", ip="127.0.0.1", port=25050, **options)
    amounts = "cpus:8;mem:8192;cpus(eng):1;mem(bobs):64;cpus(eng/web):1"
    agent = bench.connect(PeerKind.AGENT)
    bench.receive(agent, registration("127.0.0.1", amounts, 25051))
    for user, role, principal in (("alice", "eng", "marathon"), ("bob", "bobs", "bobbin")):
        for ended in (True, False):
            named = f"{user}-{'ended' if ended else 'lives'}"
            framework, framework_id = bench.subscribe(
                AWARE,
                name=named,
                user=user,
                role=role,
                principal=principal,
                failover_timeout=1000.0,
            )
            offer = bench.offer(framework)
            done = task(offer, f"{named}-done", "cpus:0.5;mem:64")
            runs = task(
                offer, f"{named}-runs", "cpus:0.5;mem:64", executor=executor(f"{named}-executor")
            )
            of_root = task(offer, f"{named}-root", "cpus:0.5;mem:64")
            of_root.command.CopyFrom(CommandInfo(value="true", user="root"))
            bench.launch(framework, offer, done, runs, of_root)
            for state in ("TASK_RUNNING", "TASK_FINISHED"):
                bench.receive(agent, update(offer, done.task_id.value, state))
                bench.receive(framework, acknowledge(offer, done.task_id.value, state))
            bench.receive(agent, update(offer, runs.task_id.value, "TASK_RUNNING"))
            if ended:
                bench.receive(framework, scheduler_call(Call.TEARDOWN, framework_id))
                for info in (done, runs, of_root):
                    status = update(offer, info.task_id.value, "TASK_KILLED")
                    bench.receive(agent, status)
            else:
                bench.lose(framework)
    return bench


class Cluster(SynchronousTestCase):
    """A master that shows people what is theirs."""

    def setUp(self) -> None:
        self.bench = bench = populated()
        self.clock = Clock()
        authorizer = LocalAuthorizer(rules(**ACLS))
        guard = Guard(
            "master",
            self.clock,
            {Realm.READONLY: [Believing()], Realm.READWRITE: [Believing()]},
        )
        self.service = MasterService(
            self.clock,
            MasterOptions(hostname="127.0.0.1", ip="127.0.0.1", port=25050, authorizer=authorizer),
            MemoryStore(),
            (),
            flags={"port": "25050"},
            guard=guard,
        )
        self.successResultOf(self.service.startService())
        self.addCleanup(self.service.stopService)
        self.service.state = bench.state
        self.patch(self.service.turns, "_handle", bench.state.handle)
        self.service.leader = bench.state.info
        self.ids = {one.info.name: one.id for one in bench.state.frameworks.values()}

    def turn(self) -> None:
        for _ in range(50):
            self.clock.advance(0)

    def ask(self, request: str, who: str, body: str = "", **more: str) -> Answer:
        return ask(self.service.port, request, self.turn, body, X_Who=who, **more)

    def call(self, who: str, **fields: Any) -> Answer:
        body = json.dumps(fields)
        return self.ask("POST /api/v1", who, body, Content_Type="application/json")

    def get(self, who: str, name: str) -> str:
        answer = self.call(who, type=name)
        self.assertEqual(answer.status, 200, answer.body)
        return answer.body.decode()


class Endpoints(Cluster):
    """What paths show."""

    def test_each_sees_what_is_his(self) -> None:
        for path in PATHS:
            whole = self.ask(f"GET {path}", "all").body.decode()
            some = self.ask(f"GET {path}", "eng").body.decode()
            none = self.ask(f"GET {path}", "nobody").body.decode()
            if "explain" not in path:
                self.assertIn("bob", whole, path)
                self.assertIn("eng" if path in _OF_ROLES else "alice", some, path)
            for seen in (some, none):
                self.assertNotIn("bob", seen, path)
            self.assertNotIn("alice", none, path)
            self.assertNotIn("alice-lives-root", some, path)

    def test_all_is_shown_to_whoever_may_see_all(self) -> None:
        for path in PATHS:
            shown = self.ask(f"GET {path}", "all").json()
            self.service.authorizing.authorizer = None
            self.assertEqual(shown, self.ask(f"GET {path}", "all").json(), path)
            self.service.authorizing.authorizer = LocalAuthorizer(rules(**ACLS))

    def test_tasks_one_by_one(self) -> None:
        """A framework that may be seen may have a task that may not."""
        shown = self.ask("GET /state", "eng").json()
        (framework,) = shown["frameworks"]
        self.assertEqual([one["id"] for one in framework["tasks"]], ["alice-lives-runs"])
        self.assertEqual([one["id"] for one in framework["completed_tasks"]], ["alice-lives-done"])
        self.assertEqual(
            [one["executor_id"] for one in framework["executors"]], ["alice-lives-executor"]
        )
        (ended,) = shown["completed_frameworks"]
        self.assertEqual(ended["name"], "alice-ended")
        summary = self.ask("GET /state-summary", "eng").json()
        self.assertEqual(summary["slaves"][0]["framework_ids"], [self.ids["alice-lives"]])
        self.assertEqual(summary["slaves"][0]["TASK_RUNNING"], 1)
        self.assertEqual(summary["slaves"][0]["TASK_STAGING"], 0)
        self.assertEqual(summary["frameworks"][0]["TASK_RUNNING"], 1)

    def test_flags(self) -> None:
        self.assertEqual(self.ask("GET /state", "all").json()["flags"], {"port": "25050"})
        self.assertNotIn("flags", self.ask("GET /state", "eng").json())
        self.assertEqual(self.ask("GET /flags", "all").status, 200)
        answer = self.ask("GET /flags", "eng")
        self.assertEqual((answer.status, answer.body), (403, b"403 Forbidden."))

    def test_reserved_resources_of_agents(self) -> None:
        (agent,) = self.ask("GET /slaves", "eng").json()["slaves"]
        self.assertEqual(set(agent["reserved_resources"]), {"eng", "eng/web"})
        self.assertEqual(set(agent["reserved_resources_full"]), {"eng", "eng/web"})
        self.assertIn("bobs", self.ask("GET /slaves", "all").body.decode())

    def test_roles(self) -> None:
        shown = self.ask("GET /roles", "eng").json()["roles"]
        self.assertEqual([one["name"] for one in shown], ["eng", "eng/web"])
        self.assertEqual(shown[0]["frameworks"], [self.ids["alice-lives"]])

    def test_explanations(self) -> None:
        self.assertEqual(self.ask("GET /offers/explain?role=bobs", "eng").status, 403)
        theirs = f"GET /offers/explain?framework_id={self.ids['bob-lives']}"
        self.assertEqual(self.ask(theirs, "eng").status, 404)
        self.assertEqual(self.ask(theirs, "all").status, 200)

    def test_one_gets_nobody_elses_answer(self) -> None:
        """Though both ask for the same at the same moment, and one's is being made."""
        transports = {}
        for who in ("all", "eng", "nobody", "all", "eng"):
            protocol: Any = self.service.port.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
            transport = transports[who] = StringTransport()
            protocol.makeConnection(transport)
            request = f"GET /state HTTP/1.1\r\nHost: x\r\nX-Who: {who}\r\n\r\n"
            protocol.dataReceived(request.encode())
        self.turn()
        self.assertIn(b"bob-lives", transports["all"].value())
        self.assertNotIn(b"bob", transports["eng"].value())
        self.assertIn(b"alice-lives", transports["eng"].value())
        self.assertNotIn(b"alice", transports["nobody"].value())

    def test_metrics(self) -> None:
        for path in ("/metrics/snapshot", "/metrics"):
            self.assertEqual(self.ask(f"GET {path}", "all").status, 200)
            self.assertEqual(self.ask(f"GET {path}", "eng").status, 403)

    def test_open_to_all(self) -> None:
        for path in ("/health", "/version", "/help", "/redirect"):
            self.assertIn(self.ask(f"GET {path}", "nobody").status, (200, 307), path)

    def test_tearing_down(self) -> None:
        theirs = f"frameworkId={self.ids['bob-lives']}"
        self.assertEqual(self.ask("POST /teardown", "eng", theirs).status, 403)
        self.assertEqual(self.ask("POST /teardown", "eng", "frameworkId=x").status, 400)
        mine = f"frameworkId={self.ids['alice-lives']}"
        self.assertEqual(self.ask("POST /teardown", "eng", mine).status, 200)
        self.assertEqual(list(self.bench.state.frameworks), [self.ids["bob-lives"]])

    def test_claims_without_a_name_are_nobody(self) -> None:
        self.assertEqual(self.ask("GET /state", "claims").status, 403)


class Calls(Cluster):
    """What the operator API shows."""

    def test_each_sees_what_is_his(self) -> None:
        for name in ("GET_STATE", "GET_AGENTS", "GET_FRAMEWORKS", "GET_EXECUTORS", "GET_TASKS"):
            whole, some, none = (self.get(who, name) for who in ("all", "eng", "nobody"))
            self.assertIn("bob", whole, name)
            self.assertIn("eng" if name == "GET_AGENTS" else "alice", some, name)
            self.assertNotIn("bob", some + none, name)
            self.assertNotIn("alice", none, name)
            self.assertNotIn("alice-lives-root", some, name)

    def test_all_is_shown_to_whoever_may_see_all(self) -> None:
        for name in (*TREES, "GET_ROLES", "GET_WEIGHTS"):
            shown = self.get("all", name)
            self.service.authorizing.authorizer = None
            self.assertEqual(json.loads(shown), json.loads(self.get("all", name)), name)
            self.service.authorizing.authorizer = LocalAuthorizer(rules(**ACLS))

    def test_roles(self) -> None:
        self.assertNotIn("bobs", self.get("eng", "GET_ROLES"))
        self.assertIn("eng/web", self.get("all", "GET_AGENTS"))

    def test_doors_that_are_closed(self) -> None:
        for who, expected in (("all", 200), ("eng", 403)):
            for name in ("GET_FLAGS", "GET_METRICS"):
                more: Any = {"get_metrics": {}} if name == "GET_METRICS" else {}
                self.assertEqual(self.call(who, type=name, **more).status, expected, name)
        for name in ("GET_HEALTH", "GET_VERSION", "GET_MASTER", "GET_LOGGING_LEVEL"):
            self.assertEqual(self.call("nobody", type=name).status, 200, name)

    def test_tearing_down(self) -> None:
        theirs = {"framework_id": {"value": self.ids["bob-lives"]}}
        self.assertEqual(self.call("eng", type="TEARDOWN", teardown=theirs).status, 403)
        self.assertEqual(self.call("all", type="TEARDOWN", teardown=theirs).status, 200)


class Watching(Cluster):
    """What watchers are told."""

    def watch(self, who: str) -> Any:
        protocol: Any = self.service.port.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
        transport: Any = StringTransport()
        protocol.makeConnection(transport)
        body = json.dumps({"type": "SUBSCRIBE"})
        protocol.dataReceived(
            f"POST /api/v1 HTTP/1.1\r\nHost: x\r\nX-Who: {who}\r\nContent-Type: application/json"
            f"\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        self.turn()
        return transport

    def let(self, effects: list[Any]) -> None:
        for effect in effects:
            if type(effect).__name__ == "Told":
                self.service.operators.tell(effect)

    def test_each_is_told_what_is_his(self) -> None:
        everybody = {who: self.watch(who) for who in ("all", "eng", "nobody")}
        begun = {who: one.value().decode() for who, one in everybody.items()}
        self.assertIn("SUBSCRIBED", begun["nobody"])
        self.assertIn("bob", begun["all"])
        self.assertIn("alice", begun["eng"])
        self.assertNotIn("bob", begun["eng"] + begun["nobody"])
        self.assertNotIn("alice", begun["nobody"])
        for one in everybody.values():
            one.clear()
        bench = self.bench
        for user, role in (("alice", "eng"), ("bob", "bobs")):
            peer = bench.connect(PeerKind.FRAMEWORK)
            call = subscription(name=f"{user}-new", user=user, role=role, principal=user)
            self.let(bench.receive(peer, call))
            offer = bench.offer(peer)
            self.let(bench.launch(peer, offer, task(offer, f"{user}-task")))
            agent = next(iter(bench.state.agents.values()))
            assert agent.peer is not None
            status = update(offer, f"{user}-task", "TASK_FAILED")
            self.let(bench.receive(agent.peer.id, status))
            teardown = scheduler_call(Call.TEARDOWN, offer.framework_id.value)
            self.let(bench.receive(peer, teardown))
        stranger = bench.connect(PeerKind.AGENT, "127.0.0.9:1")
        self.let(bench.receive(stranger, registration("new", "cpus(bobs):1;cpus(eng):2")))
        self.turn()
        told = {who: one.value().decode() for who, one in everybody.items()}
        for kind in ("FRAMEWORK_ADDED", "TASK_ADDED", "TASK_UPDATED", "FRAMEWORK_REMOVED"):
            mine = told["eng"].count(f'"{kind}"')
            self.assertEqual((mine > 0, told["all"].count(f'"{kind}"')), (True, 2 * mine), kind)
            self.assertEqual(told["nobody"].count(f'"{kind}"'), 0, kind)
        for who in told:
            self.assertEqual(told[who].count('"AGENT_ADDED"'), 1, who)
        self.assertNotIn("bob", told["eng"] + told["nobody"])
        self.assertIn('"eng"', told["eng"])
        self.assertNotIn('"eng"', told["nobody"])

    def test_an_event_is_written_once_for_all_who_see_the_same(self) -> None:
        for who in ("eng", "eng", "all"):
            self.watch(who)
        asked: list[str] = []
        authorizer = self.service.authorizing.authorizer
        allows = authorizer.allows

        def asking(who: str, *rest: Any) -> bool:
            asked.append(who)
            return bool(allows(who, *rest))

        self.patch(authorizer, "allows", asking)
        peer = self.bench.connect(PeerKind.FRAMEWORK)
        self.let(self.bench.receive(peer, subscription(name="x", user="alice", role="eng")))
        self.assertEqual(sorted(asked), ["all", "eng"])


class Doors(Cluster):
    """Every route and every call says what it needs."""

    def test_every_route(self) -> None:
        resource = MasterResource(self.service)
        for route in resource.table:
            needed = resource.needs.get(route.path)
            self.assertIsNotNone(needed, f"{route.path} does not say what it needs")
            if route.realm is Realm.OPEN:
                # Nobody is asked who he is there, so nobody could be told from others.
                self.assertTrue(needed is not None and needed.why, route.path)
        # Where somebody has a web UI there are more of them.
        known = {route.path for route in (*resource.table, *webui.routes("/somewhere"))}
        self.assertEqual(set(authorizing.ROUTES) - known, set(), "routes that are not there")

    def test_a_route_that_says_nothing_is_closed(self) -> None:
        self.patch(routes, "SHARED_ROUTES", {})
        self.assertEqual(self.ask("GET /health", "all").status, 403)

    def test_every_call_is_refused_where_nothing_is_allowed(self) -> None:
        """But for those that are open to all, and those whose answers are empty then."""
        who = Subject("p", LocalAuthorizer(rules(False)))
        for name, needed in authorizing.OPERATOR_CALLS.items():
            call = OperatorCall(type=name)
            allowed = authorizing.may_call(self.bench.state, who, call)
            if needed.why or name.startswith(("GET_", "LIST_", "READ_", "SUBSCRIBE")):
                self.assertEqual(allowed, not needed.first, name)


class Properties(SynchronousTestCase):
    """Whatever the ACLs, nothing is seen that may not be, and all that may."""

    def setUp(self) -> None:
        self.bench = populated()

    def shown(self, viewer: Viewer, kept: Fragments) -> tuple[Any, Any]:
        state = self.bench.state
        whole = json.loads(b"".join(documents.state(state, {}, kept, viewer)))
        tree = {"get_state": TREES["GET_STATE"](Listing(state), kept, viewer)}
        return whole, json.loads(b"".join(json_pieces(tree)))["get_state"]

    def test_kept_parts_are_for_everybody(self) -> None:
        """What one has been shown is no part of what another is shown afterwards."""
        kept = Fragments()
        everything = self.shown(EVERYTHING, kept)
        fresh = [
            self.shown(Viewer(Subject(who, LocalAuthorizer(rules(**ACLS)))), Fragments())
            for who in ("eng", "nobody")
        ]
        for _ in range(2):
            for who, expected in zip(("eng", "nobody"), fresh, strict=True):
                viewer = Viewer(Subject(who, LocalAuthorizer(rules(**ACLS))))
                self.assertEqual(self.shown(viewer, kept), expected)
            self.assertEqual(self.shown(EVERYTHING, kept), everything)

    @given(
        st.sets(st.sampled_from(["alice", "bob", "root"])),
        st.sets(st.sampled_from(["alice", "bob", "root"])),
        st.sets(st.sampled_from(["eng", "bobs", "eng/web", "*"])),
    )
    def test_exactly_what_may_be_seen(
        self, frameworks: set[str], tasks: set[str], roles: set[str]
    ) -> None:
        def some(names: set[str]) -> Any:
            return [(["p"], sorted(names))] if names else []

        acls = rules(
            False,
            view_frameworks=some(frameworks),
            view_tasks=some(tasks),
            view_roles=some(roles),
        )
        whole, tree = self.shown(Viewer(Subject("p", LocalAuthorizer(acls))), Fragments())
        expected_tasks = set()
        state = self.bench.state
        for one in (*state.frameworks.values(), *state.completed):
            if one.info.user not in frameworks:
                continue
            for each in (*one.tasks.values(), *one.unreachable.values(), *one.completed):
                user = "root" if each.id.endswith("-root") else one.info.user
                if user in tasks:
                    expected_tasks.add(each.id)
        listed = [*whole["frameworks"], *whole["completed_frameworks"]]
        self.assertEqual({one["user"] for one in listed}, frameworks & {"alice", "bob"})
        self.assertEqual(
            {
                each["id"]
                for one in listed
                for name in ("tasks", "unreachable_tasks", "completed_tasks")
                for each in one[name]
            },
            expected_tasks,
        )
        self.assertEqual(
            {each["task_id"]["value"] for part in tree["get_tasks"].values() for each in part},
            expected_tasks,
        )
        (agent,) = whole["slaves"]
        self.assertEqual(set(agent["reserved_resources"]), roles & {"eng", "bobs", "eng/web"})
        self.assertEqual(sum(len(one["executors"]) for one in listed), 0)
