"""Daemons that cannot start say why in one line and fail; those that can stop cleanly."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.python.failure import Failure

from tests.cluster import asking, processes
from tests.cluster.harness import (
    TWIST,
    TWISTD,
    ClusterTestCase,
    command_line,
    environment,
    free_port,
)
from tests.cluster.waiting import until, until_async

WAYS = {
    "twistd --nodaemon": [TWISTD, "--nodaemon", "--pidfile=pid"],
    "twistd": [TWISTD, "--pidfile=pid", "--logfile=log"],
    "twist": [TWIST],
}

PLUGINS = ("mesos-master", "mesos-agent")


class StartTests(ClusterTestCase):
    """What cannot be used is said before anything runs: for each daemon, started in each way."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mk-", dir="/tmp"))
        self.addCleanup(processes.sweep, self.directory)

    def flags(self, plugin: str, **more: object) -> dict[str, object]:
        """Return flags that would do."""
        right: dict[str, object] = {
            "work_dir": "w",
            "runtime_dir": "r",
            "ip": "127.0.0.1",
            "port": 0,
        }
        if plugin == "mesos-agent":
            right |= {"master": f"127.0.0.1:{free_port()}", "resources": "cpus:1;mem:64"}
        return right | more

    async def refused(
        self,
        way: str,
        plugin: str,
        flags: Mapping[str, object],
        *wanted: str,
        before: Sequence[str] = (),
    ) -> None:
        """Start a daemon, and see that it ends at once, saying what is wanted in one line."""
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        with subprocess.Popen(
            [*before, *WAYS[way], *command_line(plugin, flags)],
            cwd=directory,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            await until(f"the end of {way} {plugin}", lambda: process.poll() is not None)
            assert process.stdout is not None
            said = process.stdout.read().decode()
        where = f"{way} {plugin} {flags}: {said}"
        self.assertEqual(process.returncode, 1, where)
        self.assertNotIn("Traceback", said, where)
        # A daemonising twistd has its own way of saying it again, cut off after 100 bytes.
        lines = [line for line in said.splitlines() if not line.startswith("An error has occ")]
        lines = [line for line in lines if all(want in line for want in (plugin, *wanted))]
        self.assertEqual(len(lines), 1, where)
        self.assertFalse((directory / "pid").exists(), where)
        await until(f"nothing left of {where}", lambda: not processes.below(directory))

    async def everywhere(self, flags: Mapping[str, object], *wanted: str) -> None:
        """Do that for both daemons, in all ways."""
        for plugin in PLUGINS:
            given = self.flags(plugin, **flags)
            await self.in_all_ways(plugin, given, *wanted)

    async def in_all_ways(self, plugin: str, flags: Mapping[str, object], *wanted: str) -> None:
        """Do that for one daemon."""
        attempts = [
            Deferred.fromCoroutine(self.refused(way, plugin, flags, *wanted)) for way in WAYS
        ]
        await gatherResults(attempts, consumeErrors=True).addErrback(_first)

    async def test_an_unknown_flag_is_named_and_the_nearest_is_proposed(self) -> None:
        await self.everywhere({"hostnam": "x"}, "--hostnam", "did you mean --hostname?")

    async def test_a_value_that_is_none_is_shown(self) -> None:
        await self.everywhere({"port": "many"}, "--port", "'many'", "whole number")

    async def test_a_missing_flag_is_named(self) -> None:
        for plugin, flag in (("mesos-master", "work_dir"), ("mesos-agent", "master")):
            flags = self.flags(plugin)
            del flags[flag]
            await self.in_all_ways(plugin, flags, f"--{flag} is required")

    async def test_resources_that_cannot_be_read_are_shown(self) -> None:
        flags = self.flags("mesos-agent", resources="cpus:many;mem:64")
        await self.in_all_ways("mesos-agent", flags, "--resources", "cpus", "many")

    async def test_a_port_in_use_is_named(self) -> None:
        with closing(socket.create_server(("127.0.0.1", free_port()))) as taken:
            port = taken.getsockname()[1]
            wanted = f"cannot listen on 127.0.0.1:{port}", "Address already in use"
            await self.everywhere({"port": port}, *wanted)

    async def test_a_work_dir_that_cannot_be_made_is_named(self) -> None:
        (self.directory / "file").touch()
        where = self.directory / "file" / "w"
        await self.everywhere({"work_dir": where}, "--work_dir", str(where), "Not a directory")

    async def test_a_work_dir_of_somebody_else_is_named(self) -> None:
        where = self.directory / "closed"
        where.mkdir(mode=0o000)
        before: list[str] = []
        if os.geteuid() == 0:
            # Root reads everything, unless it has laid that down.
            before = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]
            if shutil.which(before[0]) is None:
                self.skipTest("root reads everything, and setpriv is not there")
        for plugin in PLUGINS:
            flags = self.flags(plugin, work_dir=where)
            wanted = "--work_dir", str(where), "Permission denied"
            await self.refused("twistd --nodaemon", plugin, flags, *wanted, before=before)

    async def test_a_work_dir_in_use_is_named(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        for daemon, name in (
            (cluster.master, "registry.sqlite"),
            (cluster.agent, "checkpoints.sqlite"),
        ):
            flags = {**daemon.flags, "port": 0, "runtime_dir": "r"}
            path = str(daemon.work_dir / name)
            await self.refused("twistd --nodaemon", daemon.plugin, flags, path, "another process")
            self.assertTrue(daemon.running)

    async def test_what_is_no_database_is_named(self) -> None:
        for plugin, name in (
            ("mesos-master", "registry.sqlite"),
            ("mesos-agent", "checkpoints.sqlite"),
        ):
            where = self.directory / plugin
            where.mkdir()
            (where / name).write_bytes(b"this is no database" * 1000)
            await self.in_all_ways(
                plugin, self.flags(plugin, work_dir=where), str(where / name), "not a database"
            )

    async def test_a_master_address_that_is_none_is_shown(self) -> None:
        for wrong, why in (("127.0.0.1", "port"), ("127.0.0.1:port", "port"), ("a:b:c", "a:b:c")):
            flags = self.flags("mesos-agent", master=wrong)
            await self.in_all_ways("mesos-agent", flags, "--master", wrong, why)


def _over(process: "subprocess.Popen[bytes]") -> bool:
    return process.poll() is not None


def _gone(pid: int) -> bool:
    return not processes.alive(pid)


def _first(failure: Failure) -> Failure:
    return failure.value.subFailure if isinstance(failure.value, FirstError) else failure


class UnreachableTests(ClusterTestCase):
    """A master that is not there, not yet, or not any more."""

    async def test_an_agent_looks_for_its_master_until_it_is_there(self) -> None:
        cluster = self.cluster()
        cluster.make_master()
        agent = cluster.make_agent("a0")
        agent.start()
        await agent.ready()
        await until("a line in the log", lambda: "No link to the master at" in agent.log())
        line = next(line for line in agent.log().splitlines() if "No link to the master" in line)
        self.assertIn(cluster.master.address, line)
        self.assertIn("refused", line)
        cluster.master.start()
        await cluster.master.ready()
        await cluster.registered()
        self.assertEqual(agent.log().count("No link to the master at"), 1)


class StopTests(ClusterTestCase):
    """SIGTERM and SIGINT."""

    async def test_daemons_end_with_status_0_and_leave_nothing(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        for signum in (signal.SIGTERM, signal.SIGINT):
            for daemon in (cluster.agent, cluster.master):
                if not daemon.running:
                    daemon.start()
            await cluster.registered()
            ledger = cluster.framework()
            await ledger.run("brief", "true")
            await ledger.over("brief")
            await cluster.stop_frameworks()
            self.assertIsNotNone(cluster.agent.launcher)
            for daemon in (cluster.agent, cluster.master):
                self.assertTrue(daemon.pid_file.exists())
                daemon.signal(signum)
                self.assertEqual(await daemon.ended(), 0, daemon.log())
                self.assertFalse(daemon.pid_file.exists())
                self.assertNotIn("Traceback", daemon.log())
                self.assertNotIn("Unhandled", daemon.log())
            await until("nothing left", lambda: not cluster.running())

    async def test_a_task_ends_with_an_agent_that_cleans_up(self) -> None:
        cluster = self.cluster()
        await cluster.start(agent={"recover": "cleanup"})
        ledger = cluster.framework()
        await ledger.run("long", "sleep 1000")
        await ledger.running("long")
        self.assertEqual(await cluster.agent.stop(), 0)
        await ledger.gone("long")
        await until(
            "nothing left of the agent", lambda: not processes.below(cluster.agent.directory)
        )
        cluster.agent.start()
        await cluster.registered()
        status = await ledger.over("long")
        self.assertNotEqual(ledger.states("long")[-1], "TASK_FINISHED", status)
        ledger.balance()
        await cluster.acknowledged()

    async def test_an_agent_that_is_to_leave_for_good_unregisters_and_forgets_its_id(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        ledger = cluster.framework()
        await ledger.run("long", "sleep 1000")
        await ledger.running("long")
        cluster.agent.signal(signal.SIGUSR1)
        self.assertEqual(await cluster.agent.ended(), 0, cluster.agent.log())
        await ledger.over("long")
        self.assertEqual(ledger.states("long")[-1], "TASK_LOST")
        known = await asking.metrics(cluster.master.port)
        self.assertEqual(known["master/slave_removals/reason_unregistered"], 1)
        await until(
            "nothing left of the agent", lambda: not processes.below(cluster.agent.directory)
        )

    async def test_daemonised_ones_start_answer_and_stop(self) -> None:
        directory = Path(tempfile.mkdtemp(prefix="mk-", dir="/tmp"))
        self.addCleanup(processes.sweep, directory)
        ports = {plugin: free_port() for plugin in PLUGINS}
        for plugin in PLUGINS:
            home = directory / plugin
            home.mkdir()
            flags = {
                "work_dir": home / "w",
                "runtime_dir": home / "r",
                "ip": "127.0.0.1",
                "port": ports[plugin],
            }
            if plugin == "mesos-agent":
                flags |= {"master": f"127.0.0.1:{ports['mesos-master']}", "resources": "cpus:1"}
            process = subprocess.Popen(
                [*WAYS["twistd"], *command_line(plugin, flags)], cwd=home, env=environment()
            )
            await until(f"{plugin} in the background", partial(_over, process))
            self.assertEqual(process.returncode, 0)

        async def registered() -> bool:
            try:
                known = await asking.metrics(ports["mesos-master"])
            except Exception:
                return False
            return bool(known["master/slaves_active"] == 1)

        await until_async("the agent is registered", registered)
        for plugin in reversed(PLUGINS):
            pid = int((directory / plugin / "pid").read_text())
            os.kill(pid, signal.SIGTERM)
            await until(f"the end of {plugin}", partial(_gone, pid))
            self.assertFalse((directory / plugin / "pid").exists())
            self.assertNotIn("Traceback", (directory / plugin / "log").read_text())
        await until("nothing left", lambda: not processes.below(directory))
