"""From the command line of C{mesos-execute} to the framework and tasks that it means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mesoskit.cli.request import Request, read
from mesoskit.flags import FlagError
from mesoskit.messages.mesos_pb2 import (
    CapabilityInfo,
    ContainerInfo,
    ExecutorInfo,
    FrameworkInfo,
    RLimitInfo,
)
from mesoskit.model.resources import Resources
from tests.base import SynchronousTestCase


def task(name: str, **more: Any) -> dict[str, Any]:
    """Return a TaskInfo in JSON, without agent_id."""
    return {
        "name": name,
        "task_id": {"value": name},
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.2}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}},
        ],
        "command": {"value": f"echo {name}"},
        **more,
    }


class Case(SynchronousTestCase):
    """Reads command lines."""

    def request(self, *flags: str) -> Request:
        return read(["--master=127.0.0.1:5050", *flags])

    def command(self, *flags: str) -> Request:
        return self.request("--name=t", "--command=echo hi", *flags)

    def assert_refused(self, error: str, *flags: str) -> None:
        with self.assertRaises(FlagError) as caught:
            self.request(*flags)
        self.assertIn(error, str(caught.exception))


class CommandTests(Case):
    """One command."""

    def test_command_is_run_by_a_shell_with_the_defaults(self) -> None:
        request = self.command()
        self.assertEqual(request.master, "127.0.0.1:5050")
        [info] = request.tasks
        self.assertEqual((info.name, info.task_id.value), ("t", "t"))
        self.assertEqual((info.command.shell, info.command.value), (True, "echo hi"))
        self.assertEqual(request.required, Resources.parse("cpus:1;mem:128"))
        self.assertIsNone(request.executor)
        self.assertIsNone(request.kill_after)
        self.assertFalse(info.HasField("container"))

    def test_without_a_shell_the_words_are_the_arguments(self) -> None:
        [info] = self.request("--name=t", "--command=/bin/echo 'a b' c", "--no-shell").tasks
        self.assertFalse(info.command.shell)
        self.assertEqual(info.command.value, "/bin/echo")
        self.assertEqual(list(info.command.arguments), ["/bin/echo", "a b", "c"])

    def test_words_that_do_not_end_are_refused(self) -> None:
        self.assert_refused("No closing quotation", "--name=t", "--command=echo 'a", "--no-shell")
        self.assert_refused("--command is empty", "--name=t", "--command= ", "--no-shell")

    def test_environment(self) -> None:
        [info] = self.command('--env={"A": "1", "B": ""}').tasks
        variables = {each.name: each.value for each in info.command.environment.variables}
        self.assertEqual(variables, {"A": "1", "B": ""})
        self.assert_refused("--env: cannot use", "--name=t", "--command=c", '--env={"A": 1}')
        self.assert_refused("--env: cannot use", "--name=t", "--command=c", "--env=A=1")

    def test_environment_from_a_file(self) -> None:
        path = self.mktemp()
        with open(path, "w") as file:
            file.write('{"A": "1"}')
        [info] = self.command(f"--env=file://{path}").tasks
        self.assertEqual(info.command.environment.variables[0].name, "A")

    def test_resources(self) -> None:
        request = self.command("--resources=cpus:0.5;mem:64;ports:[31000-31001]")
        self.assertEqual(request.required, Resources.parse("cpus:0.5;mem:64;ports:[31000-31001]"))
        self.assert_refused("--resources", "--name=t", "--command=c", "--resources=cpus:x")

    def test_a_terminal_is_asked_for(self) -> None:
        [info] = self.command("--tty").tasks
        self.assertTrue(info.container.HasField("tty_info"))
        [info] = self.command("--no-tty").tasks
        self.assertFalse(info.HasField("container"))

    def test_resource_limits(self) -> None:
        [info] = self.command('--rlimits={"rlimits": [{"type": "RLMT_CORE"}]}').tasks
        self.assertEqual(info.container.type, ContainerInfo.MESOS)
        [limit] = info.container.rlimit_info.rlimits
        self.assertEqual(limit.type, RLimitInfo.RLimit.RLMT_CORE)

    def test_kill_after_is_a_duration(self) -> None:
        self.assertEqual(self.command("--kill_after=2mins").kill_after, 120.0)

    def test_what_must_be_there(self) -> None:
        with self.assertRaises(FlagError) as caught:
            read(["--name=t", "--command=c"])
        self.assertIn("--master is required", str(caught.exception))
        self.assert_refused("--name is required", "--command=c")
        self.assert_refused("--command is required", "--name=t")

    def test_environment_of_the_process_says_only_where_the_master_is(self) -> None:
        """An executor that runs C{mesos-execute} inherits many variables."""
        import os

        there = "zk://10.0.0.1:2181/mesos"
        self.patch(os, "environ", {"MESOS_ROLE": "web", "MESOS_MASTER": there})
        self.assertEqual(self.command().framework.role, "*")
        self.assertEqual(self.command().master, "127.0.0.1:5050")
        self.assertEqual(read(["--name=t", "--command=c"]).master, there)
        Path("zk").write_text(there + "\n")
        os.environ["MESOS_MASTER"] = f"file://{Path('zk').absolute()}"
        self.assertEqual(read(["--name=t", "--command=c"]).master, there)


class FrameworkTests(Case):
    """What the framework says of itself."""

    def capabilities(self, info: FrameworkInfo) -> list[str]:
        return [FrameworkInfo.Capability.Type.Name(each.type) for each in info.capabilities]

    def test_as_mesos_execute_does(self) -> None:
        """Recording 04: a C{SUBSCRIBE} of C{mesos-execute}."""
        info = self.command("--principal=fw", "--secret=fwsecret").framework
        self.assertEqual(info.name, "mesos-execute instance")
        self.assertEqual((info.role, info.principal, info.checkpoint), ("*", "fw", False))
        self.assertEqual(
            self.capabilities(info),
            [
                "RESERVATION_REFINEMENT",
                "TASK_KILLING_STATE",
                "REVOCABLE_RESOURCES",
                "PARTITION_AWARE",
            ],
        )

    def test_its_tasks_end_with_it(self) -> None:
        info = self.command().framework
        self.assertTrue(info.HasField("failover_timeout"))
        self.assertEqual(info.failover_timeout, 0)

    def test_role_checkpoint_and_capabilities(self) -> None:
        info = self.command(
            "--role=web",
            "--checkpoint",
            "--no-partition_aware",
            "--framework_capabilities=GPU_RESOURCES",
        ).framework
        self.assertEqual((info.role, info.checkpoint), ("web", True))
        self.assertNotIn("PARTITION_AWARE", self.capabilities(info))
        self.assertIn("GPU_RESOURCES", self.capabilities(info))

    def test_what_cannot_be_is_refused(self) -> None:
        one = ("--name=t", "--command=c")
        self.assert_refused("--role", *one, "--role=a b")
        self.assert_refused("unknown capability 'X'", *one, "--framework_capabilities=X")
        self.assert_refused(
            "unsupported capability 'MULTI_ROLE'", *one, "--framework_capabilities=MULTI_ROLE"
        )
        self.assert_refused("--secret needs --principal", *one, "--secret=s")

    def test_secret_is_never_shown(self) -> None:
        with self.assertRaises(FlagError) as caught:
            self.command("--secret=fwsecret")
        self.assertNotIn("fwsecret", str(caught.exception))


class GivenTests(Case):
    """Tasks and groups in JSON."""

    def test_task_without_an_agent(self) -> None:
        request = self.request(f"--task={json.dumps(task('one'))}")
        [info] = request.tasks
        self.assertEqual((info.name, info.command.value), ("one", "echo one"))
        self.assertIsNone(request.executor)

    def test_task_from_a_file(self) -> None:
        from pathlib import Path

        path = Path(self.mktemp()).absolute()
        path.write_text(json.dumps(task("one", agent_id={"value": ""})))
        for flag in (f"--task={path}", f"--task=file://{path}"):
            self.assertEqual(self.request(flag).tasks[0].name, "one")
        self.assert_refused("No such file", f"--task={path}.not")

    def test_group_needs_room_for_its_executor_too(self) -> None:
        group = json.dumps({"tasks": [task("one"), task("two")]})
        request = self.request(f"--task_group={group}")
        self.assertEqual([info.name for info in request.tasks], ["one", "two"])
        assert request.executor is not None
        self.assertEqual(request.executor.type, ExecutorInfo.DEFAULT)
        self.assertEqual(request.executor.executor_id.value, "default-executor")
        self.assertEqual(request.required, Resources.parse("cpus:0.5;mem:96;disk:32"))

    def test_what_is_no_task(self) -> None:
        self.assert_refused("--task: cannot use", "--task={")
        self.assert_refused("--task: cannot use", "--task=[]")
        self.assert_refused("name", '--task={"task_id": {"value": "x"}}')
        self.assert_refused("holds no tasks", '--task_group={"tasks": []}')
        self.assert_refused("--task_group: cannot use", '--task_group={"tasks": 1}')
        self.assert_refused("--task_group: cannot use", '--task_group={"tasks": [1]}')

    def test_what_excludes_each_other(self) -> None:
        one = f"--task={json.dumps(task('one'))}"
        group = "--task_group=" + json.dumps({"tasks": [task("one")]})
        self.assert_refused("exclude each other", one, group)
        for flag in ("--name=t", "--command=c", "--env={}", "--docker_image=i", "--volumes=[]"):
            self.assert_refused("cannot stand with --task", one, flag)
            self.assert_refused("cannot stand with --task", group, flag)
        self.assert_refused("cannot stand with --task", one, "--networks=n")
        pod = self.request(group, "--networks=n").executor
        assert pod is not None
        self.assertEqual([one.name for one in pod.container.network_infos], ["n"])


class ContainerTests(Case):
    """The container of a command."""

    def container(self, *flags: str) -> ContainerInfo:
        [info] = self.command(*flags).tasks
        return info.container

    def test_an_image_of_the_agents_own(self) -> None:
        container = self.container("--docker_image=busybox:1.36")
        self.assertEqual(container.type, ContainerInfo.MESOS)
        self.assertEqual(container.mesos.image.docker.name, "busybox:1.36")

    def test_an_image_may_say_what_is_run(self) -> None:
        [info] = self.request("--name=t", "--docker_image=busybox", "--no-shell").tasks
        self.assertFalse(info.command.shell)
        self.assertFalse(info.command.HasField("value"))
        self.assert_refused("--command is required", "--name=t", "--docker_image=busybox")
        self.assert_refused("--command is required", "--name=t", "--no-shell")

    def test_an_engine(self) -> None:
        container = self.container("--containerizer=docker", "--docker_image=i", "--networks=n")
        self.assertEqual(container.type, ContainerInfo.DOCKER)
        self.assertEqual(container.docker.image, "i")
        self.assertEqual(container.docker.network, ContainerInfo.DockerInfo.USER)
        self.assertEqual([one.name for one in container.network_infos], ["n"])

    def test_what_an_engine_does_not_do(self) -> None:
        docker = ("--name=t", "--command=c", "--containerizer=docker")
        self.assert_refused("needs --docker_image", *docker)
        image = "--docker_image=i"
        self.assert_refused("a single network", *docker, image, "--networks=a,b")
        self.assert_refused("is not for", *docker, image, "--effective_capabilities={}")

    def test_volumes(self) -> None:
        one = {"container_path": "data", "mode": "RW", "host_path": "/srv"}
        path = Path(self.mktemp()).absolute()
        path.write_text(json.dumps([one]))
        for value in (json.dumps([one]), str(path)):
            (volume,) = self.container(f"--volumes={value}").volumes
            self.assertEqual((volume.container_path, volume.host_path), ("data", "/srv"))
        for value, why in (
            ("{}", "expected a list"),
            ("[", "not JSON"),
            ('[{"mode": "RW"}]', "container_path"),
            ("/nowhere", "No such file"),
        ):
            self.assert_refused(why, "--name=t", "--command=c", f"--volumes={value}")

    def test_networks_and_rights(self) -> None:
        rights = '{"capabilities": ["NET_RAW", "KILL"]}'
        container = self.container(
            "--networks=a, b",
            f"--effective_capabilities={rights}",
            '--bounding_capabilities={"capabilities": []}',
        )
        self.assertEqual([one.name for one in container.network_infos], ["a", "b"])
        linux = container.linux_info
        wanted = [CapabilityInfo.NET_RAW, CapabilityInfo.KILL]
        self.assertEqual(linux.effective_capabilities.capabilities, wanted)
        self.assertTrue(linux.HasField("bounding_capabilities"))


class AbsentTests(Case):
    """Flags whose features are not there say so, and nothing is run without them."""

    def test_each_says_what_is_missing(self) -> None:
        for flag, feature in (
            ("--appc_image=x", "images of appc are not there yet"),
            ("--package=x.tgz", "not there yet"),
            ("--containerizer=lxc", "only mesos or docker is there"),
            ("--content_type=json", "only protobuf is there"),
        ):
            self.assert_refused(feature, "--name=t", "--command=c", flag)

    def test_their_defaults_are_accepted(self) -> None:
        self.command("--no-tty", "--containerizer=mesos", "--hadoop=hadoop", "--no-overwrite")
