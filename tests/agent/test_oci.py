"""What a runtime is told: commands, environments, rights and volumes made one with images."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from mesoskit.agent.container import ContainerSpec
from mesoskit.agent.containers import oci
from mesoskit.agent.containers.image_names import ImageError
from mesoskit.agent.containers.image_rights import ImageRights, Rights
from mesoskit.agent.containers.volumes import (
    VolumeError,
    bound_volumes,
    checked_target,
    credentials_of,
    image_name,
    surrounding,
)
from mesoskit.agent.environment import DEFAULT_PATH, EXECUTOR_SOCKET, console_of, process_of
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.agent.users import Credentials
from mesoskit.app.images import collection, container, providers, registry, runtime
from mesoskit.messages import codec
from mesoskit.messages.mesos_pb2 import CommandInfo, ContainerInfo, Image, LinuxInfo, Volume
from mesoskit.model.ids import ContainerId
from tests.base import SynchronousTestCase


def spec_of(environment: dict[str, str] | None = None, **command: Any) -> ContainerSpec:
    """Return a container of a command."""
    argv, file = process_of(CommandInfo(**command))
    return ContainerSpec(
        ContainerId("c"), argv, "/s", tuple((environment or {}).items()), file=file
    )


def image(entrypoint: str = "", command: str = "", **more: Any) -> dict[str, Any]:
    """Return an image's configuration."""
    return {"Entrypoint": entrypoint.split(), "Cmd": command.split(), **more}


class CommandTests(SynchronousTestCase):
    """Which command is run: the table of Mesos' documentation of images."""

    def run_of(self, of: dict[str, Any], **command: Any) -> str:
        spec = spec_of(**command)
        return " ".join(oci.executable(spec, oci.merged_argv(spec, of)))

    def test_a_shells_command_is_run_whatever_the_image_says(self):
        self.assertEqual(self.run_of(image("e x", "c y"), value="ls"), "/bin/sh -c ls")

    def test_a_value_is_run_whatever_the_image_says(self):
        for of in (image(), image("e"), image("", "c"), image("e", "c")):
            self.assertEqual(self.run_of(of, shell=False, value="v"), "v")
            run = self.run_of(of, shell=False, value="v", arguments=["v", "a"])
            self.assertEqual(run, "v a")

    def test_without_a_value_the_image_says_what_is_run(self):
        for of, alone, with_arguments in (
            (image("", "c y"), "c y", "c a b"),
            (image("e x"), "e x", "e x a b"),
            (image("e x", "c y"), "e x c y", "e x a b"),
        ):
            self.assertEqual(self.run_of(of, shell=False), alone)
            self.assertEqual(self.run_of(of, shell=False, arguments=["a", "b"]), with_arguments)

    def test_where_neither_says_anything_it_is_refused(self):
        for arguments in ([], ["a"]):
            self.assertRaises(ImageError, self.run_of, image(), shell=False, arguments=arguments)


class EnvironmentTests(SynchronousTestCase):
    """Whose variables win."""

    def merged(self, given: dict[str, str], *of_image: str) -> dict[str, str]:
        return oci.merged_environment(spec_of(given), {"Env": of_image})

    def test_the_tasks_do(self):
        self.assertEqual(self.merged({"A": "task"}, "A=image", "B=image")["A"], "task")
        self.assertEqual(self.merged({"A": "task"}, "A=image", "B=image")["B"], "image")

    def test_the_images_path_does_where_nobody_has_given_one(self):
        self.assertEqual(self.merged({"PATH": DEFAULT_PATH}, "PATH=/image")["PATH"], "/image")
        self.assertEqual(self.merged({"PATH": "/task"}, "PATH=/image")["PATH"], "/task")
        self.assertEqual(self.merged({"PATH": DEFAULT_PATH})["PATH"], DEFAULT_PATH)

    def test_what_is_seen_from_within(self):
        variables = {"MESOS_SANDBOX": "/s", EXECUTOR_SOCKET: "/run/door/x"}
        merged = self.merged(variables)
        self.assertEqual(merged["MESOS_SANDBOX"], "/mnt/mesos/sandbox")
        self.assertEqual(merged[EXECUTOR_SOCKET], "/run/door/x")
        doors = oci.door_of(spec_of(variables))
        self.assertEqual(doors, [oci.OCIMount("/run/door", "/run/door", True)])
        self.assertEqual(oci.door_of(spec_of({})), [])

    def test_what_no_process_can_have_is_refused_by_name(self):
        for name, value in (("A=B", ""), ("", "x"), ("A", "\0"), ("\0", "")):
            error = self.assertRaises(
                ImageError,
                oci.process,
                spec_of(value="x"),
                Rights(),
                ["x"],
                {name: value},
                None,
                "/",
            )
            wrong = f"cannot be named {name!r}" if not value.strip("x") else f"{name!r} has a NUL"
            self.assertIn(wrong, str(error))
        self.assertEqual(list(self.merged({}, "=x", "A=")), [oci.MARK, "A"])

    def test_limits_that_cannot_be_are_refused_as_without_an_image(self):
        for limit, why in (
            (("RLMT_CPU", 2, 1), "RLMT_CPU: soft 2, hard 1: the soft one may not be more"),
            (("UNKNOWN", 1, 1), "unknown resource limit 'UNKNOWN'"),
        ):
            spec = replace(spec_of(value="x"), rlimits=(limit,))
            error = self.assertRaises(ImageError, oci.process, spec, Rights(), ["x"], {}, None, "/")
            self.assertIn(why, str(error))

    def test_no_terminal_is_larger_than_a_terminal_can_be(self):
        info = ContainerInfo()
        info.tty_info.window_size.rows, info.tty_info.window_size.columns = 1 << 31, 7
        console = console_of(info)
        assert console is not None
        self.assertEqual((console.rows, console.columns), (65535, 7))

    def test_a_hosts_name_has_at_most_what_the_kernel_takes(self):
        def made(name: str) -> Any:
            info = ContainerInfo(hostname=name)
            return oci.configuration({}, "/", (), info, Rights())["hostname"]

        self.assertEqual(made("x" * 64), "x" * 64)
        for wrong in ("x" * 65, "ü" * 33):
            self.assertIn("at most 64 bytes", str(self.assertRaises(ImageError, made, wrong)))

    def test_nobody_forges_whose_process_it_is(self):
        merged = self.merged({oci.MARK: "other"}, f"{oci.MARK}=other")
        self.assertEqual(next(iter(merged.items())), (oci.MARK, "c"))


class RightsTests(SynchronousTestCase):
    """What a container may do."""

    def rights(self, linux: dict[str, Any], *isolation: str, **settings: Any) -> Rights:
        rights = ImageRights(IsolationSettings(isolation=isolation, **settings))
        return rights.of(LinuxInfo(**linux))

    def sets(self, rights: Rights, root: bool = True) -> dict[str, list[str]]:
        return oci.capabilities(rights, root)

    def test_nothing_is_inheritable_that_need_not_be(self):
        self.assertEqual(self.sets(self.rights({}))["inheritable"], [])
        self.assertEqual(self.sets(self.rights({}), root=False)["inheritable"], [])

    def test_no_devices_are_made(self):
        sets = self.sets(self.rights({}))
        for names in (sets["bounding"], sets["effective"], sets["permitted"]):
            self.assertIn("CAP_CHOWN", names)
            self.assertNotIn("CAP_MKNOD", names)
            self.assertNotIn("CAP_SYS_ADMIN", names)

    def test_other_users_have_none(self):
        self.assertEqual(self.sets(self.rights({}), root=False)["effective"], [])
        made = oci.process(spec_of(value="x"), Rights(), ["x"], {}, Credentials(7, 8, (9,)), "/")
        self.assertEqual(made["user"], {"uid": 7, "gid": 8, "additionalGids": [9]})

    def test_what_was_asked_for_they_have(self):
        wanted = {"effective_capabilities": {"capabilities": ["NET_RAW"]}}
        sets = self.sets(self.rights(wanted), root=False)
        self.assertEqual(sets["ambient"], ["CAP_NET_RAW"])
        self.assertEqual(sets["bounding"], ["CAP_NET_RAW"])
        wanted = {"bounding_capabilities": {"capabilities": ["CHOWN"]}}
        self.assertEqual(self.sets(self.rights(wanted))["effective"], ["CAP_CHOWN"])

    def test_nobody_has_more_than_the_operator_allows(self):
        flags = {"bounding_capabilities": 1 << 0}  # CHOWN
        sets = self.sets(self.rights({}, "linux/capabilities", **flags))
        self.assertEqual(sets["effective"], ["CAP_CHOWN"])
        wanted = {"effective_capabilities": {"capabilities": ["SYS_ADMIN"]}}
        error = self.assertRaises(ImageError, self.rights, wanted, "linux/capabilities", **flags)
        self.assertIn("SYS_ADMIN", str(error))

    def test_isolation_holds_them_too(self):
        rights = self.rights({}, "linux/nnp", "network/none")
        self.assertTrue(rights.no_new_privileges and rights.network)
        made = oci.configuration({}, "/r", (), ContainerInfo(), rights)
        self.assertIn({"type": "network"}, made["linux"]["namespaces"])
        refused = {"share_pid_namespace": True}
        self.assertRaises(ImageError, self.rights, refused, share_pid_namespace=False)

    def test_devices_of_the_machine(self):
        flags = {"device_paths": ("/dev/x",), "allowed_devices": ("b 7:3 rwm",)}
        rights = self.rights({}, "linux/devices", **flags)
        made = oci.configuration({}, "/r", (), ContainerInfo(), rights)
        (device,) = made["linux"]["devices"]
        self.assertEqual((device["path"], device["type"]), ("/dev/x", "b"))
        self.assertEqual((device["major"], device["minor"], device["fileMode"]), (7, 3, 0o666))
        self.assertEqual(self.rights({}, "linux/nnp", **flags).devices, ())

    def test_profiles_of_system_calls(self):
        directory = self.mktemp()
        os.mkdir(directory)
        rules = [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
            {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN"]}},
        ]
        profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
        Path(directory, "p.json").write_text(json.dumps(profile))
        flags = {"seccomp_config_dir": directory, "seccomp_profile_name": "p.json"}
        made = self.rights({}, "linux/seccomp", **flags)
        assert made.seccomp is not None
        self.assertEqual(made.seccomp["syscalls"], rules[:1])
        self.assertTrue(made.no_new_privileges)
        free = self.rights({"seccomp": {"unconfined": True}}, "linux/seccomp", **flags)
        self.assertIsNone(free.seccomp)
        for wrong in ("../p.json", "none"):
            named = {"seccomp": {"profile_name": wrong}}
            self.assertRaises(ImageError, self.rights, named, "linux/seccomp", **flags)

    def test_its_namespaces(self):
        for shared, expected in ((False, True), (True, False)):
            info = ContainerInfo(linux_info=LinuxInfo(share_pid_namespace=shared))
            made = oci.configuration({}, "/r", (), info, Rights())
            kinds = [namespace["type"] for namespace in made["linux"]["namespaces"]]
            self.assertEqual("pid" in kinds, expected)


class VolumeTests(SynchronousTestCase):
    """What volumes ask for."""

    def bound(self, **volume: Any) -> Any:
        given = codec.from_dict(Volume, {"container_path": "x", "mode": "RO", **volume})
        (bound,) = bound_volumes(ContainerInfo(volumes=[given]), "/s/in", "/s")
        return bound

    def sandboxed(self, path: str, kind: str = "SELF") -> str:
        source = {"type": "SANDBOX_PATH", "sandbox_path": {"type": kind, "path": path}}
        return str(self.bound(source=source).sandboxed)

    def test_paths_of_sandboxes(self):
        self.assertEqual(self.sandboxed("a/./b"), "/s/in/a/b")
        self.assertEqual(self.sandboxed("a", "PARENT"), "/s/a")
        self.assertEqual(self.bound(host_path="a").sandboxed, "/s/in/a")

    def test_no_path_leads_out(self):
        for path in ("../a", "a/../../b", "/etc", "..", "a/.."):
            self.assertRaises(VolumeError, self.sandboxed, path)
            self.assertRaises(VolumeError, self.sandboxed, path, "PARENT")
        for path in ("", "..", "a/../b", "/", ".", "/..", "//"):
            self.assertRaises(VolumeError, checked_target, path)

    def test_paths_of_the_machine_exist(self):
        self.assertEqual(self.bound(host_path="/etc").path, "/etc")
        error = self.assertRaises(VolumeError, self.bound, host_path="/not/there")
        self.assertIn("'/not/there'", str(error))

    def test_paths_of_the_machine_are_made_where_that_is_allowed(self):
        root = os.path.realpath(self.mktemp())
        os.makedirs(f"{root}/below")
        os.symlink("/tmp", f"{root}/link")

        def bound(path: str) -> Any:
            volume = Volume(container_path="x", mode=Volume.RW, host_path=path)
            info = ContainerInfo(volumes=[volume])
            (made,) = bound_volumes(info, "/s", None, ("/srv/other", f"{root}/"))
            return made

        self.assertEqual(bound(f"{root}/below/a/b").path, f"{root}/below/a/b")
        self.assertTrue(os.path.isdir(f"{root}/below/a/b"))
        for path, why in (
            ("/not/there", f"is not below /srv/other or {root}/"),
            (f"{root}/../there-not", "is not below"),
            (f"{root}/link/mesoskit-no", "Not a directory"),
        ):
            self.assertIn(why, str(self.assertRaises(VolumeError, bound, path)))
        self.assertFalse(os.path.exists("/tmp/mesoskit-no"))

    def test_what_stands_alone_is_in_no_other(self):
        for sandbox, above in (
            ("/w/slaves/s/frameworks/f/executors/e/runs/r", None),
            (
                "/w/slaves/s/frameworks/f/executors/e/runs/r/containers/c",
                "/w/slaves/s/frameworks/f",
            ),
            ("/w/containers/a", None),
            ("/w/containers/a/containers/b", "/w/containers/a"),
        ):
            found = surrounding(sandbox, "/w")
            self.assertEqual(found and found.removesuffix("/executors/e/runs/r"), above)

    def test_two_of_one_place(self):
        volume = Volume(container_path="x", mode=Volume.RW, host_path="/etc")
        info = ContainerInfo(volumes=[volume, volume])
        self.assertRaises(VolumeError, bound_volumes, info, "/s")

    def test_what_is_not_known_is_refused_by_name(self):
        for source in (
            {"type": "DOCKER_VOLUME", "docker_volume": {"name": "v"}},
            {"type": "CSI_VOLUME", "csi_volume": {"plugin_name": "p"}},
        ):
            error = self.assertRaises(VolumeError, self.bound, source=source)
            self.assertIn(str(source["type"]), str(error))
        shared = {"path": "/etc", "mount_propagation": {"mode": "BIDIRECTIONAL"}}
        error = self.assertRaises(
            VolumeError, self.bound, source={"type": "HOST_PATH", "host_path": shared}
        )
        self.assertIn("BIDIRECTIONAL", str(error))

    def test_a_secret_has_to_be_there(self):
        secret = {"type": "REFERENCE", "reference": {"name": "n"}}
        source = {"type": "SECRET", "secret": secret}
        self.assertRaises(VolumeError, self.bound, source=source)
        config = {"type": "DOCKER", "docker": {"name": "a", "config": secret}}
        self.assertRaises(ImageError, credentials_of, codec.from_dict(Image, config))

    def test_images_without_a_provider(self):
        docker = codec.from_dict(Image, {"type": "DOCKER", "docker": {"name": "a"}})
        self.assertEqual(image_name(docker, ("oci",)), "a")
        error = self.assertRaises(ImageError, image_name, docker, ())
        self.assertIn("--image_providers=docker", str(error))
        appc = codec.from_dict(Image, {"type": "APPC", "appc": {"name": "a"}})
        self.assertRaises(ImageError, image_name, appc, ("docker",))


class FlagTests(SynchronousTestCase):
    """What operators say of images."""

    def test_providers(self):
        self.assertEqual(providers("DOCKER, oci"), ("docker", "oci"))
        for wrong in ("appc", "docker,rkt"):
            self.assertRaises(ValueError, providers, wrong)

    def test_registries(self):
        for good in ("https://r:5000", "/srv/images", "file:///srv", "r.example:5000"):
            self.assertEqual(registry(good), good)
        for wrong in ("", "https://", "hdfs://x/y", "a b"):
            self.assertRaises(ValueError, registry, wrong)

    def test_runtimes(self):
        for good in ("crun", "runc", "/opt/bin/crun"):
            self.assertEqual(runtime(good), good)
        for wrong in ("docker", "", "bin/runc", "/opt/youki"):
            self.assertRaises(ValueError, runtime, wrong)

    def test_default_containers(self):
        given = ContainerInfo.FromString(container('{"type": "MESOS", "hostname": "h"}'))
        self.assertEqual(given, ContainerInfo(type=ContainerInfo.MESOS, hostname="h"))
        for wrong in ("x", "[]", "{}", '{"type": "LXC"}'):
            self.assertRaises(ValueError, container, wrong)

    def test_collection(self):
        excluded = '[{"type": "DOCKER", "docker": {"name": "a"}}]'
        interval = '{"nanoseconds": 60000000000}'
        given = collection(
            f'{{"image_disk_headroom": 0.2, "image_disk_watch_interval": {interval},'
            f' "excluded_images": {excluded}}}'
        )
        self.assertEqual((given.headroom, given.interval, given.excluded), (0.2, 60.0, ("a",)))
        self.assertEqual(collection("{}").interval, 3600.0)
        for wrong in (
            "x",
            "[]",
            '{"headroom": 1}',
            '{"image_disk_headroom": 2}',
            '{"image_disk_watch_interval": 5}',
            '{"excluded_images": ["a"]}',
        ):
            self.assertRaises(ValueError, collection, wrong)
