"""What is killed ends, what must survive survives, and everybody is told, whatever is killed."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from mesoskit.driver import FrameworkInfo, Reason, TaskState
from mesoskit.messages.mesos_pb2 import TaskStatus
from tests.cluster import processes
from tests.cluster.harness import Cluster, ClusterTestCase, environment
from tests.cluster.ledger import Ledger, marking
from tests.cluster.test_executors import doing, echo, executor_pid
from tests.cluster.waiting import pause, until

SHORT_PINGS = {"agent_ping_timeout": "1secs", "max_agent_ping_timeouts": 3}

CLEANUP = {"recover": "cleanup"}

AWARE = FrameworkInfo.Capability.PARTITION_AWARE

REMOVED = Reason.REASON_AGENT_REMOVED


def keeping(name: str, framework_id: str = "") -> FrameworkInfo:
    """Return a framework that is checkpointed and keeps its id."""
    info = FrameworkInfo(user="", name=name, checkpoint=True, failover_timeout=3600.0)
    if framework_id:
        info.id.value = framework_id
    return info


class TaskDeathTests(ClusterTestCase):
    """Tasks, and what is right above them."""

    async def test_a_killed_process_fails_its_task(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        ledger = cluster.framework()
        await ledger.run("victim", "sleep 1000")
        await ledger.running("victim")
        processes.kill((await ledger.started("victim")).pid)
        status = await ledger.over("victim")
        self.assertEqual(status.state, TaskState.TASK_FAILED)
        self.assertEqual(status.message, "Command terminated with signal Killed")
        ledger.balance()
        await cluster.acknowledged()

    async def test_without_their_launcher_tasks_run_on_and_end_with_an_unknown_status(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        ledger = cluster.framework()
        gate = cluster.directory / "gate"
        for name in ("good", "long"):
            await ledger.run(name, f"while [ ! -e {gate}-{name} ]; do sleep 0.02; done")
            await ledger.running(name)
        launcher = cluster.agent.launcher
        assert launcher is not None
        processes.kill(launcher)
        await until("another launcher", lambda: cluster.agent.launcher not in (None, launcher))
        for name in ("good", "long"):
            self.assertTrue(processes.alive((await ledger.started(name)).pid), name)
        Path(f"{gate}-good").touch()
        status = await ledger.over("good")
        # It ended well, but nobody can know.
        self.assertEqual(status.state, TaskState.TASK_FAILED)
        self.assertEqual(status.message, "Failed to get exit status for Command")
        await ledger.run("after", "true")
        self.assertEqual((await ledger.over("after")).state, TaskState.TASK_FINISHED)
        ledger.framework.kill("long")
        self.assertEqual((await ledger.over("long")).state, TaskState.TASK_KILLED)
        ledger.balance()
        await cluster.acknowledged()


class FrameworkDeathTests(ClusterTestCase):
    """Frameworks that are killed."""

    async def lonely(self, cluster: Cluster, timeout: float, body: str) -> tuple[str, Path]:
        """Start a framework as a process, wait until its task C{t} runs, and kill it."""
        id_file = cluster.directory / "id"
        marks = cluster.directory / "lonely-marks"
        marks.touch()
        marks.chmod(0o666)
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.cluster.lonely_framework",
                cluster.master.address,
                str(id_file),
                str(timeout),
                "t",
                marking("t", marks, body),
            ],
            env=environment(),
            stdout=subprocess.PIPE,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        os.set_blocking(process.stdout.fileno(), False)
        stdout = process.stdout
        await until("its task runs", stdout.read)
        await until("its task's mark", lambda: marks.read_text().endswith("\n"))
        process.kill()
        return id_file.read_text().strip(), marks

    async def test_one_that_comes_back_in_time_finds_its_task_and_what_became_of_it(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        gate = cluster.directory / "gate"
        framework_id, marks = await self.lonely(
            cluster, 3600.0, f"while [ ! -e {gate} ]; do sleep 0.02; done"
        )
        (mark,) = [line.split() for line in marks.read_text().splitlines()]
        self.assertTrue(processes.alive(int(mark[2])))
        gate.touch()
        await until("its end", lambda: not processes.alive(int(mark[2])))
        ledger = cluster.framework(info=keeping("lonely", framework_id))
        status = await ledger.over("t")
        self.assertEqual(ledger.id, framework_id)
        self.assertEqual(status.state, TaskState.TASK_FINISHED)
        await cluster.acknowledged()

    async def test_one_that_does_not_come_back_in_time_is_removed_with_its_tasks(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        framework_id, marks = await self.lonely(cluster, 0.5, "sleep 1000")
        pid = int(marks.read_text().split()[2])
        await until("the end of its task", lambda: not processes.alive(pid))
        ledger = cluster.framework(info=keeping("lonely", framework_id))
        await until("a refusal", lambda: ledger.errors)
        self.assertIn("Framework has been removed", ledger.errors[0])
        await cluster.acknowledged()


class AgentDeathTests(ClusterTestCase):
    """Agents that are killed, and come back or not."""

    async def two_kinds(self, cluster: Cluster) -> tuple[Ledger, Ledger]:
        """Return two frameworks with a task C{t} each; the first does not checkpoint."""
        plain = cluster.framework("plain", fields={"checkpoint": False})
        kept = cluster.framework("kept", info=keeping("kept"))
        for ledger in (plain, kept):
            await ledger.run("t", "sleep 1000")
            await ledger.running("t")
        await cluster.acknowledged()
        return plain, kept

    async def test_one_that_comes_back_in_time_keeps_its_id_and_tells_what_became_of_all(
        self,
    ) -> None:
        cluster = self.cluster()
        await cluster.start(agent=CLEANUP)
        plain, kept = await self.two_kinds(cluster)
        before = kept.last("t").agent_id.value
        await cluster.agent.kill()
        lost = await plain.over("t", timeout=60.0)
        # The master's own word, as of a recorded one: a framework that does not checkpoint
        # has nothing to wait for.
        self.assertEqual(lost.state, TaskState.TASK_LOST)
        self.assertEqual(lost.reason, Reason.REASON_AGENT_DISCONNECTED)
        self.assertEqual(lost.source, TaskStatus.SOURCE_MASTER)
        self.assertEqual(lost.message, "Agent 127.0.0.1 disconnected")
        self.assertEqual(kept.states("t")[-1], "TASK_RUNNING")
        cluster.agent.start()
        await cluster.agent.ready()
        status = await kept.over("t")
        self.assertEqual(status.state, TaskState.TASK_GONE)
        self.assertEqual(status.reason, Reason.REASON_AGENT_RESTARTED)
        self.assertEqual(status.agent_id.value, before)
        for ledger in (plain, kept):
            await ledger.gone("t")
            ledger.balance()
        await kept.run("after", "true", agent_id=before)
        self.assertEqual((await kept.over("after")).state, TaskState.TASK_FINISHED)
        self.assertFalse(kept.lost_agents)
        await cluster.acknowledged()

    async def test_a_task_that_ended_while_nobody_looked_is_told_as_it_ended(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        ledger = cluster.framework(info=keeping("kept"))
        gate = cluster.directory / "gate"
        body = f"while [ ! -e {gate} ]; do sleep 0.02; done"
        await ledger.run("good", body)
        await ledger.run("bad", f"{body}; (exit 3)")
        for name in ("good", "bad"):
            await ledger.running(name)
        await cluster.agent.kill()
        gate.touch()
        for name in ("good", "bad"):
            await ledger.gone(name)
        cluster.agent.start()
        await cluster.registered()
        self.assertEqual((await ledger.over("good")).state, TaskState.TASK_FINISHED)
        self.assertEqual((await ledger.over("bad")).message, "Command exited with status 3")
        ledger.balance()
        await cluster.acknowledged()

    async def test_with_its_launcher_gone_too_it_still_finds_and_ends_all(self) -> None:
        cluster = self.cluster()
        await cluster.start(agent=CLEANUP)
        ledger = cluster.framework(info=keeping("kept"))
        gate = cluster.directory / "gate"
        await ledger.run("long", "sleep 1000")
        await ledger.run("ends", f"while [ ! -e {gate} ]; do sleep 0.02; done")
        for name in ("long", "ends"):
            await ledger.running(name)
        launcher = cluster.agent.launcher
        assert launcher is not None
        await cluster.agent.kill()
        processes.kill(launcher)
        gate.touch()
        await ledger.gone("ends")
        cluster.agent.start()
        await cluster.registered()
        for name in ("long", "ends"):
            status = await ledger.over(name)
            # No status of an exit is left of either: nobody may guess one.
            self.assertIn(TaskState(status.state), (TaskState.TASK_GONE, TaskState.TASK_FAILED))
            await ledger.gone(name)
        ledger.balance()
        await cluster.acknowledged()

    async def test_one_that_comes_back_as_another_machine_is_refused_by_itself(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        await cluster.agent.kill()
        cluster.agent.start(resources="cpus:1;mem:64")
        self.assertEqual(await cluster.agent.ended(), 1)
        last = cluster.agent.log().splitlines()
        said = [line for line in last if "Incompatible agent info detected" in line]
        self.assertTrue(said)
        self.assertIn("cpus:4", said[-1])
        self.assertNotIn("Traceback", cluster.agent.log())

    async def test_one_that_stays_away_is_unreachable_and_its_tasks_are_told_so(self) -> None:
        cluster = self.cluster()
        await cluster.start(master=SHORT_PINGS, agent=CLEANUP)
        aware = cluster.framework("aware", info=keeping("aware"))
        unaware = cluster.framework("unaware", info=keeping("unaware"), capabilities=False)
        for ledger in (aware, unaware):
            await ledger.run("t", "sleep 1000")
            await ledger.running("t")
        agent_id = aware.last("t").agent_id.value
        await cluster.agent.kill()
        status = await aware.until("t", TaskState.TASK_UNREACHABLE)
        self.assertEqual(status.reason, REMOVED)
        self.assertTrue(status.HasField("unreachable_time"))
        status = await unaware.until("t", TaskState.TASK_LOST)
        self.assertEqual(status.reason, REMOVED)
        for ledger in (aware, unaware):
            await until("word of the agent", partial(getattr, ledger, "lost_agents"))
            self.assertEqual(ledger.lost_agents, [agent_id])
        cluster.agent.start()
        await cluster.registered()
        # It is back under its id, and ends what ran there.
        status = await aware.over("t")
        self.assertEqual(status.state, TaskState.TASK_GONE)
        self.assertEqual(status.agent_id.value, agent_id)
        # Who does not know of partitions is told once more: lost, back, and lost again.
        await until(
            "the end of the other",
            lambda: unaware.last("t").source == TaskStatus.SOURCE_AGENT,
        )
        for ledger in (aware, unaware):
            await ledger.gone("t")
            ledger.balance()
        await cluster.acknowledged()

    async def test_updates_that_nobody_has_acknowledged_are_sent_again(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        first = cluster.framework("first", info=keeping("first"), acknowledge=False)
        await first.run("t", "true")
        one = await first.until("t", TaskState.TASK_STARTING)
        await until(
            "all in the store", lambda: len([k for k in cluster.agent.pending() if "/t/" in k]) == 3
        )
        await first.framework.stopService()
        await cluster.agent.kill()
        cluster.agent.start()
        await cluster.registered()
        second = cluster.framework("second", info=keeping("first", first.id))
        status = await second.over("t")
        self.assertEqual(
            second.states("t"), ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"], status
        )
        self.assertEqual(second.statuses["t"][0].uuid, one.uuid)
        await cluster.acknowledged()

    async def test_an_agent_that_stands_still_is_unreachable_and_comes_back(self) -> None:
        cluster = self.cluster()
        await cluster.start(master=SHORT_PINGS)
        ledger = cluster.framework(info=keeping("aware"))
        await ledger.run("t", "sleep 1000")
        await ledger.running("t")
        (handle,) = await ledger.launch(doing("w", "wait", echo()))
        pid = await executor_pid(ledger, handle.agent_id)
        cluster.agent.signal(signal.SIGSTOP)
        self.addCleanup(cluster.agent.signal, signal.SIGCONT)
        await ledger.until("t", TaskState.TASK_UNREACHABLE)
        cluster.agent.signal(signal.SIGCONT)
        await until("it runs again", lambda: running_again(ledger))
        self.assertTrue(processes.alive((await ledger.started("t")).pid))
        self.assertEqual(await executor_pid(ledger, handle.agent_id), pid)
        for name in ("t", "w"):
            ledger.framework.kill(name)
            self.assertEqual((await ledger.over(name)).state, TaskState.TASK_KILLED)
        ledger.balance()
        await cluster.acknowledged()


def _counts(ledger: Ledger, connections: int, disconnections: int) -> bool:
    return (ledger.connections, ledger.disconnections) == (connections, disconnections)


def running_again(ledger: Ledger) -> bool:
    """Tell whether the newest word of the task C{t}, in whatever way it came, is that it runs."""
    heard = [*ledger.statuses["t"], *ledger.answers["t"]]
    newest = max(heard, key=lambda status: status.timestamp)
    return TaskState(newest.state) is TaskState.TASK_RUNNING


class MasterDeathTests(ClusterTestCase):
    """The master is killed, and started again with the same work directory."""

    async def test_all_come_back_by_themselves_and_what_was_said_meanwhile_arrives(self) -> None:
        cluster = self.cluster()
        await cluster.start(2)
        gate = cluster.directory / "gate"
        plain = cluster.framework("plain")
        kept = cluster.framework("kept", info=keeping("kept"))
        for ledger in (plain, kept):
            await ledger.run("long", "sleep 1000")
            await ledger.run("ends", f"while [ ! -e {gate} ]; do sleep 0.02; done")
            for name in ("long", "ends"):
                await ledger.running(name)
        ids = plain.id, kept.id
        await cluster.master.kill()
        for ledger in (plain, kept):
            await until("it is noticed", partial(_counts, ledger, 1, 1))
        gate.touch()
        for ledger in (plain, kept):
            await ledger.gone("ends")
        cluster.master.start()
        await cluster.registered(2)
        for ledger in (plain, kept):
            await until("it is back", partial(_counts, ledger, 2, 1))
            self.assertEqual((await ledger.over("ends")).state, TaskState.TASK_FINISHED)
            self.assertTrue(processes.alive((await ledger.started("long")).pid))
            self.assertEqual(ledger.states("long")[-1], "TASK_RUNNING")
        self.assertEqual((plain.id, kept.id), ids)
        for ledger in (plain, kept):
            await ledger.run("new", "true")
            self.assertEqual((await ledger.over("new")).state, TaskState.TASK_FINISHED)
            ledger.framework.kill("long")
            self.assertEqual((await ledger.over("long")).state, TaskState.TASK_KILLED)
            ledger.balance()
        await cluster.acknowledged()

    async def test_a_task_that_was_being_launched_ends_or_runs_but_is_told_of(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        ledger = cluster.framework(info=keeping("kept"))
        offer = await ledger.offer(cpus=2.0)
        tasks = [ledger.task(f"t{n}", "true") for n in range(10)]
        accepted = ledger.framework.accept(offer, tasks)
        await pause(0.01)
        cluster.master.signal(signal.SIGKILL)
        handles = await accepted
        await cluster.master.ended()
        cluster.master.start()
        await cluster.registered()
        for handle in handles:
            await handle.terminal().addErrback(lambda failure: None)
            self.assertTrue(handle.over)
        await cluster.acknowledged()
        ledger.balance()

    async def test_master_and_agent_may_die_together(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        ledger = cluster.framework(info=keeping("kept"))
        await ledger.run("t", "sleep 1000")
        agent_id = (await ledger.running("t")).agent_id.value
        await cluster.master.kill()
        await cluster.agent.kill()
        cluster.master.start()
        cluster.agent.start()
        await cluster.registered()
        self.assertTrue(processes.alive((await ledger.started("t")).pid))
        ledger.framework.kill("t")
        status = await ledger.over("t")
        self.assertEqual(status.state, TaskState.TASK_KILLED)
        self.assertEqual(status.agent_id.value, agent_id)
        await ledger.gone("t")
        ledger.balance()
        await cluster.acknowledged()
