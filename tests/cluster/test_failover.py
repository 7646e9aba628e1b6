"""Several masters and a real ZooKeeper: whoever dies, stops or is cut off, tasks run on."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.protocols.portforward import ProxyFactory
from twisted.trial.unittest import SkipTest

from mesoskit.cli.leading import leading_again
from mesoskit.driver import DriverSettings, TaskState
from tests.cluster import asking, zookeepers
from tests.cluster.elected import SESSION, ElectedCluster
from tests.cluster.harness import BIN, CHECKOUT, ClusterTestCase, environment
from tests.cluster.ledger import Ledger
from tests.cluster.waiting import pause, reactor, until, until_async

SETTINGS = DriverSettings(zk_session_timeout=SESSION)


class FailoverTestCase(ClusterTestCase):
    """Tests with masters that elect one."""

    timeout = 600

    async def elected(
        self, masters: int = 2, agents: int = 1, size: int = 0, session: float = SESSION
    ) -> ElectedCluster:
        """Return a cluster; C{size} servers of its own where not 0."""
        if size:
            servers = zookeepers.Servers(size)
            self.addCleanup(servers.close)
            servers.start()
        else:
            servers = zookeepers.shared()
        cluster = ElectedCluster(servers, session)
        self.addCleanup(cluster.close)
        self._use(cluster)
        await cluster.elect(masters, agents)
        return cluster

    def ledger(self, cluster: ElectedCluster) -> Ledger:
        fields = {"checkpoint": True, "failover_timeout": 3600.0}
        return cluster.framework(settings=SETTINGS, fields=fields)

    async def leads(self, port: int) -> bool:
        """Tell whether the master at a port leads."""
        try:
            return bool((await asking.metrics(port))["master/elected"])
        except Exception:
            return False

    async def ends_well(self, ledger: Ledger, task: str) -> None:
        """Hold that a task is launched now and finishes."""
        await ledger.run(task, "true")
        self.assertEqual((await ledger.over(task)).state, TaskState.TASK_FINISHED)


class MasterDeathTests(FailoverTestCase):
    """The leading master ends, in one way or another."""

    async def test_tasks_run_on_when_the_leader_is_killed(self) -> None:
        cluster = await self.elected(masters=3, agents=2)
        first = cluster.master
        for standby in cluster.masters:
            if standby is not first:
                self.assertEqual((await asking.get(standby.port, "/state"))[0], 307)
        ledger = self.ledger(cluster)
        await ledger.run("long", "sleep 1000")
        pid = (await ledger.running("long")).container_status.executor_pid
        await first.kill()
        second = await cluster.leads()
        self.assertIsNot(second, first)
        await cluster.registered()
        await self.ends_well(ledger, "after")
        self.assertEqual(ledger.states("long")[-1], "TASK_RUNNING")
        self.assertEqual((await ledger.running("long")).container_status.executor_pid, pid)
        # Who was killed comes back as a standby, and leads when the others stop.
        first.start()
        await first.ready()
        for master in cluster.masters:
            if master is not first:
                await master.stop()
        self.assertIs(await cluster.leads(), first)
        await cluster.registered()
        await self.ends_well(ledger, "last")
        ledger.framework.kill("long")
        self.assertEqual((await ledger.over("long")).state, TaskState.TASK_KILLED)
        self.assertEqual(ledger.errors, [])
        ledger.balance()

    async def test_leader_that_stood_still_decides_nothing_when_it_wakes(self) -> None:
        cluster = await self.elected(masters=2)
        ledger = self.ledger(cluster)
        await ledger.run("long", "sleep 1000")
        await ledger.running("long")
        # It has an offer out, and will have work to do when it wakes.
        old = cluster.master
        old.signal(signal.SIGSTOP)
        new = cluster.standby()
        await until_async("the other one leads", lambda: self.leads(new.port), seen=cluster.logs)
        cluster._master = new
        await cluster.registered()
        for number in range(3):
            await self.ends_well(ledger, f"new-{number}")
        old.signal(signal.SIGCONT)
        self.assertEqual(await old.ended(), 1)
        self.assertIn("Lost leadership", old.log())
        await self.ends_well(ledger, "after")
        starts = [mark.task for mark in ledger.marks() if mark.what == "start"]
        self.assertEqual(len(starts), len(set(starts)))
        self.assertEqual(ledger.states("long")[-1], "TASK_RUNNING")
        ledger.balance()

    async def test_command_line_finds_the_leader(self) -> None:
        cluster = await self.elected(masters=2)
        process = subprocess.Popen(
            [
                str(BIN / "mesoskit"),
                "execute",
                f"--master={cluster.url}",
                "--name=cli",
                "--command=exit 0",
            ],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        await until("the command is over", lambda: process.poll() is not None)
        assert process.stdout is not None
        said = process.stdout.read().decode()
        process.stdout.close()
        self.assertEqual((process.returncode, "TASK_FINISHED" in said), (0, True), said)
        ledger = self.ledger(cluster)
        await ledger.run("seen", "sleep 1000")
        await ledger.running("seen")
        found = await getProcessOutputAndValue(
            str(BIN / "mesoskit"),
            ["task", "list"],
            env={**environment(), "MESOS_MASTER": cluster.url},
        )
        self.assertEqual((found[2], b"seen" in found[0]), (0, True), found)
        # As whoever waits for a drain does when its master has died.
        self.assertEqual(await deferToThread(leading_again, cluster.url), cluster.master.address)


class DemonstrationTests(FailoverTestCase):
    """C{make ha-demo}."""

    async def test_it_kills_two_leaders_and_loses_nothing(self) -> None:
        if not zookeepers.installed():
            raise SkipTest("needs Debian's package zookeeper: make deps")
        script = CHECKOUT / "examples" / "high_availability" / "demo.py"
        process = subprocess.Popen(
            [sys.executable, str(script)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.addCleanup(process.kill)
        await until("it is over", lambda: process.poll() is not None, 300)
        assert process.stdout is not None
        said = process.stdout.read().decode()
        process.stdout.close()
        self.assertEqual(process.returncode, 0, said)
        self.assertIn("all 5 tasks run", said)
        self.assertEqual(said.count("which leads, is killed"), 2)


class Relay(ProxyFactory):
    """A way to ZooKeeper that can be cut without anybody being told."""

    def __init__(self, server: zookeepers.Server) -> None:
        super().__init__("127.0.0.1", server.port)
        self.ways: list[Any] = []
        self.open = True

    def buildProtocol(self, addr: Any) -> Any:
        # Who comes later is heard, and never answered.
        way = super().buildProtocol(addr) if self.open else Protocol()
        self.ways.append(way)
        return way

    def cut(self) -> None:
        """Let nothing through any more, and let nobody notice."""
        self.open = False
        for way in self.ways:
            for side in (way, way.peer):
                if side is not None and side.transport is not None:
                    side.transport.pauseProducing()


class ZooKeeperDeathTests(FailoverTestCase):
    """ZooKeeper is what fails, or the way there."""

    async def test_leader_that_alone_is_cut_off_ends_before_the_next_one_leads(self) -> None:
        cluster = ElectedCluster(zookeepers.shared())
        self.addCleanup(cluster.close)
        self._use(cluster)
        (server,) = cluster.servers.servers
        relay = Relay(server)
        port = reactor.listenTCP(0, relay, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.addCleanup(lambda: [way.transport.abortConnection() for way in relay.ways])
        old = cluster.add_master()
        there = cluster.url.replace(server.address, f"127.0.0.1:{port.getHost().port}")
        old.start(zk=there)
        await old.ready()
        await cluster.elect(masters=1)
        self.assertIs(cluster.master, old)
        ledger = self.ledger(cluster)
        await ledger.run("long", "sleep 1000")
        await ledger.running("long")
        relay.cut()
        # Its agent and its framework still hear it, all the time.
        while not ledger.disconnections:
            self.assertFalse(await self.leads(cluster.masters[1].port))
            await pause(0.05)
        self.assertEqual(await old.ended(), 1)
        self.assertIn("may have ended", old.log())
        self.assertIs(await cluster.leads(), cluster.masters[1])
        await cluster.registered()
        await self.ends_well(ledger, "after")
        self.assertEqual(ledger.states("long")[-1], "TASK_RUNNING")
        ledger.balance()

    async def test_leader_without_zookeeper_ends_before_its_session_does(self) -> None:
        cluster = await self.elected(masters=2, size=1)
        ledger = self.ledger(cluster)
        await ledger.run("long", "sleep 1000")
        await ledger.running("long")
        (server,) = cluster.servers.servers
        old = cluster.master
        server.pause()
        await until("the leader lets go of everybody", lambda: ledger.disconnections)
        self.assertEqual(await old.ended(), 1)
        # Nobody can have told it: it went by its own clock.
        self.assertIn("may have ended", old.log())
        other = cluster.standby()
        await pause(SESSION)
        status, body = await asking.get(other.port, "/state")
        self.assertEqual((status, body), (503, b"No leader elected"))
        server.go_on()
        self.assertIs(await cluster.leads(), other)
        await cluster.registered()
        await self.ends_well(ledger, "after")
        self.assertEqual(ledger.states("long")[-1], "TASK_RUNNING")
        ledger.balance()

    async def test_leader_leads_on_when_a_server_of_three_dies(self) -> None:
        # Nobody waits for its end; and on a busy machine it takes long to find another server.
        session = 30.0
        cluster = await self.elected(masters=1, size=3, session=session)
        ledger = self.ledger(cluster)
        await ledger.run("long", "sleep 1000")
        await ledger.running("long")
        cluster.servers.leader().kill()
        # The registry is written meanwhile, for another agent comes.
        cluster.make_agent("b", {"zk_session_timeout": f"{session:g}secs"}).start()
        await cluster.registered()
        await self.ends_well(ledger, "after")
        self.assertTrue(cluster.master.running)
        self.assertEqual(ledger.disconnections, 0)
        ledger.balance()
