"""The master's endpoints beside those of a recorded cluster, request by request."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from mesoskit.cluster.memory import MemoryStore
from mesoskit.master.http import MasterResource
from mesoskit.master.measuring import timed_allocator
from mesoskit.master.options import MasterOptions
from mesoskit.master.service import MasterService
from mesoskit.messages.mesos_pb2 import ContainerStatus
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.model.events import PeerKind
from mesoskit.web import sending
from mesoskit.web.verbosity import VERBOSITY
from mesoskit.wire.port import PortFactory
from tests.base import SynchronousTestCase
from tests.master.bench import (
    AWARE,
    Bench,
    acknowledge,
    registration,
    scheduler_call,
    task,
    update,
)
from tests.web import recorded
from tests.web.asking import Answer, ask
from tests.web.nonsense import ALLOWED, requests

#: Answers of features that this master does not have yet: quota, maintenance, reservations.
_NOT_YET = re.compile(
    r"already has quota|Quota guarantees overcommit|is not in DOWN mode|Invalid CREATE operation"
)


def _of_a_missing_feature(row: recorded.Row) -> bool:
    """Whether a recorded answer rests on a quota, on maintenance or on a reservation."""
    if _NOT_YET.search(row.get("text", "")):
        return True
    shown = row.get("json")
    if isinstance(shown, dict) and set(shown) & {"infos", "windows", "draining_machines"}:
        return True
    name = row["path"].removeprefix("/master/")
    return row["status"] in (200, 202) and (
        (row["method"], name) in {("POST", "quota"), ("POST", "reserve"), ("POST", "unreserve")}
        or (row["method"], name) == ("DELETE", "quota/r1")
        or (name == "maintenance/schedule" and "machine_ids" in row.get("body", ""))
    )


#: Of what quotas hold, and of a role that nobody is in here.
_NO_METRICS = re.compile(r"lacks (allocator/mesos/quota|.*/roles/[*]/)")


class Cluster(SynchronousTestCase):
    """A running task, and a framework that has ended with a finished one."""

    def setUp(self) -> None:
        self.bench = bench = Bench(hostname="127.0.0.1", ip="127.0.0.1", port=25050)
        bench.state.allocator = timed_allocator(bench.allocator, lambda: bench.now)
        message = registration("127.0.0.1", "cpus:4;mem:2048;disk:4096;ports:[31000-32000]", 25051)
        for name, value in (("rack", "r1"), ("zone", "z")):
            message.slave.attributes.add(name=name, type=3).text.value = value
        agent = bench.connect(PeerKind.AGENT)
        bench.receive(agent, message)
        ended, ended_id = bench.subscribe(AWARE, name="ended")
        offer = bench.offer(ended)
        bench.launch(ended, offer, task(offer, "done", "cpus:1;mem:128"))
        for state in ("TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"):
            status = update(offer, "done", state, container_status=self.container())
            bench.receive(agent, status)
            bench.receive(ended, acknowledge(offer, "done", state))
        bench.receive(ended, scheduler_call(Call.TEARDOWN, ended_id))
        framework, framework_id = bench.subscribe(name="running", role="r1", failover_timeout=100.0)
        offer = bench.offer(framework)
        info = task(offer, "run-1", "cpus:1.5;mem:128;ports:[31005-31006]")
        info.labels.labels.add(key="a", value="b")
        info.discovery.visibility = 1  # type: ignore[assignment]
        info.discovery.name = "svc"
        info.discovery.ports.ports.add(number=31005, name="http", protocol="tcp")
        bench.launch(framework, offer, info)
        for state in ("TASK_STARTING", "TASK_RUNNING"):
            status = update(offer, "run-1", state, container_status=self.container())
            status.update.status.timestamp = 2.0
            bench.receive(agent, status)
            bench.receive(framework, acknowledge(offer, "run-1", state))
        self.clock = Clock()
        self.service = MasterService(
            self.clock,
            MasterOptions(hostname="127.0.0.1", ip="127.0.0.1", port=25050),
            MemoryStore(),
            (),
            flags={"port": "25050"},
        )
        self.successResultOf(self.service.startService())
        self.addCleanup(self.service.stopService)
        self.service.state = bench.state
        # What is asked of the state is asked of this one.
        self.patch(self.service.turns, "_handle", bench.state.handle)
        self.service.leader = bench.state.info
        self.names = {"framework": framework_id, "agent": next(iter(bench.state.agents))}

    @staticmethod
    def container() -> ContainerStatus:
        status = ContainerStatus(executor_pid=36)
        status.container_id.value = "c"
        status.network_infos.add().ip_addresses.add(ip_address="127.0.0.1", protocol=1)
        return status

    def ask(self, request: str, body: str = "", **headers: str) -> Answer:
        return ask(self.service.port, request, lambda: self.clock.advance(0), body, **headers)


class Recorded(Cluster):
    """Answer for answer."""

    def test_answers_are_as_recorded(self) -> None:
        for row in recorded.rows("master"):
            path: str = row["path"]
            if _of_a_missing_feature(row) or (".json" in path and row["status"] == 404):
                continue
            body: str = row.get("body", "")
            for name, value in self.names.items():
                path = path.replace(f"{{{name}}}", value)
                body = body.replace(f"{{{name}}}", value)
            more = {"Accept_Encoding": "gzip"} if row.get("gzip") else {}
            answer = self.ask(f"{row['method']} {path}", body, **more)
            wrong = recorded.compare(row, answer, self.names)
            wrong = [one for one in wrong if not _NO_METRICS.search(one)]
            self.assertEqual([], wrong, f"{row['method']} {path}")

    def test_old_names_with_json_are_answered_too(self) -> None:
        for path in ("/state.json", "/master/state.json", "/master/tasks.json", "/roles.json"):
            self.assertIsInstance(self.ask(f"GET {path}").json(), dict)

    def test_nonsense_closes_the_connection(self) -> None:
        for request in ("BOGUS /version", "GET /master/state?x=%zz"):
            self.assertEqual(0, self.ask(request).status, request)

    def test_paths_with_a_slash_at_the_end_are_the_same(self) -> None:
        self.assertEqual(self.ask("GET /master/state").body, self.ask("GET /master/state/").body)

    def test_slashes_in_a_row_are_one(self) -> None:
        for path in ("//state", "/master//state", "//master/state//", "http://x//master/state"):
            self.assertEqual(200, self.ask(f"GET {path}").status, path)

    def test_last_of_several_parameters_counts(self) -> None:
        body = self.ask("GET /tasks?task_id=done&task_id=nobody&jsonp=f&jsonp=g").body
        self.assertEqual(b'g({"tasks":[]})', body)

    def test_path_of_very_many_names_costs_no_more_than_another(self) -> None:
        tried: list[str] = []

        class Told(dict[str, Any]):
            def get(self, key: str, default: Any = None) -> Any:
                tried.append(key)
                return super().get(key, default)

        resource = MasterResource(self.service)
        resource._routes = Told(resource._routes)
        port = PortFactory(None, resource, clock=self.clock)
        for path, status in (("/", 404), ("/master/state/", 200)):
            answer = ask(port, f"GET {path}{'a/' * 7000}", lambda: self.clock.advance(0))
            self.assertEqual(status, answer.status)
        self.assertLess(len(tried), 20)

    def test_path_may_be_as_proxies_are_asked(self) -> None:
        for path in ("/version", "/master/state?a=b", "/", ""):
            self.assertEqual(200, self.ask(f"GET http://master.example:5050{path}").status, path)

    def test_head_has_no_body(self) -> None:
        whole, head = self.ask("GET /state"), self.ask("HEAD /state")
        self.assertEqual((200, b""), (head.status, head.body))
        self.assertEqual(whole.headers["content-length"], head.headers["content-length"])


class Leaving(Cluster):
    """Clients that do not wait for their answers."""

    def test_client_that_leaves_while_its_answer_is_made_does_no_harm(self) -> None:
        self.patch(sending, "SLICE", -1.0)
        protocol = self.service.port.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
        transport = StringTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(b"GET /state HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(b"", transport.value())
        protocol.connectionLost(Failure(ConnectionDone()))
        self.clock.advance(0)
        self.assertEqual(b"", transport.value())
        self.assertEqual(200, self.ask("GET /state").status)


class Administration(Cluster):
    """What operators set, by endpoints that are older than the operator API."""

    def refused(self, request: str, body: str = "") -> tuple[int, str]:
        answer = self.ask(request, body)
        return answer.status, answer.body.decode()

    def test_what_is_not_there_yet_says_so(self) -> None:
        cpus = '{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}'
        agent = self.names["agent"]
        machines = '[{"machine_ids": [{"hostname": "h"}], "unavailability": {"start": {}}}]'
        for request, body, feature in (
            ("POST /quota", f'{{"role": "r", "guarantee": [{cpus}]}}', "quotas"),
            ("POST /reserve", f"slaveId={agent}&resources=[{cpus}]", "reservations"),
            ("POST /unreserve", f"slaveId={agent}&resources=[{cpus}]", "reservations"),
            ("POST /create-volumes", f"slaveId={agent}&volumes=[{cpus}]", "persistent volumes"),
            ("POST /destroy-volumes", f"slaveId={agent}&volumes=[{cpus}]", "persistent volumes"),
        ):
            expected = f"501 Not Implemented. mesoskit does not know {feature} yet."
            self.assertEqual((501, expected), self.refused(request, body), request)
        status, _ = self.refused("POST /maintenance/schedule", f'{{"windows": {machines}}}')
        self.assertEqual(400, status)
        machines = machines.replace("{}", '{"nanoseconds": 1}')
        status, why = self.refused("POST /maintenance/schedule", f'{{"windows": {machines}}}')
        self.assertEqual((501, True), (status, "maintenance" in why))

    def test_what_is_wrong_is_said(self) -> None:
        agent = self.names["agent"]
        for request, body, status, why in (
            ("PUT /weights", "{}", 400, "'{}': Unexpected JSON type parsed"),
            ("PUT /weights", "[1]", 400, "Failed to convert weights JSON array to protobuf '[1]'"),
            ("PUT /weights", '[\n{"role": x}]', 400, "syntax error at line 2 near: "),
            ("POST /weights", "", 405, "Expecting one of { 'GET', 'PUT' }"),
            ("POST /quota", "[]", 400, "Failed to parse set quota request JSON '[]'"),
            ("POST /quota", '{"role": 1.5e400}', 400, "quota"),
            ("DELETE /quota", "", 400, "'quota/<role>' is expected"),
            ("PATCH /quota", "", 405, "'DELETE'"),
            ("POST /reserve", "slaveId=nosuch&resources=[]", 400, "No agent found with specified"),
            ("POST /reserve", f"slaveId={agent}", 400, "Missing 'resources' query parameter"),
            ("POST /reserve", f"slaveId={agent}&resources=[7]", 400, "Error parsing 'resources'"),
            ("POST /machine/down", "[]", 400, "List of machines is empty"),
            ("POST /machine/down", "{", 400, "syntax error at line 1 near: "),
            ("GET /machine/up", "", 405, "Expecting one of { 'POST' }"),
            ("PUT /maintenance/status", "", 405, "Expecting one of { 'GET' }"),
        ):
            answered = self.refused(request, body)
            self.assertEqual(status, answered[0], (request, answered))
            self.assertIn(why, answered[1])

    def test_registry_shows_what_a_new_master_would_know(self) -> None:
        self.assertEqual(200, self.ask("PUT /weights", '[{"role": "r1", "weight": 2.5}]').status)
        shown = self.ask("GET /registrar(1)/registry").json()
        self.assertEqual([{"info": {"role": "r1", "weight": 2.5}}], shown["weights"])
        (agent,) = shown["slaves"]["slaves"]
        self.assertEqual(self.names["agent"], agent["info"]["id"]["value"])
        self.assertFalse(agent["deactivated"])

    def test_start_page_leads_to_every_endpoint(self) -> None:
        page = self.ask("GET /")
        self.assertEqual(page.body, self.ask("GET /master/").body)
        for path in ("/master/state", "/metrics/snapshot", "/help", "/master/api/v1"):
            self.assertIn(f'<a href="{path}">'.encode(), page.body)
        for path in ("/nosuch", "/master/nosuch"):
            self.assertEqual(404, self.ask(f"GET {path}").status)


class Ours(Cluster):
    """What Mesos has not."""

    def explain(self, query: str) -> Any:
        return self.ask(f"GET /offers/explain?{query}")

    def test_offers_are_explained(self) -> None:
        answer = self.explain(f"framework_id={self.names['framework']}").json()
        (framework,) = answer["frameworks"]
        (agent,) = framework["agents"]
        self.assertEqual("running", framework["name"])
        self.assertEqual(
            (self.names["agent"], "127.0.0.1", "r1", "FILTERED"),
            (agent["agent_id"], agent["hostname"], agent["role"], agent["reason"]),
        )
        self.assertEqual("the framework refused it", agent["why"])
        self.assertGreater(agent["until"], self.bench.now)
        self.assertEqual(2.5, agent["available"]["cpus"])
        self.assertEqual(
            [{"framework_id": self.names["framework"], "role": "r1"}], agent["holders"]
        )
        self.assertEqual(answer, self.explain("role=r1").json())
        self.assertEqual({"frameworks": []}, self.explain("role=nobodys").json())
        (framework,) = self.explain("role=r1&agent_id=another").json()["frameworks"]
        self.assertEqual([], framework["agents"])

    def test_what_cannot_be_explained(self) -> None:
        status = self.explain("framework_id=nosuch")
        self.assertEqual((404, b"There is no framework 'nosuch'.\n"), (status.status, status.body))
        self.assertEqual(400, self.explain("").status)

    def test_metrics_in_the_form_of_prometheus(self) -> None:
        answer = self.ask("GET /metrics")
        self.assertEqual("text/plain; version=0.0.4; charset=utf-8", answer.headers["content-type"])
        lines = answer.body.decode().splitlines()
        self.assertIn("mesos_master_tasks_running 1.0", lines)
        framework = f'framework_name="running",framework_id="{self.names["framework"]}"'
        self.assertIn(
            f'mesos_framework_tasks_active{{{framework},state="task_running"}} 1.0', lines
        )

    def test_help_has_a_page_for_every_route(self) -> None:
        (master,) = [
            one
            for one in self.ask("GET /help?format=json").json()["processes"]
            if one["id"] == "master"
        ]
        self.assertIn("/state-summary", [one["name"] for one in master["endpoints"]])
        for process in self.ask("GET /help?format=json").json()["processes"]:
            for one in process["endpoints"]:
                page = self.ask(f"GET /help/{process['id']}{one['name']}".rstrip("/"))
                self.assertIn(b"TL;DR", page.body)
                self.assertEqual("text/html", page.headers["content-type"])
        self.assertEqual(400, self.ask("GET /help/nosuch").status)

    def test_parts_are_forgotten_when_nobody_looks(self) -> None:
        self.ask("GET /state")
        fragments = self.service.fragments()
        self.assertEqual(3, len(fragments))
        self.clock.advance(61)
        self.assertEqual(0, len(fragments))


class Nonsense(Cluster):
    """Whatever is asked, an answer or nothing, and the daemon goes on."""

    @settings(max_examples=200, deadline=None, database=None)
    @given(request=requests)
    def test_it_is_answered_or_refused(self, request: str) -> None:
        # Logging is the process' own.
        self.addCleanup(VERBOSITY.set, 0, 0.0, self.clock)
        self.assertIn(self.ask(request).status, ALLOWED, request)
        self.assertEqual(200, self.ask("GET /health").status)
