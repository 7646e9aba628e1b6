"""Pods: groups of tasks that share what their executor has, while an agent keeps others apart."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import skipIf

from mesoskit.driver import Reason, TaskState, executor_info
from mesoskit.messages.mesos_pb2 import ContainerInfo, ExecutorInfo, HealthCheck, TaskStatus, Volume
from tests.agent.image_archives import busy_images
from tests.cluster import asking, processes
from tests.cluster.harness import Cluster, ClusterTestCase
from tests.cluster.ledger import Ledger
from tests.cluster.test_images import MISSING, from_image
from tests.cluster.test_task_command import Terminal, run
from tests.cluster.waiting import pause, until, until_async

not_root = skipIf(os.geteuid() != 0, "only root can isolate")

ALL = (
    "cgroups/cpu,cgroups/mem,cgroups/pids,disk/du,"
    "namespaces/pid,namespaces/ipc,filesystem/linux,network/none"
)
HOG = f'{sys.executable} -S -c "x = bytearray(80 << 20)"'
SERVER = (
    "import socket; s = socket.create_server(('127.0.0.1', 80))\n"
    "while True: s.accept()[0].sendall(b'hello')"
)
ASK = "import socket; print(socket.create_connection(('127.0.0.1', 80), 30).recv(9))"


def python(code: str) -> str:
    """Return a command."""
    return f'{sys.executable} -S -c "{code}"'


def pod(name: str = "pod", **more: Any) -> ExecutorInfo:
    """Return an executor of groups that has the resources of one."""
    return executor_info(name, mem=32, **more)


@not_root
class PodTests(ClusterTestCase):
    """Real daemons."""

    async def started(self, image: bool = False) -> tuple[Cluster, Ledger]:
        """Return a cluster with an agent that isolates, and a framework."""
        self.root = f"mesoskit-test-{os.getpid()}"
        self.addCleanup(self.remove_root)  # the last of all
        cluster = self.cluster()
        flags: dict[str, Any] = {"isolation": ALL, "cgroups_root": self.root}
        if image:
            flags.update(busy_images(cluster.directory / "images"))
        await cluster.start(agent=flags)
        return cluster, cluster.framework(fields={"checkpoint": True})

    def remove_root(self) -> None:
        """Remove the cgroups' root; there should be nothing below it."""
        left = self.groups()
        processes.sweep_cgroups(self.root)
        self.assertEqual(left, [])

    def groups(self) -> list[str]:
        """Return the containers that have cgroups, those within others too."""
        found: set[str] = set()
        for root in Path("/sys/fs/cgroup").glob(f"*/{self.root}"):
            # What goes away meanwhile is left out.
            for above, names, _ in os.walk(root):
                if above == str(root) or os.path.basename(above) == "mesos":
                    found.update(name for name in names if name != "mesos")
        return sorted(found)

    def holder(self, container: str) -> int:
        """Return the pid of what runs in the container of a pod."""
        text = Path(f"/sys/fs/cgroup/freezer/{self.root}/{container}/cgroup.procs").read_text()
        return max(map(int, text.split()))

    async def test_tasks_share_a_network_and_are_held_each_to_its_own(self) -> None:
        cluster, ledger = await self.started()
        server = ledger.task("server", python(SERVER), cpus=0.1, mem=48)
        check = {"type": "TCP", "tcp": {"port": 80}, "delay_seconds": 0, "interval_seconds": 0.2}
        server.health_check.CopyFrom(HealthCheck(**check))  # type: ignore[arg-type]
        await ledger.group(pod(), [server, ledger.task("idle", "sleep 1000", cpus=0.1, mem=32)])
        await ledger.running("idle")

        def well() -> TaskStatus | None:
            told = ledger.statuses["server"]
            return next((status for status in told if status.healthy), None)

        status = await until("the server is well", well, seen=lambda: ledger.story("server"))
        assert status is not None
        ids = status.container_status.container_id
        limits = {
            str(path.relative_to(f"/sys/fs/cgroup/memory/{self.root}").parent): path.read_text()
            for path in Path(f"/sys/fs/cgroup/memory/{self.root}").glob("**/memory.limit_in_bytes")
        }
        megabytes = {name: int(limit) >> 20 for name, limit in limits.items()}
        self.assertEqual(megabytes[ids.parent.value], 32 + 48 + 32)
        self.assertEqual(megabytes[f"{ids.parent.value}/mesos/{ids.value}"], 48)
        # Another group joins them, and somebody beside the first task.
        asking_task = ledger.task("asking", python(ASK), cpus=0.1, mem=32)
        await ledger.group(pod(), [asking_task])
        self.assertEqual((await ledger.over("asking")).state, TaskState.TASK_FINISHED)
        done = await run(cluster, "exec", "idle", "sh", "-c", python(ASK))
        self.assertEqual((done.returncode, done.stdout), (0, b"b'hello'\n"), done.stderr)
        terminal = Terminal(cluster, "exec", "-it", "idle", "sh")
        self.addCleanup(terminal.close)
        terminal.type("tty; ls -d /proc/[0-9]* | wc -l; exit 7\n")
        await terminal.shows("/dev/pts/")
        self.assertEqual(await terminal.ended(), 7)
        await self.described(cluster, ids)
        for handle in await ledger.launch(ledger.task("alone", "sleep 1000", mem=32)):
            await ledger.running("alone")
            alone = await run(cluster, "exec", "alone", "sh", "-c", python(ASK))
            self.assertNotEqual(alone.returncode, 0)
            handle.kill()
        ledger.framework.kill("server")
        self.assertEqual((await ledger.over("idle")).state, TaskState.TASK_KILLED)
        await until("no cgroups", lambda: not self.groups(), seen=self.groups)
        await until("the end of the executor", lambda: ledger.lost_executors)
        self.assertEqual([one[1:] for one in ledger.lost_executors], [("pod", 0)])
        await cluster.acknowledged()

    async def described(self, cluster: Cluster, ids: Any) -> None:
        """See how the agent shows what there is."""
        port = cluster.agent.port
        call = {"type": "GET_CONTAINERS", "get_containers": {"show_nested": True}}

        async def shown() -> dict[str, Any]:
            body = json.dumps(call).encode()
            head = (
                f"POST /api/v1 HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                f"Accept: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            answer = await asking.exchange(port, head.encode() + body)
            found = json.loads(answer.partition(b"\r\n\r\n")[2])["get_containers"]["containers"]
            return {one["container_id"]["value"]: one for one in found}

        async def counted() -> bool:
            found = await shown()
            both = found.get(ids.value, {}), found.get(ids.parent.value, {})
            return all("mem_total_bytes" in one.get("resource_statistics", ()) for one in both)

        await until_async("both are counted", counted)
        found = await shown()
        task, whole = found[ids.value], found[ids.parent.value]
        self.assertEqual(task["container_id"]["parent"]["value"], ids.parent.value)
        self.assertGreater(whole["container_status"]["executor_pid"], 0)
        self.assertEqual(task["resource_statistics"]["mem_limit_bytes"], 48 << 20)
        total = whole["resource_statistics"]
        self.assertGreaterEqual(total["mem_limit_bytes"], (32 + 48 + 32) << 20)
        self.assertGreater(total["mem_total_bytes"], 0)
        self.assertGreaterEqual(total["processes"], 5)

    async def test_one_that_takes_too_much_fails_and_takes_the_others_along(self) -> None:
        _, ledger = await self.started()
        tasks = [
            ledger.task("mate", "sleep 1000", cpus=0.1, mem=32),
            ledger.task("hog", f"sleep 0.5; {HOG}", cpus=0.1, mem=48),
        ]
        await ledger.group(pod(), tasks)
        hog, mate = await ledger.over("hog"), await ledger.over("mate")
        self.assertEqual(hog.state, TaskState.TASK_FAILED)
        self.assertEqual(hog.reason, Reason.REASON_CONTAINER_LIMITATION_MEMORY)
        self.assertIn("Requested: 48MB", hog.message)
        self.assertEqual(mate.state, TaskState.TASK_KILLED)
        await until("no cgroups", lambda: not self.groups(), seen=self.groups)

    async def test_a_volume_of_the_executor_is_found_by_its_tasks(self) -> None:
        cluster, ledger = await self.started()
        await self.sharing(cluster, ledger)
        ledger.framework.kill("reads")
        for name in ("writes", "reads"):
            self.assertEqual((await ledger.over(name)).state, TaskState.TASK_KILLED)
        await until("no cgroups", lambda: not self.groups(), seen=self.groups)
        self.assertEqual((cluster.directory / "shared" / "file").read_text(), "word\n")

    async def test_so_it_is_where_nothing_else_is_kept_apart(self) -> None:
        cluster = self.cluster()
        await cluster.start(agent={"launcher": "posix"})
        ledger = cluster.framework(fields={"checkpoint": True})
        await self.sharing(cluster, ledger)
        _, body = await asking.get(cluster.agent.port, "/containers")
        (shown,) = json.loads(body)
        os.kill(shown["status"]["executor_pid"], signal.SIGKILL)
        for name in ("writes", "reads"):
            status = await ledger.over(name)
            self.assertEqual(status.state, TaskState.TASK_FAILED)
            self.assertEqual(status.message, "Executor terminated")
        ledger.balance()

    async def sharing(self, cluster: Cluster, ledger: Ledger) -> None:
        """Launch a group of which one task writes into a volume and another one reads that."""
        shared = cluster.directory / "shared"
        shared.mkdir()
        executor = pod()
        executor.container.type = ContainerInfo.MESOS
        executor.container.volumes.add(container_path="data", host_path=str(shared), mode=Volume.RW)
        tasks = []
        for name, body in (
            ("writes", "echo word > mine/file; sleep 1000"),
            ("reads", "until [ -s mine/file ]; do sleep 0.05; done; cat mine/file; sleep 1000"),
        ):
            info = ledger.task(name, body, cpus=0.1, mem=32)
            info.container.type = ContainerInfo.MESOS
            volume = info.container.volumes.add(container_path="mine", mode=Volume.RW)
            volume.source.type = Volume.Source.SANDBOX_PATH
            volume.source.sandbox_path.type = Volume.Source.SandboxPath.PARENT
            volume.source.sandbox_path.path = "data"
            tasks.append(info)
        await ledger.group(executor, tasks)
        await ledger.running("writes")
        await until("the word is on the machine", lambda: list(shared.iterdir()))
        status = await ledger.running("reads")
        ids = status.container_status.container_id
        runs = "slaves/latest/frameworks/*/executors/pod/runs/latest"
        (run_path,) = cluster.agent.work_dir.glob(runs)
        output = run_path / "containers" / ids.value / "stdout"
        await until("the other one has read it", lambda: output.read_text() == "word\n")

    @skipIf(MISSING, f"not installed: {', '.join(MISSING)}")
    async def test_tasks_from_images_are_in_it_as_others_are(self) -> None:
        cluster, ledger = await self.started(image=True)
        shared = cluster.directory / "shared"
        shared.mkdir()
        executor = pod()
        executor.container.type = ContainerInfo.MESOS
        executor.container.volumes.add(container_path="data", host_path=str(shared), mode=Volume.RW)
        serve = "mkdir w; echo hello > w/i; httpd -p 127.0.0.1:80 -h w; ls /proc > mine/a"
        ask = "until wget -qO mine/b http://127.0.0.1/i; do sleep 0.1; done"
        tasks = []
        for name, body in (("serves", serve), ("asks", ask)):
            info = from_image(
                ledger.task(name, "true", cpus=0.1, mem=32), f"cd /tmp; {body}; sleep 1000"
            )
            volume = info.container.volumes.add(container_path="/tmp/mine", mode=Volume.RW)
            volume.source.type = Volume.Source.SANDBOX_PATH
            volume.source.sandbox_path.type = Volume.Source.SandboxPath.PARENT
            volume.source.sandbox_path.path = "data"
            tasks.append(info)
        await ledger.group(executor, tasks)

        def answered() -> bool:
            return (shared / "b").exists() and (shared / "b").read_text() == "hello\n"

        def seen() -> Any:
            return [ledger.story(name) for name in ("serves", "asks")], list(shared.iterdir())

        await until("the other one has answered", answered, seen=seen)
        status = await ledger.until("asks", TaskState.TASK_RUNNING)
        ids = status.container_status.container_id
        await until("what it sees was written", (shared / "a").read_text)
        pids = [name for name in (shared / "a").read_text().split() if name.isdecimal()]
        self.assertLess(len(pids), 9)
        memory = Path(f"/sys/fs/cgroup/memory/{self.root}/{ids.parent.value}")
        limit = memory / "mesos" / ids.value / "memory.limit_in_bytes"
        self.assertEqual(int(limit.read_text()) >> 20, 32)
        ledger.framework.kill("asks")
        for name in ("serves", "asks"):
            self.assertEqual((await ledger.over(name)).state, TaskState.TASK_KILLED)
        await until("no cgroups", lambda: not self.groups(), seen=self.groups)

    async def test_it_outlives_agents_and_launchers_and_its_tasks_do_not_outlive_it(self) -> None:
        cluster, ledger = await self.started()
        tasks = [ledger.task(name, "sleep 1000", cpus=0.1, mem=32) for name in ("a", "b")]
        await ledger.group(pod(), tasks)
        for name in ("a", "b"):
            status = await ledger.running(name)
        ids = status.container_status.container_id
        await cluster.acknowledged()
        await cluster.agent.kill()
        launcher = cluster.agent.launcher
        assert launcher is not None
        os.kill(launcher, signal.SIGKILL)
        await until("the launcher is gone", lambda: not processes.alive(launcher))
        cluster.agent.start()
        await cluster.agent.ready()
        await cluster.registered()
        await ledger.group(pod(), [ledger.task("c", "sleep 1000", cpus=0.1, mem=32)])
        third = await ledger.running("c")
        self.assertEqual(third.container_status.container_id.parent.value, ids.parent.value)
        os.kill(self.holder(ids.parent.value), signal.SIGKILL)
        for name in ("a", "b", "c"):
            self.assertEqual((await ledger.over(name)).state, TaskState.TASK_FAILED, name)
        await until("no cgroups", lambda: not self.groups(), seen=self.groups)
        await cluster.acknowledged()

    async def test_an_agent_killed_at_any_moment_of_a_launch_leaves_nothing(self) -> None:
        cluster, ledger = await self.started()
        handles = []
        for number in range(5):
            names = [f"t{number}.{each}" for each in range(3)]
            tasks = [ledger.task(name, "sleep 1000", cpus=0.1, mem=32) for name in names]
            handles += await ledger.group(pod(f"pod{number}"), tasks)
            # From before the pod's first directory is made to after the last task runs.
            await pause(number * 0.015)
            await cluster.agent.kill()
            cluster.agent.start()
            await cluster.agent.ready()
            await cluster.registered()

        def untold() -> str:
            told = (ledger.states(handle.id) or ledger.answers[handle.id] for handle in handles)
            return ", ".join(one.id for one, any_ in zip(handles, told, strict=True) if not any_)

        await until("all tasks are told of", lambda: not untold(), seen=untold)

        def running() -> set[str]:
            ids = [
                ledger.last(name).container_status.container_id
                for name in list(ledger.statuses)
                if ledger.states(name)[-1:] == ["TASK_RUNNING"]
            ]
            return {one.value for one in ids} | {one.parent.value for one in ids}

        await until("cgroups of what runs alone", lambda: set(self.groups()) <= running())
        for handle in handles:
            handle.kill()
        await until("all tasks are over", lambda: all(handle.over for handle in handles))
        await until("no cgroups", lambda: not self.groups(), seen=self.groups)
        notes = cluster.agent.runtime_dir / "isolated"
        await until("no notes", lambda: not os.listdir(notes))
