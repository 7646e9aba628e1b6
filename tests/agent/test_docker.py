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
from twisted.internet import task
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from mesoskit.agent import statistics
from mesoskit.agent.consoles import DISABLED, ConsoleError
from mesoskit.agent.container import (
    UNLIMITED,
    Allotment,
    Console,
    ContainerFacts,
    ContainerSpec,
    RecoveredContainers,
)
from mesoskit.agent.containers import ContainerError, docker_exec
from mesoskit.agent.containers.docker import DockerContainers
from mesoskit.agent.containers.docker_create import creation
from mesoskit.agent.containers.docker_found import Found
from mesoskit.agent.docker import DockerSettings
from mesoskit.agent.launcher_console import STDERR, STDOUT
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


class RestartTests(DockerTestCase):
    """What becomes of containers while no agent is there, or no engine."""

    WAIT = "until test -e /mnt/mesos/sandbox/go; do sleep 0.02; done"
    COUNT = f"i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo $i; sleep 0.005; done; {WAIT}"
    COUNTED = "".join(f"{number}\n" for number in range(1, 401))

    async def test_not_a_byte_is_lost_or_doubled_while_no_agent_is_there(self):
        first, _ = await self.started()
        await first.launch(self.spec("a", self.COUNT, info=docker_info()))
        note = os.path.join(self.directory, "docker", "a.json")
        await until(lambda: len(self.output("a")) > 20)
        with open(note, "rb") as file:
            old = file.read()
        await until(lambda: len(self.output("a")) > 200)
        await first.stop()
        # As after kill -9, when the note is older than the output.
        with open(note, "wb") as file:
            file.write(old)
        ends = Ends()
        second = self.agent(ends)
        await second.start()
        found = await second.recover()
        self.assertEqual(list(found.running), ["a"])
        self.go("a")
        self.assertEqual(await ends.wait(1), [("a", 0)])
        self.assertEqual(self.output("a"), self.COUNTED)

    def go(self, name: str) -> None:
        """Let what waits end."""
        with open(os.path.join(self.sandbox(name), "go"), "w"):
            pass

    async def until_written(self, name: str, size: int) -> None:
        await until(lambda: len(self.output(name)) > size)

    async def test_what_was_rotated_away_does_not_come_again(self):
        first, _ = await self.started()
        for name, terminal in (("a", "false"), ("t", "true")):
            info = docker_info(parameters=[{"key": "tty", "value": terminal}])
            await first.launch(self.spec(name, self.COUNT, info=info))
        seen = {}
        for name in ("a", "t"):
            await self.until_written(name, 500)
            seen[name] = self.output(name)
            # As the rotation of logs does, where the file system cannot do better.
            os.truncate(os.path.join(self.sandbox(name), "stdout"), 0)
        await first.stop()
        _, ends = await self.started()
        for name in ("a", "t"):
            self.go(name)
        await ends.wait(2)
        for name in ("a", "t"):
            lines = self.output(name).replace("\r", "").splitlines()
            self.assertEqual(lines[-1], "400")
            whole = [int(line) for line in lines[1:]]
            self.assertEqual(whole, list(range(whole[0], 401)))
            self.assertGreater(whole[0], seen[name].count("\n") - 2)

    async def test_what_was_written_and_ended_without_an_agent_comes_too(self):
        first, _ = await self.started()
        await first.launch(self.spec("a", "sleep 0.3; echo late; exit 3", info=docker_info()))
        await first.stop()
        engine = first.engine
        await until_async(
            lambda: engine.ask("GET", "/containers/mesos-a/json"),
            lambda found: not found["State"]["Running"],
        )
        second = self.agent(Ends())
        await second.start()
        self.assertEqual((await second.recover()).exited, {ContainerId("a"): 3 << 8})
        await until(lambda: self.output("a") == "late\n")

    async def test_only_its_own_containers_are_an_agents(self):
        first, _ = await self.started()
        spec = self.spec("a", "sleep 1000", info=docker_info())
        await first.launch(spec)
        # Somebody else's: the same name would do, but for the label.
        body = {"Image": IMAGE, "Cmd": ["sleep", "1000"], "Labels": {"mesoskit.agent": "/other"}}
        await first.engine.ask("POST", "/containers/create", {"name": "mesos-b"}, body)
        self.addCleanup(first._watch.remove, "mesos-b")
        # Made from a container of ours, whose labels it has, and never started.
        labels = {"mesoskit.agent": self.directory, "mesoskit.container": "a"}
        body = {"Image": IMAGE, "Labels": labels}
        await first.engine.ask("POST", "/containers/create", {"name": "copy"}, body)
        second = self.agent(Ends())
        await second.start()
        self.assertEqual(list((await second.recover()).running), ["a"])
        await second.engine.ask("GET", "/containers/mesos-b/json")
        await second.engine.ask("GET", "/containers/copy/json")

    async def test_what_was_made_and_not_started_is_removed(self):
        first, _ = await self.started()
        made = creation(self.spec("a", "true"), self.settings, self.directory, (0, 0))
        await first.engine.ask("POST", "/containers/create", {"name": made.name}, made.body)
        second = self.agent(Ends(), replace(self.settings, remove_delay=0.0))
        await second.start()
        self.assertEqual(await second.recover(), RecoveredContainers())
        await until_async(second._watch.list, lambda found: found == [])

    async def test_what_was_forgotten_stays_for_a_while_and_is_not_told_again(self):
        patient = replace(self.settings, remove_delay=100.0)
        first, ends = await self.started(patient)
        await first.launch(self.spec("a", "exit 4", info=docker_info()))
        await ends.wait(1)
        first.forget(ContainerId("a"))
        await first.stop()
        second = self.agent(Ends(), patient)
        await second.start()
        self.assertEqual(await second.recover(), RecoveredContainers())
        self.assertEqual(len(await second._watch.list()), 1)

    async def test_what_somebody_else_removes_has_ended(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "sleep 1000", info=docker_info()))
        await agent._watch.remove("mesos-a")
        self.assertIn((await ends.wait(1))[0][1], (None, SIGKILL << 8, 137 << 8))

    async def test_an_engine_that_is_restarted_takes_its_containers_along(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "echo 1; sleep 1000", info=docker_info()))
        await deferToThread(self.daemon.stop)
        refused = await self.failing(agent, self.spec("b", "true", info=docker_info()))
        self.assertIn(f"no Docker engine answers at {self.daemon.socket}", refused)
        self.daemon.start()  # not in a thread: it ends with that
        await ends.wait(1)
        await agent.launch(self.spec("c", "true", info=docker_info()))
        self.assertEqual((await ends.wait(2))[1], ("c", 0))

    async def test_an_engine_that_crashes_is_told_nothing_of_that_is_not_so(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "echo 1; sleep 1000", info=docker_info()))
        await until(lambda: self.output("a") == "1\n")
        self.daemon.crash()
        refused = await self.failing(agent, self.spec("b", "true", info=docker_info()))
        self.assertIn(f"no Docker engine answers at {self.daemon.socket}", refused)
        self.assertEqual((list(await agent.usage()), ends.told), (["a"], []))
        self.daemon.start()
        # Which ends what it finds: it is not set to keep that.
        ((name, status),) = await ends.wait(1)
        self.assertEqual(name, "a")
        self.assertNotEqual(status, 0)
        self.assertEqual(self.output("a"), "1\n")

    async def test_what_an_engine_keeps_while_it_is_away_goes_on(self):
        self.daemon.set(**{"live-restore": True})
        self.addCleanup(self.daemon.set)
        agent, ends = await self.started()

        async def keeps() -> Any:
            return (await agent.engine.ask("GET", "/info"))["LiveRestoreEnabled"]

        await until_async(keeps, bool, 60)
        script = "i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo $i; sleep 0.1; done"
        await agent.launch(self.spec("a", f"{script}; {self.WAIT}; exit 4", info=docker_info()))
        await agent.launch(self.spec("b", "sleep 1000", info=docker_info()))
        await until(lambda: self.output("a") != "")
        self.daemon.crash()
        await deferLater(REACTOR, 1.0)
        self.assertEqual(ends.told, [])
        self.daemon.start()
        self.go("a")
        self.assertEqual(await ends.wait(1), [("a", 4 << 8)])
        self.assertEqual(self.output("a"), "".join(f"{number}\n" for number in range(1, 31)))
        await agent.destroy(ContainerId("b"))
        self.assertEqual(ends.told[1:], [("b", SIGKILL)])

    async def test_an_engine_that_hangs_is_waited_for(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "echo 1; sleep 1000", info=docker_info()))
        self.daemon.hang(True)
        self.addCleanup(self.daemon.hang, False)
        before = agent.engine.ask

        def hurried(*args: Any, **more: Any) -> Any:
            return before(*args, **{"timeout": 0.5, **more})

        self.patch(agent.engine, "ask", hurried)
        refused = await self.failing(agent, self.spec("b", "sleep 1000", info=docker_info()))
        self.assertIn("has not answered POST /containers/create for 0.5 seconds", refused)
        destroyed = agent.destroy(A)
        await deferLater(REACTOR, 1.0)
        self.assertEqual((list(await agent.usage()), ends.told), (["a"], []))
        self.patch(agent.engine, "ask", before)
        self.daemon.hang(False)
        await destroyed
        self.assertEqual(ends.told, [("a", SIGKILL)])
        # What nobody has waited for any longer may have come to be; it does not stay.
        await until_async(agent._watch.list, lambda found: len(found) == 1)

    async def failing(self, agent: DockerContainers, spec: ContainerSpec) -> str:
        try:
            await agent.launch(spec)
        except ContainerError as error:
            return str(error)
        raise AssertionError("it was launched")


class BesideTests(DockerTestCase):
    """Commands in the container of a task: what checks run."""

    async def test_they_run_inside_and_end_with_their_status(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "echo x >/inside; sleep 1000", info=docker_info()))
        await until_async(
            lambda: agent.launch(self.beside("ready", "until test -e /inside; do :; done")),
            lambda pid: pid is not None,
        )
        await ends.wait(1)
        command = "test -e /inside && test $A$B = 12 && exit 5"
        await agent.launch(self.beside("b", command))
        told = dict(await ends.wait(2))
        self.assertEqual(told, {"ready": 0, "b": 5 << 8})
        agent.forget(ContainerId("b"))

    async def test_they_are_killed_whole_and_alone(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "sleep 1000", info=docker_info()))
        await agent.launch(self.beside("b", "sleep 1001 & sleep 1002"))
        await agent.destroy(ContainerId("b"))
        self.assertEqual(ends.told, [("b", SIGKILL)])
        await agent.launch(self.beside("c", "ps | grep -c 'sleep 100[12]' | grep -q '^[01]$'"))
        self.assertEqual((await ends.wait(2))[1], ("c", 0))
        self.assertEqual(list(await agent.usage()), ["a"])

    async def test_those_of_an_agent_that_is_gone_are_ended_and_others_are_not(self):
        first, _ = await self.started()
        await first.launch(self.spec("a", "sleep 1000", info=docker_info()))
        await first.launch(self.beside("b", "sleep 1001"))
        made = await first.engine.ask(
            "POST", "/containers/mesos-a/exec", body={"Cmd": ["sleep", "1003"]}
        )
        await first.engine.ask("POST", f"/exec/{made['Id']}/start", body={"Detach": True})
        # As after kill -9: nothing is ended in good order.
        self.patch(first._commands, "_kill", lambda command, signum: None)
        await first.stop()
        second, ends = await self.started()
        await second.launch(
            self.beside("c", "while ps | grep -q 'sleep 100[1]'; do sleep 0.1; done")
        )
        self.assertEqual(await ends.wait(1), [("c", 0)])
        await second.launch(self.beside("d", "ps | grep -q 'sleep 100[3]'"))
        self.assertEqual((await ends.wait(2))[1], ("d", 0))

    async def test_what_is_nested_in_one_runs_in_the_same_container(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "echo x >/inside; sleep 1000", info=docker_info()))
        await agent.launch(self.beside("b", "sleep 1000"))
        script = "while ! test -e /inside; do :; done; exit 3"
        inner = replace(self.beside("c", script), parent=ContainerId("b"))
        await agent.launch(inner)
        self.assertEqual(await ends.wait(1), [("c", 3 << 8)])
        await agent.destroy(ContainerId("b"))
        with self.assertRaises(ContainerError):
            await agent.launch(replace(self.beside("d", "true"), parent=ContainerId("b")))

    async def test_without_the_container_there_is_none(self):
        agent, _ = await self.started()
        with self.assertRaises(ContainerError) as raised:
            await agent.launch(self.beside("b", "true"))
        self.assertIn("does not run", str(raised.exception))

    async def test_what_a_check_writes_is_its_tasks_and_comes_once(self):
        first, ends = await self.started()
        script = "i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo $i; sleep 0.01; done"
        await first.launch(self.spec("a", script, info=docker_info()))
        for number in range(3):
            await first.launch(self.beside(f"b{number}", "echo checked; echo badly >&2"))
        await ends.wait(3)
        await first.stop()
        second = self.agent(ends)
        await second.start()
        await second.recover()
        self.assertEqual((await ends.wait(4))[3], ("a", 0))
        lines = self.output("a").splitlines()
        self.assertEqual(
            [line for line in lines if line != "checked"], list(map(str, range(1, 201)))
        )
        self.assertEqual(lines.count("checked"), 3)
        self.assertEqual(self.output("a", "stderr"), "badly\n" * 3)


class Listener:
    """Hears what comes out."""

    def __init__(self) -> None:
        self.out = {STDOUT: b"", STDERR: b""}
        self.ended = False

    def heard(self, kind: int, data: bytes) -> None:
        self.out[kind] += data

    def over(self) -> None:
        self.ended = True

    async def hears(self, what: bytes) -> None:
        """Wait until something has come out."""
        await until(lambda: what in self.out[STDOUT])


class AttachedTests(DockerTestCase):
    """Who is attached to a container of Docker, or to a command beside it."""

    SESSION = Console(session=True)

    async def attached(self, command: str, console: Console = SESSION) -> Any:
        """Return consoles, ends and the id of a session beside a task that runs."""
        agent, ends = await self.started()
        consoles = agent.consoles(None)
        await agent.launch(self.spec("a", "sleep 1000", info=docker_info()))
        sandbox = self.sandbox("session")
        spec = replace(self.beside("session", command, console=console), sandbox=sandbox)
        await agent.launch(spec)
        return agent, consoles, ends

    async def test_a_session_says_what_it_hears_until_there_is_no_more(self):
        _, consoles, ends = await self.attached("echo no >&2; cat; exit 6")
        listener = Listener()
        await consoles.listen(B, listener)
        mouth = await consoles.speak(B, lambda full: None, lambda: None)
        mouth.put(b"one ")
        mouth.put(b"two")
        mouth.put(b"")
        self.assertEqual(await ends.wait(1), [("session", 6 << 8)])
        await until(lambda: listener.ended)
        self.assertEqual(listener.out, {STDOUT: b"one two", STDERR: b"no\n"})
        self.assertEqual(self.output("session"), "one two")
        with self.assertRaises(ConsoleError) as raised:
            await consoles.listen(B, Listener())
        self.assertIn("shutdown", str(raised.exception))

    async def test_what_a_session_says_waits_for_its_listener_and_with_him(self):
        _, consoles, ends = await self.attached("seq 1 3000000; echo end >&2")
        await deferLater(REACTOR, 0.3)
        listener = Listener()
        ear = await consoles.listen(B, listener)
        await until(lambda: len(listener.out[STDOUT]) > 0)
        ear.pause(True)
        await deferLater(REACTOR, 0.3)
        self.assertLess(len(listener.out[STDOUT]), 20_000_000)  # of nearly 23
        self.assertEqual(ends.told, [])
        ear.pause(False)
        await until(lambda: listener.ended)
        expected = "".join(f"{number}\n" for number in range(1, 3000001)).encode()
        self.assertEqual(listener.out, {STDOUT: expected, STDERR: b"end\n"})
        self.assertEqual(await ends.wait(1), [("session", 0)])

    async def test_what_a_session_has_said_before_its_end_is_heard_after_it(self):
        _, consoles, ends = await self.attached("echo said; exit 2")
        await deferLater(REACTOR, 0.5)
        listener = Listener()
        await consoles.listen(B, listener)
        await until(lambda: listener.ended)
        self.assertEqual(listener.out, {STDOUT: b"said\n", STDERR: b""})
        self.assertEqual(await ends.wait(1), [("session", 2 << 8)])

    async def test_a_session_that_cannot_begin_is_refused_whoever_destroys_it(self):
        agent, _ = await self.started()
        await agent.launch(self.spec("a", "sleep 1000", info=docker_info()))
        spec = self.beside("session", "true", console=self.SESSION)
        launching = agent.launch(replace(spec, sandbox=os.path.join(self.directory, "nowhere")))
        destroyed = agent.destroy(B)
        with self.assertRaises(ContainerError):
            await launching
        await destroyed

    async def test_a_session_that_is_destroyed_ends_whoever_is_attached(self):
        agent, consoles, ends = await self.attached("yes")
        listener = Listener()
        ear = await consoles.listen(B, listener)
        await until(lambda: len(listener.out[STDOUT]) > 0)
        ear.pause(True)
        await agent.destroy(B)
        self.assertEqual(ends.told, [("session", SIGKILL)])
        ear.pause(False)
        await until(lambda: listener.ended)

    async def test_a_session_without_a_listener_is_destroyed_like_any_other(self):
        agent, _, ends = await self.attached("yes")
        await agent.destroy(B)
        self.assertEqual(ends.told, [("session", SIGKILL)])

    async def test_a_session_nobody_listens_to_is_given_up(self):
        self.patch(docker_exec, "UNWANTED", 0.1)
        _, _, ends = await self.attached("sleep 1000")
        self.assertEqual(await ends.wait(1), [("session", SIGKILL)])

    async def test_a_terminal_has_the_size_that_it_was_given_last(self):
        terminal = Console(True, True, 33, 77)
        _, consoles, ends = await self.attached("while read x; do stty size; done", terminal)
        listener = Listener()
        await consoles.listen(B, listener)
        mouth = await consoles.speak(B, lambda full: None, lambda: None)
        ask = task.LoopingCall(mouth.put, b"\n")
        ask.start(0.1)
        await listener.hears(b"33 77")
        for rows in range(10, 50):
            mouth.resize(rows, 90)
        await listener.hears(b"49 90")
        ask.stop()
        mouth.put(b"\x04")
        self.assertEqual(await ends.wait(1), [("session", 0)])

    async def test_the_keys_by_which_docker_detaches_are_the_programs(self):
        _, consoles, ends = await self.attached("stty raw -echo; echo go; head -c 2", TERMINAL)
        listener = Listener()
        await consoles.listen(B, listener)
        mouth = await consoles.speak(B, lambda full: None, lambda: None)
        await listener.hears(b"go")
        mouth.put(b"\x10\x11")
        await until(lambda: listener.ended)
        self.assertTrue(listener.out[STDOUT].endswith(b"\x10\x11"), listener.out)
        self.assertEqual(await ends.wait(1), [("session", 0)])

    async def test_one_speaks_and_another_may_when_he_has_left(self):
        agent, consoles, _ = await self.attached("cat")
        listener = Listener()
        await consoles.listen(B, listener)
        mouth = await consoles.speak(B, lambda full: None, lambda: None)
        with self.assertRaises(ConsoleError) as raised:
            await consoles.speak(B, lambda full: None, lambda: None)
        self.assertEqual(raised.exception.status, 409)
        mouth.stop()
        over: list[None] = []
        mouth = await consoles.speak(B, lambda full: None, lambda: over.append(None))
        mouth.put(b"x")
        await until(lambda: listener.out[STDOUT] == b"x")
        await agent.destroy(B)
        await until(lambda: over == [None])

    async def test_a_task_with_a_terminal_is_attached_to_and_left(self):
        agent, ends = await self.started()
        consoles = agent.consoles(None)
        info = docker_info()
        info.tty_info.window_size.rows, info.tty_info.window_size.columns = 21, 43
        script = "sleep 0.5; stty size; while read x; do stty size; echo got $x; done"
        console = Console(True, False, 21, 43)
        await agent.launch(self.spec("a", script, info=info, console=console))
        first, second = Listener(), Listener()
        ear = await consoles.listen(A, first)
        await consoles.listen(A, second)
        mouth = await consoles.speak(A, lambda full: None, lambda: None)
        with self.assertRaises(ConsoleError) as raised:
            await consoles.speak(A, lambda full: None, lambda: None)
        self.assertEqual(raised.exception.status, 409)
        mouth.put(b"1\n")
        for listener in (first, second):
            await listener.hears(b"got 1\r\n")
        ear.stop()
        mouth.stop()
        mouth = await consoles.speak(A, lambda full: None, lambda: None)
        mouth.resize(44, 55)
        await until(lambda: b"44 55" in self.output("a").encode() or mouth.put(b"\n"))
        mouth.put(b"2\n\x04")
        self.assertEqual(await ends.wait(1), [("a", 0)])
        await until(lambda: second.ended)
        self.assertIn(b"got 2\r\n", second.out[STDOUT])
        self.assertNotIn(b"got 2\r\n", first.out[STDOUT])
        self.assertIn("21 43\r\n", self.output("a"))

    async def test_who_is_far_behind_a_task_is_cut_off_and_it_goes_on(self):
        agent, ends = await self.started()
        consoles = agent.consoles(None)
        info = docker_info()
        info.tty_info.SetInParent()
        script = "read x; dd if=/dev/zero bs=10000 count=500 2>/dev/null; read y"
        await agent.launch(self.spec("a", script, info=info))
        listener = Listener()
        ear = await consoles.listen(A, listener)
        mouth = await consoles.speak(A, lambda full: None, lambda: None)
        await deferLater(REACTOR, 0.1)
        ear.pause(True)
        mouth.put(b"\n")
        await until(lambda: listener.ended)
        mouth.put(b"\n")
        self.assertEqual(await ends.wait(1), [("a", 0)])

    async def test_what_has_no_console_cannot_be_attached_to(self):
        agent, _ = await self.started()
        consoles = agent.consoles(None)
        await agent.launch(self.spec("a", "sleep 1000", info=docker_info()))
        await agent.launch(self.beside("session", "sleep 1000"))
        for name in (A, B):
            with self.assertRaises(ConsoleError) as raised:
                await consoles.listen(name, Listener())
            self.assertEqual(str(raised.exception), DISABLED)
            with self.assertRaises(ConsoleError):
                await consoles.speak(name, lambda full: None, lambda: None)

    async def test_a_command_runs_as_whom_the_image_knows(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "sleep 1000", info=docker_info()))
        spec = self.beside("b", "test $(id -u) = 65534", image_user="65534")
        await agent.launch(spec)
        self.assertEqual(await ends.wait(1), [("b", 0)])
        await agent.launch(self.beside("c", "true", image_user="nobody-there"))
        self.assertEqual((await ends.wait(2))[1], ("c", 126 << 8))
        self.assertIn("unable to find user nobody-there", self.output("a"))
