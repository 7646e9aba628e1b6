"""From C{ContainerInfo} to what the Docker engine is asked for."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.agent.container import UNLIMITED, Allotment, ContainerSpec
from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.docker_create import creation, limits
from mesoskit.agent.containers.docker_images import (
    config_in,
    credentials,
    registry_of,
    split_image,
)
from mesoskit.agent.containers.docker_logs import Frames, Notes, Place
from mesoskit.agent.containers.docker_parameters import apply, size
from mesoskit.agent.docker import DockerSettings, ports_error, process_of
from mesoskit.messages.mesos_pb2 import CommandInfo, ContainerInfo, Resource
from mesoskit.model.ids import ContainerId
from tests.base import SynchronousTestCase

SETTINGS = DockerSettings()


def info(**docker: Any) -> ContainerInfo:
    return ContainerInfo(type=ContainerInfo.DOCKER, docker={"image": "busybox", **docker})


def body_of(container: ContainerInfo, **more: Any) -> dict[str, Any]:
    more.setdefault("argv", ())
    spec = ContainerSpec(
        ContainerId("c"), sandbox="/s", info=container.SerializeToString(), docker=True, **more
    )
    return creation(spec, SETTINGS, "/work", (1, 2)).body


class CreationTests(SynchronousTestCase):
    """What is made of a spec, and what is refused."""

    def refusal(self, container: ContainerInfo, **more: Any) -> str:
        with self.assertRaises(ContainerError) as raised:
            body_of(container, **more)
        return str(raised.exception)

    def test_whose_it_is_stands_in_labels_that_no_parameter_changes(self):
        container = info(parameters=[{"key": "label", "value": "mesoskit.agent=/other"}])
        container.docker.parameters.add(key="label", value="mine=1")
        labels = body_of(container, patience=3.0)["Labels"]
        self.assertEqual(
            labels,
            {
                "mine": "1",
                "mesoskit.agent": "/work",
                "mesoskit.container": "c",
                "mesoskit.sandbox": "/s",
                "mesoskit.user": "1:2",
                "mesoskit.patience": "3.0",
            },
        )

    def test_networks(self):
        for mode, name in (("HOST", "host"), ("BRIDGE", "bridge"), ("NONE", "none")):
            self.assertEqual(body_of(info(network=mode))["HostConfig"]["NetworkMode"], name)
        user = info(network="USER")
        self.assertIn("No network info found in container info", self.refusal(user))
        user.network_infos.add()
        self.assertIn("No network name found in network info", self.refusal(user))
        user.network_infos[0].name = "mine"
        self.assertEqual(body_of(user)["HostConfig"]["NetworkMode"], "mine")
        user.docker.parameters.add(key="network-alias", value="db")
        user.docker.parameters.add(key="ip", value="10.0.0.9")
        self.assertEqual(
            body_of(user)["NetworkingConfig"],
            {
                "EndpointsConfig": {
                    "mine": {"Aliases": ["db"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}}
                }
            },
        )
        user.network_infos.add(name="two")
        self.assertIn("Only a single network can be defined", self.refusal(user))

    def test_ports_are_mapped_where_there_is_a_network_of_its_own(self):
        mapping = {"host_port": 31000, "container_port": 53, "protocol": "UDP"}
        body = body_of(info(network="BRIDGE", port_mappings=[mapping]))
        self.assertEqual(body["ExposedPorts"], {"53/udp": {}})
        self.assertEqual(body["HostConfig"]["PortBindings"], {"53/udp": [{"HostPort": "31000"}]})
        refused = self.refusal(info(port_mappings=[mapping]))
        self.assertIn("Port mappings are only supported for bridge and user-defined", refused)
        mapping["protocol"] = "carrier pigeon"
        refused = self.refusal(info(network="BRIDGE", port_mappings=[mapping]))
        self.assertIn("'carrier pigeon': expected tcp or udp", refused)

    def test_only_ports_that_were_given_are_mapped(self):
        container = info(port_mappings=[{"host_port": 31005, "container_port": 1}])
        ports = Resource(name="ports", type="RANGES", ranges={"range": [{"begin": 5, "end": 9}]})
        self.assertEqual(ports_error(container, []), "Port mappings require port resources")
        self.assertEqual(ports_error(container, [ports]), "Port [31005] not included in resources")
        ports.ranges.range.add(begin=31000, end=31005)
        self.assertEqual(ports_error(container, [ports]), "")

    def test_no_hostname_on_the_hosts_network(self):
        container = info()
        container.hostname = "h"
        self.assertIn("Unable to set hostname with host network mode", self.refusal(container))

    def test_volumes(self):
        container = info()
        container.volumes.add(container_path="/a", host_path="/x", mode="RO")
        container.volumes.add(container_path="b", host_path="rel/y", mode="RW")
        shared: dict[str, Any] = {"type": "HOST_PATH", "host_path": {"path": "/z"}}
        shared["host_path"]["mount_propagation"] = {"mode": "BIDIRECTIONAL"}
        container.volumes.add(container_path="/c", mode="RW", source=shared)
        named = {"name": "v", "driver": "d", "driver_options": {"parameter": []}}
        container.volumes.add(
            container_path="/d", mode="RO", source={"type": "DOCKER_VOLUME", "docker_volume": named}
        )
        host = body_of(container)["HostConfig"]
        self.assertEqual(
            host["Binds"],
            ["/x:/a:ro", "/s/rel/y:/mnt/mesos/sandbox/b:rw", "/z:/c:rw,rshared"],
        )
        self.assertEqual(
            host["Mounts"],
            [
                {"Type": "bind", "Source": "/s", "Target": "/mnt/mesos/sandbox"},
                {
                    "Type": "volume",
                    "Source": "v",
                    "Target": "/d",
                    "ReadOnly": True,
                    "VolumeOptions": {"DriverConfig": {"Name": "d", "Options": {}}},
                },
            ],
        )

    def test_volumes_that_cannot_be(self):
        for volume, words in (
            ({"container_path": "/a", "host_path": "../up"}, "'../up' of a volume leads out"),
            ({"container_path": "../up", "host_path": "/a"}, "'../up' of a volume leads out"),
            (
                {
                    "container_path": "/a",
                    "source": {
                        "type": "SANDBOX_PATH",
                        "sandbox_path": {"type": "PARENT", "path": "p"},
                    },
                },
                "expected sandbox_path of type SELF",
            ),
            (
                {"container_path": "/a", "source": {"type": "SECRET", "secret": {"type": 1}}},
                "its secret is a reference",
            ),
            ({"container_path": "/a", "image": {"type": "DOCKER"}}, "of kind IMAGE cannot"),
        ):
            container = info()
            container.volumes.add(mode="RW", **volume)
            self.assertIn(words, self.refusal(container))

    def test_a_volume_driver_gives_relative_paths_another_meaning(self):
        container = info(volume_driver="rexray")
        container.volumes.add(container_path="/a", host_path="data", mode="RW")
        host = body_of(container)["HostConfig"]
        self.assertEqual((host["VolumeDriver"], host["Binds"]), ("rexray", ["data:/a:rw"]))

    def test_rlimits_and_gpus(self):
        limited = (("RLMT_NOFILE", 10, 20), ("RLMT_CORE", None, None))
        host = body_of(info(), rlimits=limited, allotment=Allotment(gpus=2))["HostConfig"]
        self.assertEqual(
            host["Ulimits"],
            [
                {"Name": "nofile", "Soft": 10, "Hard": 20},
                {"Name": "core", "Soft": -1, "Hard": -1},
            ],
        )
        self.assertEqual(host["DeviceRequests"], [{"Count": 2, "Capabilities": [["gpu"]]}])

    def test_a_spec_that_is_nothing_for_an_engine(self):
        self.assertIn("there is no DockerInfo", self.refusal(ContainerInfo(type="MESOS")))
        with self.assertRaises(ContainerError) as raised:
            creation(ContainerSpec(ContainerId("c"), (), "/s", info=b"\xff"), SETTINGS, "/", (0, 0))
        self.assertIn("cannot be read", str(raised.exception))

    def test_what_was_given_becomes_limits(self):
        megabyte = 1 << 20
        for given_, cfs, expected in (
            (Allotment(), False, {}),
            (Allotment(cpus=1), False, {"CpuShares": 2}),
            (
                Allotment(cpus=1500, mem=64 * megabyte),
                True,
                {
                    "CpuShares": 1536,
                    "CpuPeriod": 100_000,
                    "CpuQuota": 150_000,
                    "Memory": 64 * megabyte,
                },
            ),
            (
                Allotment(cpus=1000, mem=8 * megabyte, cpus_limit=UNLIMITED, mem_limit=UNLIMITED),
                True,
                {"CpuShares": 1024, "MemoryReservation": 32 * megabyte},
            ),
            (
                Allotment(mem=64 * megabyte, mem_limit=128 * megabyte),
                False,
                {"Memory": 128 * megabyte, "MemoryReservation": 64 * megabyte},
            ),
        ):
            self.assertEqual(limits(given_, cfs), expected)


class CommandTests(SynchronousTestCase):
    """What a command means for an image."""

    def body(self, **command: Any) -> tuple[Any, Any]:
        argv, file = process_of(CommandInfo(**command))
        body = body_of(info(), argv=argv, file=file)
        return body.get("Entrypoint"), body.get("Cmd")

    def test_a_shell_command_takes_the_place_of_the_entrypoint(self):
        self.assertEqual(self.body(value="echo $A"), (["/bin/sh"], ["-c", "echo $A"]))

    def test_else_all_is_given_to_the_entrypoint(self):
        self.assertEqual(
            self.body(shell=False, value="a", arguments=["b", "c"]), (None, ["a", "b", "c"])
        )
        self.assertEqual(self.body(shell=False, arguments=["b"]), (None, ["b"]))

    def test_nothing_is_the_images_own(self):
        self.assertEqual(self.body(shell=False), (None, None))
        self.assertEqual(self.body(shell=False, value=""), (None, None))
        self.assertEqual(self.body(shell=False, value="", arguments=["b"]), (None, ["b"]))


class ParameterTests(SynchronousTestCase):
    """Options of C{docker run}."""

    def apply(self, *pairs: tuple[str, str]) -> dict[str, Any]:
        body: dict[str, Any] = {"HostConfig": {}}
        for key, value in pairs:
            apply(body, key, value)
        return body

    def host(self, key: str, value: str) -> Any:
        (found,) = self.apply((key, value))["HostConfig"].values()
        return found

    def test_values_of_many_kinds(self):
        for key, value, expected in (
            ("memory", "1.5g", 3 << 29),
            ("m", "64M", 64 << 20),
            ("memory-swap", "-1", -1),
            ("cap-add", "SYS_ADMIN", ["SYS_ADMIN"]),
            ("privileged", "true", True),
            ("init", "", True),
            ("cpus", "0.5", 500_000_000),
            ("pids-limit", "7", 7),
            ("sysctl", "net.x=1", {"net.x": "1"}),
            ("tmpfs", "/run", {"/run": ""}),
            ("tmpfs", "/run:size=1m,mode=1777", {"/run": "size=1m,mode=1777"}),
            ("ulimit", "nofile=1:2", [{"Name": "nofile", "Soft": 1, "Hard": 2}]),
            ("device-read-bps", "/dev/a:1m", [{"Path": "/dev/a", "Rate": 1 << 20}]),
            ("security-opt", "no-new-privileges", ["no-new-privileges"]),
            (
                "device",
                "/dev/a:/dev/b:r",
                [{"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"}],
            ),
            (
                "mount",
                "type=tmpfs,dst=/t,tmpfs-size=1m,ro=true",
                [
                    {
                        "Type": "tmpfs",
                        "Target": "/t",
                        "TmpfsOptions": {"SizeBytes": 1 << 20},
                        "ReadOnly": True,
                    }
                ],
            ),
        ):
            self.assertEqual(self.host(key, value), expected, key)

    def test_what_is_of_the_container_itself(self):
        body = self.apply(
            ("e", "A=1"),
            ("workdir", "/w"),
            ("user", "5:6"),
            ("entrypoint", "/e"),
            ("health-interval", "1m30s"),
            ("publish", "127.0.0.1:8080:80/tcp"),
        )
        ports = body.pop("HostConfig")["PortBindings"]
        self.assertEqual(ports, {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]})
        self.assertEqual(
            body,
            {
                "Env": ["A=1"],
                "WorkingDir": "/w",
                "User": "5:6",
                "Entrypoint": ["/e"],
                "Healthcheck": {"Interval": 90 * 10**9},
                "ExposedPorts": {"80/tcp": {}},
            },
        )

    def test_what_cannot_be_given_says_why(self):
        for key, value, words in (
            ("memroy", "1g", "'memroy' is not known"),
            ("name", "x", "containers are named by the agent"),
            ("rm", "true", "--docker_remove_delay"),
            ("restart", "always", "its framework's matter"),
            ("memory", "lots", "'memory' has value 'lots': expected bytes such as 512m"),
            ("privileged", "maybe", "expected true or false"),
            ("ulimit", "nofile", "expected something=something"),
            ("publish", "99999", "expected a port"),
            ("security-opt", "seccomp=/etc/profile.json", "a profile as JSON, not its path"),
            ("health-timeout", "30", "expected a duration such as 30s"),
        ):
            with self.assertRaises(ContainerError) as raised:
                self.apply((key, value))
            self.assertIn(words, str(raised.exception))

    @given(st.text(max_size=20), st.text(max_size=20))
    def test_whatever_is_given_is_taken_or_refused(self, key: str, value: str) -> None:
        for name in (key, "memory", "mount", "publish", "device", "cpus", "ulimit", "tmpfs"):
            try:
                self.apply((name, value))
            except ContainerError:
                pass

    @given(st.integers(0, 1 << 40))
    def test_sizes_are_bytes(self, number: int) -> None:
        self.assertEqual(size(str(number)), number)
        self.assertEqual(size(f"{number}b"), number)


class ImageTests(SynchronousTestCase):
    """Names of images, and who may pull them."""

    def test_names(self):
        digest = "sha256:" + "0" * 64
        for image, name, tag, registry in (
            ("busybox", "busybox", "latest", "docker.io"),
            ("a/b:1", "a/b", "1", "docker.io"),
            ("host:5000/a", "host:5000/a", "latest", "host:5000"),
            ("host:5000/a:1", "host:5000/a", "1", "host:5000"),
            ("localhost/a", "localhost/a", "latest", "localhost"),
            (f"r.io/a@{digest}", "r.io/a", digest, "r.io"),
        ):
            self.assertEqual(split_image(image), (name, tag))
            self.assertEqual(registry_of(image), registry)

    def test_credentials_are_those_of_the_registry(self):
        auth = base64.b64encode(b"me:pa:ss").decode()
        config = {"auths": {"https://index.docker.io/v1/": {"auth": auth}, "r:5000": {}}}
        config["auths"]["r:5000"] = {"identitytoken": "t"}

        def found(image: str) -> Any:
            text = credentials(json.dumps(config), image)
            return json.loads(base64.urlsafe_b64decode(text)) if text else None

        self.assertEqual(
            found("busybox"),
            {
                "username": "me",
                "password": "pa:ss",
                "serveraddress": "https://index.docker.io/v1/",
            },
        )
        self.assertEqual(found("r:5000/a"), {"identitytoken": "t", "serveraddress": "r:5000"})
        self.assertIsNone(found("other.io/a"))
        old = json.dumps({"other.io": {"auth": auth}})
        self.assertTrue(credentials(old, "other.io/a"))

    def test_programs_for_credentials_are_not_run(self):
        with self.assertRaises(ContainerError) as raised:
            credentials('{"credsStore": "pass"}', "r.io/a")
        self.assertIn("docker-credential-pass, which is not asked", str(raised.exception))
        with self.assertRaises(ContainerError):
            credentials("{nonsense", "a")
        with self.assertRaises(ContainerError):
            credentials('{"auths": {"r.io": {"auth": "!"}}}', "r.io/a")

    def test_a_task_may_bring_its_own_and_no_link(self):
        sandbox = self.mktemp()
        os.makedirs(f"{sandbox}/.docker")
        self.assertEqual(config_in(sandbox), "")
        with open(f"{sandbox}/secret", "w") as file:
            file.write("{}")
        os.symlink("../secret", f"{sandbox}/.docker/config.json")
        self.assertEqual(config_in(sandbox), "")
        os.unlink(f"{sandbox}/.docker/config.json")
        with open(f"{sandbox}/.docker/config.json", "w") as file:
            file.write('{"auths": {}}')
        self.assertEqual(config_in(sandbox), '{"auths": {}}')


class OutputTests(SynchronousTestCase):
    """The engine's form of output, and notes of how far it was brought."""

    @given(
        st.lists(st.tuples(st.integers(0, 1), st.binary(max_size=40)), max_size=8),
        st.lists(st.integers(1, 30), max_size=30),
    )
    def test_messages_come_whole_in_whatever_pieces(
        self, messages: list[tuple[int, bytes]], cuts: list[int]
    ) -> None:
        data = b"".join(
            bytes([which + 1, 0, 0, 0]) + len(text).to_bytes(4, "big") + text
            for which, text in messages
        )
        taken: list[tuple[int, bytes]] = []
        frames = Frames(lambda which, text: taken.append((which, text)))
        for cut in cuts:
            frames.take(data[:cut])
            data = data[cut:]
        frames.take(data)
        self.assertEqual(taken, messages)

    def test_what_is_no_such_form_is_an_error(self):
        for data in (b"HTTP/1.1 ", b"\x01\0\0\0\xff\xff\xff\xff"):
            with self.assertRaises(ValueError):
                Frames(lambda which, text: None).take(data)

    def test_notes_are_kept_and_wrong_ones_are_the_beginning(self):
        notes = Notes(self.mktemp())
        notes.make()
        place = Place(("2026-11-21T16:00:00.123456789Z", ""), (1, 2), (3, 4))
        notes.write("a", place)
        self.assertEqual(notes.read("a").words(), place.words())
        self.assertEqual(notes.all(), {"a"})
        self.assertEqual(notes.read("b").words(), Place().words())
        for name in ("", "../a", ".a", "a/b"):
            with self.assertRaises(OSError):
                notes.write(name, place)
        notes.remove("a")
        self.assertEqual(notes.all(), set())
        self.assertEqual(Place.read([1]).words(), Place().words())

    def test_the_engine_is_asked_for_what_came_from_a_moment_on(self):
        for moments, since in (
            (("2026-11-21T16:00:00.1Z", ""), "1795276798.100000000"),
            (("", "2026-11-21T16:00:00Z"), "1795276798.000000000"),
            (("2026-11-21T18:00:00.5+02:00", "2026-11-21T16:00:00.6Z"), "1795276798.500000000"),
        ):
            self.assertEqual(Place(moments).since(), since)
        self.assertEqual(Place().since(), "0")
        self.assertEqual(Place(("nonsense", "")).since(), "0")
