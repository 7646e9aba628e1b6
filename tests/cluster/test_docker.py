"""Tasks and executors in containers of a real Docker engine, with real daemons."""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

from mesoskit.agent.containers.docker_create import AGENT_LABEL
from mesoskit.driver import Offer, TaskState
from mesoskit.messages.mesos_pb2 import ContainerInfo, ExecutorInfo, HealthCheck, TaskStatus
from tests.agent.docker_engines import IMAGE, daemon
from tests.cluster.at_every_step import StepTestCase
from tests.cluster.harness import CHECKOUT, AgentDaemon, Cluster, ClusterTestCase
from tests.cluster.ledger import Ledger
from tests.cluster.test_executors import doing, echo
from tests.cluster.test_task_command import Terminal, run
from tests.cluster.waiting import until


def in_docker(what: Any, **docker: Any) -> Any:
    """Make a task or an executor one of Docker."""
    docker.setdefault("network", "NONE")
    parameters = [{"key": "init", "value": "true"}]
    info = ContainerInfo(
        type=ContainerInfo.DOCKER, docker={"image": IMAGE, "parameters": parameters, **docker}
    )
    what.container.CopyFrom(info)
    return what


class DockerTests(ClusterTestCase):
    """From a framework to an engine and back."""

    async def begin(self) -> tuple[Cluster, Ledger]:
        engine = await daemon()
        cluster = self.cluster()
        await cluster.start(
            agent={
                "containerizers": "mesos,docker",
                "docker_socket": engine.socket,
                "docker_remove_delay": "0secs",
                "executor_reregistration_timeout": "10secs",
            }
        )
        return cluster, cluster.framework()

    def plain(self, ledger: Ledger, name: str, command: str) -> Any:
        """Return a task without the marks of ledgers, which are files outside of containers."""
        info = ledger.task(name, "true")
        info.command.value = command
        return in_docker(info)

    async def test_tasks_run_are_checked_survive_the_agent_and_are_killed(self) -> None:
        cluster, ledger = await self.begin()
        script = "echo ready; touch /well; while :; do sleep 0.05; done"
        info = self.plain(ledger, "long", script)
        info.health_check.CopyFrom(
            HealthCheck(
                type="COMMAND",
                command={"value": "test -e /well"},
                delay_seconds=0,
                interval_seconds=0.1,
                timeout_seconds=5.0,
            )
        )
        # At the loopback address of a network of its own.
        served = self.plain(
            ledger, "served", "cd /tmp; echo hi >index.html; exec httpd -f -p 127.0.0.1:80"
        )
        served.health_check.CopyFrom(
            HealthCheck(type="HTTP", http={"port": 80, "path": "/"}, delay_seconds=0)
        )
        served.health_check.interval_seconds = 0.1
        handles = await ledger.launch(
            info,
            served,
            self.plain(ledger, "short", "echo out; exit 3"),
            ledger.task("posix", "true"),
        )
        over = await ledger.over("short")
        self.assertEqual(over.state, TaskState.TASK_FAILED)
        self.assertEqual(over.message, "Container exited with status 3")
        self.assertEqual((await ledger.over("posix")).state, TaskState.TASK_FINISHED)
        running = await ledger.until("long", TaskState.TASK_RUNNING)
        (shown,) = json.loads(running.data)
        self.assertTrue(shown["Name"].startswith("/mesos-"))
        self.assertEqual(shown["HostConfig"]["Memory"], 32 << 20)

        def healthy() -> bool:
            return all(
                any(status.healthy for status in ledger.statuses[name])
                for name in ("long", "served")
            )

        await until("both are healthy", healthy, seen=lambda: ledger.story("served"))
        sandbox = cluster.agent.sandbox(ledger.id, "short")
        self.assertEqual((sandbox / "stdout").read_text(), "out\n")
        await cluster.agent.kill()
        cluster.agent.start()
        await cluster.agent.ready()
        await cluster.registered()
        for handle in handles[:2]:
            handle.kill()
        for name in ("long", "served"):
            self.assertEqual((await ledger.over(name)).state, TaskState.TASK_KILLED)
        await cluster.acknowledged()

    async def test_an_executor_in_a_container_outlives_the_agent(self) -> None:
        cluster, ledger = await self.begin()
        executor: ExecutorInfo = in_docker(echo())
        # The image has no Python: it is shared from here.
        for path in ("/usr", "/lib", "/lib64", sys.base_prefix, str(CHECKOUT), sys.prefix):
            executor.container.volumes.add(container_path=path, host_path=path, mode="RO")
        await ledger.launch(doing("first", "finish", executor), doing("waits", "wait", executor))
        await ledger.over("first")
        await ledger.until("waits", TaskState.TASK_RUNNING)
        await cluster.agent.kill()
        cluster.agent.start()
        await cluster.agent.ready()
        await cluster.registered()
        await ledger.launch(doing("second", "finish", executor))
        self.assertEqual((await ledger.over("second")).data, b"done")
        self.assertEqual(ledger.states("waits")[-1], "TASK_RUNNING")

    async def terminal(self, cluster: Cluster, *arguments: str) -> Terminal:
        terminal = Terminal(cluster, *arguments)
        self.addCleanup(terminal.close)
        return terminal

    async def test_a_terminal_beside_a_task_and_that_of_a_task(self) -> None:
        cluster, ledger = await self.begin()
        plain = self.plain(ledger, "plain", "export A=1; sleep 1000")
        plain.command.environment.variables.add(name="B", value="2")
        game = self.plain(ledger, "game", "stty -echo; while read x; do echo you said $x; done")
        game.container.tty_info.window_size.rows = 20
        game.container.tty_info.window_size.columns = 70
        await ledger.launch(plain, game)
        await ledger.until("plain", TaskState.TASK_RUNNING)
        await ledger.until("game", TaskState.TASK_RUNNING)
        script = "echo $B $MESOS_SANDBOX; echo wrong >&2; read line; echo got $line; exit 7"
        done = await run(cluster, "exec", "-i", "plain", "sh", "-c", script, given=b"hello\n")
        said = done.stdout.decode().split()
        self.assertEqual(said[0], "2")
        self.assertTrue(said[1].startswith("/mnt/mesos/sandbox/containers/"), said)
        self.assertEqual((said[2:], done.stderr), (["got", "hello"], b"wrong\n"))
        self.assertEqual(done.returncode, 7)
        piped = await run(cluster, "exec", "-i", "plain", "cat", given=b"x" * 300_000)
        self.assertEqual(len(piped.stdout), 300_000)
        shell = await self.terminal(cluster, "exec", "-it", "--user=65534", "plain", "sh")
        await shell.shows("$ ")
        shell.resize(50, 150)
        shell.process.send_signal(signal.SIGWINCH)
        wait = "while test \"$(stty size)\" != '50 150'; do sleep 0.02; done"
        shell.type(f"{wait}; echo re''sized $(id -u)\n")
        await shell.shows("resized 65534\r\n")
        shell.type("echo wai''ting; sleep 1000\n")
        await shell.shows("waiting\r\n")
        shell.type("\x03")
        await shell.shows("^C")
        shell.type("exit 5\n")
        self.assertEqual(await shell.ended(), 5)
        self.assertTrue(shell.is_as_before)
        first = await self.terminal(cluster, "attach", "game")
        await until("raw keys", lambda: first.is_raw)
        first.type("one\n")
        await first.shows("you said one\r\n")
        first.type("\x10\x11")
        self.assertEqual(await first.ended(), 0)
        await cluster.agent.kill()
        cluster.agent.start()
        await cluster.agent.ready()
        await cluster.registered()
        again = await self.terminal(cluster, "attach", "game")
        await until("raw keys", lambda: again.is_raw)
        again.type("two\n")
        await again.shows("you said two\r\n")
        again.type("\x04")
        self.assertEqual(await again.ended(), 0)
        await ledger.over("game")

    async def test_what_no_engine_can_run_fails_with_its_words(self) -> None:
        _, ledger = await self.begin()
        info = self.plain(ledger, "bad", "true")
        info.container.docker.parameters.add(key="memroy", value="1g")
        mapped = self.plain(ledger, "mapped", "true")
        mapped.container.docker.network = ContainerInfo.DockerInfo.BRIDGE
        mapped.container.docker.port_mappings.add(host_port=99, container_port=80)
        await ledger.launch(info, mapped)
        bad, ports = await ledger.over("bad"), await ledger.over("mapped")
        self.assertEqual(bad.reason, TaskStatus.REASON_CONTAINER_LAUNCH_FAILED)
        self.assertIn("docker parameter 'memroy' is not known", bad.message)
        self.assertIn("Port mappings require port resources", ports.message)


class DockerStepTests(StepTestCase):
    """Agents that are killed at the steps of a life of a task of Docker."""

    async def test_nothing_is_left_at_whichever_step_the_agent_was_killed(self) -> None:
        engine = await daemon()
        flags = {
            "containerizers": "mesos,docker",
            "docker_socket": engine.socket,
            "docker_remove_delay": "0secs",
        }

        def launch(ledger: Ledger, offer: Offer, name: str) -> Any:
            info = in_docker(ledger.task(name, "true", cpus=0.1, mem=32))
            info.command.value = "sleep 1000"
            return ledger.framework.accept(offer, [info])

        def left(agent: AgentDaemon) -> object:
            return engine.containers(f"{AGENT_LABEL}={agent.work_dir}")

        await self.at_every_step(flags, launch, left, every=6)
