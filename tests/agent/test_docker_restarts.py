"""Containers of Docker whose agent, or whose engine, is restarted."""

from __future__ import annotations

import os
from dataclasses import replace
from signal import SIGKILL
from typing import Any

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from mesoskit.agent.container import (
    ContainerSpec,
    RecoveredContainers,
)
from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.docker import DockerContainers
from mesoskit.agent.containers.docker_create import creation
from mesoskit.model.ids import ContainerId
from tests.agent.containers_contract import Ends
from tests.agent.docker_engines import IMAGE
from tests.agent.real import REACTOR, until
from tests.agent.test_docker import A, DockerTestCase, docker_info, until_async


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
