"""Tasks in containers from images, with real daemons, as root."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import skipIf

from mesoskit.driver import ExecutorInfo, Offer, Reason, TaskInfo, TaskState, executor_info
from mesoskit.messages import agent_pb2
from mesoskit.messages.mesos_pb2 import CheckInfo, ContainerInfo, HealthCheck, Image, Volume
from tests.agent.image_archives import BUSYBOX, busy_images
from tests.agent.test_imaged import sleeping
from tests.cluster import asking, processes
from tests.cluster.at_every_step import StepTestCase
from tests.cluster.harness import CHECKOUT, AgentDaemon, Cluster, ClusterTestCase
from tests.cluster.ledger import Ledger
from tests.cluster.test_executors import doing, echo
from tests.cluster.test_task_command import Terminal, run
from tests.cluster.waiting import until

MISSING = [name for name in ("skopeo", "umoci", "runc") if shutil.which(name) is None]
if BUSYBOX is None:
    MISSING.append("busybox-static")

TROPHY = "trophy-of-the-image"


def from_image(task: TaskInfo, command: str, image: str = "busy") -> TaskInfo:
    """Have a task run a command in a container from an image, without a ledger's marks."""
    task.command.value = command
    task.container.type = ContainerInfo.MESOS
    task.container.mesos.image.type = Image.DOCKER
    task.container.mesos.image.docker.name = image
    return task


def provisions(agent: AgentDaemon) -> list[str]:
    """Return what lies ready for containers from images."""
    path = agent.work_dir / "provisioner" / "containers"
    return os.listdir(path) if path.exists() else []


def executor_from_image() -> ExecutorInfo:
    """Return an executor in a container from an image, with the machine's Python mounted."""
    executor = echo("echo", cpus=0.1, mem=64.0)
    executor.container.CopyFrom(from_image(TaskInfo(), "true").container)
    needed = {str(CHECKOUT), sys.base_prefix, sys.prefix, "/usr", "/lib", "/lib64"}
    for path in sorted(needed):
        if os.path.isdir(path) and not any(path.startswith(f"{each}/") for each in needed):
            volume = executor.container.volumes.add(container_path=path, mode=Volume.RO)
            volume.source.type = Volume.Source.HOST_PATH
            volume.source.host_path.path = path
    return executor


@skipIf(MISSING, f"not installed: {', '.join(MISSING)}")
@skipIf(os.geteuid() != 0, "only root runs images")
class ImageTests(ClusterTestCase):
    """Real daemons."""

    async def started(self, **flags: Any) -> tuple[Cluster, Ledger]:
        """Return a cluster with an agent that knows an image C{busy}, and a framework."""
        cluster = self.cluster()
        known = busy_images(
            cluster.directory / "images",
            Env=["PATH=/bin", f"TROPHY={TROPHY}"],
            Cmd=["sh", "-c", "exit 5"],
        )
        await cluster.start(agent={**known, **flags})
        return cluster, cluster.framework(fields={"checkpoint": True})

    def provisions(self, cluster: Cluster) -> list[str]:
        return provisions(cluster.agent)

    async def test_tasks_from_images(self) -> None:
        cluster, ledger = await self.started()
        own = from_image(ledger.task("own", "true"), "")
        own.command.shell = False
        own.command.ClearField("value")
        # Whatever has finished must have left a mark of that: so none does.
        fine = f"test $TROPHY = {TROPHY} && ! test -e /home && exit 4"
        await ledger.launch(
            from_image(ledger.task("fine", "true"), fine),
            from_image(ledger.task("missing", "true"), "true", "nothing:1"),
            own,
        )
        status = await ledger.over("fine")
        self.assertEqual(status.message, "Command exited with status 4")
        status = await ledger.over("own")
        self.assertEqual(status.message, "Command exited with status 5")
        status = await ledger.over("missing")
        self.assertEqual(status.reason, Reason.REASON_CONTAINER_LAUNCH_FAILED)
        self.assertIn("there is no image 'nothing:1' in ", status.message)
        await until("nothing is left", lambda: not self.provisions(cluster))
        call = agent_pb2.Call(type=agent_pb2.Call.PRUNE_IMAGES)
        body = call.SerializeToString()
        head = (
            f"POST /api/v1 HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-protobuf\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        answer = await asking.exchange(cluster.agent.port, head.encode() + body)
        self.assertIn(b" 200 OK", answer.splitlines()[0])
        store = cluster.agent.work_dir / "store" / "docker"
        self.assertEqual(os.listdir(store / "layers"), [])

    async def test_limits_checks_and_kills_within_and_over_restarts(self) -> None:
        root = f"mesoskit-test-{os.getpid()}"
        self.addCleanup(processes.sweep_cgroups, root)
        cluster, ledger = await self.started(
            isolation="cgroups/cpu,cgroups/mem,namespaces/pid,filesystem/linux,network/none",
            cgroups_root=root,
        )
        checked = from_image(
            ledger.task("checked", "true", cpus=0.1, mem=32),
            "touch /well; exec busybox httpd -f -p 127.0.0.1:80 -h /",
        )
        checked.health_check.type = HealthCheck.COMMAND
        checked.health_check.command.value = "test -e /well"
        checked.health_check.delay_seconds = 0
        checked.health_check.interval_seconds = 0.2
        checked.check.type = CheckInfo.HTTP
        checked.check.http.port = 80  # in the container, where there is a network of its own
        checked.check.http.path = "/well"
        checked.check.delay_seconds = 0
        checked.check.interval_seconds = 0.2
        gate = "while ! test -e gate; do sleep 0.1; done; "
        hog = from_image(
            ledger.task("hog", "true", cpus=0.1, mem=32),
            gate + "busybox dd if=/dev/zero of=/dev/null bs=80M",
        )
        handles = await ledger.launch(checked, hog)
        for name in ("hog", "checked"):
            await ledger.until(name, TaskState.TASK_RUNNING)
        await until("it is well", lambda: ledger.last("checked").healthy)
        await until("a page", lambda: ledger.last("checked").check_status.http.status_code == 200)
        await cluster.acknowledged()
        await cluster.agent.kill()
        cluster.agent.start()
        await cluster.agent.ready()
        await cluster.registered()
        (cluster.agent.sandbox(ledger.id, "hog") / "gate").touch()
        status = await ledger.over("hog")
        self.assertEqual(status.reason, Reason.REASON_CONTAINER_LIMITATION_MEMORY)
        handles[0].kill()
        status = await ledger.over("checked")
        self.assertEqual(status.message, "Command terminated with signal Terminated")
        await until("nothing is left", lambda: not self.provisions(cluster))

    async def test_sessions_and_groups_are_within(self) -> None:
        cluster, ledger = await self.started()
        single = from_image(ledger.task("single", "true"), "touch /well; sleep 1000")
        writer = from_image(ledger.task("writer", "true"), "echo shared >both/word; sleep 1000")
        reader = from_image(
            ledger.task("reader", "true"),
            "while ! grep shared both/word; do sleep 0.1; done; exit 6",
        )
        for task in (writer, reader):
            volume = task.container.volumes.add(container_path="both", mode=Volume.RW)
            volume.source.type = Volume.Source.SANDBOX_PATH
            volume.source.sandbox_path.type = Volume.Source.SandboxPath.PARENT
            volume.source.sandbox_path.path = "both"
        await ledger.launch(single)
        await ledger.until("single", TaskState.TASK_RUNNING)
        done = await run(
            cluster, "exec", "-i", "single", "sh", "-c", "ls /well; cat; exit 3", given=b"in"
        )
        self.assertEqual((done.stdout, done.returncode), (b"/well\nin", 3), done.stderr)
        terminal = Terminal(cluster, "exec", "-it", "single", "sh")
        self.addCleanup(terminal.close)
        await terminal.shows("#")
        terminal.type("busybox tty; busybox stty size </dev/tty\n")
        await terminal.shows("/dev/pts/0\r\n40 120\r\n")
        terminal.resize(50, 100)
        token = f"{1_000_000 + os.getpid()}.3"
        terminal.type(f"sleep {token}\n")
        await until("it sleeps", lambda: sleeping(token))
        terminal.type("\x03")
        terminal.type("busybox stty size; ls /well; exit 4\n")
        await terminal.shows("50 100\r\n/well")
        self.assertEqual(await terminal.ended(), 4)
        await ledger.group(executor_info("pod"), [writer, reader])
        status = await ledger.over("reader")
        self.assertEqual(status.message, "Command exited with status 6")

    async def test_an_executor_in_an_image_without_a_network(self) -> None:
        cluster, ledger = await self.started(isolation="network/none")
        executor = executor_from_image()
        await ledger.launch(doing("waits", "wait", executor))
        await ledger.until("waits", TaskState.TASK_RUNNING)
        await cluster.acknowledged()
        await cluster.agent.kill()
        cluster.agent.start()
        await cluster.agent.ready()
        await cluster.registered()
        await ledger.launch(doing("fails", "fail", executor))
        status = await ledger.over("fails")
        self.assertIn("as it was asked to", status.message)
        self.assertEqual(ledger.states("waits")[-1], "TASK_RUNNING")
        await ledger.framework.shutdown_executor("echo", ledger.last("waits").agent_id.value)
        await until("nothing is left", lambda: not self.provisions(cluster))


@skipIf(MISSING, f"not installed: {', '.join(MISSING)}")
@skipIf(os.geteuid() != 0, "only root runs images")
class ImageStepTests(StepTestCase):
    """Agents that are killed at the steps of a life of a task from an image."""

    async def test_nothing_is_left_at_whichever_step_the_agent_was_killed(self) -> None:
        folder = tempfile.mkdtemp(prefix="mesoskit-images-")
        self.addCleanup(shutil.rmtree, folder)
        flags = {
            **busy_images(Path(folder)),
            "isolation": "cgroups/mem,cgroups/pids,disk/du",
        }

        def launch(ledger: Ledger, offer: Offer, name: str) -> Any:
            info = from_image(ledger.task(name, "true", cpus=0.1, mem=32), "sleep 1000")
            return ledger.framework.accept(offer, [info])

        await self.at_every_step(flags, launch, provisions, every=3)


class WithoutImagesTests(ClusterTestCase):
    """An agent that was not told of images."""

    async def test_a_task_that_wants_an_image_is_told_what_the_agent_lacks(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        ledger = cluster.framework()
        await ledger.launch(from_image(ledger.task("t", "true"), "true"))
        status = await ledger.over("t")
        self.assertEqual(status.state, TaskState.TASK_FAILED)
        self.assertIn("--image_providers=docker", status.message)
