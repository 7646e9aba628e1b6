"""Isolator C{network/ports}: who listens where, and what becomes of him."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from itertools import count
from math import nan
from pathlib import Path
from typing import Any
from unittest import skipIf

from twisted.internet.defer import succeed
from twisted.internet.task import Clock

from mesoskit.agent import allotments
from mesoskit.agent.container import UNLIMITED, Allotment, ContainerExited, Limitation
from mesoskit.agent.containers import isolator_ports
from mesoskit.agent.containers.cgroups import find
from mesoskit.agent.containers.isolator_ports import PortsIsolator, listeners, listening
from mesoskit.agent.containers.isolators import Isolated
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.model.ids import ContainerId
from mesoskit.model.tasks import Reason
from mesoskit.model.values import Ranges
from tests.agent.bench import Bench, task
from tests.agent.test_cgroup_hosts import eventually
from tests.base import SynchronousTestCase

A, B = ContainerId("a"), ContainerId("b")
NUMBERS = count()

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:7918 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1
   1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 101 1
half a line
"""
LISTEN = """
import socket, sys, time
one = socket.create_server(("127.0.0.1", 0))
print(one.getsockname()[1], flush=True)
time.sleep(1000)
"""


class TableTests(SynchronousTestCase):
    """The kernel's list of sockets."""

    def test_those_that_listen_with_their_ports(self) -> None:
        path = self.mktemp()
        Path(path).write_text(TCP)
        self.assertEqual(listeners(path, "/nowhere"), {"100": 31000})

    def test_those_of_this_machine(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            self.assertIn(port, listeners(*isolator_ports.TABLES).values())
        if Path("/proc/net/if_inet6").exists():
            with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
                port = server.getsockname()[1]
                self.assertIn(port, listeners(*isolator_ports.TABLES).values())


class JudgeTests(SynchronousTestCase):
    """Whether a container may listen there."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[tuple[str, Limitation]] = []
        self.listening: dict[ContainerId, Ranges] = {}
        self.patch(isolator_ports, "listening", lambda groups: self.listening)

    def isolator(self, enforce: bool = True, isolated: Ranges | None = None) -> PortsIsolator:
        class Groups:
            """Of no machine."""

            def directory(self, name: str, controller: str) -> str:
                return f"/{controller}/{name}"

        groups: Any = Groups()
        isolator = PortsIsolator(
            self.clock, lambda work: succeed(work()), groups, 30.0, enforce, isolated
        )
        isolator.limited = lambda name, why: self.told.append((name, why))
        self.addCleanup(isolator.stop)
        return isolator

    def container(self, *ports: tuple[int, int], **more: Any) -> Isolated:
        return Isolated(A, "/w", Allotment(ports=ports), **more)

    def test_one_that_listens_elsewhere_is_ended_and_told_where(self) -> None:
        isolator = self.isolator()
        isolator.isolated(self.container((31000, 31001)))
        self.listening[A] = ((31000, 31000),)
        self.clock.advance(30)
        self.assertEqual(self.told, [])
        self.listening[A] = ((31000, 31000), (31005, 31006))
        self.clock.advance(30)
        ((name, why),) = self.told
        self.assertEqual((name, why.reason), (A, Reason.REASON_CONTAINER_LIMITATION))
        text = "Container a is listening on unallocated port(s): [31005-31006]"
        self.assertEqual(why.message, text)
        self.assertEqual(why.resources, (("ports", ((31005, 31006),)),))

    def test_without_enforcement_nobody_is_ended(self) -> None:
        isolator = self.isolator(enforce=False)
        isolator.recover(self.container())
        self.listening[A] = ((80, 80),)
        self.clock.pump([30, 30])
        self.assertEqual(self.told, [])

    def test_what_is_given_later_counts(self) -> None:
        isolator = self.isolator()
        container = self.container()
        isolator.isolated(container)
        container.allotment = Allotment(ports=((80, 80),))
        self.listening[A] = ((80, 80),)
        self.clock.advance(30)
        self.assertEqual(self.told, [])

    def test_some_ports_alone_are_looked_at(self) -> None:
        isolator = self.isolator(isolated=((31000, 32000),))
        isolator.isolated(self.container())
        self.listening[A] = ((80, 80), (40000, 40001))
        self.clock.advance(30)
        self.assertEqual(self.told, [])
        self.listening[A] = ((80, 80), (31999, 31999))
        self.clock.advance(30)
        self.assertEqual(self.told[0][1].resources, (("ports", ((31999, 31999),)),))

    def test_what_is_nested_is_looked_at_with_what_it_is_in(self) -> None:
        isolator = self.isolator()
        isolator.isolated(Isolated(B, "/w", Allotment(), parent=self.container()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_is_looked_at_when_it_is_over(self) -> None:
        isolator = self.isolator()
        container = self.container()
        isolator.isolated(container)
        self.assertTrue(isolator.cleanup(container))
        self.listening[A] = ((80, 80),)
        self.clock.advance(30)
        self.assertEqual(self.told, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class AllotmentTests(SynchronousTestCase):
    """Which ports a container was given, and how it is told that it took others."""

    def task(self, name: str, *ports: tuple[int, int]) -> Any:
        info = task(name)
        resource = info.resources.add(name="ports", type=1)
        for begin, end in ports:
            resource.ranges.range.add(begin=begin, end=end)
        return info

    def test_those_of_a_task_and_of_several_together(self) -> None:
        one = allotments.of_task(self.task("a", (31005, 31006), (31000, 31000)))
        self.assertEqual(one.ports, ((31000, 31000), (31005, 31006)))
        total = allotments.Sum(Allotment())
        total.add(one)
        total.add(allotments.of_task(self.task("b", (31001, 31004))))
        self.assertEqual(total.total.ports, ((31000, 31006),))
        total.add(one, -1)
        self.assertEqual(total.total.ports, ((31001, 31004),))

    def test_what_is_no_number_is_no_limit(self) -> None:
        info = task()
        info.limits["mem"].value = nan
        self.assertEqual(allotments.of_task(info).mem_limit, None)

    def test_limits_without_end(self) -> None:
        for limit in (float("inf"), 1e308):
            info = task()
            info.limits["mem"].value = limit
            self.assertEqual(allotments.of_task(info).mem_limit, UNLIMITED)

    def test_the_status_of_a_task_that_was_ended_names_them(self) -> None:
        bench = Bench().register()
        bench.run(task())
        bench.start()
        bench.acknowledge()
        wrong = (("ports", ((80, 81),)),)
        why = Limitation(Reason.REASON_CONTAINER_LIMITATION, "listening", wrong)
        bench.give(ContainerExited(bench.container_of(), 9, why))
        bench.acknowledge()
        status: TaskStatus = bench.last()
        self.assertEqual(status.reason, Reason.REASON_CONTAINER_LIMITATION)
        (resource,) = status.limitation.resources
        (found,) = resource.ranges.range
        self.assertEqual((resource.name, found.begin, found.end), ("ports", 80, 81))


@skipIf(os.geteuid() != 0, "only root can make cgroups")
class KernelTests(SynchronousTestCase):
    """Processes of this machine."""

    def test_the_ports_of_a_group_are_those_of_all_its_processes(self) -> None:
        groups = find("/sys/fs/cgroup", f"mesoskit-test-{os.getpid()}-{next(NUMBERS)}")
        self.addCleanup(eventually, lambda: groups.remove(""))
        outer, inner = (groups.make(name, ()) for name in ("a", "a/mesos/b"))
        other = groups.make("c", ())
        ports = []
        for made in (outer, inner):
            process = subprocess.Popen(
                [sys.executable, "-S", "-c", LISTEN], stdout=subprocess.PIPE, text=True
            )
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            assert process.stdout is not None
            self.addCleanup(process.stdout.close)
            ports.append(int(process.stdout.readline()))
            Path(made.kill, "cgroup.procs").write_text(str(process.pid))
        found = listening({A: outer.kill, B: other.kill})
        (ranges,) = found.values()
        self.assertEqual(
            sorted(port for begin, end in ranges for port in range(begin, end + 1)), sorted(ports)
        )
