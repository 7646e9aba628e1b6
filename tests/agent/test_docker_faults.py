"""Containers of a Docker engine that is a double, which misbehaves as real ones do."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from signal import SIGKILL, SIGTERM
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mesoskit.agent.container import Allotment, ContainerSpec, RecoveredContainers
from mesoskit.agent.containers import (
    ContainerError,
    Containers,
    docker,
    docker_found,
    docker_images,
)
from mesoskit.agent.containers.docker import DockerContainers
from mesoskit.agent.docker import DockerSettings
from mesoskit.agent.users import Users, in_thread_of
from mesoskit.messages.mesos_pb2 import ContainerInfo, ResourceStatistics
from mesoskit.model.ids import ContainerId
from mesoskit.model.tasks import Reason
from tests.agent.containers_contract import ContainersContract, Ends
from tests.agent.docker_double import MOMENT, Container, EngineDouble
from tests.agent.real import REACTOR, until

A = ContainerId("a")
TIMESTAMP = ResourceStatistics(timestamp=1.0).SerializeToString()


class DoubleTestCase(TestCase):
    """A test with a double of an engine, and agents."""

    timeout = 300

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="mesoskit-test-")
        self.socket = os.path.join(self.directory, "docker.sock")
        self.engine = EngineDouble()
        self.engine.listen(self.socket)
        self.settings = DockerSettings(socket=self.socket, remove_delay=0.0)
        self.agents: list[DockerContainers] = []
        self.addCleanup(self.clean_up)

    async def clean_up(self) -> None:
        for agent in self.agents:
            await agent.stop()
        await self.engine.close()
        shutil.rmtree(self.directory)

    def agent(self, ends: Ends, settings: DockerSettings | None = None) -> DockerContainers:
        in_thread = in_thread_of(REACTOR)
        agent = DockerContainers(
            REACTOR,
            settings or self.settings,
            self.directory,
            os.path.join(self.directory, "notes"),
            Users(REACTOR, in_thread),
            in_thread,
            ends,
        )
        self.agents.append(agent)
        return agent

    def sandbox(self, name: str) -> str:
        path = os.path.join(self.directory, "sandboxes", name)
        os.makedirs(path, exist_ok=True)
        return path

    def output(self, name: str, stream: str = "stdout") -> str:
        with open(os.path.join(self.sandbox(name), stream)) as file:
            return file.read()

    def spec(self, name: str, command: str, **more: Any) -> ContainerSpec:
        image = more.pop("image", "busybox")
        docker_info = {"image": image, **more.pop("docker_info", {})}
        info = ContainerInfo(type=ContainerInfo.DOCKER, docker=docker_info)
        return ContainerSpec(
            ContainerId(name),
            ("/bin/sh", "-c", command),
            self.sandbox(name),
            file="/bin/sh",
            info=info.SerializeToString(),
            docker=True,
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

    async def refused(self, agent: Containers, spec: ContainerSpec) -> str:
        try:
            await agent.launch(spec)
        except ContainerError as error:
            return str(error)
        raise AssertionError("it was launched")


class DoubleContractTests(DoubleTestCase, ContainersContract):
    """The suite of all containers."""

    least_pid = 0

    async def test_what_may_not_outlive_its_agent_ends_without_one(self):
        first, _ = await self.started()
        pid = await first.launch(self.spec("short", "sleep 1000", patience=0.0))
        await first.stop()
        ends = Ends()
        second = self.agent(ends)
        await second.start()
        gone = ContainerId("short")
        expected = RecoveredContainers({gone: pid}, {}, frozenset([gone]))
        self.assertEqual(await second.recover(), expected)
        self.assertEqual(await ends.wait(1), [("short", SIGKILL)])


class EngineTests(DoubleTestCase):
    """What an engine can do to an agent."""

    async def test_an_event_that_is_missed_is_made_up_for(self):
        self.patch(docker_found, "LOOKING", 0.05)
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "sleep"))
        self.engine.deaf = True
        self.engine.end("mesos-a", 4)
        self.assertEqual(await ends.wait(1), [("a", 4 << 8)])

    async def test_what_ends_while_the_engine_is_away_is_heard_of_after(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "sleep"))
        await agent.launch(self.spec("b", "sleep"))
        await self.engine.close()
        self.engine.end("mesos-a", 4)
        self.engine.listen(self.socket)
        self.assertEqual(await ends.wait(1), [("a", 4 << 8)])
        agent.signal(ContainerId("b"), SIGTERM)
        self.assertEqual((await ends.wait(2))[1], ("b", SIGTERM))

    async def test_a_kill_that_is_not_heeded_is_repeated(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "sleep"))
        self.engine.refused.add("kill")
        destroying = agent.destroy(A)
        await until(lambda: self.engine.asked["kill"] == 2)
        self.assertEqual(ends.told, [])
        self.engine.refused.clear()
        await destroying
        self.assertEqual(ends.told, [("a", SIGKILL)])

    async def test_an_engine_that_says_nothing_is_given_up(self):
        agent, ends = await self.started()
        self.engine.silent.add("create")
        before = agent.engine.ask

        def hurried(method: str, path: str, *args: Any, **more: Any) -> Any:
            # All else is answered: a busy machine may take its time for that.
            hurry = {"timeout": 0.2} if path == "/containers/create" else {}
            return before(method, path, *args, **{**hurry, **more})

        self.patch(agent.engine, "ask", hurried)
        why = await self.refused(agent, self.spec("a", "sleep"))
        self.assertIn("has not answered POST /containers/create for 0.2 seconds", why)
        self.assertEqual(ends.told, [])
        await until(lambda: self.engine.asked["remove"] >= 1)

    async def test_what_comes_to_be_when_nobody_waits_for_it_any_more_does_not_stay(self):
        self.patch(docker_found, "AFTERWARDS", (0.1, 0.1, 100.0))
        agent, _ = await self.started()
        self.engine.silent.add("create")
        launched = self.refused(agent, self.spec("a", "sleep"))
        before = agent.engine.ask
        self.patch(
            agent.engine, "ask", lambda *args, **more: before(*args, **{"timeout": 0.2, **more})
        )
        self.assertIn("has not answered", await launched)
        await until(lambda: self.engine.asked["remove"] >= 2)
        self.engine.containers["mesos-a"] = Container("mesos-a", {"HostConfig": {}}, 77)
        await until(lambda: not self.engine.containers)
        # Unless it is wanted again.
        self.engine.silent.clear()
        await agent.launch(self.spec("a", "sleep"))
        self.assertEqual([one for one in agent._watch._calls if one.startswith("remove")], [])

    async def test_what_somebody_elses_container_is_called_is_let_be(self):
        agent, _ = await self.started()
        await agent.launch(self.spec("a", "sleep"))
        other = self.agent(Ends())
        self.assertIn("in use", await self.refused(other, self.spec("a", "sleep")))
        self.assertTrue(self.engine.containers["mesos-a"].running)

    async def test_what_could_not_be_started_is_removed(self):
        agent, ends = await self.started()
        self.engine.refused.add("start")
        self.assertEqual(await self.refused(agent, self.spec("a", "x")), "start is refused")
        await until(lambda: self.engine.containers == {})
        self.engine.refused.clear()
        await agent.launch(self.spec("a", "exit 0"))
        self.assertEqual(await ends.wait(1), [("a", 0)])

    async def test_without_an_engine_there_is_no_start(self):
        self.patch(docker, "PATIENCE", 0.1)
        await self.engine.close()
        agent = self.agent(Ends())
        with self.assertRaises(ContainerError) as raised:
            await agent.start()
        self.assertIn("no Docker engine answers at", str(raised.exception))
        self.assertIn("apt-get install docker.io", str(raised.exception))
        self.assertIn("--docker_socket", str(raised.exception))

    async def test_an_engine_that_comes_late_is_waited_for(self):
        await self.engine.close()
        agent = self.agent(Ends())
        starting = agent.start()
        self.engine.listen(self.socket)
        await starting

    async def test_versions_are_settled(self):
        for newest, oldest, spoken in (
            ("1.41", "1.12", "v1.41"),
            ("1.30", "1.12", "v1.30"),
            ("1.52", "1.44", "v1.44"),
            ("1.43", "1.24", "v1.41"),
        ):
            self.engine.version = {"ApiVersion": newest, "MinAPIVersion": oldest}
            agent, _ = await self.started()
            self.assertEqual(agent.engine.version, spoken)
            await agent.stop()
        self.patch(docker, "PATIENCE", 0.1)
        for version in ({"ApiVersion": "1.20"}, {"nothing": "at all"}):
            self.engine.version = version
            with self.assertRaises(ContainerError):
                await self.agent(Ends()).start()

    async def test_too_much_memory_is_told_only_of_what_failed(self):
        agent, ends = await self.started()
        given = Allotment(mem=64 << 20)
        for name in ("a", "b"):
            await agent.launch(self.spec(name, "sleep", allotment=given))
        self.engine.end("mesos-a", 137, oom=True)
        self.engine.end("mesos-b", 0, oom=True)
        self.assertEqual(dict(await ends.wait(2)), {"a": 137 << 8, "b": 0})
        reasons = {name: one.reason for name, one in ends.limitations.items()}
        self.assertEqual(reasons, {"a": Reason.REASON_CONTAINER_LIMITATION_MEMORY})

    async def test_usage_is_the_engines_word_where_its_pids_are_not_ours(self):
        agent, _ = await self.started()
        await agent.launch(self.spec("a", "sleep"))
        usage = (await agent.usage())[A]
        figures = usage.user_seconds, usage.system_seconds, usage.rss_bytes, usage.processes
        self.assertEqual(figures, (2.0, 1.0, 4096, 2))
        throttled = [usage.figures[f"cpus_{name}"] for name in ("nr_periods", "nr_throttled")]
        self.assertEqual(throttled, [10, 4])
        self.assertEqual(usage.figures["cpus_throttled_time_secs"], 1.5)
        self.assertEqual((usage.figures["net_rx_bytes"], usage.figures["net_tx_dropped"]), (30, 1))
        statistics = ResourceStatistics.FromString(usage.parts + TIMESTAMP)
        (device,) = statistics.blkio_statistics.throttling
        self.assertEqual(device.device.major_number, 8)
        self.assertEqual([one.value for one in device.io_service_bytes], [512, 512])
        self.engine.refused.add("stats")
        self.assertEqual(await agent.usage(), {})

    async def test_orphans_may_be_left_alone(self):
        first, _ = await self.started()
        await first.launch(self.spec("a", "sleep"))
        await first.stop()
        shutil.rmtree(os.path.join(self.directory, "notes"))
        lenient = self.agent(Ends(), replace(self.settings, kill_orphans=False))
        await lenient.start()
        self.assertEqual(await lenient.recover(), RecoveredContainers())
        await lenient.stop()
        strict = self.agent(Ends())
        await strict.start()
        self.assertEqual(list((await strict.recover()).running), ["a"])


class PullTests(DoubleTestCase):
    """Images that are not there."""

    async def test_an_image_is_pulled_once_for_all_who_want_it(self):
        agent, ends = await self.started()
        launched = [agent.launch(self.spec(name, "exit 0", image="new:1")) for name in "abc"]
        self.engine.images.add("new:1")  # as the double knows it
        for one in launched:
            await one
        await ends.wait(3)
        self.assertLessEqual(self.engine.asked["pull"], 1)

    async def test_what_goes_wrong_is_told_with_the_registrys_words(self):
        agent, _ = await self.started()
        self.engine.pulling = [{"error": "no", "errorDetail": {"message": "denied: not yours"}}]
        why = await self.refused(agent, self.spec("a", "x", image="r.io/new"))
        self.assertEqual(why, "Failed to pull image 'r.io/new': denied: not yours")
        self.assertEqual(agent.images.metrics(), {})

    async def test_it_may_be_forced_with_credentials(self):
        settings = replace(self.settings, config='{"auths": {"r.io": {"auth": "bTpw"}}}')
        agent, ends = await self.started(settings)
        self.engine.images.add("r.io/new")
        await agent.launch(
            self.spec("a", "exit 0", image="r.io/new", docker_info={"force_pull_image": True})
        )
        await ends.wait(1)
        self.assertEqual(self.engine.asked["pull"], 1)
        self.assertTrue(self.engine.auth[0])
        self.assertEqual(agent.images.metrics()["containerizer/docker/image_pull_ms/count"], 1)

    async def test_a_kill_ends_the_wait_for_an_image(self):
        agent, ends = await self.started()
        self.engine.pulling = None
        launching: Deferred[str] = Deferred.fromCoroutine(
            self.refused(agent, self.spec("a", "x", image="new"))
        )
        await until(lambda: self.engine.asked["pull"] == 1)
        await agent.destroy(A)
        self.assertIn("destroyed before it was started", await launching)
        self.assertEqual((ends.told, self.engine.containers), ([], {}))

    async def test_it_is_told_how_far_a_pull_is(self):
        self.patch(docker_images, "BETWEEN_WORDS", 0.0)
        agent, _ = await self.started()
        self.engine.pulling = [
            {"status": "Downloading", "id": "e1", "progress": "[=> ] 1MB/2MB"},
            {"error": "enough"},
        ]
        told: list[tuple[str, str]] = []
        agent._progressed = lambda container, message: told.append((container, message))
        await self.refused(agent, self.spec("a", "x", image="new"))
        self.assertEqual(told, [("a", "Pulling image new: e1 Downloading [=> ] 1MB/2MB")])

    async def test_a_pull_that_stalls_is_given_up(self):
        self.patch(docker_images, "STALL", 0.1)
        agent, _ = await self.started()
        self.engine.pulling = None
        why = await self.refused(agent, self.spec("a", "x", image="new"))
        self.assertEqual(why, "Failed to pull image 'new': nothing came for 0.1 seconds")


class OutputTests(DoubleTestCase):
    """What is written, whatever breaks."""

    async def test_a_connection_that_breaks_loses_and_doubles_nothing(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "sleep"))
        expected = ""
        for number in range(20):
            text = f"{number}\n"
            self.engine.write("mesos-a", text.encode())
            expected += text
            if number % 5 == 4:
                await until(lambda: self.output("a") != "")
                self.engine.cut()
        self.engine.write("mesos-a", b"sad\n", 2)
        self.engine.end("mesos-a", 0)
        await ends.wait(1)
        self.assertEqual(self.output("a"), expected)
        self.assertEqual(self.output("a", "stderr"), "sad\n")

    async def test_what_of_both_streams_comes_out_of_order_comes_once(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "sleep"))
        moments = [MOMENT.format(1, number) for number in range(6)]
        # As the engine stores it: each stream for itself in order, both together not.
        for which, number in ((1, 0), (2, 3), (1, 1), (1, 2), (2, 4), (1, 2)):
            self.engine.write("mesos-a", f"{number}\n".encode(), which, moments[number])
            await until(lambda: self.output("a") != "")
            self.engine.cut()
        self.engine.write("mesos-a", b"5\n", 1, moments[5])
        self.engine.end("mesos-a", 0)
        await ends.wait(1)
        self.assertEqual(self.output("a"), "0\n1\n2\n2\n5\n")
        self.assertEqual(self.output("a", "stderr"), "3\n4\n")

    async def test_what_cannot_be_had_is_said_in_the_sandbox(self):
        agent, ends = await self.started()
        self.engine.refused.add("logs")
        await agent.launch(self.spec("a", "exit 0"))
        await ends.wait(1)
        self.assertIn("cannot be had: logs is refused", self.output("a", "stderr"))
