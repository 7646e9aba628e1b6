"""Containers of the Docker engine: on a real one, held to the suite of all containers."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from signal import SIGKILL, SIGTERM
from typing import Any

import orjson
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from mesoskit.agent import statistics
from mesoskit.agent.container import (
    UNLIMITED,
    Allotment,
    Console,
    ContainerFacts,
    ContainerSpec,
    RecoveredContainers,
)
from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.docker import DockerContainers
from mesoskit.agent.containers.docker_found import Found
from mesoskit.agent.docker import DockerSettings
from mesoskit.agent.users import Users, in_thread_of
from mesoskit.messages.mesos_pb2 import ContainerInfo
from mesoskit.model.ids import ContainerId
from mesoskit.model.tasks import Reason
from tests.agent.containers_contract import Ends, NestingContract
from tests.agent.docker_engines import IMAGE, Daemon, daemon
from tests.agent.real import REACTOR, until

A, B = ContainerId("a"), ContainerId("session")
TERMINAL = Console(terminal=True, session=True)


async def until_async(
    ask: Callable[[], Awaitable[Any]], right: Callable[[Any], bool], seconds: float = 60.0
) -> None:
    """Wait until what somebody answers is right."""
    deadline = REACTOR.seconds() + seconds
    while not right(found := await ask()):
        if REACTOR.seconds() > deadline:
            raise AssertionError(f"after {seconds} s it still is {found}")
        await deferLater(REACTOR, 0.02)


class DockerTestCase(TestCase):
    """A test with a real engine and a directory of its own; all it starts is removed."""

    timeout = 300

    async def setUp(self) -> None:  # type: ignore[override]
        self.daemon: Daemon = await daemon()
        self.directory = tempfile.mkdtemp(prefix="mesoskit-test-")
        os.chmod(self.directory, 0o755)
        self.in_thread = in_thread_of(REACTOR)
        self.users = Users(REACTOR, self.in_thread)
        self.agents: list[DockerContainers] = []
        self.settings = DockerSettings(socket=self.daemon.socket, remove_delay=0.0)
        self.addCleanup(self.clean_up)

    def agent(self, ends: Ends, settings: DockerSettings | None = None) -> DockerContainers:
        agent = DockerContainers(
            REACTOR,
            settings or self.settings,
            self.directory,
            os.path.join(self.directory, "docker"),
            self.users,
            self.in_thread,
            ends,
        )
        self.agents.append(agent)
        return agent

    def sandbox(self, name: str) -> str:
        path = os.path.join(self.directory, "sandboxes", name)
        os.makedirs(path, exist_ok=True)
        return path

    def output(self, name: str, stream: str = "stdout") -> str:
        with open(os.path.join(self.sandbox(name), stream), newline="") as file:
            return file.read()

    def spec(self, name: str, command: str | None, **more: Any) -> ContainerSpec:
        """Return a container of a shell command; L{None}: of the image's own."""
        info = more.pop("info", ContainerInfo(type=ContainerInfo.DOCKER))
        info.docker.image = info.docker.image or IMAGE
        for key, value in self.daemon.parameters:
            info.docker.parameters.add(key=key, value=value)
        argv = ("/bin/sh", "-c", command) if command is not None else ()
        more.setdefault("environment", (("A", "1"),))
        return ContainerSpec(
            ContainerId(name),
            more.pop("argv", argv),
            self.sandbox(name),
            file="/bin/sh" if command is not None else None,
            info=info.SerializeToString(),
            docker=True,
            **more,
        )

    def beside(self, name: str, command: str, **more: Any) -> ContainerSpec:
        return ContainerSpec(
            ContainerId(name),
            ("sh", "-c", command),
            self.sandbox("a"),
            (("B", "2"),),
            file="/bin/sh",
            parent=ContainerId("a"),
            patience=0.0,
            **more,
        )

    async def started(
        self, settings: DockerSettings | None = None
    ) -> tuple[DockerContainers, Ends]:
        ends = Ends()
        agent = self.agent(ends, settings)
        await agent.start()
        await agent.recover()
        return agent, ends

    async def clean_up(self) -> None:
        for agent in self.agents:
            await agent.stop()
        last = self.agent(Ends())
        await last.start()
        for item in await last._watch.list():
            await last._watch.remove(item["Id"])
        await last.stop()
        shutil.rmtree(self.directory)


class DockerContractTests(DockerTestCase, NestingContract):
    """The suite of all containers."""

    least_pid = 0

    async def test_what_may_not_outlive_its_agent_ends_without_one(self):
        # The engine knows of no patience: the next agent does.
        first, _ = await self.started()
        pids = {
            ContainerId(name): await first.launch(self.spec(name, "sleep 1000", patience=patience))
            for name, patience in (("short", 0.0), ("long", 1000.0), ("eternal", None))
        }
        await first.stop()
        ends = Ends()
        second = self.agent(ends)
        await second.start()
        expected = RecoveredContainers(pids, {}, frozenset([ContainerId("short")]))
        self.assertEqual(await second.recover(), expected)
        self.assertEqual(await ends.wait(1), [("short", SIGKILL)])


def docker_info(**docker: Any) -> ContainerInfo:
    """Return what a container of Docker is to be; of our image, without a network."""
    docker.setdefault("network", "NONE")
    return ContainerInfo(type=ContainerInfo.DOCKER, docker={"image": IMAGE, **docker})


class RunningTests(DockerTestCase):
    """What runs in a container, what it finds, and what is heard of it."""

    async def run_one(self, command: str | None, **more: Any) -> tuple[str, str]:
        """Run a container to its end; return what it has written."""
        agent, ends = await self.started()
        await agent.launch(self.spec("a", command, **more))
        await ends.wait(1)
        self.assertEqual(ends.told, [("a", 0)])
        return self.output("a"), self.output("a", "stderr")

    async def test_it_finds_its_environment_and_its_sandbox(self):
        script = "cd /mnt/mesos/sandbox; echo $A $FROM; cat given; echo no >&2; echo hi >made"
        with open(os.path.join(self.sandbox("a"), "given"), "w") as file:
            file.write("given\n")
        out, err = await self.run_one(script, info=docker_info())
        self.assertEqual((out, err), ("1 image\ngiven\n", "no\n"))
        self.assertEqual(self.output("a", "made"), "hi\n")

    async def test_without_a_command_it_is_what_the_image_says(self):
        self.assertEqual((await self.run_one(None, info=docker_info()))[0], "default\n")

    async def test_arguments_go_to_the_images_own_entrypoint(self):
        info = docker_info(parameters=[{"key": "entrypoint", "value": "/bin/echo"}])
        out, _ = await self.run_one(None, argv=("a", "b c"), info=info)
        self.assertEqual(out, "a b c\n")

    async def test_output_of_any_size_and_bytes_comes_whole(self):
        # The engine cuts off what it has not noted, line by line, ten seconds after the end.
        script = (
            "seq 1 8000; dd if=/dev/zero bs=1000 count=300 2>/dev/null; printf end; seq 1 9 >&2"
        )
        out, err = await self.run_one(script, info=docker_info())
        expected = "".join(f"{number}\n" for number in range(1, 8001)) + "\0" * 300000 + "end"
        self.assertEqual(len(out), len(expected))
        self.assertEqual(out, expected)
        self.assertEqual(err, "".join(f"{number}\n" for number in range(1, 10)))

    async def test_a_terminal_makes_one_stream_of_both(self):
        info = docker_info(parameters=[{"key": "tty", "value": "true"}])
        out, err = await self.run_one("echo out; echo err >&2", info=info)
        self.assertEqual((out, err), ("out\r\nerr\r\n", ""))

    async def test_it_is_asked_to_end_before_it_is_killed(self):
        agent, ends = await self.started()
        script = "trap 'echo asked; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
        await agent.launch(self.spec("a", script, info=docker_info()))
        await until(lambda: self.output("a") == "ready\n")
        agent.signal(ContainerId("a"), SIGTERM)
        self.assertEqual(await ends.wait(1), [("a", 7 << 8)])
        self.assertEqual(self.output("a"), "ready\nasked\n")

    async def test_what_is_destroyed_may_be_given_time_after_sigterm(self):
        agent, ends = await self.started(replace(self.settings, stop_timeout=10.0))
        script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"
        await agent.launch(self.spec("a", script, info=docker_info()))
        await until(lambda: self.output("a") == "ready\n")
        await agent.destroy(ContainerId("a"))
        self.assertEqual(ends.told, [("a", 7 << 8)])

    async def test_too_much_memory_ends_it_and_its_neighbour_lives(self):
        agent, ends = await self.started()
        given = Allotment(cpus=100, mem=32 << 20)
        for name, script in (("hog", "tail /dev/zero"), ("good", "sleep 1000")):
            await agent.launch(self.spec(name, script, info=docker_info(), allotment=given))
        self.assertEqual([name for name, _ in await ends.wait(1)], ["hog"])
        limitation = ends.limitations["hog"]
        self.assertEqual(limitation.reason, Reason.REASON_CONTAINER_LIMITATION_MEMORY)
        self.assertIn("Memory limit exceeded: Requested: 32MB", limitation.message)
        self.assertEqual(limitation.resources, (("mem", 32.0),))
        self.assertEqual(list(await agent.usage()), ["good"])

    async def test_it_is_given_more_and_less_while_it_runs(self):
        agent, _ = await self.started(replace(self.settings, limit_cpu=True))
        given = Allotment(cpus=500, mem=64 << 20)
        await agent.launch(self.spec("a", "sleep 1000", info=docker_info(), allotment=given))

        async def limits() -> tuple[int, ...]:
            found = (await agent.engine.ask("GET", "/containers/mesos-a/json"))["HostConfig"]
            return tuple(found[name] for name in ("CpuShares", "CpuQuota", "Memory"))

        self.assertEqual(await limits(), (512, 50_000, 64 << 20))
        await agent.update(ContainerId("a"), Allotment(cpus=2000, mem=256 << 20))
        self.assertEqual(await limits(), (2048, 200_000, 256 << 20))
        await agent.update(
            ContainerId("a"), Allotment(cpus=250, cpus_limit=UNLIMITED, mem=64 << 20)
        )
        self.assertEqual(await limits(), (256, -1, 64 << 20))

    async def test_what_it_uses_is_told_with_the_kernels_figures_or_the_engines(self):
        agent, _ = await self.started(replace(self.settings, limit_cpu=True))
        given = Allotment(cpus=100, mem=64 << 20)
        info = docker_info(network="BRIDGE")
        await agent.launch(self.spec("a", "while :; do :; done", info=info, allotment=given))

        async def used() -> Any:
            return (await agent.usage())[A]

        def is_told(usage: Any) -> bool:
            names = ("cpus_throttled_time_secs", "net_rx_packets", "mem_total_bytes")
            return usage.user_seconds > 0 and all(usage.figures.get(name) for name in names)

        for _ in range(2):
            await until_async(used, is_told, 60)
            usage = await used()
            self.assertEqual(usage.figures["mem_limit_bytes"], 64 << 20)
            # As GET_CONTAINERS shows it.
            shown = statistics.message_of(statistics.used([usage]))
            self.assertGreater(shown.net_rx_packets, 0)
            # As where the engine's processes are in a namespace of their own.
            self.patch(Found, "cgroup", lambda found: "")

    async def test_volumes_are_shared_as_asked(self):
        outside = os.path.join(self.directory, "out:side")
        os.makedirs(outside)
        with open(os.path.join(outside, "file"), "w") as file:
            file.write("outside\n")
        info = docker_info()
        info.volumes.add(container_path="/ro", host_path=outside, mode="RO")
        info.volumes.add(container_path="in", host_path="mine", mode="RW")
        info.volumes.add(
            container_path="/own",
            mode="RW",
            source={"type": "SANDBOX_PATH", "sandbox_path": {"type": "SELF", "path": "own"}},
        )
        script = "cat /ro/file; touch /ro/x || echo read-only; echo 1 > in/a; echo 2 > /own/b"
        out, _ = await self.run_one(f"cd /mnt/mesos/sandbox; {script}", info=info)
        self.assertEqual(out, "outside\nread-only\n")
        self.assertEqual(self.output("a", "mine/a"), "1\n")
        self.assertEqual(self.output("a", "own/b"), "2\n")

    async def test_secrets_are_files_that_it_alone_can_read_and_go_with_it(self):
        agent, _ = await self.started()
        info = docker_info(parameters=[{"key": "user", "value": "65534"}])
        for name, text in (("/etc/secret", b"one"), ("own/secret", b"two")):
            source = {"type": "SECRET", "secret": {"type": "VALUE", "value": {"data": text}}}
            info.volumes.add(container_path=name, mode="RO", source=source)
        script = "cat /etc/secret own/secret; echo x 2>/dev/null >/etc/secret; echo; read x"
        info.tty_info.SetInParent()
        info.docker.parameters.add(key="workdir", value="/mnt/mesos/sandbox")
        await agent.launch(self.spec("a", script, info=info))
        await until(lambda: "onetwo" in self.output("a"))
        secrets = os.path.join(self.directory, "docker", "secrets")
        self.assertEqual(os.stat(secrets).st_mode & 0o777, 0o700)
        self.assertEqual(len(os.listdir(f"{secrets}/a")), 2)
        os.makedirs(f"{secrets}/gone")
        again, _ = await self.started()
        self.assertEqual(os.listdir(secrets), ["a"])
        await again.destroy(A)
        again.forget(A)
        self.assertEqual(os.listdir(secrets), [])

    async def test_it_may_have_a_network_of_its_own_with_ports(self):
        agent, _ = await self.started()
        info = docker_info(
            network="BRIDGE", port_mappings=[{"host_port": 31005, "container_port": 80}]
        )
        info.hostname = "box"
        facts: list[ContainerFacts] = []
        agent._described = lambda _, what: facts.append(what)
        script = "hostname; echo pong | nc -l -p 80"
        await agent.launch(self.spec("a", script, info=info))
        self.assertEqual([a.rsplit(".", 1)[0] for a in facts[0].addresses], ["172.30.55"])
        (shown,) = orjson.loads(facts[0].data)
        self.assertEqual(shown["Name"], "/mesos-a")
        self.assertNotIn("Env", shown["Config"])
        inside = f"--net=/proc/{self.daemon.pid()}/ns/net"
        await until(lambda: self.output("a") == "box\n")

        async def answer() -> bytes:
            # Until somebody listens within, the engine hangs up.
            there = ["127.0.0.1", "31005"]
            found: tuple[bytes, bytes, int] = await getProcessOutputAndValue(
                "/usr/bin/nsenter", [inside, "busybox", "nc", "-w", "60", *there], os.environ
            )
            return found[0]

        await until_async(answer, lambda said: said == b"pong\n")

    async def test_it_may_be_in_a_network_that_somebody_has_made(self):
        agent, _ = await self.started()
        name = f"mesoskit-{os.getpid()}"
        await agent.engine.ask("POST", "/networks/create", body={"Name": name})
        self.addCleanup(agent.engine.ask, "DELETE", f"/networks/{name}")
        info = docker_info(network="USER")
        info.network_infos.add(name=name)
        facts: list[ContainerFacts] = []
        agent._described = lambda _, what: facts.append(what)
        await agent.launch(self.spec("a", "ip -4 -o addr show eth0; sleep 1000", info=info))
        (address,) = facts[0].addresses
        await until(lambda: f" {address}/" in self.output("a"))
        await agent.destroy(A)

    async def test_rights_are_those_that_were_asked_for(self):
        parameters = [{"key": "cap-drop", "value": "ALL"}, {"key": "cap-add", "value": "NET_RAW"}]
        info = docker_info(parameters=parameters)
        out, _ = await self.run_one("grep CapEff /proc/self/status", info=info)
        self.assertEqual(int(out.split()[1], 16), 1 << 13)


class RefusedTests(DockerTestCase):
    """What cannot be started, and what is left of it: nothing."""

    async def refusal(self, **more: Any) -> str:
        agent, ends = await self.started()
        command = more.pop("command", "true")
        try:
            await agent.launch(self.spec("a", command, **more))
        except ContainerError as error:
            await until_async(agent._watch.list, lambda found: found == [])
            self.assertEqual(ends.told, [])
            self.assertEqual(agent._notes.all(), set())
            return str(error)
        raise AssertionError("it was launched")

    async def test_an_image_that_is_not_to_be_had(self):
        info = docker_info(image="localhost:1/nothing:1.2")
        why = await self.refusal(info=info)
        self.assertIn("Failed to pull image 'localhost:1/nothing:1.2': ", why)
        self.assertIn("connection refused", why)

    async def test_a_device_that_is_not_there(self):
        info = docker_info(parameters=[{"key": "device", "value": "/dev/nothing"}])
        self.assertIn("/dev/nothing", await self.refusal(info=info))

    async def test_a_secret_that_somebody_else_would_have_to_know(self):
        info = docker_info()
        source = {"type": "SECRET", "secret": {"type": "REFERENCE", "reference": {"name": "x"}}}
        info.volumes.add(container_path="/s", mode="RO", source=source)
        self.assertIn("give it by value", await self.refusal(info=info))

    async def test_a_secret_where_the_image_has_a_file_in_the_way(self):
        info = docker_info()
        source = {"type": "SECRET", "secret": {"type": "VALUE", "value": {"data": b"x"}}}
        info.volumes.add(container_path="/bin/busybox/secret", mode="RO", source=source)
        self.assertIn("not a directory", await self.refusal(info=info))
        self.assertEqual(os.listdir(os.path.join(self.directory, "docker", "secrets")), [])

    async def test_a_directory_of_its_sandbox_that_leads_elsewhere(self):
        os.symlink("/etc", os.path.join(self.sandbox("a"), "link"))
        info = docker_info()
        info.volumes.add(container_path="/x", mode="RW", host_path="link/made-by-a-test")
        await self.refusal(info=info)
        self.assertFalse(os.path.exists("/etc/made-by-a-test"))

    async def test_graphics_cards_where_there_are_none(self):
        given = Allotment(mem=64 << 20, gpus=1)
        why = await self.refusal(info=docker_info(), allotment=given)
        self.assertIn("could not select device driver", why)
        self.assertIn("gpu", why)

    async def test_an_option_that_nobody_knows(self):
        info = docker_info(parameters=[{"key": "memroy", "value": "1g"}])
        self.assertIn("docker parameter 'memroy' is not known", await self.refusal(info=info))

    async def test_a_sandbox_in_which_somebody_has_set_a_trap(self):
        os.symlink("/etc/passwd", os.path.join(self.sandbox("a"), "stdout"))
        self.assertIn("cannot write", await self.refusal(info=docker_info()))
