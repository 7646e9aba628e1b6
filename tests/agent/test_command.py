"""Command tasks: what the recordings of Mesos' command executor show (recordings 05 and 06)."""

from dataclasses import replace
from signal import SIGTERM
from typing import Any

from mesoskit.agent.container import ContainerFailed, Destroy, Forget, Launch, Signal
from mesoskit.messages.internal_pb2 import StatusUpdateMessage
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.model.events import Send, Store
from tests.agent.bench import KILLING, MASTER, OPTIONS, OWN_RECORDS, Bench, framework, task
from tests.base import SynchronousTestCase


class LifeTests(SynchronousTestCase):
    """A task that starts, runs and ends."""

    def test_states_of_a_command_that_ends_well(self) -> None:
        bench = Bench().register()
        bench.run(task())
        bench.start()
        bench.exit()
        bench.acknowledge()
        self.assertEqual(
            bench.updates(), [("t", "TASK_STARTING"), ("t", "TASK_RUNNING"), ("t", "TASK_FINISHED")]
        )
        self.assertEqual(bench.last().message, "Command exited with status 0")
        self.assertEqual(bench.state.tasks, {})
        self.assertEqual(bench.state.streams, {})
        self.assertEqual(bench.state.frameworks, {})

    def test_nothing_of_a_complete_task_stays_in_the_store(self) -> None:
        bench = Bench().register()
        bench.run(task())
        bench.start()
        bench.exit()
        self.assertNotEqual(bench.records(), OWN_RECORDS)
        bench.acknowledge()
        self.assertEqual(bench.records(), OWN_RECORDS)

    def test_launch_and_update_stand_behind_the_store(self) -> None:
        bench = Bench().register()
        info = task()
        bench.run(info)
        kinds = [type(effect) for effect in bench.hands]
        self.assertEqual(kinds, [Launch])
        self.assertIn("tasks/m-0000/t/t", bench.store)

    def test_started_is_answered_with_store_and_update(self) -> None:
        bench = Bench().register()
        bench.run(task())
        bench.acknowledge()
        effects = bench.start(pid=45)
        self.assertEqual([type(effect) for effect in effects], [Store, Send])
        message = effects[1].message
        self.assertIsInstance(message, StatusUpdateMessage)
        self.assertEqual(effects[1].peer, MASTER)
        status = message.update.status
        self.assertEqual(status.source, TaskStatus.SOURCE_EXECUTOR)
        self.assertEqual(status.executor_id.value, "t")
        self.assertEqual(status.container_status.executor_pid, 45)
        self.assertEqual(status.container_status.container_id.value, bench.container_of())
        address = status.container_status.network_infos[0].ip_addresses[0].ip_address
        self.assertEqual(address, "127.0.0.1")
        self.assertEqual(message.pid, "slave(1)@127.0.0.1:5051")
        self.assertEqual(status.timestamp, bench.now)
        self.assertFalse(status.HasField("message"))
        self.assertEqual(message.update.uuid, status.uuid)

    def test_one_update_is_in_flight_and_says_the_latest_state(self) -> None:
        bench = Bench().register()
        bench.run(task())
        bench.start()
        bench.exit()
        self.assertEqual(bench.updates(), [("t", "TASK_STARTING")])
        bench.wait(10)
        again = bench.sent[-1].update
        self.assertEqual(TaskStatus(state=again.latest_state).state, 2)
        self.assertEqual(bench.updates(), [("t", "TASK_STARTING")] * 2)

    def test_update_is_repeated_after_10_20_40_seconds(self) -> None:
        bench = Bench().register()
        bench.run(task())
        times = []
        for _ in range(3):
            before = len(bench.updates())
            start = bench.now
            while len(bench.updates()) == before:
                bench.wait(1)
            times.append(round(bench.now - start))
        self.assertEqual(times, [10, 20, 40])

    def test_failing_command(self) -> None:
        for status, text in (
            (3 << 8, "Command exited with status 3"),
            (15, "Command terminated with signal Terminated"),
            (11 | 0x80, "Command terminated with signal Segmentation fault (core dumped)"),
            (None, "Failed to get exit status for Command"),
        ):
            bench = Bench().register()
            bench.run(task())
            bench.start()
            bench.exit(status=status)
            bench.acknowledge()
            self.assertEqual(bench.last().state, 3)
            self.assertEqual(bench.last().message, text)

    def test_container_that_cannot_be_started(self) -> None:
        bench = Bench().register()
        bench.run(task())
        bench.give(ContainerFailed(bench.container_of(), "fetch", "no such file 'x'"))
        bench.acknowledge()
        status = bench.last()
        self.assertEqual(status.state, 3)
        self.assertEqual(status.source, TaskStatus.SOURCE_AGENT)
        self.assertEqual(status.reason, TaskStatus.REASON_CONTAINER_LAUNCH_FAILED)
        self.assertEqual(status.message, "Failed to launch container: no such file 'x'")
        self.assertEqual(bench.state.metrics()["slave/container_launch_errors"], 1)

    def test_task_with_something_to_fetch_stays_staging_until_it_is_fetched(self) -> None:
        bench = Bench().register()
        info = task()
        info.command.uris.add(value="http://127.0.0.1/x", executable=True)
        bench.run(info)
        self.assertEqual(bench.updates(), [])
        bench.start()
        bench.acknowledge()
        self.assertEqual(bench.updates(), [("t", "TASK_STARTING"), ("t", "TASK_RUNNING")])

    def test_exit_is_forgotten_by_the_launcher_behind_the_store(self) -> None:
        bench = Bench().register()
        bench.run(task())
        bench.start()
        container = bench.container_of()
        effects = bench.exit()
        self.assertEqual(effects[-1], Forget(container))
        self.assertIs(type(effects[0]), Store)


class SpecTests(SynchronousTestCase):
    """What a command becomes as a process."""

    def test_environment_is_that_of_the_recording(self) -> None:
        bench = Bench().register()
        info = task("short", "echo hi")
        info.command.environment.variables.add(name="FOO", value="bar")
        bench.run(info)
        (spec,) = bench.launched()
        container = bench.container_of("short")
        directory = f"/w/slaves/m-S0/frameworks/m-0000/executors/short/runs/{container}"
        self.assertEqual(spec.sandbox, directory)
        self.assertEqual(spec.argv, ("sh", "-c", "echo hi"))
        self.assertEqual(spec.file, "/bin/sh")
        self.assertEqual(
            dict(spec.environment),
            {
                "FOO": "bar",
                "LIBPROCESS_PORT": "0",
                "MESOS_AGENT_ENDPOINT": "127.0.0.1:5051",
                "MESOS_ALLOCATION_ROLE": "*",
                "MESOS_CHECKPOINT": "0",
                "MESOS_DIRECTORY": directory,
                "MESOS_EXECUTOR_ID": "short",
                "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs",
                "MESOS_FRAMEWORK_ID": "m-0000",
                "MESOS_HTTP_COMMAND_EXECUTOR": "0",
                "MESOS_SANDBOX": directory,
                "MESOS_SLAVE_ID": "m-S0",
                "MESOS_SLAVE_PID": "slave(1)@127.0.0.1:5051",
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            },
        )

    def test_grace_period_of_the_executor_is_two_seconds_more_than_the_tasks(self) -> None:
        bench = Bench().register()
        info = task()
        info.kill_policy.grace_period.nanoseconds = 4_000_000_000
        bench.run(info)
        environment = dict(bench.launched()[0].environment)
        self.assertEqual(environment["MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD"], "6secs")

    def test_command_without_a_shell(self) -> None:
        bench = Bench().register()
        info = task()
        info.command.shell = False
        info.command.value = "/bin/sleep"
        info.command.arguments.extend(["sleep", "10"])
        bench.run(info)
        (spec,) = bench.launched()
        self.assertEqual((spec.argv, spec.file), (("sleep", "10"), "/bin/sleep"))

    def test_user_of_the_command_goes_before_the_frameworks(self) -> None:
        bench = Bench().register()
        other = task("u")
        other.command.user = "bob"
        bench.run(task("t"), other)
        self.assertEqual([spec.user for spec in bench.launched()], ["alice", "bob"])

    def test_all_run_as_the_agent_where_users_are_not_switched(self) -> None:
        bench = Bench(replace(OPTIONS, switch_user=False)).register()
        other = task("u")
        other.command.user = "bob"
        bench.run(task("t"), other)
        self.assertEqual([spec.user for spec in bench.launched()], [None, None])

    def test_rlimits_and_uris(self) -> None:
        bench = Bench().register()
        info = task()
        info.command.uris.add(value="file:///x.tgz", output_file="y", cache=True)
        info.container.type = 2  # type: ignore[assignment]
        info.container.rlimit_info.rlimits.add(type=10, soft=10, hard=20)
        bench.run(info)
        (spec,) = bench.launched()
        self.assertEqual(spec.rlimits, (("RLMT_NOFILE", 10, 20),))
        (uri,) = spec.uris
        self.assertEqual(
            (uri.value, uri.extract, uri.cache, uri.executable, uri.output_file),
            ("file:///x.tgz", True, True, False, "y"),
        )


class KillTests(SynchronousTestCase):
    """A task that is killed."""

    def running(self, *capabilities: int, **fields: Any) -> Bench:
        bench = Bench().register()
        bench.run(task(**fields), info=framework(*capabilities))
        bench.start()
        bench.acknowledge()
        bench.clear()
        return bench

    def test_sigterm_and_after_three_seconds_destruction(self) -> None:
        bench = self.running()
        container = bench.container_of()
        bench.kill()
        self.assertEqual(bench.hands, [Signal(container, SIGTERM)])
        bench.wait(2.9)
        self.assertEqual(len(bench.hands), 1)
        bench.wait(0.2)
        self.assertEqual(bench.hands[1:], [Destroy(container)])
        bench.exit(status=9)
        bench.acknowledge()
        self.assertEqual(bench.updates(), [("t", "TASK_KILLED")])
        self.assertEqual(bench.last().message, "Command terminated with signal Killed")

    def test_killing_is_told_to_frameworks_that_understand_it(self) -> None:
        bench = self.running(KILLING)
        bench.kill()
        bench.exit(status=15)
        bench.acknowledge()
        self.assertEqual(bench.updates(), [("t", "TASK_KILLING"), ("t", "TASK_KILLED")])
        self.assertEqual(bench.last().message, "Command terminated with signal Terminated")

    def test_kill_policy_of_the_task_and_of_the_kill(self) -> None:
        bench = self.running(kill_policy={"grace_period": {"nanoseconds": 4_000_000_000}})
        bench.kill()
        bench.wait(3.5)
        self.assertEqual(len(bench.hands), 1)
        bench.kill(grace=20)  # Longer: nothing changes.
        bench.wait(0.6)
        self.assertEqual(len(bench.hands), 2)

    def test_second_kill_can_shorten_the_grace_period(self) -> None:
        bench = self.running()
        bench.kill(grace=30)
        bench.wait(5)
        bench.kill(grace=6)
        bench.wait(0.9)
        self.assertEqual(len(bench.hands), 1)
        bench.wait(0.2)
        self.assertEqual(len(bench.hands), 2)

    def test_task_that_ends_well_when_killed_is_killed(self) -> None:
        bench = self.running()
        bench.kill()
        bench.exit(status=0)
        bench.acknowledge()
        self.assertEqual(bench.updates(), [("t", "TASK_KILLED")])
        self.assertEqual(bench.last().message, "Command exited with status 0")

    def test_task_killed_before_it_runs_is_destroyed_first_and_then_reported(self) -> None:
        bench = Bench().register()
        bench.run(task())
        bench.acknowledge()
        bench.clear()
        bench.kill()
        self.assertEqual(bench.hands, [Destroy(bench.container_of())])
        self.assertEqual(bench.updates(), [])
        bench.give(ContainerFailed(bench.container_of(), "launch", "destroyed"))
        status = bench.last()
        self.assertEqual(status.state, 4)
        self.assertEqual(status.reason, TaskStatus.REASON_TASK_KILLED_DURING_LAUNCH)
        self.assertEqual(status.message, "Killed before delivery to the executor")

    def test_kill_of_an_unknown_task_of_a_known_framework(self) -> None:
        bench = self.running()
        bench.kill("other")
        self.assertEqual(bench.updates(), [("other", "TASK_LOST")])
        self.assertEqual(bench.last().message, "Cannot find executor")
        self.assertEqual(bench.last().reason, TaskStatus.REASON_EXECUTOR_TERMINATED)

    def test_max_completion_time(self) -> None:
        bench = self.running(max_completion_time={"nanoseconds": 2_000_000_000})
        bench.wait(1.9)
        self.assertEqual(bench.hands, [])
        bench.wait(0.2)
        container = bench.container_of()
        self.assertEqual(bench.hands, [Signal(container, SIGTERM), Destroy(container)])
        bench.exit(status=9)
        self.assertEqual(bench.last().state, 3)
        self.assertEqual(bench.last().reason, TaskStatus.REASON_MAX_COMPLETION_TIME_REACHED)
        self.assertEqual(bench.last().message, "Command terminated with signal Killed")
