"""What pages and the operator API show of what containers use."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

from mesoskit.agent import answers, statistics, views
from mesoskit.agent.container import Usage, UsageRead
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.messages.agent_pb2 import Call
from mesoskit.messages.mesos_pb2 import CgroupInfo, ExecutorInfo, ResourceStatistics, TaskInfo
from tests.agent.bench import OPTIONS, Bench, custom_executor, task
from tests.base import SynchronousTestCase

MB = 1 << 20


def limited(task_id: str = "t", **limits: float) -> TaskInfo:
    info = task(task_id)
    for name, amount in limits.items():
        info.limits[name].value = amount
    return info


class StatisticsTests(SynchronousTestCase):
    """From figures to fields."""

    def read(self, bench: Bench, **usage: Usage) -> None:
        """Let the state hear what the containers of tasks use."""
        found = {bench.container_of(name): one for name, one in usage.items()}
        bench.give(UsageRead(found))

    def shown(self, bench: Bench) -> Any:
        (view,) = views.statistics_view(bench.state)
        return view["statistics"]

    def test_fields_of_a_command_without_isolators(self) -> None:
        bench = Bench().register()
        bench.run(task())
        bench.start()
        self.read(bench, t=Usage(0.09, 0.05, 1000, 2, 7.5, 3))
        self.assertEqual(
            list(self.shown(bench).items()),
            [
                ("cpus_soft_limit", 1.0),
                ("cpus_system_time_secs", 0.05),
                ("cpus_user_time_secs", 0.09),
                ("mem_limit_bytes", 128 * MB),
                ("mem_rss_bytes", 1000),
                ("mem_soft_limit_bytes", 128 * MB),
                ("processes", 2),
                ("threads", 3),
                ("timestamp", 7.5),
            ],
        )

    def test_limits_of_the_task_and_of_the_machine(self) -> None:
        for limits, cpus, memory in (
            ({"cpus": 2, "mem": 512}, 2.0, 512 * MB),
            ({"cpus": inf, "mem": inf}, 4.0, 2048 * MB),
            ({"cpus": 1.5}, 1.5, 128 * MB),
        ):
            bench = Bench().register()
            bench.run(limited(**limits))
            bench.start()
            self.read(bench, t=Usage(0, 0, 0, 1))
            found = self.shown(bench)
            self.assertEqual((found["cpus_limit"], found["mem_limit_bytes"]), (cpus, memory))
            self.assertEqual(
                (found["cpus_soft_limit"], found["mem_soft_limit_bytes"]), (1, 1 << 27)
            )

    def test_cpus_are_a_limit_where_quotas_are_on(self) -> None:
        settings = IsolationSettings(cgroups_enable_cfs=True)
        for given, limit in ((task(), 1.0), (limited(cpus=2), 2.0)):
            bench = Bench(replace(OPTIONS, isolation=settings)).register()
            bench.run(given)
            bench.start()
            self.read(bench, t=Usage(0, 0, 0, 1))
            found = self.shown(bench)
            self.assertEqual((found["cpus_soft_limit"], found["cpus_limit"]), (1.0, limit))

    def test_figures_of_isolators_are_shown_under_their_names(self) -> None:
        bench = Bench().register()
        bench.run(task())
        bench.start()
        blkio = CgroupInfo.Blkio.Statistics()
        blkio.throttling.add().io_serviced.add(value=7)
        parts = ResourceStatistics(blkio_statistics=blkio)
        figures = {"cpus_limit": 1.0, "cpus_nr_throttled": 5, "disk_used_bytes": 1 << 40}
        usage = Usage(0, 0, 0, 1, 2.0, 0, figures, parts.SerializePartialToString())
        self.read(bench, t=usage)
        found = self.shown(bench)
        self.assertEqual({name: found[name] for name in figures}, figures)
        self.assertNotIn("threads", found)
        (service,) = found["blkio_statistics"]["throttling"]
        self.assertEqual(service["io_serviced"][0]["value"], 7)
        (container,) = self.containers(bench)
        message = container.resource_statistics
        self.assertEqual((message.disk_used_bytes, message.timestamp), (1 << 40, 2.0))
        self.assertEqual(message.blkio_statistics, blkio)

    def containers(self, bench: Bench, **asked: bool) -> list[Any]:
        call = Call(type=Call.GET_CONTAINERS)
        for name, value in asked.items():
            setattr(call.get_containers, name, value)
        return list(answers.containers(bench.state, call).get_containers.containers)

    def test_a_group_is_shown_as_the_sum_and_each_task_by_itself(self) -> None:
        bench = Bench().register()
        bench.run_group(task("one"), limited("two", cpus=3))
        bench.start("one")
        bench.start("two")
        self.read(
            bench,
            one=Usage(1, 2, 10, 1, 5.0, 1, {"mem_file_bytes": 3}),
            two=Usage(4, 8, 20, 2, 6.0, 2, {"mem_file_bytes": 4, "cpus_nr_periods": 1}),
        )
        found = self.shown(bench)
        self.assertEqual(
            {name: found[name] for name in ("cpus_user_time_secs", "mem_rss_bytes", "processes")},
            {"cpus_user_time_secs": 5, "mem_rss_bytes": 30, "processes": 3},
        )
        self.assertEqual((found["mem_file_bytes"], found["cpus_nr_periods"]), (7, 1))
        self.assertEqual((found["cpus_soft_limit"], found["cpus_limit"]), (2.0, 4.0))
        self.assertEqual((found["timestamp"], found["threads"]), (6.0, 3))
        _, one, two = self.containers(bench, show_nested=True)
        self.assertEqual(one.resource_statistics.mem_file_bytes, 3)
        self.assertEqual(two.resource_statistics.cpus_limit, 3.0)
        self.assertEqual(two.resource_statistics.mem_soft_limit_bytes, 128 * MB)

    def test_what_an_executor_has_itself_counts(self) -> None:
        executor = custom_executor()
        resource = executor.resources.add(name="cpus")
        resource.type = 0  # type: ignore[assignment]
        resource.scalar.value = 0.5
        bench = Bench().register()
        bench.run(task(executor=executor))
        self.read(bench, t=Usage(0, 0, 0, 1))
        self.assertEqual(self.shown(bench)["cpus_soft_limit"], 1.5)

    def test_every_name_there_is_can_be_shown(self) -> None:
        numbers = {
            field.name: 1
            for field in ResourceStatistics.DESCRIPTOR.fields
            if field.message_type is None
        }
        usage = Usage(1, 1, 1, 1, 1.0, 1, numbers)
        message = statistics.message_of(statistics.used([usage]))
        self.assertEqual({field.name for field, _ in message.ListFields()}, set(numbers))


class CompletionTimeTests(SynchronousTestCase):
    """C{max_completion_time} where there is more than one command."""

    def test_a_task_of_a_group_fails_by_it_and_takes_the_others_along(self) -> None:
        bench = Bench().register()
        bench.run_group(task("slow", max_completion_time={"nanoseconds": 2 * 10**9}), task("two"))
        bench.start("slow")
        bench.wait(1.0)
        bench.start("two")
        bench.acknowledge()
        bench.wait(0.9)
        self.assertEqual({state for _, state in bench.updates()[-2:]}, {"TASK_RUNNING"})
        bench.wait(0.2)
        bench.exit("slow", 9)
        bench.acknowledge()
        reason = bench.last().reason
        self.assertEqual(bench.updates()[-1], ("slow", "TASK_FAILED"))
        self.assertEqual(bench.last().Reason.Name(reason), "REASON_MAX_COMPLETION_TIME_REACHED")
        bench.exit("two", 15)
        bench.acknowledge()
        self.assertEqual(bench.updates()[-1], ("two", "TASK_KILLED"))

    def test_a_group_that_is_killed_before_is_killed(self) -> None:
        bench = Bench().register()
        bench.run_group(task("one", max_completion_time={"nanoseconds": 5 * 10**9}))
        bench.start("one")
        bench.wait(4.0)
        bench.kill("one", grace=3.0)
        bench.wait(2.0)
        bench.exit("one", 15)
        bench.acknowledge()
        self.assertEqual(bench.updates()[-1], ("one", "TASK_KILLED"))

    def test_a_custom_executor_sees_to_it_itself(self) -> None:
        executor = ExecutorInfo()
        executor.CopyFrom(custom_executor())
        bench = Bench().register()
        bench.run(task(executor=executor, max_completion_time={"nanoseconds": 10**9}))
        peer = bench.subscribe()
        bench.update(peer, 1)
        bench.clear()
        bench.wait(30.0)
        self.assertEqual(bench.hands, [])
