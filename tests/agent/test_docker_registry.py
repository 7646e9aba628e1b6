"""Images that a real Docker engine pulls from a registry."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred

from mesoskit.agent.containers import ContainerError, docker_images
from mesoskit.agent.containers.docker import DockerContainers
from tests.agent.containers_contract import Ends
from tests.agent.image_archives import busybox_layer, layer, oci_layout
from tests.agent.real import until
from tests.agent.registries import Registry
from tests.agent.test_docker import A, DockerTestCase, docker_info

COUNT = "containerizer/docker/image_pull_ms/count"


class RegistryTests(DockerTestCase):
    """Of somebody who is asked for a name and a password."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        layout = os.path.join(self.directory, "layout")
        # No two tests have the same layers, as the engine keeps what it has once pulled.
        config = {"Cmd": ["echo", self.id()]}
        own = layer([("etc/test", self.id().encode())])
        oci_layout(layout, [busybox_layer(), own], config)
        self.registry = Registry(layout, "me", "pw", self.daemon.listen())
        self.addCleanup(self.registry.close)
        self.image = f"{self.registry.address}/some/thing:1"
        self.facts: list[str] = []

    def config(self, secret: str = "pw") -> str:
        auth = b64encode(f"me:{secret}".encode()).decode()
        return json.dumps({"auths": {self.registry.address: {"auth": auth}}})

    async def with_config(self, config: str) -> tuple[DockerContainers, Ends]:
        agent, ends = await self.started(replace(self.settings, config=config))
        agent._progressed = lambda container, message: self.facts.append(message)
        return agent, ends

    async def refusal(self, agent: DockerContainers, **docker: Any) -> str:
        info = docker_info(image=self.image, **docker)
        try:
            await agent.launch(self.spec("a", None, info=info))
        except ContainerError as error:
            return str(error)
        raise AssertionError("it was launched")

    async def test_it_is_pulled_and_it_is_told_how_far_that_is(self):
        self.patch(docker_images, "BETWEEN_WORDS", 0.0)
        agent, ends = await self.with_config(self.config())
        self.registry.slow = True
        launched = agent.launch(self.spec("a", None, info=docker_info(image=self.image)))
        await until(lambda: self.registry._held)
        self.registry.go_on()
        await launched
        self.assertEqual(await ends.wait(1), [("a", 0)])
        self.assertEqual(self.output("a"), f"{self.id()}\n")
        self.assertTrue(any("Downloading" in one for one in self.facts), self.facts)
        self.assertEqual(agent.images.metrics()[COUNT], 1)

    async def test_it_is_asked_for_again_only_where_that_is_forced(self):
        agent, ends = await self.with_config(self.config())
        for number, force in enumerate((False, False, True)):
            info = docker_info(image=self.image, force_pull_image=force)
            await agent.launch(self.spec(f"a{number}", None, info=info))
        await ends.wait(3)
        self.assertEqual(agent.images.metrics()[COUNT], 2)

    async def test_without_the_password_it_is_not_to_be_had(self):
        for config in ("", self.config("wrong")):
            agent, _ = await self.with_config(config)
            why = await self.refusal(agent)
            self.assertIn(f"Failed to pull image '{self.image}': ", why)
            self.assertRegex(why, "basic auth|unauthorized|401")
            await agent.stop()

    async def test_a_task_may_bring_the_password(self):
        agent, ends = await self.with_config("")
        os.makedirs(os.path.join(self.sandbox("a"), ".docker"))
        with open(os.path.join(self.sandbox("a"), ".docker", "config.json"), "w") as file:
            file.write(self.config())
        await agent.launch(self.spec("a", None, info=docker_info(image=self.image)))
        self.assertEqual(await ends.wait(1), [("a", 0)])

    async def test_what_is_killed_while_its_image_comes_is_not_waited_for(self):
        agent, ends = await self.with_config(self.config())
        self.registry.slow = True
        launching = Deferred.fromCoroutine(self.refusal(agent))
        await until(lambda: self.registry._held)
        await agent.destroy(A)
        self.assertIn("destroyed before it was started", await launching)
        self.assertEqual(ends.told, [])
