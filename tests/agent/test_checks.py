"""Checks and health checks: when a task is asked, and what is made of its answers."""

from __future__ import annotations

from dataclasses import replace
from signal import SIGTERM
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.agent.container import Destroy, Remove, Signal
from mesoskit.agent.probe import Abandon, HttpGet, Probe, Probed, RunCommand, TcpConnect
from mesoskit.messages.mesos_pb2 import CheckInfo, CheckStatusInfo, HealthCheck, TaskStatus
from mesoskit.model.events import Connected, PeerKind, Store, Woke
from tests.agent.bench import (
    AWARE,
    KILLING,
    MASTER,
    OPTIONS,
    SEED,
    Bench,
    custom_executor,
    framework,
    task,
)
from tests.base import SynchronousTestCase

HEALTH = TaskStatus.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED
CHECK = TaskStatus.REASON_TASK_CHECK_STATUS_UPDATED

PID = 77
"""Of every task that the bench starts."""


def health(**fields: Any) -> HealthCheck:
    """Return a health check over HTTP with times that are easy to count."""
    given: dict[str, Any] = {
        "type": "HTTP",
        "http": {"port": 8080, "path": "/well"},
        "delay_seconds": 5,
        "interval_seconds": 10,
        "timeout_seconds": 2,
        "grace_period_seconds": 0,
    }
    return HealthCheck(**{**given, **fields})


class _Case(SynchronousTestCase):
    """A task that is asked."""

    def running(self, *capabilities: int, **fields: Any) -> Bench:
        """Return an agent on which a task has come to run."""
        bench = Bench().register()
        bench.run(task(**fields), info=framework(*(capabilities or (AWARE,)), checkpoint=True))
        bench.start()
        bench.acknowledge()
        bench.clear()
        return bench

    def asked(self, bench: Bench, seconds: float = 10.0) -> Probe:
        """Go on until the task is asked; return what."""
        before = len(self.probes(bench))
        bench.wait(seconds)
        probes = self.probes(bench)[before:]
        self.assertEqual(1, len(probes), f"asked {len(probes)} times within {seconds} s")
        return probes[0]

    def probes(self, bench: Bench) -> list[Probe]:
        return [one for one in bench.others if isinstance(one, Probe)]

    def abandoned(self, bench: Bench) -> list[int]:
        return [one.number for one in bench.others if isinstance(one, Abandon)]

    def answer(self, bench: Bench, found: int | None, why: str = "") -> list[TaskStatus]:
        """Let the newest question be answered; return what the framework is told."""
        bench.clear()
        bench.give(Probed(self.probes(bench)[-1].number, found, why))
        bench.acknowledge()
        return [one.update.status for one in bench.sent if hasattr(one, "update")]


class HealthTests(_Case):
    """What a health check does to its task."""

    def test_first_question_comes_after_the_delay_and_the_next_after_the_interval(self) -> None:
        bench = self.running(health_check=health())
        bench.wait(4.9)
        self.assertEqual([], self.probes(bench))
        probe = self.asked(bench, 0.2)
        self.assertEqual(HttpGet(8080, "/well", pid=PID), probe.what)
        self.assertEqual(2.0, probe.timeout)
        bench.wait(100)
        self.assertEqual(1, len(self.probes(bench)), "one question at a time")
        self.answer(bench, 200)
        bench.wait(9.9)
        self.assertEqual(1, len(self.probes(bench)))
        self.asked(bench, 0.2)

    def test_what_is_asked(self) -> None:
        for fields, expected in (
            (
                {"http": {"port": 1, "scheme": "https", "protocol": "IPv6"}},
                HttpGet(1, "", "https", True, pid=PID),
            ),
            ({"type": "TCP", "tcp": {"port": 2}}, TcpConnect(2, pid=PID)),
            ({"type": "TCP", "tcp": {"port": 2, "protocol": "IPv6"}}, TcpConnect(2, True, pid=PID)),
        ):
            bench = self.running(health_check=health(**fields))
            self.assertEqual(expected, self.asked(bench).what)

    def test_what_stands_for_a_container_of_an_image_is_said(self) -> None:
        image = {"type": "DOCKER", "docker": {"name": "web"}}
        container = {"type": "MESOS", "mesos": {"image": image}}
        bench = self.running(health_check=health(), container=container)
        self.assertEqual(HttpGet(8080, "/well", pid=PID, staged=True), self.asked(bench).what)

    def test_command_is_run_beside_the_task_as_what_the_task_is(self) -> None:
        variables = [{"name": "A", "value": "check"}]
        command = {"value": "test -e alive", "environment": {"variables": variables}}
        info = task(health_check=health(type="COMMAND", command=command, timeout_seconds=0))
        own = [{"name": "A", "value": "task"}, {"name": "B", "value": "task"}]
        for variable in own:
            info.command.environment.variables.add(**variable)
        info.command.user = "somebody"
        bench = Bench().register()
        bench.run(info, info=framework(AWARE))
        (launched,) = bench.launched()
        bench.start()
        probe = self.asked(bench)
        self.assertIsNone(probe.timeout)
        assert isinstance(probe.what, RunCommand)
        spec = probe.what.spec
        self.assertEqual(("sh", "-c", "test -e alive"), spec.argv)
        self.assertEqual(
            (launched.id, launched.sandbox, launched.user, 0.0),
            (spec.parent, spec.sandbox, spec.user, spec.patience),
        )
        self.assertNotEqual(launched.id, spec.id)
        expected = dict(launched.environment)
        self.assertEqual("task", expected["A"])
        expected["A"] = "check"
        self.assertEqual(expected, dict(spec.environment))

    def test_health_is_told_when_it_is_known_and_when_it_changes(self) -> None:
        bench = self.running(health_check=health())
        expected = [(200, [True]), (399, []), (None, [False]), (404, [False]), (302, [True])]
        for found, told in (*expected, (200, [])):
            self.asked(bench)
            statuses = self.answer(bench, found, "connection refused")
            self.assertEqual(told, [status.healthy for status in statuses], found)
            for status in statuses:
                self.assertEqual(TaskStatus.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED, status.reason)
                self.assertEqual("TASK_RUNNING", bench.updates()[-1][1])
                self.assertEqual(TaskStatus.SOURCE_EXECUTOR, status.source)
                self.assertEqual(16, len(status.uuid))
                self.assertTrue(status.container_status.container_id.value)

    def test_what_counts_as_well(self) -> None:
        command = {"type": "COMMAND", "command": {"value": "true"}}
        tcp = {"type": "TCP", "tcp": {"port": 1}}
        for fields, found, well in (
            (command, 0, True),
            (command, 1, False),
            (command, None, False),
            (tcp, 1, True),
            (tcp, 0, False),
            ({}, 200, True),
            ({}, 399, True),
            ({}, 199, False),
            ({}, 400, False),
        ):
            bench = self.running(health_check=health(**fields))
            self.asked(bench)
            (status,) = self.answer(bench, found)
            self.assertEqual(well, status.healthy, (fields, found))

    def test_task_that_fails_too_often_in_a_row_is_killed(self) -> None:
        bench = self.running(AWARE, KILLING, health_check=health(consecutive_failures=2))
        for found in (500, 200, 500):
            self.asked(bench)
            self.answer(bench, found)
            self.assertEqual([], bench.hands)
        self.asked(bench)
        statuses = self.answer(bench, 500)
        self.assertEqual([TaskStatus.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED], [statuses[0].reason])
        self.assertEqual([SIGTERM], [one.signum for one in bench.hands if isinstance(one, Signal)])
        self.assertEqual(("t", "TASK_KILLING"), bench.updates()[-1])
        self.assertFalse(bench.last().HasField("healthy"))
        bench.wait(15)
        self.assertEqual(4, len(self.probes(bench)), "it is asked no more")
        self.assertTrue(any(isinstance(one, Destroy) for one in bench.hands))
        bench.exit(status=SIGTERM)
        bench.acknowledge()
        self.assertEqual(("t", "TASK_KILLED"), bench.updates()[-1])
        self.assertEqual((True, False), (bench.last().HasField("healthy"), bench.last().healthy))

    def test_failures_in_the_grace_period_do_not_count_before_the_first_success(self) -> None:
        check = health(grace_period_seconds=30, consecutive_failures=1, delay_seconds=0)
        bench = self.running(health_check=check)
        for _ in range(3):
            self.asked(bench)
            self.assertEqual([], self.answer(bench, 500))
        self.asked(bench)
        self.assertEqual([False], [one.healthy for one in self.answer(bench, 500)][:1])
        bench = self.running(health_check=check)
        self.asked(bench)
        self.answer(bench, 200)
        self.asked(bench)
        self.assertEqual([False], [one.healthy for one in self.answer(bench, 500)][:1])

    def test_what_has_no_result_is_no_failure_and_is_asked_again(self) -> None:
        check = health(consecutive_failures=1)
        bench = self.running(health_check=check)
        for _ in range(3):
            number = self.asked(bench).number
            bench.clear()
            bench.give(Probed(number, None, "its launcher was killed", lost=True))
            self.assertEqual([], bench.sent)
        self.asked(bench)
        self.assertEqual([True], [one.healthy for one in self.answer(bench, 200)])

    def test_no_question_is_left_when_a_task_is_over(self) -> None:
        for end in ("exit", "kill", "timeout"):
            fields = {"max_completion_time": {"nanoseconds": 8 * 10**9}} if end == "timeout" else {}
            bench = self.running(health_check=health(), **fields)
            number = self.asked(bench, 6).number
            if end == "exit":
                bench.exit()
            elif end == "kill":
                bench.kill()
            else:
                bench.wait(3)
            self.assertEqual([number], self.abandoned(bench), end)
            self.assertEqual({}, bench.state.probes)
            bench.give(Probed(number, 200))
            bench.wait(60)
            self.assertEqual(1, len(self.probes(bench)))

    def test_a_task_that_is_destroyed_before_it_runs_is_never_asked(self) -> None:
        bench = Bench().register()
        bench.run(task(health_check=health(delay_seconds=0)), info=framework(AWARE))
        bench.kill()
        bench.wait(60)
        self.assertEqual([], self.probes(bench))

    def test_executors_look_after_their_own(self) -> None:
        bench = Bench().register()
        info = task(executor=custom_executor(), health_check=health())
        info.ClearField("command")
        bench.run(info, launch=True)
        bench.subscribe()
        bench.wait(60)
        self.assertEqual([], self.probes(bench))

    def test_tasks_of_a_group_are_asked_and_one_that_is_sick_takes_the_others_along(self) -> None:
        bench = Bench().register()
        sick = task("one", health_check=health(consecutive_failures=1))
        bench.run_group(sick, task("two"), info=framework(AWARE))
        bench.start("one", 56)
        bench.wait(60)
        self.assertEqual([], self.probes(bench), "not all of it runs")
        bench.start("two", 57)
        bench.acknowledge()
        self.asked(bench)
        self.answer(bench, 500)
        bench.exit("one", SIGTERM)
        bench.exit("two", SIGTERM)
        bench.acknowledge()
        ends = {
            one.update.status.task_id.value: one.update.status
            for one in bench.sent
            if hasattr(one, "update")
        }
        self.assertFalse(ends["one"].healthy)
        self.assertTrue(ends["one"].HasField("healthy"))
        self.assertFalse(ends["two"].HasField("healthy"))

    def restarted(self, bench: Bench) -> Bench:
        """Start the agent again over what it stored; the task has run on."""
        after = Bench(replace(OPTIONS), bench.store, SEED[:-1] + b"x")
        after.now = bench.now + 1
        after.recover({bench.container_of(): 77})
        after.give(Connected(MASTER, PeerKind.MASTER, "127.0.0.1:5050"))
        after.accept()
        return after

    def test_after_a_restart_it_is_asked_again_and_has_no_second_grace_period(self) -> None:
        check = health(grace_period_seconds=1000, consecutive_failures=1)
        bench = self.running(health_check=check)
        self.asked(bench)
        self.answer(bench, 200)
        after = self.restarted(bench)
        self.asked(after)
        self.assertEqual([False], [one.healthy for one in self.answer(after, 500)][:1])


class CheckTests(_Case):
    """What a plain check tells."""

    def status(self, **fields: Any) -> CheckStatusInfo:
        return CheckStatusInfo(**fields)

    def test_every_status_says_what_is_known_of_the_check(self) -> None:
        bench = Bench().register()
        check = {"type": "COMMAND", "command": {"command": {"value": "probe"}}}
        bench.run(task(check=check), info=framework(AWARE))
        bench.start()
        bench.acknowledge()
        empty = self.status(type="COMMAND", command={})
        for one in bench.sent:
            if hasattr(one, "update"):
                self.assertEqual(empty, one.update.status.check_status)

    def test_what_has_changed_is_told(self) -> None:
        http, tcp = {"port": 80, "path": "/x"}, {"port": 22}
        command = {"command": {"value": "probe"}}
        for kind, part, answers in (
            ("HTTP", {"http": http}, ((200, True), (200, False), (500, True), (None, True))),
            ("TCP", {"tcp": tcp}, ((0, True), (0, False), (1, True), (None, True), (None, False))),
            ("COMMAND", {"command": command}, ((0, True), (0, False), (7, True), (None, True))),
        ):
            bench = self.running(check={"type": kind, "delay_seconds": 1, **part})
            for found, told in answers:
                self.asked(bench)
                statuses = self.answer(bench, found, "who knows")
                self.assertEqual(told, bool(statuses), (kind, found))
                for status in statuses:
                    self.assertEqual(CHECK, status.reason)
                    self.assertEqual(self.expected(kind, found), status.check_status)
            self.assertEqual([], bench.hands, "a check ends nothing")

    def expected(self, kind: str, found: int | None) -> CheckStatusInfo:
        field = {"HTTP": "status_code", "TCP": "succeeded", "COMMAND": "exit_code"}[kind]
        part = {} if found is None else {field: found}
        return CheckStatusInfo(type=kind, **{kind.lower(): part})

    def test_both_kinds_at_once(self) -> None:
        bench = self.running(
            check={"type": "TCP", "tcp": {"port": 22}, "delay_seconds": 1},
            health_check=health(delay_seconds=2),
        )
        bench.wait(3)
        first, second = self.probes(bench)
        bench.give(Probed(second.number, 200))
        bench.give(Probed(first.number, 1))
        bench.acknowledge()
        status = bench.last()
        self.assertEqual(CHECK, status.reason)
        self.assertTrue(status.healthy)
        self.assertTrue(status.check_status.tcp.succeeded)

    def test_check_that_nobody_knows_is_left_alone(self) -> None:
        bench = self.running(check={"type": CheckInfo.UNKNOWN})
        bench.wait(60)
        self.assertEqual([], self.probes(bench))

    def test_question_stands_beside_nothing_that_the_store_may_refuse(self) -> None:
        """With what is refused it would not be asked, and its answer waited for in vain."""
        bench = self.running(health_check=health())
        late = task("late")
        late.max_completion_time.nanoseconds = 5 * 10**9
        bench.run(late, info=framework(AWARE, checkpoint=True))
        bench.start("late")
        bench.acknowledge()
        bench.state.sandboxes.schedule("/w/old", bench.now + 5)
        bench.now += 5
        events = []
        while (when := bench.state.deadline()) is not None and when <= bench.now:
            events.append([type(one) for one in bench.give(Woke())])
        self.assertTrue([one for one in events if Store in one])
        self.assertTrue([one for one in events if Probe in one])
        for event in events:
            self.assertFalse(Store in event and (Probe in event or Remove in event), event)


class WhateverHappens(_Case):
    """Answers in any order, with ends in between."""

    @given(st.lists(st.sampled_from(["well", "sick", "late", "time", "kill", "exit"]), max_size=25))
    def test_there_is_never_more_than_one_question_and_none_for_the_dead(
        self, steps: list[str]
    ) -> None:
        bench = self.running(health_check=health(consecutive_failures=2, delay_seconds=1))
        over = False
        for step in steps:
            if step == "time":
                bench.wait(11)
            elif step == "late":
                bench.give(Probed(99, 200))
            elif step in ("well", "sick"):
                for number in list(bench.state.probes):
                    bench.give(Probed(number, 200 if step == "well" else None))
            elif not over and step == "kill":
                bench.kill()
            elif not over and step == "exit":
                bench.exit()
                over = True
            bench.acknowledge()
            live = bench.state.tasks.values()
            waiting = sum(not task.killed and not task.ended for task in live)
            self.assertLessEqual(len(bench.state.probes), waiting)
        if bench.state.deadline() is not None:
            bench.give(Woke())
