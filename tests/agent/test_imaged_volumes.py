"""Volumes of containers from images, and of those beside them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from mesoskit.agent.container import ContainerSpec
from mesoskit.messages.mesos_pb2 import ContainerInfo, Image, Secret, Volume
from mesoskit.model.ids import ContainerId
from tests.agent.image_archives import layer
from tests.agent.real import until
from tests.agent.test_imaged import (
    ImagedTestCase,
    host_path,
    info_of,
    sandbox_path,
)


async def see_images_as_volumes(test: ImagedTestCase, path: str) -> None:
    """Look at an image's files in a volume that is read-only, and write beside them in another."""
    test.archive("data", layer([("a/x", b"1\n")]), layer([("a/y", b"2\n"), ("a/.wh.x", b"")]))
    volumes = (
        Volume(container_path=path, mode=Volume.RO),
        Volume(container_path="rw", mode=Volume.RW),
    )
    for volume in volumes:
        volume.image.type = Image.DOCKER
        volume.image.docker.name = "data"
    output = await test.result(
        f"ls {path}/a; touch {path}/z 2>/dev/null || echo refused; touch rw/z; ls rw", *volumes
    )
    test.assertEqual(output.split(), ["y", "refused", "a", "z"])


class VolumeTests(ImagedTestCase):
    """What is mounted into containers from images."""

    async def test_host_paths(self):
        shared = os.path.join(self.directory, "shared")
        os.mkdir(shared)
        Path(shared, "x").write_text("seen")
        output = await self.result(
            "cat /data/x; echo more >/data/y; cat ro/x; touch ro/z 2>/dev/null || echo refused",
            host_path(shared, "/data"),
            host_path(shared, "ro", Volume.RO),
        )
        self.assertEqual(output, "seenseenrefused\n")
        self.assertEqual(sorted(os.listdir(shared)), ["x", "y"])

    async def test_nothing_within_what_is_read_only_stays_writable(self):
        outside = tempfile.mkdtemp(prefix="mesoskit-test-")
        self.addCleanup(shutil.rmtree, outside)
        os.mkdir(f"{outside}/within")
        subprocess.run(["mount", "-t", "tmpfs", "none", f"{outside}/within"], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", f"{outside}/within"], check=True)
        output = await self.result(
            "for path in data data/within; do touch /$path/x 2>/dev/null || echo refused; done",
            host_path(outside, "/data", Volume.RO),
        )
        self.assertEqual(output.split(), ["refused", "refused"])

    async def test_sandbox_paths(self):
        output = await self.result("echo x >/cache/x; cat kept/x", sandbox_path("kept", "/cache"))
        self.assertEqual(output, "x\n")

    async def test_a_path_of_the_sandbox_around(self):
        outer = self.sandbox("outer")
        sandbox = os.path.join(outer, "containers", "a")
        os.makedirs(sandbox)
        kind = Volume.Source.SandboxPath.PARENT
        info = info_of("busy", sandbox_path("shared", "shared", kind))
        agent, ends = await self.begun()
        spec = self.inside("a", "echo x >shared/x", info=info)
        await agent.launch(
            ContainerSpec(spec.id, spec.argv, sandbox, file=spec.file, info=spec.info)
        )
        self.assertEqual(await ends.wait(1), [("a", 0)])
        self.assertEqual(Path(outer, "shared", "x").read_text(), "x\n")

    async def test_no_link_leads_out_of_a_sandbox(self):
        os.symlink("/etc", os.path.join(self.sandbox("a"), "link"))
        info = info_of("busy", sandbox_path("link", "/cache"))
        self.assertIn("link", await self.refusal(self.inside("a", "true", info=info)))

    async def test_secrets(self):
        source = Volume.Source(type=Volume.Source.SECRET)
        source.secret.type = Secret.VALUE
        source.secret.value.data = b"whisper"
        volume = Volume(container_path="/run/secret/word", mode=Volume.RO, source=source)
        agent, _ = await self.begun()
        command = "cat /run/secret/word; stat -c ' %a %u' /run/secret/word; sleep 1000"
        shutil.chown(self.sandbox("a"), "nobody")
        await agent.launch(self.inside("a", command, volume, user="nobody"))
        await until(lambda: "\n" in self.output("a"))
        self.assertEqual(self.output("a"), "whisper 400 65534\n")
        on_disk = [
            path
            for path in Path(self.directory).rglob("*")
            if "secrets" in path.parts and path.is_file()
        ]
        self.assertEqual(on_disk, [])
        await agent.destroy(ContainerId("a"))
        await self.cleaned()

    async def test_images_as_volumes(self):
        await see_images_as_volumes(self, "/ro")

    async def test_what_is_nested_in_a_container_has_its_files_and_volumes_of_its_own(self):
        shared = os.path.join(self.directory, "shared")
        os.mkdir(shared)
        Path(shared, "x").write_text("seen\n")
        agent, ends = await self.begun()
        outer = self.inside("a", "touch /here; touch ready; sleep 1000", sandbox_path("s", "/s"))
        await agent.launch(outer)
        await until(lambda: os.path.exists(os.path.join(self.sandbox("a"), "ready")), 60.0)
        sandbox = os.path.join(self.sandbox("a"), "containers", "b")
        os.makedirs(sandbox)
        source = Volume.Source(type=Volume.Source.SECRET)
        source.secret.type = Secret.VALUE
        source.secret.value.data = b"whisper\n"
        volumes = (
            host_path(shared, "/data"),
            sandbox_path("up", "down", Volume.Source.SandboxPath.PARENT),
            Volume(container_path="word", mode=Volume.RO, source=source),
        )
        look = "ls /here; pwd; cat /data/x word; touch /s/y /written down/z; ps | grep -c sleep"
        inner = self.inside(
            "b", look, info=ContainerInfo(type=ContainerInfo.MESOS, volumes=volumes)
        )
        await agent.launch(replace(inner, sandbox=sandbox, parent=ContainerId("a")))
        self.assertEqual(await ends.wait(1), [("b", 0)], self.output("a/containers/b", "stderr"))
        here, place, seen, word, count = self.output("a/containers/b").split()
        self.assertEqual((here, place), ("/here", "/mnt/mesos/sandbox/containers/b"))
        self.assertEqual((seen, word), ("seen", "whisper"))
        self.assertGreater(int(count), 0)
        self.assertTrue(os.path.exists(os.path.join(self.sandbox("a"), "s", "y")))
        self.assertTrue(os.path.exists(os.path.join(self.sandbox("a"), "up", "z")))
        nothing = ContainerInfo(type=ContainerInfo.MESOS)
        again = self.inside("c", "ls /written; ls /data", info=nothing)
        await agent.launch(replace(again, parent=ContainerId("a")))
        await ends.wait(2)
        self.assertEqual(self.output("c"), "/written\n")
        await agent.destroy(ContainerId("a"))
        await self.cleaned()


class RuncVolumeTests(ImagedTestCase):
    """Some of that with the other runtime."""

    maker = "runc"

    test_secrets = VolumeTests.test_secrets
    test_what_is_nested_in_a_container_has_its_files_and_volumes_of_its_own = (
        VolumeTests.test_what_is_nested_in_a_container_has_its_files_and_volumes_of_its_own
    )
    test_nothing_within_what_is_read_only_stays_writable = (
        VolumeTests.test_nothing_within_what_is_read_only_stays_writable
    )


class BesideTests(ImagedTestCase):
    """What is mounted for containers that have volumes and no image."""

    def inside(self, name: str, command: str, *volumes: Volume, **more: Any) -> ContainerSpec:
        info = ContainerInfo(type=ContainerInfo.MESOS, volumes=volumes)
        return super().inside(name, command, info=info, **more)

    async def test_host_paths(self):
        shared = os.path.join(self.directory, "shared")
        place = os.path.join(self.directory, "place")
        for path in (shared, place):
            os.mkdir(path)
        Path(shared, "x").write_text("seen")
        output = await self.result(
            f"cat {place}/x; echo more >{place}/y; cat ro/x; touch ro/z 2>/dev/null || echo no",
            host_path(shared, place),
            host_path(shared, "ro", Volume.RO),
        )
        self.assertEqual(output, "seenseenno\n")
        self.assertEqual(sorted(os.listdir(shared)), ["x", "y"])
        self.assertEqual(os.listdir(place), [])

    async def test_a_path_of_the_sandbox_around_as_a_user(self):
        outer = self.sandbox("outer", 65534)
        sandbox = os.path.join(outer, "containers", "a")
        os.makedirs(sandbox)
        shutil.chown(sandbox, "nobody")
        kind = Volume.Source.SandboxPath.PARENT
        agent, ends = await self.begun()
        spec = self.inside("a", "echo x >in/x; id -u >in/u", sandbox_path("shared", "in", kind))
        await agent.launch(replace(spec, sandbox=sandbox, user="nobody"))
        self.assertEqual(await ends.wait(1), [("a", 0)])
        self.assertEqual(Path(outer, "shared", "u").read_text(), "65534\n")
        await self.cleaned()

    async def test_secrets_go_with_the_container(self):
        source = Volume.Source(type=Volume.Source.SECRET)
        source.secret.type = Secret.VALUE
        source.secret.value.data = b"whisper"
        volume = Volume(container_path="word", mode=Volume.RO, source=source)
        output = await self.result("cat word; stat -c ' %a %u' word", volume)
        self.assertEqual(output, "whisper 400 0\n")
        self.assertEqual(list(Path(self.directory).rglob("secrets/*")), [])
        self.assertEqual(Path(self.sandbox("a"), "word").read_bytes(), b"")

    async def test_images_as_volumes(self):
        await see_images_as_volumes(self, "ro")

    async def test_what_cannot_be_had_is_said(self):
        os.symlink("/etc", os.path.join(self.sandbox("a"), "link"))
        for volume, expected in (
            (host_path("/etc", "/not/there"), "does not exist on this machine"),
            (host_path("/etc", "link/x"), "link/x"),
            (host_path("/etc/passwd", "/tmp"), "both must be the same"),
            (sandbox_path("../../x", "x"), "leads out of the sandbox"),
        ):
            why = await self.refusal(self.inside("a", "true", volume))
            self.assertIn(expected, why)
