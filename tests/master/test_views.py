"""The JSON endpoints: fields and forms as a real master's C{/state} has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mesoskit.master import documents
from mesoskit.master.fragments import Fragments
from mesoskit.messages.mesos_pb2 import ContainerStatus
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.model.events import PeerKind
from tests.base import SynchronousTestCase
from tests.master.bench import (
    AWARE,
    MULTI_ROLE,
    Bench,
    acknowledge,
    agent_info,
    executor,
    registration,
    scheduler_call,
    task,
    update,
)

# In the order in which Mesos 1.12 wrote them; flags and what a build says of itself left out.
_STATE = """version build_date build_time build_user start_time elected_time id pid hostname
 capabilities activated_slaves deactivated_slaves unreachable_slaves leader leader_info flags
 slaves recovered_slaves frameworks completed_frameworks orphan_tasks
 unregistered_frameworks""".split()
_SLAVE = """id hostname port attributes pid registered_time resources used_resources
 offered_resources reserved_resources unreserved_resources active deactivated version
 capabilities""".split()
_FULL = """reserved_resources_full unreserved_resources_full used_resources_full
 offered_resources_full""".split()
_FRAMEWORK = """id name used_resources offered_resources capabilities hostname webui_url active
 connected recovered user failover_timeout checkpoint registered_time unregistered_time
 resources role tasks unreachable_tasks completed_tasks offers executors
 offer_constraints""".split()
_TASK = """id name framework_id executor_id slave_id state resources role statuses labels
 discovery""".split()
_COUNTS = """TASK_STAGING TASK_STARTING TASK_RUNNING TASK_KILLING TASK_FINISHED TASK_KILLED
 TASK_FAILED TASK_LOST TASK_ERROR TASK_UNREACHABLE""".split()


def _read(pieces: Iterator[bytes]) -> Any:
    return json.loads(b"".join(pieces))


class Views(SynchronousTestCase):
    """A cluster with a running task, a finished one and an offer."""

    def setUp(self) -> None:
        old = agent_info("old.example", "cpus:1;mem:64", agent_id="old-S0")
        self.bench = Bench({"agents/old-S0": old.SerializeToString()}, cluster="here")
        message = registration("127.0.0.1", "cpus:4;mem:2048;disk:4096;ports:[31000-32000]", 25051)
        for name, value in (("rack", "r1"), ("zone", "z")):
            attribute = message.slave.attributes.add(name=name)
            attribute.type = 3  # type: ignore[assignment]
            attribute.text.value = value

        self.agent = self.bench.connect(PeerKind.AGENT)
        self.bench.receive(self.agent, message)
        self.framework, self.framework_id = self.bench.subscribe(
            AWARE, name="running", role="r1", failover_timeout=100.0
        )
        offer = self.offer = self.bench.offer(self.framework)
        info = task(offer, "run-1", "cpus:1.5;mem:128;ports:[31005-31006]")
        info.name = "running task"
        info.labels.labels.add(key="a", value="b")
        info.discovery.visibility = 1  # type: ignore[assignment]
        info.discovery.name = "svc"
        self.bench.launch(self.framework, offer, info, task(offer, "done", "cpus:1;mem:128"))
        container = ContainerStatus(executor_pid=36)
        container.container_id.value = "c"
        container.network_infos.add().ip_addresses.add().ip_address = "127.0.0.1"
        self.bench.receive(
            self.agent, update(offer, "run-1", "TASK_RUNNING", container_status=container)
        )
        self.bench.receive(self.agent, update(offer, "done", "TASK_FINISHED", healthy=True))
        self.bench.receive(self.framework, acknowledge(offer, "done", "TASK_FINISHED"))

    def _state(self) -> Any:
        return _read(documents.state(self.bench.state, {"port": "5050"}, Fragments()))

    def test_state_has_the_fields_of_mesos(self) -> None:
        view = self._state()
        self.assertEqual(_STATE, [name for name in view if name != "cluster"])
        (agent,), (framework,) = view["slaves"], view["frameworks"]
        self.assertEqual(_SLAVE, list(agent))
        self.assertEqual(_FRAMEWORK, list(framework))
        self.assertEqual(_TASK, list(framework["tasks"][0]))
        self.assertEqual({"port": "5050"}, view["flags"])

    def test_agent(self) -> None:
        (agent,) = self._state()["slaves"]
        self.assertEqual(
            {"rack": "r1", "zone": "z"},
            agent["attributes"],
        )
        self.assertEqual(
            {"cpus": 1.5, "gpus": 0.0, "mem": 128.0, "disk": 0.0, "ports": "[31005-31006]"},
            agent["used_resources"],
        )
        self.assertEqual("slave(1)@127.0.0.1:25051", agent["pid"])
        self.assertEqual(
            ("TASK_RESOURCE_LIMITS", 8), (agent["capabilities"][-1], len(agent["capabilities"]))
        )

    def test_task(self) -> None:
        (framework,) = self._state()["frameworks"]
        (shown,) = framework["tasks"]
        self.assertEqual(
            {
                "state": "TASK_RUNNING",
                "timestamp": 1.0,
                "container_status": {
                    "container_id": {"value": "c"},
                    "network_infos": [
                        {"ip_addresses": [{"protocol": "IPv4", "ip_address": "127.0.0.1"}]}
                    ],
                },
            },
            shown["statuses"][0],
        )
        self.assertEqual([{"key": "a", "value": "b"}], shown["labels"])
        self.assertEqual({"visibility": "CLUSTER", "name": "svc"}, shown["discovery"])
        self.assertEqual(
            ("", "r1", "TASK_RUNNING"), (shown["executor_id"], shown["role"], shown["state"])
        )
        (done,) = framework["completed_tasks"]
        self.assertEqual(("TASK_FINISHED", True), (done["state"], done["statuses"][0]["healthy"]))

    def test_agents_alone_show_resources_in_full(self) -> None:
        view = _read(documents.agents(self.bench.state, Fragments()))
        self.assertEqual(_SLAVE + _FULL, list(view["slaves"][0]))
        self.assertEqual(
            {
                "name": "cpus",
                "type": "SCALAR",
                "scalar": {"value": 1.5},
                "role": "*",
                "allocation_info": {"role": "r1"},
            },
            view["slaves"][0]["used_resources_full"][0],
        )
        self.assertEqual(["old-S0"], [one["id"] for one in view["recovered_slaves"]])
        self.assertEqual(
            {"slaves": [], "recovered_slaves": []},
            _read(documents.agents(self.bench.state, Fragments(), "none")),
        )

    def test_summary_counts_tasks(self) -> None:
        view = _read(documents.summary(self.bench.state, Fragments()))
        (agent,), (framework,) = view["slaves"], view["frameworks"]
        self.assertEqual([*_SLAVE, *_COUNTS, "framework_ids"], list(agent))
        self.assertEqual([*_FRAMEWORK[:10], *_COUNTS, "slave_ids"], list(framework))
        self.assertEqual(
            (1, 1, 0), (agent["TASK_RUNNING"], agent["TASK_FINISHED"], agent["TASK_LOST"])
        )
        self.assertEqual([self.framework_id], agent["framework_ids"])

    def test_tasks_can_be_leafed_through(self) -> None:
        state = self.bench.state

        def ids(**asked: Any) -> list[str]:
            return [
                one["id"] for one in _read(documents.tasks(state, Fragments(), **asked))["tasks"]
            ]

        self.assertEqual({"run-1", "done"}, set(ids()))
        self.assertEqual(ids(), ids(limit=1) + ids(limit=1, offset=1))
        self.assertEqual(["done"], ids(task_id="done"))
        self.assertEqual([], ids(framework_id="nobody"))
        self.assertEqual([], ids(limit=0))
        self.assertEqual(ids()[1:], ids(limit=-1, offset=1))

    def test_roles(self) -> None:
        (role,) = _read(documents.roles(self.bench.state, Fragments()))["roles"]
        self.assertEqual(
            {
                "name": "r1",
                "weight": 1.0,
                "quota": {
                    "role": "r1",
                    "guarantee": {},
                    "limit": {},
                    "consumed": {"cpus": 1.5, "mem": 128.0, "ports": 2.0},
                },
                "resources": {"cpus": 1.5, "mem": 128.0, "ports": 2.0},
                "allocated": {"cpus": 1.5, "mem": 128.0, "ports": 2.0},
                "offered": {},
                "reserved": {},
                "frameworks": [self.framework_id],
            },
            role,
        )

    def test_completed_framework_and_executors(self) -> None:
        second, second_id = self.bench.subscribe(MULTI_ROLE, roles=["a", "b"])
        self.bench.receive(self.framework, scheduler_call(Call.TEARDOWN, self.framework_id))
        offer = self.bench.offer(second)
        info = task(offer, "t", executor=executor("e"))
        self.bench.launch(second, offer, info)
        view = self._state()
        (gone,), (live,) = view["completed_frameworks"], view["frameworks"]
        self.assertEqual(
            ["run-1", "done"], sorted((one["id"] for one in gone["completed_tasks"]), reverse=True)
        )
        self.assertFalse(gone["connected"])
        self.assertEqual(["a", "b"], live["roles"])
        (shown,) = live["executors"]
        self.assertEqual(
            ("e", second_id, "CUSTOM"),
            (shown["executor_id"], shown["framework_id"], shown["type"]),
        )
        self.assertEqual("e", live["tasks"][0]["executor_id"])

    def test_killed_after_its_end_a_task_keeps_its_end(self) -> None:
        self.bench.receive(self.agent, update(self.offer, "run-1", "TASK_FINISHED"))
        self.bench.receive(self.framework, scheduler_call(Call.TEARDOWN, self.framework_id))
        (gone,) = self._state()["completed_frameworks"]
        (ended,) = [one for one in gone["completed_tasks"] if one["id"] == "run-1"]
        self.assertEqual("TASK_FINISHED", ended["state"])
        self.assertEqual(
            ["TASK_RUNNING", "TASK_FINISHED", "TASK_KILLED"],
            [status["state"] for status in ended["statuses"]],
        )
