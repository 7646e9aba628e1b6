"""Isolators few use, on the machine's cgroups of version 2; limits that are none: real daemons."""

from __future__ import annotations

import os
import sys
from math import inf, nan
from pathlib import Path
from typing import Any
from unittest import skipIf

from mesoskit.agent.containers import cgroups
from mesoskit.driver import Reason, TaskInfo, TaskState
from mesoskit.messages.mesos_pb2 import Value
from tests.agent.test_cgroup_hosts import need_programs, unified
from tests.cluster.harness import ClusterTestCase
from tests.cluster.ledger import Ledger
from tests.cluster.waiting import until

# Of this process alone, whoever else runs these tests.
HOST = f"127.9.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF | 1}"
LISTEN = (
    f"{sys.executable} -S -c 'import socket, sys, time;"
    f' one = socket.create_server(("{HOST}", int(sys.argv[1])));'
    " time.sleep(1000)' {}"
)
DEVICES = "mknod kmsg c 1 11 && true < /dev/null || exit 7; true < kmsg && exit 8; exit 0"


@skipIf(os.geteuid() != 0, "only root can isolate")
class SubsystemTests(ClusterTestCase):
    """An agent that holds containers to their ports and devices."""

    def task(self, ledger: Ledger, name: str, body: str, **limits: float) -> TaskInfo:
        task = ledger.task(name, body, cpus=0.1, mem=32)
        for resource, amount in limits.items():
            task.limits[resource].value = amount
        return task

    def listening(self, ledger: Ledger, name: str, port: int, own: int) -> TaskInfo:
        task = self.task(ledger, name, LISTEN.format(port))
        ports = task.resources.add(name="ports", type=Value.RANGES)
        ports.CopyFrom(task.resources[0])
        ports.name, ports.type = "ports", Value.RANGES
        ports.ClearField("scalar")
        ports.ranges.range.add(begin=own, end=own)
        return task

    async def test_ports_and_devices_are_held_and_absurd_limits_refused_with_what_could_be(
        self,
    ) -> None:
        need_programs(self)
        hierarchy = unified(self)
        root = f"mesoskit-test-{os.getpid()}-subsystems"
        path = Path(hierarchy, root)
        self.addCleanup(cgroups.remove_directory, str(path))  # the last of all
        cluster = self.cluster()
        flags: dict[str, Any] = {
            "isolation": "cgroups/devices,network/ports",
            "cgroups_hierarchy": hierarchy,
            "cgroups_root": root,
            "enforce_container_ports": "true",
            "container_ports_watch_interval": "200ms",
        }
        await cluster.start(agent=flags)
        ledger = cluster.framework()
        good = self.listening(ledger, "good", 31007, 31007)
        (handle,) = await ledger.launch(good)
        await ledger.running("good")
        await ledger.launch(
            self.listening(ledger, "bad", 31009, 31008),
            self.task(ledger, "devices", DEVICES),
            self.task(ledger, "huge", "true", mem=1e300),
            self.task(ledger, "more", "true", cpus=1e12),
            self.task(ledger, "endless", "true", cpus=inf, mem=inf),
        )
        bad = await ledger.over("bad")
        self.assertEqual(bad.state, TaskState.TASK_FAILED)
        self.assertEqual(bad.reason, Reason.REASON_CONTAINER_LIMITATION)
        self.assertIn("is listening on unallocated port(s): [31009-31009]", bad.message)
        (resource,) = bad.limitation.resources
        (found,) = resource.ranges.range
        self.assertEqual((resource.name, found.begin, found.end), ("ports", 31009, 31009))
        for name, text in (
            ("huge", "the limit of mem is too large: 1e+300 is more than 8796093022207;"),
            ("more", "the limit of cpus is too large: 1e+12 is more than 175921860;"),
        ):
            status = await ledger.over(name)
            self.assertEqual(status.state, TaskState.TASK_FAILED)
            self.assertEqual(status.reason, Reason.REASON_CONTAINER_LAUNCH_FAILED)
            self.assertIn(text, status.message)
        for name in ("devices", "endless"):
            self.assertEqual((await ledger.over(name)).state, TaskState.TASK_FINISHED, name)

        wrong = {"nan": {"mem": nan}, "negative": {"cpus": -1.0}, "less": {"mem": 1.0}}
        await ledger.launch(*(self.task(ledger, name, "true", **of) for name, of in wrong.items()))
        for name in wrong:
            status = await ledger.over(name)
            self.assertEqual(status.state, TaskState.TASK_ERROR)
            self.assertIn("must be greater than or equal to the", status.message)

        self.assertEqual(ledger.states("good")[-1], "TASK_RUNNING")
        handle.kill()
        await ledger.over("good")
        await until("no cgroups", lambda: not list(path.glob("*/")))
