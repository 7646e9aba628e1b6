"""Containers that are no task's: launched, waited for, signalled, removed; alone or not."""

from __future__ import annotations

from dataclasses import replace
from signal import SIGTERM
from typing import Any

from mesoskit.agent import answers
from mesoskit.agent.authorizing import EVERYTHING, Viewer
from mesoskit.agent.container import (
    ContainerExited,
    ContainerFailed,
    ContainerSpec,
    ContainerStarted,
    Destroy,
    Forget,
    Launch,
    Limitation,
    Remove,
    Signal,
    Usage,
    UsageRead,
)
from mesoskit.agent.container_call import (
    CallAbandoned,
    ContainerAnswer,
    ContainerCall,
    SessionOver,
)
from mesoskit.agent.events import Leave, ShutDown
from mesoskit.agent.nested import path_of
from mesoskit.messages.agent_pb2 import Call, Response
from mesoskit.messages.mesos_pb2 import ContainerInfo
from mesoskit.model.authorization import ANYBODY, Subject
from mesoskit.model.events import Stop, StoreFailed, Woke
from mesoskit.model.ids import ContainerId
from mesoskit.model.tasks import Reason, TaskState
from tests.agent.bench import OPTIONS, OWN_RECORDS, Bench, custom_executor, framework, task
from tests.base import SynchronousTestCase

CHECKPOINTED = framework(checkpoint=True)


def nested_id(*path: str) -> dict[str, Any]:
    """Return a ContainerID, the outermost value first."""
    found: dict[str, Any] = {"value": path[0]}
    for value in path[1:]:
        found = {"value": value, "parent": found}
    return found


class NestedBench(Bench):
    """A bench that calls."""

    number = 0

    def ask(self, name: str, *path: str, who: Subject = ANYBODY, **fields: Any) -> int:
        """Make a call about a container; return its number."""
        self.number += 1
        call = Call(type=name)
        inner = getattr(call, name.lower())
        inner.CopyFrom(type(inner)(container_id=nested_id(*path), **fields))
        self.give(ContainerCall(self.number, call, who))
        return self.number

    def launch(self, *path: str, name: str = "LAUNCH_CONTAINER", **fields: Any) -> int:
        """Launch a container that runs C{true} unless something else is given."""
        fields.setdefault("command", {"value": "true"})
        return self.ask(name, *path, **fields)

    def answers_to(self, number: int) -> list[ContainerAnswer]:
        """Return the answers to a call."""
        found = (one for one in self.others if isinstance(one, ContainerAnswer))
        return [one for one in found if one.number == number]

    def answer(self, number: int) -> tuple[int, Any]:
        """Return the one answer to a call."""
        (found,) = self.answers_to(number)
        return found.status, found.what

    def spec(self) -> ContainerSpec:
        """Return what was launched last."""
        return [one for one in self.hands if isinstance(one, Launch)][-1].spec

    def destroyed(self) -> list[str]:
        """Return what is to be destroyed."""
        return [one.container for one in self.hands if isinstance(one, Destroy)]

    def started(self, key: str, pid: int = 99) -> None:
        """Let a container start."""
        self.give(ContainerStarted(ContainerId(key), pid))

    def ended(self, key: str, status: int | None = 0, why: Limitation | None = None) -> None:
        """Let a container end."""
        self.give(ContainerExited(ContainerId(key), status, why))
        self.give(Woke())

    def again(self, **options: Any) -> NestedBench:
        """Return an agent after this one."""
        return NestedBench(replace(self.options, **options), self.store, seed=b"f" * 16)


class Standalone(SynchronousTestCase):
    """Containers without a parent."""

    def setUp(self) -> None:
        self.bench = NestedBench()
        self.bench.register()

    def test_it_runs_in_a_sandbox_of_its_own(self) -> None:
        number = self.bench.launch(
            "c",
            command={
                "value": "echo $A",
                "environment": {"variables": [{"name": "A", "value": "1"}]},
            },
            resources=[
                {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}},
                {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}},
            ],
            limits={"mem": {"value": 64}},
        )
        self.assertEqual(self.bench.answers_to(number), [])
        spec = self.bench.spec()
        self.assertEqual(spec.id, "c")
        self.assertEqual(spec.argv, ("sh", "-c", "echo $A"))
        self.assertEqual(spec.sandbox, "/w/containers/c")
        self.assertEqual(dict(spec.environment)["A"], "1")
        self.assertEqual(dict(spec.environment)["MESOS_SANDBOX"], "/w/containers/c")
        self.assertEqual((spec.parent, spec.patience, spec.user), (None, None, None))
        self.assertEqual((spec.allotment.cpus, spec.allotment.mem_limit), (500, 64 << 20))
        self.bench.started("c")
        self.assertEqual(self.bench.answer(number), (200, ""))

    def test_whoever_launches_it_again_is_told_so(self) -> None:
        self.bench.launch("c")
        self.assertEqual(self.bench.answer(self.bench.launch("c")), (202, ""))

    def test_what_could_not_be_started_is_refused_with_the_reason_and_forgotten(self) -> None:
        number = self.bench.launch("c")
        self.bench.give(ContainerFailed(ContainerId("c"), "launch", "no such file"))
        self.assertEqual(
            self.bench.answer(number), (400, "Failed to launch container: no such file")
        )
        self.bench.give(Woke())
        self.assertEqual(self.bench.records(), OWN_RECORDS)
        self.bench.launch("c")
        self.assertIsInstance(self.bench.hands[-1], Launch)

    def test_containers_of_docker_are_not_supported(self) -> None:
        number = self.bench.launch("c", container={"type": "DOCKER", "docker": {"image": "x"}})
        self.assertEqual(
            self.bench.answer(number), (400, "The provided ContainerInfo is not supported")
        )

    def test_waits_are_answered_at_the_end_and_refused_after_it(self) -> None:
        self.bench.launch("c")
        waits = [self.bench.ask("WAIT_CONTAINER", "c") for _ in range(2)]
        self.bench.started("c")
        self.bench.ended("c", 3 << 8)
        for number in waits:
            status, response = self.bench.answer(number)
            self.assertEqual((status, response.type), (200, Response.WAIT_CONTAINER))
            self.assertEqual(response.wait_container.exit_status, 3 << 8)
        self.assertIn(Forget(ContainerId("c")), self.bench.hands)
        late = self.bench.ask("WAIT_CONTAINER", "c")
        self.assertEqual(self.bench.answer(late), (404, "Container c cannot be found"))

    def test_who_has_left_is_not_answered(self) -> None:
        self.bench.launch("c")
        gone, here = (self.bench.ask("WAIT_CONTAINER", "c") for _ in range(2))
        self.bench.give(CallAbandoned(gone))
        self.bench.started("c")
        self.bench.ended("c")
        self.assertEqual(self.bench.answers_to(gone), [])
        self.assertEqual(self.bench.answer(here)[0], 200)

    def test_whatever_was_too_much_is_told(self) -> None:
        self.bench.launch("c")
        number = self.bench.ask("WAIT_CONTAINER", "c")
        self.bench.started("c")
        reason = Reason.REASON_CONTAINER_LIMITATION_MEMORY
        self.bench.ended("c", 9, Limitation(reason, "Memory limit exceeded", (("mem", 65.0),)))
        told = self.bench.answer(number)[1].wait_container
        self.assertEqual((told.state, told.reason), (TaskState.TASK_FAILED, reason))
        self.assertEqual(told.message, "Memory limit exceeded")
        self.assertEqual(told.limitation.resources[0].scalar.value, 65.0)

    def test_signals_reach_it(self) -> None:
        self.bench.launch("c")
        self.bench.started("c")
        number = self.bench.ask("KILL_CONTAINER", "c", signal=int(SIGTERM))
        self.assertEqual(self.bench.answer(number), (200, ""))
        self.assertIn(Signal(ContainerId("c"), SIGTERM), self.bench.hands)
        self.assertEqual(self.bench.answer(self.bench.ask("KILL_CONTAINER", "c")), (200, ""))
        self.assertEqual(self.bench.destroyed(), ["c"])

    def test_before_it_runs_a_signal_ends_it(self) -> None:
        self.bench.launch("c")
        self.bench.ask("KILL_CONTAINER", "c", signal=int(SIGTERM))
        self.assertEqual(self.bench.destroyed(), ["c"])

    def test_what_is_not_there_cannot_be_killed(self) -> None:
        number = self.bench.ask("KILL_CONTAINER", "c")
        why = "Container 'c' cannot be found (or is already killed)"
        self.assertEqual(self.bench.answer(number), (404, why))

    def test_absurd_signals_are_refused(self) -> None:
        self.bench.launch("c")
        number = self.bench.ask("KILL_CONTAINER", "c", signal=1000)
        self.assertEqual(self.bench.answer(number)[0], 400)

    def test_limits_that_are_none_are_refused(self) -> None:
        for amount in (float("nan"), -1.0):
            number = self.bench.launch("c", limits={"mem": {"value": amount}})
            status, why = self.bench.answer(number)
            self.assertEqual(status, 400)
            self.assertIn(f"The limit of 'mem' is {amount:g}: expected a number", why)

    def test_its_sandbox_is_removed_when_it_has_ended(self) -> None:
        self.bench.launch("c")
        early = self.bench.ask("REMOVE_CONTAINER", "c")
        self.assertEqual(self.bench.answer(early)[0], 500)
        self.bench.started("c")
        self.bench.ended("c")
        number = self.bench.ask("REMOVE_CONTAINER", "c")
        self.assertEqual(self.bench.answer(number), (200, ""))
        self.assertIn(Remove("/w/containers/c"), self.bench.others)

    def test_it_runs_on_when_the_agent_restarts(self) -> None:
        self.bench.launch("c")
        self.bench.started("c")
        after = self.bench.again()
        after.recover(running={"c": 99})
        self.assertEqual(after.destroyed(), [])
        number = after.ask("WAIT_CONTAINER", "c")
        after.ended("c", 0)
        self.assertEqual(after.answer(number)[0], 200)

    def test_it_ends_with_an_agent_that_cleans_up(self) -> None:
        self.bench.launch("c")
        self.bench.started("c")
        after = self.bench.again(recover="cleanup")
        after.recover(running={"c": 99})
        self.assertEqual(after.destroyed(), ["c"])

    def test_an_agent_that_leaves_waits_for_its_end(self) -> None:
        self.bench.launch("c")
        self.bench.started("c")
        self.assertNotIn(Stop, map(type, self.bench.give(Leave())))
        self.bench.give(ContainerExited(ContainerId("c"), 9))
        self.assertIn(Stop, map(type, self.bench.others))

    def test_nothing_is_known_of_it_when_the_agent_leaves_for_good(self) -> None:
        for key in "cd":
            self.bench.launch(key)
            self.bench.started(key)
        self.bench.give(ContainerExited(ContainerId("d"), 0))
        self.bench.give(ShutDown("SIGUSR1"))
        self.assertEqual(["c"], self.bench.destroyed())
        self.assertEqual({}, self.bench.store)

    def test_what_cannot_be_recorded_is_not_launched(self) -> None:
        number = self.bench.launch("c")
        key = "nested/c"
        self.bench.give(StoreFailed(((key, self.bench.store.pop(key)),), "disk full"))
        self.assertEqual(self.bench.answer(number), (500, "Failed to checkpoint: disk full"))
        self.assertEqual(self.bench.state.nested.all, {})


class WithinExecutors(SynchronousTestCase):
    """Containers within that of a custom executor."""

    def setUp(self) -> None:
        self.bench = NestedBench()
        self.bench.register()
        self.bench.run(task(executor=custom_executor()), info=CHECKPOINTED)
        self.root = self.bench.container_of()
        self.bench.started(self.root)
        self.bench.clear()

    def test_it_runs_within_the_sandbox_and_as_the_user_of_its_parent(self) -> None:
        self.bench.launch(self.root, "a", name="LAUNCH_NESTED_CONTAINER")
        spec = self.bench.spec()
        self.assertEqual((spec.id, spec.parent), (f"{self.root}.a", self.root))
        self.assertTrue(spec.sandbox.endswith(f"/runs/{self.root}/containers/a"))
        self.assertEqual(spec.user, "alice")
        self.assertNotIn("MESOSKIT_EXECUTOR_TOKEN", dict(spec.environment))

    def test_deeper_ones_lie_within_those(self) -> None:
        self.bench.launch(self.root, "a", command={"value": "true", "user": "bob"})
        self.bench.started(f"{self.root}.a")
        self.bench.launch(self.root, "a", "b")
        spec = self.bench.spec()
        self.assertEqual((spec.id, spec.parent), (f"{self.root}.a.b", f"{self.root}.a"))
        self.assertTrue(spec.sandbox.endswith("/containers/a/containers/b"))
        self.assertEqual(spec.user, "bob")

    def test_without_a_parent_there_is_none(self) -> None:
        for path in (("nobody", "a"), (self.root, "a", "b")):
            number = self.bench.launch(*path)
            why = f"Parent container {'.'.join(path[:-1])} does not exist"
            self.assertEqual(self.bench.answer(number), (400, why))

    def test_nor_with_one_that_is_being_destroyed(self) -> None:
        self.bench.launch(self.root, "a")
        self.bench.started(f"{self.root}.a")
        self.bench.ask("KILL_CONTAINER", self.root, "a")
        number = self.bench.launch(self.root, "a", "b")
        why = f"Parent container {self.root}.a is in 'DESTROYING' state"
        self.assertEqual(self.bench.answer(number), (400, why))

    def test_nor_with_one_whose_executor_is_gone(self) -> None:
        self.bench.launch(self.root, "a")
        self.bench.started(f"{self.root}.a")
        self.bench.launch(self.root, "a", "b")
        self.bench.started(f"{self.root}.a.b")
        self.bench.ended(self.root)
        number = self.bench.launch(self.root, "a", "b", "c")
        status, why = self.bench.answer(number)
        self.assertEqual(status, 400)
        self.assertRegex(why, r"^Parent container .* (does not exist|is in 'DESTROYING' state)$")
        self.assertIn(f"{self.root}.a", self.bench.destroyed())

    def test_its_end_is_remembered_until_it_is_removed(self) -> None:
        self.bench.launch(self.root, "a")
        self.bench.started(f"{self.root}.a")
        self.bench.ended(f"{self.root}.a", 256)
        number = self.bench.ask("WAIT_NESTED_CONTAINER", self.root, "a")
        response = self.bench.answer(number)[1]
        self.assertEqual(response.type, Response.WAIT_NESTED_CONTAINER)
        self.assertEqual(response.wait_nested_container.exit_status, 256)
        again = self.bench.launch(self.root, "a")
        self.assertEqual(self.bench.answer(again)[0], 202)
        self.bench.ask("REMOVE_NESTED_CONTAINER", self.root, "a")
        late = self.bench.ask("WAIT_NESTED_CONTAINER", self.root, "a")
        self.assertEqual(self.bench.answer(late)[0], 404)

    def test_it_ends_with_its_executor_and_is_forgotten(self) -> None:
        self.bench.launch(self.root, "a")
        self.bench.started(f"{self.root}.a")
        self.bench.launch(self.root, "a", "b")
        self.bench.started(f"{self.root}.a.b")
        number = self.bench.ask("WAIT_CONTAINER", self.root, "a")
        self.bench.ended(self.root, 0)
        self.assertEqual(self.bench.destroyed(), [f"{self.root}.a"])
        self.bench.ended(f"{self.root}.a", 9)
        self.assertEqual(self.bench.answer(number)[0], 200)
        self.assertEqual(self.bench.destroyed()[1:], [f"{self.root}.a.b"])
        self.bench.ended(f"{self.root}.a.b", 9)
        self.assertEqual(self.bench.state.nested.all, {})
        self.bench.give(Woke())
        self.assertFalse([key for key in self.bench.store if key.startswith("nested/")])

    def test_it_runs_on_with_its_executor_when_the_agent_restarts(self) -> None:
        for value in ("on", "off"):
            self.bench.launch(self.root, value)
            self.bench.started(f"{self.root}.{value}")
        self.bench.ended(f"{self.root}.off", 7 << 8)
        self.bench.give(Woke())
        after = self.bench.again()
        after.recover(running={self.root: 5, f"{self.root}.on": 99})
        self.assertEqual(after.destroyed(), [])
        number = after.ask("WAIT_CONTAINER", self.root, "off")
        self.assertEqual(after.answer(number)[1].wait_container.exit_status, 7 << 8)
        number = after.ask("WAIT_CONTAINER", self.root, "on")
        after.ended(f"{self.root}.on", 0)
        self.assertEqual(after.answer(number)[0], 200)

    def test_what_ended_while_no_agent_was_there_is_known(self) -> None:
        self.bench.launch(self.root, "a")
        self.bench.started(f"{self.root}.a")
        after = self.bench.again()
        after.recover({self.root: 5}, (), **{f"{self.root}.a": 256})
        self.assertIn(Forget(ContainerId(f"{self.root}.a")), after.hands)
        number = after.ask("WAIT_CONTAINER", self.root, "a")
        self.assertEqual(after.answer(number)[1].wait_container.exit_status, 256)

    def test_one_can_wait_for_the_executor_itself(self) -> None:
        number = self.bench.ask("WAIT_CONTAINER", self.root)
        self.bench.ended(self.root, 0)
        self.assertEqual(self.bench.answer(number)[0], 200)

    def test_only_so_many_ends_are_remembered(self) -> None:
        for index in range(1003):
            self.bench.launch(self.root, f"n{index}")
            self.bench.ended(f"{self.root}.n{index}")
        self.assertEqual(len(self.bench.state.nested.all), 1000)
        self.assertNotIn(ContainerId(f"{self.root}.n2"), self.bench.state.nested.all)


class Sessions(SynchronousTestCase):
    """Containers that live as long as somebody listens."""

    def setUp(self) -> None:
        self.bench = NestedBench()
        self.bench.register()
        self.bench.run_group(task("one"), info=CHECKPOINTED)
        self.bench.start("one")
        owner = self.bench.state.tasks[next(iter(self.bench.state.tasks))]
        self.path = owner.executor.container, self.bench.container_of("one")
        self.bench.clear()
        self.bench.launch(*self.path, "s", name="LAUNCH_NESTED_CONTAINER_SESSION")
        self.key = f"{'.'.join(self.path)}.s"

    def test_it_finds_what_its_parent_finds(self) -> None:
        spec = self.bench.spec()
        self.assertEqual((spec.id, spec.parent), (self.key, self.path[1]))
        self.assertEqual(spec.patience, 0.0)
        self.assertEqual(dict(spec.environment)["MESOS_ALLOCATION_ROLE"], "*")
        self.assertEqual(dict(spec.environment)["MESOS_SANDBOX"], spec.sandbox)

    def test_it_ends_when_nobody_listens(self) -> None:
        self.bench.started(self.key)
        self.bench.give(SessionOver(self.key))
        self.assertEqual(self.bench.destroyed(), [self.key])

    def test_it_ends_with_its_task(self) -> None:
        self.bench.started(self.key)
        self.bench.exit("one")
        self.assertEqual(self.bench.destroyed(), [self.key])

    def test_it_does_not_outlive_the_agent(self) -> None:
        self.bench.started(self.key)
        after = self.bench.again()
        after.recover(running={self.path[1]: 5, self.key: 99})
        self.assertEqual(after.destroyed(), [self.key])

    def test_beside_a_task_of_docker_it_finds_what_the_image_has(self) -> None:
        info = task("docked")
        info.container.type = ContainerInfo.DOCKER
        info.container.docker.image = "busybox"
        self.bench.run(info)
        self.bench.start("docked")
        root = self.bench.container_of("docked")
        command = {"value": "sh", "user": "app"}
        name = "LAUNCH_NESTED_CONTAINER_SESSION"
        self.bench.launch(root, "s", name=name, command=command)
        spec = self.bench.spec()
        self.assertEqual((spec.parent, spec.user, spec.image_user), (root, None, "app"))
        self.assertFalse(spec.docker)
        variables = dict(spec.environment)
        self.assertEqual(variables["MESOS_SANDBOX"], "/mnt/mesos/sandbox/containers/s")
        self.assertNotIn("PATH", variables)
        self.assertEqual(variables["MESOSKIT_EXECUTOR_TOKEN"], "")


class Shown(SynchronousTestCase):
    """GET_CONTAINERS."""

    def setUp(self) -> None:
        self.bench = NestedBench()
        self.bench.register()
        self.bench.run(task(executor=custom_executor()))
        self.root = self.bench.container_of()
        self.bench.started(self.root)
        for path in ((self.root, "a"), ("alone",), ("alone", "b")):
            self.bench.launch(*path)
            self.bench.started(".".join(path), pid=len(path))

    def shown(self, viewer: Viewer = EVERYTHING, **wanted: bool) -> list[tuple[str, ...]]:
        call = Call(type="GET_CONTAINERS", get_containers=wanted)
        found = answers.containers(self.bench.state, call, viewer).get_containers.containers
        return [path_of(one.container_id) for one in found]

    def test_each_kind_is_shown_where_it_is_wanted(self) -> None:
        self.assertEqual(self.shown(), [(self.root,)])
        self.assertEqual(self.shown(show_nested=True), [(self.root,), (self.root, "a")])
        self.assertEqual(self.shown(show_standalone=True), [(self.root,), ("alone",)])
        every = [(self.root,), (self.root, "a"), ("alone",), ("alone", "b")]
        self.assertEqual(self.shown(show_nested=True, show_standalone=True), every)

    def test_who_may_not_see_them_does_not(self) -> None:
        nobody = Viewer(Subject("kim", Rights.Nobody()))
        self.assertEqual(self.shown(nobody, show_nested=True, show_standalone=True), [])

    def test_what_they_use_is_shown_with_what_they_were_given(self) -> None:
        usage = {ContainerId("alone"): Usage(1.5, 0.5, 1 << 20, 3, 999.0)}
        self.bench.give(UsageRead(usage))
        call = Call(type="GET_CONTAINERS", get_containers={"show_standalone": True})
        found = answers.containers(self.bench.state, call).get_containers.containers[-1]
        self.assertEqual(found.container_status.executor_pid, 1)
        self.assertEqual(found.resource_statistics.mem_rss_bytes, 1 << 20)


class Rights(SynchronousTestCase):
    """Who may do what."""

    class Nobody:
        """Allows nothing, and remembers what was asked."""

        def __init__(self) -> None:
            self.asked: list[tuple[str, Any]] = []

        def allows(self, principal: str | None, action: Any, thing: Any) -> bool:
            self.asked.append((action.name, thing))
            return False

    def test_each_call_asks_for_its_own_action(self) -> None:
        bench = NestedBench(OPTIONS)
        bench.register()
        bench.run(task(executor=custom_executor()))
        root = bench.container_of()
        bench.started(root)
        nobody = self.Nobody()
        who = Subject("kim", nobody)
        for verb in ("LAUNCH", "WAIT", "KILL", "REMOVE"):
            fields = {"command": {"value": "true", "user": "bob"}} if verb == "LAUNCH" else {}
            for path in ((root, "a"), ("alone",)):
                number = bench.ask(f"{verb}_CONTAINER", *path, who=who, **fields)
                self.assertEqual(bench.answer(number), (403, "403 Forbidden."))
                action, thing = nobody.asked.pop()
                kind = "NESTED" if len(path) > 1 else "STANDALONE"
                self.assertEqual(action, f"{verb}_{kind}_CONTAINER")
                self.assertEqual(thing.root, path[0])
                self.assertEqual(thing.values, ("alice",) if len(path) > 1 else None)
                self.assertEqual(thing.command is not None, verb == "LAUNCH")
        fields = {"command": {"value": "true"}}
        bench.ask("LAUNCH_NESTED_CONTAINER_SESSION", root, "a", who=who, **fields)
        self.assertEqual(nobody.asked.pop()[0], "LAUNCH_NESTED_CONTAINER_SESSION")
