"""Tasks and executors in containers of the Docker engine, as the agent's state sees them."""

from __future__ import annotations

from dataclasses import replace
from signal import SIGTERM
from typing import Any

from mesoskit.agent.container import (
    ContainerExited,
    ContainerFacts,
    ContainerFailed,
    ContainerProgress,
    ContainerStarted,
    Destroy,
    Launch,
    Limitation,
    Signal,
)
from mesoskit.agent.containers.docker_create import creation
from mesoskit.agent.docker import DockerSettings
from mesoskit.agent.probe import HttpGet, Probe, RunCommand
from mesoskit.messages.mesos_pb2 import ContainerInfo, HealthCheck, TaskInfo, TaskState, Volume
from mesoskit.model.tasks import Reason
from tests.agent.bench import OPTIONS, Bench, custom_executor, task
from tests.base import SynchronousTestCase


def docker_task(**fields: Any) -> TaskInfo:
    info = task(**fields)
    info.container.CopyFrom(
        ContainerInfo(type=ContainerInfo.DOCKER, docker={"image": "busybox", "network": "BRIDGE"})
    )
    return info


class DockerTaskTests(SynchronousTestCase):
    """A command task."""

    def setUp(self) -> None:
        self.bench = Bench().register()

    def launched(self, info: TaskInfo) -> Any:
        self.bench.run(info)
        return next(effect.spec for effect in self.bench.hands if isinstance(effect, Launch))

    def test_its_command_is_for_the_image_and_its_environment_small(self) -> None:
        info = docker_task(command="echo $HOME")
        info.command.environment.variables.add(name="MINE", value="1")
        spec = self.launched(info)
        self.assertTrue(spec.docker)
        self.assertEqual((spec.file, spec.argv), ("/bin/sh", ("/bin/sh", "-c", "echo $HOME")))
        self.assertEqual(ContainerInfo.FromString(spec.info), info.container)
        self.assertEqual(
            dict(spec.environment),
            {
                "MESOS_SANDBOX": "/mnt/mesos/sandbox",
                "MESOS_CONTAINER_NAME": f"mesos-{spec.id}",
                "MESOS_ALLOCATION_ROLE": "*",
                "MINE": "1",
            },
        )

    def test_without_a_shell_all_goes_to_the_images_entrypoint(self) -> None:
        info = docker_task()
        info.command.shell = False
        info.command.value = "run"
        info.command.arguments.extend(["a", "b"])
        spec = self.launched(info)
        self.assertEqual((spec.file, spec.argv), (None, ("run", "a", "b")))

    def test_it_stays_staging_until_its_image_is_there(self) -> None:
        self.launched(docker_task())
        self.assertEqual(self.bench.updates(), [])
        facts = ContainerFacts(b'[{"Id": "x"}]', ("172.17.0.2",))
        self.bench.give(ContainerStarted(self.bench.container_of(), 7, facts))
        self.bench.acknowledge()
        self.assertEqual(self.bench.updates(), [("t", "TASK_STARTING"), ("t", "TASK_RUNNING")])
        status = self.bench.last()
        self.assertEqual(status.data, b'[{"Id": "x"}]')
        (network,) = status.container_status.network_infos
        self.assertEqual([one.ip_address for one in network.ip_addresses], ["172.17.0.2"])

    def test_on_the_hosts_network_its_address_is_the_agents(self) -> None:
        self.launched(docker_task())
        self.bench.give(ContainerStarted(self.bench.container_of(), 7, ContainerFacts(b"[]", ())))
        self.bench.acknowledge()
        (network,) = self.bench.last().container_status.network_infos
        self.assertEqual([one.ip_address for one in network.ip_addresses], ["127.0.0.1"])

    def test_its_end_is_a_containers(self) -> None:
        self.launched(docker_task())
        self.bench.start()
        self.bench.exit(status=3 << 8)
        self.bench.acknowledge()
        self.assertEqual(self.bench.last().message, "Container exited with status 3")

    def test_too_much_memory(self) -> None:
        self.launched(docker_task())
        self.bench.start()
        reason = Reason.REASON_CONTAINER_LIMITATION_MEMORY
        limitation = Limitation(reason, "Memory limit exceeded: 32MB", (("mem", 32.0),))
        self.bench.give(ContainerExited(self.bench.container_of(), 137 << 8, limitation))
        self.bench.acknowledge()
        status = self.bench.last()
        self.assertEqual((TaskState.Name(status.state), status.reason), ("TASK_FAILED", reason))
        self.assertEqual(status.limitation.resources[0].scalar.value, 32.0)

    def test_what_cannot_be_started_says_why(self) -> None:
        self.launched(docker_task())
        why = "Failed to pull image 'busybox': denied"
        self.bench.give(ContainerFailed(self.bench.container_of(), "launch", why))
        self.bench.acknowledge()
        self.assertEqual(self.bench.last().message, f"Failed to launch container: {why}")

    def test_its_persistent_volumes_are_host_paths(self) -> None:
        info = docker_task()
        disk = info.resources.add(name="disk", type="SCALAR", scalar={"value": 5})
        disk.reservations.add(type="DYNAMIC", role="web", principal="p")
        disk.disk.persistence.id = "data"
        disk.disk.volume.container_path = "data"
        disk.disk.volume.mode = Volume.RW
        spec = self.launched(info)
        wanted = creation(spec, DockerSettings(), "/work", (0, 0))
        path = f"{OPTIONS.work_dir}/volumes/roles/web/data"
        self.assertEqual(wanted.body["HostConfig"]["Binds"], [f"{path}:/mnt/mesos/sandbox/data:rw"])

    def test_ports_that_it_was_not_given_are_not_mapped(self) -> None:
        info = docker_task()
        info.container.docker.port_mappings.add(host_port=80, container_port=80)
        self.assertEqual(self.launched(info).wrong, "Port mappings require port resources")

    def test_a_kill_has_the_grace_of_executors(self) -> None:
        self.launched(docker_task())
        self.bench.start()
        self.bench.clear()
        self.bench.kill()
        self.assertEqual([effect.signum for effect in self.signals()], [SIGTERM])
        self.bench.wait(4.9)
        self.assertEqual(self.destroyed(), [])
        self.bench.wait(0.2)
        self.assertEqual(len(self.destroyed()), 1)

    def test_or_that_of_the_engine_where_it_is_longer(self) -> None:
        options = replace(OPTIONS, docker=DockerSettings(stop_timeout=9.0))
        self.bench = Bench(options).register()
        self.launched(docker_task())
        self.bench.start()
        self.bench.kill()
        self.bench.wait(8.9)
        self.assertEqual(self.destroyed(), [])
        self.bench.wait(0.2)
        self.assertEqual(len(self.destroyed()), 1)

    def signals(self) -> list[Signal]:
        return [effect for effect in self.bench.hands if isinstance(effect, Signal)]

    def destroyed(self) -> list[Destroy]:
        return [effect for effect in self.bench.hands if isinstance(effect, Destroy)]

    def test_its_checks_run_beside_it(self) -> None:
        info = docker_task()
        info.health_check.CopyFrom(
            HealthCheck(type="COMMAND", command={"value": "true"}, delay_seconds=0)
        )
        self.launched(info)
        self.bench.give(ContainerStarted(self.bench.container_of(), 7, ContainerFacts(b"long", ())))
        self.bench.wait(0.1)
        probe = next(effect for effect in self.bench.others if isinstance(effect, Probe))
        assert isinstance(probe.what, RunCommand)
        self.assertEqual(probe.what.spec.parent, self.bench.container_of())
        self.assertFalse(probe.what.spec.docker)

    def test_checks_over_the_network_go_to_its_own_address(self) -> None:
        for addresses, host in ((("fe80::2", "172.17.0.2"), "172.17.0.2"), ((), "")):
            self.bench = Bench().register()
            info = docker_task()
            info.health_check.CopyFrom(
                HealthCheck(type="HTTP", http={"port": 80, "path": "/well"}, delay_seconds=0)
            )
            self.launched(info)
            facts = ContainerFacts(b"[]", addresses)
            self.bench.give(ContainerStarted(self.bench.container_of(), 7, facts))
            self.bench.wait(0.1)
            probe = next(one for one in self.bench.others if isinstance(one, Probe))
            self.assertEqual(probe.what, HttpGet(80, "/well", "http", host=host, pid=7))


class DockerExecutorTests(SynchronousTestCase):
    """An executor that a framework brings."""

    def test_it_is_not_expected_while_its_image_is_on_its_way(self) -> None:
        bench = Bench().register()
        executor = custom_executor()
        executor.container.CopyFrom(
            ContainerInfo(type=ContainerInfo.DOCKER, docker={"image": "busybox"})
        )
        info = task()
        info.ClearField("command")
        info.executor.CopyFrom(executor)
        bench.run(info)
        container = bench.launched()[0].id
        for _ in range(5):
            bench.wait(50.0)
            bench.give(ContainerProgress(container, "Pulling image busybox: a little more"))
        bench.wait(59.0)
        self.assertEqual([one for one in bench.hands if isinstance(one, Destroy)], [])
        bench.wait(2.0)
        self.assertEqual(len([one for one in bench.hands if isinstance(one, Destroy)]), 1)

    def test_it_finds_what_executors_find_and_its_sandbox_where_that_is(self) -> None:
        bench = Bench().register()
        executor = custom_executor()
        executor.container.CopyFrom(
            ContainerInfo(type=ContainerInfo.DOCKER, docker={"image": "busybox"})
        )
        info = task()
        info.ClearField("command")
        info.executor.CopyFrom(executor)
        bench.run(info)
        spec = bench.launched()[0]
        variables = dict(spec.environment)
        self.assertTrue(spec.docker)
        self.assertEqual(variables["MESOS_SANDBOX"], "/mnt/mesos/sandbox")
        self.assertEqual(variables["MESOS_DIRECTORY"], spec.sandbox)
        self.assertIn("MESOSKIT_EXECUTOR_TOKEN", variables)
        self.assertNotIn("PATH", variables)
