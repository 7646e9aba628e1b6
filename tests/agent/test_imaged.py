"""Containers from images: real ones, by a real runtime."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL, SIGTERM, SIGUSR1
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from mesoskit.agent.container import Console, ContainerSpec, RecoveredContainers
from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.image_store import ImageStore
from mesoskit.agent.containers.imaged import ImageContainers
from mesoskit.agent.containers.launched import LaunchedContainers
from mesoskit.agent.containers.provisioning import Provisions, runtime_id
from mesoskit.agent.environment import DEFAULT_PATH
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.messages.mesos_pb2 import ContainerInfo, Image, Volume
from mesoskit.model.ids import ContainerId
from tests.agent.containers_contract import ContainersContract, Ends
from tests.agent.image_archives import BUSYBOX, busybox_layer, docker_archive
from tests.agent.real import RealTestCase, until

TOOLS = [name for name in ("skopeo", "umoci", "runc") if shutil.which(name) is None]
if BUSYBOX is None:
    TOOLS.append("busybox-static")
SKIP = f"not installed: {', '.join(TOOLS)}" if TOOLS else ""
if not SKIP and os.geteuid() != 0:
    SKIP = "root makes containers"

_CGROUPS = Path("/sys/fs/cgroup")


def info_of(image: str = "busy", *volumes: Volume, **more: Any) -> ContainerInfo:
    """Return what says that a container is from an image."""
    info = ContainerInfo(type=ContainerInfo.MESOS, volumes=volumes, **more)
    info.mesos.image.type = Image.DOCKER
    info.mesos.image.docker.name = image
    return info


def host_path(path: str, target: str, mode: Any = Volume.RW) -> Volume:
    """Return a volume of a path of the machine."""
    source = Volume.Source(type=Volume.Source.HOST_PATH)
    source.host_path.path = path
    return Volume(container_path=target, mode=mode, source=source)


def sandbox_path(path: str, target: str, kind: Any = Volume.Source.SandboxPath.SELF) -> Volume:
    """Return a volume of a path of a sandbox."""
    source = Volume.Source(type=Volume.Source.SANDBOX_PATH)
    source.sandbox_path.path = path
    source.sandbox_path.type = kind
    return Volume(container_path=target, mode=Volume.RW, source=source)


class ImagedTestCase(RealTestCase):
    """A test with an image C{busy} in a folder, and containers that know it."""

    skip = SKIP or None
    isolation = IsolationSettings()
    ignore_runtime = False
    maker = "crun" if shutil.which("crun") else "runc"

    def setUp(self) -> None:
        super().setUp()
        self.folder = os.path.join(self.directory, "folder")
        os.mkdir(self.folder)
        config = {"Cmd": ["/bin/sh", "-c", "exit 7"], "Env": ["FROM=image", "PATH=/bin"]}
        self.archive("busy", busybox_layer(), **config)

    def archive(self, name: str, *layers: bytes, **config: Any) -> None:
        docker_archive(os.path.join(self.folder, f"{name}.tar"), layers, config)

    def imaged(self, ends: Ends) -> ImageContainers:
        """Return containers from images over a launcher."""
        work = os.path.join(self.directory, "work")
        containers = ImageContainers(
            reactor,
            self.users,
            self.in_thread,
            ImageStore(reactor, self.in_thread, os.path.join(work, "store"), self.folder),
            Provisions(
                os.path.join(work, "provisioner"), os.path.join(work, "secrets"), self.maker
            ),
            ends,
            isolation=self.isolation,
            ignore_runtime=self.ignore_runtime,
        )
        self.last = inner = LaunchedContainers(
            *(reactor, self.runtime, self.users, self.in_thread, containers.exited), linger=0.1
        )
        self.agents.append(inner)
        containers.inner = inner
        self.provisioner = os.path.join(work, "provisioner")
        return containers

    async def begun(self) -> tuple[ImageContainers, Ends]:
        """Return containers at work and what hears of ends."""
        ends = Ends()
        agent = self.imaged(ends)
        await agent.start()
        await agent.recover()
        return agent, ends

    def inside(self, name: str, command: str, *volumes: Volume, **more: Any) -> ContainerSpec:
        """Return a container of a shell command in the image."""
        info = more.pop("info", None) or info_of("busy", *volumes)
        return ContainerSpec(
            ContainerId(name),
            ("sh", "-c", command),
            self.sandbox(name),
            (("PATH", DEFAULT_PATH), ("MESOS_SANDBOX", self.sandbox(name)), ("OF", "task")),
            file="/bin/sh",
            info=info.SerializeToString(),
            **more,
        )

    async def result(self, command: str, *volumes: Volume, **more: Any) -> str:
        """Return what a command in the image has written, once it is over; C{""} was fine."""
        agent, ends = await self.begun()
        await agent.launch(self.inside("a", command, *volumes, **more))
        ((_, status),) = await ends.wait(1)
        self.assertEqual(status, 0, self.output("a", "stderr"))
        await self.cleaned()
        return self.output("a")

    async def refusal(self, spec: ContainerSpec) -> str:
        """Return why a container cannot be launched; nothing is left of it."""
        agent, ends = await self.begun()
        try:
            await agent.launch(spec)
        except ContainerError as error:
            await self.cleaned()
            self.assertEqual(ends.told, [])
            return str(error)
        raise AssertionError("it was launched")

    async def cleaned(self) -> None:
        """Return when nothing lies there for containers."""
        await until(lambda: not _names(self.provisioner))
        made = [runtime_id(ContainerId(name)) for name in "abcd"]
        self.assertEqual([path for name in made for path in _CGROUPS.glob(f"*/*{name}*")], [])
        self.assertNotIn(self.directory, Path("/proc/self/mountinfo").read_text())


def _names(path: str) -> list[str]:
    return os.listdir(path) if os.path.exists(path) else []


def _arguments(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


class ImageContractTests(ImagedTestCase, ContainersContract):
    """What all containers promise, containers from images promise."""

    def agent(self, ends: Ends) -> Any:
        return self.imaged(ends)

    def spec(self, name: str, command: str, **more: Any) -> ContainerSpec:
        return self.inside(name, command, **more)

    async def started(self) -> tuple[Any, Ends]:
        agent, ends = await self.begun()
        await agent.store.get("busy")
        return agent, ends

    async def until_gone(self, pid: int) -> None:
        # What stands for the container ends a moment after its process.
        path = os.path.join(self.provisioner, runtime_id(ContainerId("short")))
        await until(lambda: not any(path in _arguments(each) for each in self.below()), 60.0)


class ImageTests(ImagedTestCase):
    """What is found within."""

    async def test_the_root_is_the_images(self):
        output = await self.result("ls /; ls /mnt/mesos/sandbox; pwd; ls /proc | grep -c '^[0-9]'")
        self.assertIn("bin", output.split())
        self.assertNotIn("home", output.split())
        self.assertIn("/mnt/mesos/sandbox", output.split())
        self.assertLess(int(output.split()[-1]), 8)

    async def test_environment_and_directory(self):
        self.archive("there", busybox_layer(), Env=["A=1", "OF=image"], WorkingDir="/tmp")
        output = await self.result("env; pwd", info=info_of("there"))
        variables = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
        self.assertEqual((variables["A"], variables["OF"]), ("1", "task"))
        self.assertEqual(variables["MESOS_SANDBOX"], "/mnt/mesos/sandbox")
        self.assertEqual(output.splitlines()[-1], "/tmp")

    async def test_nothing_of_an_image_counts_but_its_files(self):
        self.archive("there", busybox_layer(), Env=["A=1"], WorkingDir="/tmp", Cmd=["/bin/sh"])
        self.ignore_runtime = True
        output = await self.result('echo "$A"; pwd', info=info_of("there"))
        self.assertEqual(output, "\n/mnt/mesos/sandbox\n")

    async def test_its_name_and_where_names_are_looked_up_are_the_machines(self):
        paths = [path for path in ("/etc/hosts", "/etc/hostname") if os.path.isfile(path)]
        output = await self.result(f"busybox hostname; cat {' '.join(paths)}")
        files = "".join(Path(path).read_text() for path in paths)
        self.assertEqual(output, f"{os.uname().nodename}\n{files}")

    async def test_a_name_of_its_own(self):
        info = info_of(hostname="of-its-own")
        output = await self.result("busybox hostname; test -s /etc/hostname || echo no", info=info)
        self.assertEqual(output.split(), ["of-its-own", "no"])

    async def test_a_user(self):
        os.chmod(self.sandbox("a"), 0o755)
        shutil.chown(self.sandbox("a"), "nobody")
        output = await self.result(
            "id -u; touch made; touch /x || echo no; stat -c %u made", user="nobody"
        )
        self.assertEqual(output.split(), ["65534", "no", "65534"])
        self.assertEqual(os.stat(os.path.join(self.sandbox("a"), "stdout")).st_uid, 65534)

    async def test_the_images_own_command(self):
        agent, ends = await self.begun()
        spec = ContainerSpec(
            *(ContainerId("a"), ("",), self.sandbox("a")),
            file="",
            info=info_of().SerializeToString(),
        )
        await agent.launch(spec)
        self.assertEqual(await ends.wait(1), [("a", 7 << 8)])

    async def test_what_is_written_is_the_containers_own(self):
        agent, ends = await self.begun()
        await agent.launch(self.inside("a", "echo changed >/etc/passwd; rm /bin/ls"))
        await ends.wait(1)
        await agent.launch(self.inside("b", "cat /etc/passwd; ls /etc"))
        await ends.wait(2)
        self.assertIn("root:x", self.output("b"))
        self.assertEqual([status for _, status in ends.told], [0, 0])

    async def test_signals_and_exact_statuses(self):
        agent, ends = await self.begun()
        await agent.launch(self.inside("a", "sleep 1000"))
        agent.signal(ContainerId("a"), SIGTERM)
        self.assertEqual(await ends.wait(1), [("a", SIGTERM)])
        await agent.launch(self.inside("b", "trap 'exit 9' TERM; echo set; sleep 1000 & wait"))
        await until(lambda: self.output("b"))
        agent.signal(ContainerId("b"), SIGTERM)
        self.assertEqual((await ends.wait(2))[1], ("b", 9 << 8))
        await agent.launch(self.inside("c", "kill -9 $$"))
        self.assertEqual((await ends.wait(3))[2], ("c", SIGKILL))
        await agent.launch(self.inside("d", "exit 143"))
        self.assertEqual((await ends.wait(4))[3], ("d", 143 << 8))
        await self.cleaned()

    async def test_a_terminal(self):
        agent, ends = await self.begun()
        terminal = Console(True, rows=33, columns=77)
        last = "busybox seq 1 5000; exit 5"
        command = f"busybox stty size; busybox tty; : </dev/tty; {last}"
        shutil.chown(self.sandbox("a"), "nobody")
        await agent.launch(self.inside("a", command, console=terminal, user="nobody"))
        await agent.launch(self.inside("b", "sleep 1000"))
        within = self.inside("c", last, console=terminal, parent=ContainerId("b"))
        await agent.launch(replace(within, info=b""))
        self.assertEqual(sorted(await ends.wait(2)), [("a", 5 << 8), ("c", 5 << 8)])
        numbers = [str(number) for number in range(1, 5001)]
        await until(lambda: self.output("a").endswith("5000\n"), 60.0)
        await until(lambda: self.output("c").endswith("5000\n"), 60.0)
        self.assertEqual(self.output("a").split(), ["33", "77", "/dev/pts/0", *numbers])
        self.assertEqual(self.output("c").split(), numbers)
        await agent.destroy(ContainerId("b"))
        await self.cleaned()

    async def test_daemons_end_with_the_container(self):
        agent, ends = await self.begun()
        token = f"{1_000_000 + os.getpid()}.1"
        command = f"(sh -c 'sleep {token} &' &) ; sleep 0.2; exit 0"
        await agent.launch(self.inside("a", command))
        await ends.wait(1)
        self.assertEqual(sleeping(token), [])
        await agent.launch(self.inside("b", f"(sh -c 'sleep {token} &' &) ; sleep 1000"))
        await until(lambda: sleeping(token))
        await agent.destroy(ContainerId("b"))
        self.assertEqual(sleeping(token), [])
        await self.cleaned()

    async def test_the_machine_is_not_to_be_reached_through_process_1(self):
        output = await self.result("ls /proc/1/root/ 2>&1; ls /proc/1/cwd/; ls /proc/1/fd; exit 0")
        self.assertNotIn("home", output)
        self.assertNotIn("mesoskit", output)

    async def test_process_1_has_no_rights_and_gets_none(self):
        output = await self.result("grep Cap /proc/1/status; grep CapInh /proc/self/status")
        found = output.split()
        self.assertEqual(set(found[1::2]), {"0" * 16})
        self.assertEqual(len(found), 12)

    async def test_it_runs_in_the_cgroups_of_its_launcher(self):
        own = sorted(Path("/proc/self/cgroup").read_text().split())
        output = await self.result("cat /proc/self/cgroup")
        self.assertEqual(sorted(output.split()), own)

    async def test_isolation_holds_it_too(self):
        profiles = os.path.join(self.directory, "profiles")
        os.mkdir(profiles)
        rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}
        profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
        Path(profiles, "p.json").write_text(json.dumps(profile))
        self.isolation = IsolationSettings(
            isolation=("linux/seccomp", "linux/nnp", "network/none", "linux/devices"),
            device_paths=("/dev/again",),
            allowed_devices=("c 1:5 r",),
            seccomp_config_dir=profiles,
            seccomp_profile_name="p.json",
        )
        output = await self.result(
            "mkdir /x 2>/dev/null || echo refused; grep NoNew /proc/self/status; cat /proc/net/dev;"
            " ls -l /dev/again; head -c 1 /dev/again > /dev/null && echo read"
        )
        output, _, node = output.partition("cr--r--r--")
        self.assertEqual((node.split()[3:5], node.split()[-1]), (["1,", "5"], "read"))
        self.assertTrue(output.startswith("refused\nNoNewPrivs:\t1\n"), output)
        interfaces = [line.split(":")[0].strip() for line in output.splitlines()[4:]]
        self.assertEqual(interfaces, ["lo"])

    async def test_network_and_shared_memory_are_those_of_the_container_around(self):
        self.isolation = IsolationSettings(isolation=("network/none",))
        agent, ends = await self.begun()
        look = "for name in net ipc pid; do busybox readlink /proc/self/ns/$name; done"
        await agent.launch(self.inside("a", f"{look}; sleep 1000"))
        await until(lambda: self.output("a").count("\n") == 3, 60.0)
        own = info_of()
        own.linux_info.shm_size = 1
        for name, info in (("b", info_of()), ("c", own)):
            await agent.launch(self.inside(name, look, info=info, parent=ContainerId("a")))
        self.assertEqual([status for _, status in await ends.wait(2)], [0, 0])
        (network, memory, processes), shared, apart = (self.output(name).split() for name in "abc")
        self.assertEqual(shared[:2], [network, memory])
        self.assertNotEqual(shared[2], processes)
        self.assertEqual(apart[0], network)
        self.assertNotEqual(apart[1], memory)
        self.assertNotEqual(network, os.readlink("/proc/self/ns/net"))
        await agent.destroy(ContainerId("a"))
        await self.cleaned()

    async def test_what_is_over_has_the_pid_that_it_had(self):
        agent, ends = await self.begun()
        pid = await agent.launch(self.inside("a", "exit 5"))
        await ends.wait(1)
        await self.cleaned()
        self.assertEqual(await agent.launch(self.inside("a", "exit 6")), pid)

    async def test_a_missing_executable(self):
        spec = self.inside("a", "")
        why = await self.refusal(
            ContainerSpec(
                *(spec.id, ("nothing",), spec.sandbox, spec.environment),
                file="/bin/nothing",
                info=spec.info,
            )
        )
        self.assertIn("/bin/nothing", why)

    async def test_what_cannot_be_had_is_said(self):
        for info, expected in (
            (info_of("none"), "there is no image 'none:latest'"),
            (info_of("Busy/../x"), "a name such as"),
            (info_of("busy", sandbox_path("../x", "x")), "leads out of the sandbox"),
            (info_of("busy", sandbox_path("x", "../x")), "container_path"),
            (info_of("busy", host_path("/not/there", "x")), "does not exist"),
        ):
            why = await self.refusal(self.inside("a", "true", info=info))
            self.assertIn(expected, why)

    async def test_what_is_destroyed_while_its_image_is_brought_is_not_started(self):
        agent, ends = await self.begun()
        launching = agent.launch(self.inside("a", "true"))
        await agent.destroy(ContainerId("a"))
        await self.assertFailure(launching, ContainerError)
        self.assertEqual(ends.told, [])
        await self.cleaned()

    async def test_an_empty_command_needs_an_image_that_has_one(self):
        self.archive("mute", busybox_layer())
        spec = ContainerSpec(
            *(ContainerId("a"), ("",), self.sandbox("a")),
            file="",
            info=info_of("mute").SerializeToString(),
        )
        self.assertIn("CommandInfo.value", await self.refusal(spec))

    async def test_what_is_being_started_when_the_agent_stops_runs_on(self):
        first, _ = await self.begun()
        unheard: Deferred[int] = Deferred()
        asked: list[Any] = []
        launch = first.inner.launch

        def unanswered(spec):
            asked.append(launch(spec))
            return unheard

        self.patch(first.inner, "launch", unanswered)
        launching = first.launch(self.inside("a", "echo begun; sleep 1000"))
        await until(lambda: asked)
        await asked[0]
        stopping = first.stop()
        unheard.errback(ContainerError("the agent is stopping"))
        with self.assertRaises(ContainerError):
            await launching
        await stopping
        second = self.imaged(Ends())
        await second.start()
        found = await second.recover()
        self.assertEqual(list(found.running), ["a"])
        await until(lambda: "begun" in self.output("a"))
        await second.destroy(ContainerId("a"))

    async def test_a_killed_agent_leaves_nothing_that_its_successor_does_not_find(self):
        first, _ = await self.begun()
        pid = await first.launch(self.inside("a", "sleep 1000"))
        await first.stop()
        stray = os.path.join(self.provisioner, "0" * 32)
        os.mkdir(stray)
        ends = Ends()
        second = self.imaged(ends)
        await second.start()
        self.assertEqual(await second.recover(), RecoveredContainers({ContainerId("a"): pid}, {}))
        self.assertFalse(os.path.exists(stray))
        self.assertEqual(await second.store.prune(), ["busy:latest"])
        self.assertEqual(len(os.listdir(second.store.layers)), 1)
        await second.destroy(ContainerId("a"))
        self.assertEqual(ends.told, [("a", SIGKILL)])
        await self.cleaned()

    async def test_a_process_within_a_container(self):
        agent, ends = await self.begun()
        await agent.launch(self.inside("a", "touch /here; touch ready; sleep 1000"))
        await until(lambda: os.path.exists(os.path.join(self.sandbox("a"), "ready")))
        within = ContainerSpec(
            ContainerId("b"),
            ("sh", "-c", "cat /proc/self/cgroup; ls /here && pwd; kill -15 $$"),
            self.sandbox("a"),
            (("PATH", DEFAULT_PATH),),
            file="/bin/sh",
            parent=ContainerId("a"),
        )
        sleeps = replace(within, id=ContainerId("c"), argv=("sh", "-c", "sleep 1000"))
        await agent.launch(sleeps)
        await agent.launch(replace(within, parent=ContainerId("c")))
        self.assertEqual(await ends.wait(1), [("b", SIGTERM)])
        *cgroups, here, place = self.output("a").split()
        self.assertEqual(sorted(cgroups), sorted(Path("/proc/self/cgroup").read_text().split()))
        self.assertEqual((here, place), ("/here", "/mnt/mesos/sandbox"))
        agent.signal(ContainerId("c"), SIGUSR1)
        self.assertEqual((await ends.wait(2))[1], ("c", SIGUSR1))
        await agent.destroy(ContainerId("a"))
        await self.cleaned()


class RuncTests(ImagedTestCase):
    """Some of that with the other runtime."""

    maker = "runc"

    test_the_root_is_the_images = ImageTests.test_the_root_is_the_images
    test_a_terminal = ImageTests.test_a_terminal
    test_signals_and_exact_statuses = ImageTests.test_signals_and_exact_statuses
    test_daemons_end_with_the_container = ImageTests.test_daemons_end_with_the_container
    test_isolation_holds_it_too = ImageTests.test_isolation_holds_it_too
    test_a_missing_executable = ImageTests.test_a_missing_executable
    test_a_process_within_a_container = ImageTests.test_a_process_within_a_container

    async def test_what_was_made_by_one_runtime_is_entered_by_it(self):
        agent, ends = await self.begun()
        await agent.launch(self.inside("a", "touch /here; sleep 1000"))
        await agent.stop()
        self.maker = ImagedTestCase.maker
        agent, ends = await self.begun()
        spec = ContainerSpec(
            *(ContainerId("b"), ("sh", "-c", "until test -e /here; do sleep 0.01; done")),
            *(self.sandbox("b"), (("PATH", DEFAULT_PATH),)),
            file="/bin/sh",
            parent=ContainerId("a"),
        )
        await agent.launch(spec)
        self.assertEqual(await ends.wait(1), [("b", 0)])
        await agent.destroy(ContainerId("a"))
        await self.cleaned()


def sleeping(token: str) -> list[str]:
    """Return the pids of all sleeps of so long."""
    found = []
    for pid in os.listdir("/proc"):
        if pid.isdecimal():
            try:
                line = Path("/proc", pid, "cmdline").read_bytes()
            except OSError:
                continue
            if line == f"sleep\0{token}\0".encode():
                found.append(pid)
    return found
