"""Who may do what at an agent: as whom tasks run, and what endpoints, calls and files show."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

from zope.interface import implementer

from mesoskit.agent import authorizing
from mesoskit.agent.http import AgentResource
from mesoskit.agent.state import _FROM_MASTER
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.agent_pb2 import Call
from mesoskit.messages.executor_pb2 import Call as ExecutorCall
from mesoskit.messages.mesos_pb2 import CommandInfo, TaskState, TaskStatus
from mesoskit.model.authorization import Subject
from mesoskit.model.authorization_acls import LocalAuthorizer
from mesoskit.model.resources import Resources
from mesoskit.web.authentication import Guard, IHttpAuthenticator, Realm
from mesoskit.wire.exchange import Asked, Away, Principal
from tests.agent.bench import FRAMEWORK_ID, OPTIONS, Bench, custom_executor, framework, task
from tests.agent.http_peers import ExecutorHttpTestCase
from tests.base import SynchronousTestCase
from tests.model.test_authorization import rules
from tests.web.asking import Answer, ask
from tests.web.test_authorizing import Remote


def bench(**lists: Any) -> Bench:
    """Return an agent with these ACLs."""
    return Bench(replace(OPTIONS, authorizer=LocalAuthorizer(rules(**lists)))).register()


class Tasks(SynchronousTestCase):
    """As whom tasks run."""

    lists: Any = {"run_tasks": [(["p"], ["alice"]), ("ANY", "NONE")]}

    def test_as_users_that_the_agent_trusts(self) -> None:
        agent = bench(**self.lists)
        agent.run(task("t"), info=framework(principal="p"))
        self.assertEqual(len(agent.launched()), 1)

    def test_not_as_others(self) -> None:
        agent = bench(**self.lists)
        agent.run(_as_root(task()), info=framework(principal="p"))
        self.assertEqual(agent.launched(), [])
        status = agent.last()
        self.assertEqual(TaskStatus.Reason.Name(status.reason), "REASON_TASK_UNAUTHORIZED")
        self.assertEqual(agent.updates(), [("t", "TASK_ERROR")])
        self.assertEqual(
            status.message,
            f"Framework {FRAMEWORK_ID} is not authorized to launch task t under user 'root'",
        )
        self.assertEqual(agent.state.frameworks, {})

    def test_nor_for_frameworks_without_a_principal(self) -> None:
        agent = bench(**self.lists)
        agent.run(task("t"))
        self.assertEqual(agent.updates(), [("t", "TASK_ERROR")])

    def test_a_group_as_a_whole_or_not(self) -> None:
        agent = bench(**self.lists)
        agent.run_group(task("a"), _as_root(task("b")), info=framework(principal="p"))
        self.assertEqual(agent.updates(), [("a", "TASK_ERROR"), ("b", "TASK_ERROR")])
        reason = TaskStatus.Reason.Name(agent.last().reason)
        self.assertEqual(reason, "REASON_TASK_GROUP_UNAUTHORIZED")

    def test_the_master_counts_on_no_executor(self) -> None:
        agent = bench(**self.lists)
        info = _as_root(task("t", executor=custom_executor()))
        info.executor.command.user = "root"
        agent.run(info, info=framework(principal="p"), launch=True)
        (gone,) = [one for one in agent.sent if isinstance(one, internal.ExitedExecutorMessage)]
        self.assertEqual(gone.executor_id.value, "e")


def _as_root(info: Any) -> Any:
    if not info.HasField("executor"):
        info.command.CopyFrom(CommandInfo(value="true", user="root"))
    return info


@implementer(IHttpAuthenticator)
class Believing:
    """Takes who asks at his word; an executor's token says claims and no name."""

    scheme = "Who"

    def authenticate(self, asked: Asked) -> Principal | Away:
        who = asked.header("x-who")
        return Principal(None, {"fid": "f"}) if who == "claims" else Principal(who)


ACLS: dict[str, Any] = {
    name: [(["all"], "ANY"), (["alices"], ["alice"]), ("ANY", "NONE")]
    for name in (
        "view_frameworks",
        "view_tasks",
        "view_executors",
        "view_containers",
        "access_sandboxes",
    )
} | {
    "view_roles": [(["all"], "ANY"), (["alices"], ["eng"]), ("ANY", "NONE")],
    "view_flags": [(["all"], "ANY"), ("ANY", "NONE")],
    "prune_images": [(["all"], "ANY"), ("ANY", "NONE")],
    "get_endpoints": [
        (["all"], "ANY"),
        (["alices"], ["/containers", "/monitor/statistics"]),
        ("ANY", "NONE"),
    ],
}


class AgentTestCase(ExecutorHttpTestCase):
    """An agent with a task of alice's, one of hers that runs as root, and one of bob's."""

    def setUp(self) -> None:
        super().setUp()
        service = self.service
        authorizer = LocalAuthorizer(rules(**ACLS))
        amounts = Resources.parse("cpus:4;mem:4096;cpus(eng):1;mem(bobs):64")
        service.state.options = replace(
            service.state.options,
            authorizer=authorizer,
            resources=amounts,
            flags={"port": "5051"},
        )
        service.authorizing.authorizer = authorizer
        service.guard._of = {
            Realm.READONLY: (Believing(),),
            Realm.READWRITE: (Believing(),),
        }
        self.assertIsInstance(service.guard, Guard)
        alice, bob = framework(name="alices"), framework(name="bobs", user="bob")
        bob.id.value = "bob-0001"
        for info, own in ((alice, task("alice-task")), (bob, task("bob-task"))):
            self.world.send(self.master, internal.RunTaskMessage(framework=info, task=own))
        of_root = _as_root(task("root-task"))
        self.world.send(self.master, internal.RunTaskMessage(framework=alice, task=of_root))

    def ask(self, request: str, who: str, body: str = "", **more: str) -> Answer:
        def turn() -> None:
            for _ in range(30):
                self.turn()

        return ask(self.service.port, request, turn, body, X_Who=who, **more)

    def call(self, who: str, name: str, **fields: Any) -> Answer:
        body = json.dumps({"type": name, **fields})
        return self.ask("POST /api/v1", who, body, Content_Type="application/json")


class Endpoints(AgentTestCase):
    """What an agent shows."""

    def test_state(self) -> None:
        whole, some, none = (self.ask("GET /state", one) for one in ("all", "alices", "nobody"))
        for name in ("alice-task", "bob-task", "root-task"):
            self.assertIn(name, whole.body.decode())
        shown = some.json()
        (only,) = shown["frameworks"]
        self.assertEqual([one["id"] for one in only["executors"]], ["alice-task"])
        self.assertEqual(list(shown["reserved_resources"]), ["eng"])
        self.assertNotIn("flags", shown)
        self.assertIn("flags", whole.json())
        for seen in (some, none):
            self.assertNotIn("bob", seen.body.decode())
            self.assertNotIn("root-task", seen.body.decode())
        self.assertEqual(none.json()["frameworks"], [])

    def test_containers(self) -> None:
        for path in ("/containers", "/monitor/statistics"):
            self.assertEqual(self.ask(f"GET {path}", "nobody").status, 403, path)
            self.assertEqual(self.ask(f"GET {path}", "alices").status, 200, path)
        names = {one["executor_id"] for one in self.ask("GET /containers", "alices").json()}
        self.assertEqual(names, {"alice-task"})
        names = {one["executor_id"] for one in self.ask("GET /containers", "all").json()}
        self.assertEqual(names, {"alice-task", "bob-task", "root-task"})

    def test_flags_and_metrics(self) -> None:
        for path in ("/flags", "/metrics/snapshot", "/metrics", "/files/debug", "/logging/toggle"):
            self.assertEqual(self.ask(f"GET {path}", "alices").status, 403, path)
            self.assertEqual(self.ask(f"GET {path}", "all").status, 200, path)

    def test_claims_without_a_name_see_nothing(self) -> None:
        self.assertEqual(self.ask("GET /state", "claims").json()["frameworks"], [])
        self.assertEqual(self.ask("GET /flags", "claims").status, 403)


class Calls(AgentTestCase):
    """What the operator API shows."""

    def test_each_sees_what_is_his(self) -> None:
        for name in ("GET_STATE", "GET_FRAMEWORKS", "GET_EXECUTORS", "GET_TASKS"):
            whole, some, none = (
                self.call(who, name).body.decode() for who in ("all", "alices", "nobody")
            )
            self.assertIn("bob", whole, name)
            self.assertIn("alice", some, name)
            for seen in (some, none):
                self.assertNotIn("bob", seen, name)
                self.assertNotIn("root-task", seen, name)
            self.assertNotIn("alice", none, name)
        shown = self.call("alices", "GET_CONTAINERS").json()["get_containers"]["containers"]
        self.assertEqual([one["executor_id"]["value"] for one in shown], ["alice-task"])
        self.assertNotIn("bobs", self.call("alices", "GET_AGENT").body.decode())

    def test_doors_that_are_closed(self) -> None:
        level = {"set_logging_level": {"level": 0, "duration": {"nanoseconds": 0}}}
        calls: list[tuple[str, Any]] = [
            ("GET_FLAGS", {}),
            ("GET_METRICS", {"get_metrics": {}}),
            ("PRUNE_IMAGES", {}),
        ]
        for name, more in calls:
            status = self.call("alices", name, **more).status
            self.assertEqual(status, 403, name)
        self.assertEqual(self.call("all", "PRUNE_IMAGES").status, 200)
        self.assertEqual(self.call("alices", "SET_LOGGING_LEVEL", **level).status, 200)
        self.assertEqual(self.call("claims", "SET_LOGGING_LEVEL", **level).status, 403)


class Sandboxes(AgentTestCase):
    """Whose sandboxes may be looked into."""

    def directory(self, task_id: str) -> str:
        for key, one in self.service.state.tasks.items():
            if key[1] == task_id:
                return one.executor.directory
        raise AssertionError(task_id)

    def test_by_the_user_of_the_task(self) -> None:
        for task_id, who, expected in (
            ("alice-task", "alices", 200),
            ("root-task", "alices", 403),
            ("bob-task", "alices", 403),
            ("alice-task", "nobody", 403),
            ("bob-task", "all", 200),
        ):
            path = self.directory(task_id)
            os.makedirs(path, exist_ok=True)
            with open(f"{path}/stdout", "w") as file:
                file.write("hello")
            asked = f"GET /files/browse?path={path}"
            self.assertEqual(self.ask(asked, who).status, expected, (task_id, who))
            for verb, more in (("read", "&offset=0"), ("download", "")):
                asked = f"GET /files/{verb}?path={path}/stdout{more}"
                self.assertEqual(self.ask(asked, who).status, expected, (task_id, who, verb))
            listed = self.call(who, "LIST_FILES", list_files={"path": path})
            self.assertEqual(listed.status, expected, (task_id, who))
            part = {"path": f"{path}/stdout", "offset": 0}
            self.assertEqual(self.call(who, "READ_FILE", read_file=part).status, expected)

    def test_what_is_not_there_is_not_there(self) -> None:
        self.assertEqual(self.ask("GET /files/browse?path=/nowhere", "nobody").status, 404)

    def test_an_executor_that_is_not_known_any_more(self) -> None:
        """Only who may see any sandbox may look into it."""
        state = self.service.state
        for who, expected in (("all", True), ("alices", False), (None, False)):
            subject = Subject(who, LocalAuthorizer(rules(**ACLS)))
            visible = authorizing.sandbox_visible(state, subject, "f", "e")
            self.assertIs(visible, expected, who)


class Doors(AgentTestCase):
    """Every route, call and message says what it needs."""

    def test_every_route(self) -> None:
        resource = AgentResource(self.service)
        for route in resource.table:
            needed = resource.needs.get(route.path)
            self.assertIsNotNone(needed, f"{route.path} does not say what it needs")
            if route.realm is Realm.OPEN:
                # Nobody is asked who he is there, so nobody could be told from others.
                self.assertTrue(needed is not None and needed.why, route.path)

    def test_every_call_and_message(self) -> None:
        self.assertEqual(set(authorizing.OPERATOR_CALLS), set(Call.Type.keys()))
        self.assertEqual(set(authorizing.EXECUTOR_CALLS), set(ExecutorCall.Type.keys()))
        self.assertEqual(set(authorizing.MASTER_MESSAGES), set(_FROM_MASTER))

    def test_what_is_needed_or_why_nothing_is(self) -> None:
        tables: tuple[Any, ...] = (
            authorizing.OPERATOR_CALLS,
            authorizing.EXECUTOR_CALLS,
            authorizing.MASTER_MESSAGES,
            authorizing.ROUTES,
        )
        for table in tables:
            for door, needed in table.items():
                self.assertNotEqual(bool(needed.actions), bool(needed.why), door)


class Preparing(ExecutorHttpTestCase):
    """An agent asks nobody about a framework whose authorizer has not heard of it yet."""

    def test_tasks_wait_in_their_order(self) -> None:
        remote = Remote()
        service = self.service
        service.state.options = replace(service.state.options, authorizer=remote)
        service.authorizing.authorizer = remote
        for number in range(3):
            info = framework(principal="p" if number < 2 else "q")
            message = internal.RunTaskMessage(framework=info, task=task(f"t{number}"))
            self.world.send(self.master, message)
        kill = internal.KillTaskMessage()
        kill.framework_id.value, kill.task_id.value = FRAMEWORK_ID, "t0"
        self.world.send(self.master, kill)
        self.assertEqual([one for one, _ in remote.asked], ["p"])
        self.assertEqual(service.state.tasks, {})
        remote.allowed = {"p"}
        for number in range(3):
            remote.asked[number][1].callback(None)
            self.turn()
        self.assertEqual([one for one, _ in remote.asked], ["p", "p", "q"])
        ran = [one.update.status for one in self.sent(internal.StatusUpdateMessage)]
        told = {(one.task_id.value, TaskState.Name(one.state)) for one in ran}
        self.assertIn(("t1", "TASK_STARTING"), told)
        self.assertIn(("t2", "TASK_ERROR"), told)

    def test_a_start_waits_for_what_anybody_may(self) -> None:
        remote = Remote()
        self.world.options = replace(self.world.options, authorizer=remote)
        service = self.world.agent("tcp:5052:interface=127.0.0.1")
        self.assertEqual((len(service.ports), [one for one, _ in remote.asked]), (0, [None]))
        remote.asked[0][1].callback(None)
        self.turn()
        self.assertEqual(len(service.ports), 1)
