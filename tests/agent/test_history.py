"""What has ended is known to an agent that starts again, until its sandbox is collected."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mesoskit.agent import files, views
from mesoskit.agent.container import ContainerExited, Removed, SandboxesFound
from mesoskit.agent.options import RECONNECT
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.mesos_pb2 import FrameworkInfo, TaskInfo, TaskState
from mesoskit.model.ids import ExecutorId, FrameworkId
from mesoskit.web.files import NotThere
from tests.agent.bench import (
    FRAMEWORK_ID,
    OPTIONS,
    OWN_RECORDS,
    Bench,
    custom_executor,
    framework,
    task,
)
from tests.agent.restarts import ReconnectTestCase, keeping
from tests.agent.test_failures import FullDisk
from tests.base import SynchronousTestCase

FRAMEWORK = FrameworkId(FRAMEWORK_ID)
E = ExecutorId("e")

SMALL = replace(
    OPTIONS,
    recover=RECONNECT,
    max_completed_frameworks=2,
    max_completed_executors_per_framework=3,
    max_completed_tasks_per_executor=2,
)


def shown(bench: Bench) -> dict[str, Any]:
    """Return what pages show of what has ended."""
    state = bench.state
    return {
        kind: {
            one.id: [views.executor_view(executor) for executor in one.completed]
            for one in frameworks.values()
            if one.completed
        }
        for kind, frameworks in (("live", state.frameworks), ("over", state.completed_frameworks))
    }


def of(name: str) -> FrameworkInfo:
    """Return another framework."""
    info = framework(checkpoint=True)
    info.id.value = name
    return info


def done(bench: Bench, one: TaskInfo, info: FrameworkInfo | None = None) -> None:
    """Let a command run to its end."""
    bench.run(one, info=info or keeping())
    bench.start(one.task_id.value)
    bench.acknowledge()
    bench.exit(one.task_id.value)
    bench.acknowledge()
    bench.clear()


class RestartTests(ReconnectTestCase):
    """Two lives of one agent."""

    options = replace(OPTIONS, boot_id="boot-1", recover=RECONNECT)

    def restarted(self, bench: Bench, **more: Any) -> Bench:
        """Start again, and see that no more and no less is known than before."""
        before = shown(bench)
        after = self.again(bench, **more)
        self.assertEqual(shown(after), before)
        return after

    def test_ended_commands_are_shown_as_before_the_restart(self) -> None:
        bench = self.before()
        for name in ("a", "b", "c"):
            bench.now += 1
            done(bench, task(name))
        after = self.restarted(bench)
        (executors,) = shown(after)["over"].values()
        self.assertEqual([one["id"] for one in executors], ["a", "b", "c"])
        (last,) = executors[-1]["completed_tasks"]
        self.assertEqual(last["state"], "TASK_FINISHED")
        self.assertEqual(
            [one["state"] for one in last["statuses"]],
            ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"],
        )

    def test_next_master_is_told_of_them(self) -> None:
        bench = self.before()
        done(bench, task())
        after = self.restarted(bench)
        (message,) = [one for one in after.sent if type(one) is internal.ReregisterSlaveMessage]
        (archived,) = message.completed_frameworks
        self.assertEqual(archived.framework_info, keeping())
        self.assertEqual([one.state for one in archived.tasks], [TaskState.TASK_FINISHED])

    def test_executor_that_lives_on_still_has_the_tasks_that_it_has_ended(self) -> None:
        bench = self.before()
        bench.run(task("a", executor=custom_executor()), info=keeping(), launch=True)
        peer = bench.subscribe()
        bench.run(task("b", executor=custom_executor()), info=keeping(), launch=False)
        bench.update(peer, TaskState.TASK_FINISHED, "a")
        bench.acknowledge()
        container = bench.container_of("b")
        after = self.restarted(bench, running={container: 7})
        (executor,) = after.state.frameworks[FrameworkId(FRAMEWORK_ID)].executors.values()
        self.assertEqual([one.id for one in executor.completed or ()], ["a"])
        self.assertEqual(list(executor.tasks), ["b"])
        peer = after.subscribe(unacknowledged_tasks=[task("b")])
        after.now += 1
        after.update(peer, TaskState.TASK_FINISHED, "a")  # It has not heard that it is known.
        self.assertNotIn("Executor e was not given a task a", after.notes)
        after.update(peer, TaskState.TASK_FAILED, "b")
        self.accept(after)
        after.acknowledge()
        after.give(ContainerExited(container, 0))
        last = self.restarted(after)
        ((shown_executor,),) = shown(last)["over"].values()
        states = {one["id"]: one["state"] for one in shown_executor["completed_tasks"]}
        self.assertEqual(states, {"a": "TASK_FINISHED", "b": "TASK_FAILED"})

    def test_framework_that_lives_on_still_has_the_executors_that_are_gone(self) -> None:
        bench = self.before()
        bench.run(task("on"), info=keeping())
        bench.start("on")
        bench.acknowledge()
        done(bench, task("over"))
        after = self.restarted(bench, running={bench.container_of("on"): 7})
        self.assertEqual([one["id"] for one in shown(after)["live"][FRAMEWORK_ID]], ["over"])
        self.accept(after)
        after.exit("on")
        after.acknowledge()
        last = self.restarted(after)
        self.assertEqual([one["id"] for one in shown(last)["over"][FRAMEWORK_ID]], ["over", "on"])

    def test_framework_that_comes_back_has_its_past(self) -> None:
        bench = self.before()
        done(bench, task("a"))
        after = self.restarted(bench)
        self.accept(after)
        after.run(task("b"), info=keeping())
        self.assertEqual([one["id"] for one in shown(after)["live"][FRAMEWORK_ID]], ["a"])
        container = after.container_of("b")
        after.start("b")
        self.restarted(after, running={container: 8})

    def test_groups_are_kept_with_their_executor(self) -> None:
        bench = self.before()
        bench.run_group(task("a"), task("b"), info=keeping())
        for name in ("a", "b"):
            bench.start(name)
        bench.acknowledge()
        for name in ("a", "b"):
            bench.exit(name)
        bench.acknowledge()
        after = self.restarted(bench)
        ((executor,),) = shown(after)["over"].values()
        self.assertEqual((executor["id"], executor["type"]), ("default", "DEFAULT"))
        self.assertEqual({one["id"] for one in executor["completed_tasks"]}, {"a", "b"})

    def test_sandbox_is_seen_until_it_is_removed_and_then_nobody_tells_of_it(self) -> None:
        bench = self.before()
        done(bench, task("a"))
        done(bench, task("b"))
        (framework,) = bench.state.completed_frameworks.values()
        first, second = (one.directory for one in framework.completed)
        bench.give(Removed(first))
        self.assertEqual(len(framework.completed), 2)  # As in Mesos, until the agent ends.
        after = self.again(bench)
        (framework,) = after.state.completed_frameworks.values()
        self.assertEqual([one.directory for one in framework.completed], [second])
        after.give(SandboxesFound(((second, after.now),)))
        self.assertEqual(files.resolve(after.state, second).root, second)
        self.assertRaises(NotThere, files.resolve, after.state, first)
        after.give(Removed(second))
        last = self.again(after)
        self.assertEqual(last.state.completed_frameworks, {})
        self.assertEqual(set(last.store), OWN_RECORDS)

    def test_sandbox_that_was_removed_is_none_of_those_that_are_kept(self) -> None:
        bench = self.before()
        done(bench, task())
        before = dict(bench.store)
        for path in ("", "/w", "/w/slaves/x/frameworks/y/executors/z/runs/c", f"/{FRAMEWORK_ID}"):
            bench.give(Removed(path))
        (framework,) = bench.state.completed_frameworks.values()
        bench.give(Removed(framework.completed[0].directory, "it is mounted"))
        self.assertEqual(bench.store, before)

    def test_damaged_records_are_no_reason_not_to_start_and_are_deleted(self) -> None:
        bench = self.before()
        bench.run(task("a", executor=custom_executor()), info=keeping(), launch=True)
        peer = bench.subscribe()
        bench.update(peer, TaskState.TASK_FINISHED, "a")
        bench.acknowledge()
        bench.give(ContainerExited(bench.state.frameworks[FRAMEWORK].executors[E].container, 0))
        done(bench, task("t"))
        keys = sorted(set(bench.store) - OWN_RECORDS)
        self.assertEqual([key.count("/") for key in keys], [1, 3, 4, 4])
        store = dict(bench.store)
        for key in keys:
            for broken in (b"", b"x", b"\n", store[key][:-1], store[key] + b"x"):
                bench.store = {**store, key: broken}
                after = self.again(bench, strict=True)
                self.assertEqual(after.others, [], (key, broken))
                self.assertNotEqual(after.store.get(key), broken, key)
                list(map(views.executor_view, self.completed(after)))
        bench.store = {**store, "history": b"", "history/a/b": b"", "history/a/b/c/d/e": b""}
        self.assertEqual(self.again(bench, strict=True).store, store)

    def completed(self, bench: Bench) -> list[Any]:
        return [
            executor
            for framework in bench.state.completed_frameworks.values()
            for executor in framework.completed
        ]

    def test_less_is_kept_where_less_is_wanted_by_now(self) -> None:
        bench = self.before()
        for number in range(5):
            bench.now += 1
            done(bench, task(f"t{number}"))
            done(bench, task(f"u{number}"), of(f"f{number}"))
        after = self.again(
            bench, max_completed_executors_per_framework=2, max_completed_frameworks=3
        )
        self.assertEqual(list(after.state.completed_frameworks), ["f3", FRAMEWORK_ID, "f4"])
        self.assertEqual([one.id for one in self.completed(after)], ["u3", "t3", "t4", "u4"])
        self.assertEqual(len([key for key in after.store if key.startswith("history/")]), 3 + 4)
        none = self.again(bench, max_completed_executors_per_framework=0)
        self.assertEqual(set(none.store), OWN_RECORDS)

    def test_data_that_is_not_for_looking_at_is_not_kept_where_it_is_long(self) -> None:
        bench = self.before()
        done(bench, task("short", data=b"x" * 100))
        done(bench, task("long", data=b"x" * 10_000))
        (framework,) = self.again(bench).state.completed_frameworks.values()
        tasks = [task for one in framework.completed for task in one.completed or ()]
        lengths = [len(TaskInfo.FromString(one.info).data) for one in tasks]
        self.assertEqual(lengths, [100, 0])

    def test_agent_that_leaves_leaves_nothing(self) -> None:
        bench = self.before()
        done(bench, task())
        bench.receive(internal.ShutdownMessage(message="gone"))
        self.assertEqual(bench.store, {})

    def test_new_agent_on_a_machine_that_was_another_knows_nothing(self) -> None:
        bench = self.before()
        done(bench, task())
        after = self.again(bench, boot_id="boot-2", hostname="other")
        self.assertEqual(after.store, {})
        self.assertEqual(after.state.completed_frameworks, {})


class FullDiskTests(SynchronousTestCase):
    """Where the store refuses."""

    def test_what_could_not_be_stored_is_done_without_and_what_was_deleted_is(self) -> None:
        bench = FullDisk(SMALL)
        bench.register()
        for name in ("a", "b", "c"):
            done(bench, task(name))
        bench.run(task("d"), info=keeping())
        bench.start("d")
        bench.acknowledge()
        bench.exit("d")
        bench.full = True
        bench.acknowledge()
        bench.wait(30)
        bench.full = False
        bench.acknowledge()
        bench.wait(30)
        self.assertEqual(bench.records(), OWN_RECORDS)
        after = Bench(SMALL, bench.store, b"fedcba9876543210")
        after.recover()
        (framework,) = after.state.completed_frameworks.values()
        # What was pushed out for it stays pushed out.
        self.assertEqual([one.id for one in framework.completed], ["b", "c"])


class PropertyTests(ReconnectTestCase):
    """Whatever ends, and however often the agent starts again."""

    options = SMALL

    @settings(deadline=None, max_examples=50)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(("command", "custom", "group", "collect", "restart")),
                st.integers(0, 3),
            ),
            max_size=20,
        )
    )
    def test_agent_that_starts_again_shows_the_same(self, steps: list[tuple[str, int]]) -> None:
        bench = self.before()
        collected: set[str] = set()
        for number, (step, which) in enumerate(steps):
            bench.now += 1
            if step == "restart":
                before = self.kept(bench, collected)
                bench = self.again(bench)
                self.accept(bench)
                self.assertEqual(self.kept(bench, set()), before)
                records = {key for key in bench.store if key.startswith("history/")}
            elif step == "collect":
                executors = [one["directory"] for each in self.all(bench) for one in each]
                if executors:
                    collected.add(executors[which % len(executors)])
                    bench.give(Removed(executors[which % len(executors)]))
            else:
                self.life(bench, step, f"t{number}", of(f"f{which}"))
            records = {key for key in bench.store if key.startswith("history/")}
            self.assertLessEqual(len(records), 2 + 2 * 3 * (1 + 2))

    def life(self, bench: Bench, kind: str, name: str, info: FrameworkInfo) -> None:
        """Let one executor run three tasks, or a command one, to their end."""
        if kind == "command":
            done(bench, task(name), info)
            return
        names = [f"{name}-{number}" for number in range(3)]
        if kind == "group":
            bench.run_group(*map(task, names), info=info)
            for one in names:
                bench.start(one)
            bench.acknowledge()
            for one in names:
                bench.exit(one)
            bench.acknowledge()
        else:
            for one in names:
                bench.run(task(one, executor=custom_executor()), info=info)
            bench.give(ContainerExited(bench.container_of(names[0]), 9))
            bench.acknowledge()
        bench.clear()

    def all(self, bench: Bench) -> list[list[dict[str, Any]]]:
        found = shown(bench)
        return [*found["live"].values(), *found["over"].values()]

    def kept(self, bench: Bench, collected: set[str]) -> dict[str, Any]:
        """Return what is to be known after a restart."""
        kept = {
            name: [one for one in executors if one["directory"] not in collected]
            for name, executors in shown(bench)["over"].items()
        }
        return {name: executors for name, executors in kept.items() if executors}
