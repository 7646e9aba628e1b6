"""An agent that starts again after its machine did, or finds its records damaged."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mesoskit.agent.container import (
    ContainerExited,
    Destroy,
    RecoveredContainers,
)
from mesoskit.agent.phase import Phase
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.executor_pb2 import Event
from mesoskit.messages.mesos_pb2 import TaskState
from mesoskit.model.events import Connected, PeerKind, Recovered, Stop, Store
from mesoskit.model.ids import ContainerId
from tests.agent.bench import (
    AGENT_ID,
    FRAMEWORK_ID,
    MASTER,
    OWN_RECORDS,
    Bench,
    custom_executor,
    task,
)
from tests.agent.restarts import ReconnectTestCase, keeping
from tests.agent.test_failures import FullDisk


class RebootTests(ReconnectTestCase):
    """The machine was started again."""

    def test_all_is_known_to_be_dead(self) -> None:
        bench = self.before()
        bench.run(task(), task("u", executor=custom_executor()), info=keeping())
        bench.run_group(task("one"), task("two"), info=keeping())
        for name in ("t", "one", "two"):
            bench.start(name)
        bench.subscribe()
        bench.acknowledge()
        known = bench.container_of("t")
        for exited in ({}, {bench.container_of(name): None for name in ("t", "u", "one")}):
            after = self.again(bench, {}, exited, boot_id="boot-2")
            self.accept(after)
            after.acknowledge()
            names = "one", "t", "two", "u"
            expected = [(name, "TASK_GONE") for name in names]
            self.assertEqual(sorted(set(after.updates())), expected)
            self.assertIn("machine restarted", after.last().message)
            after.wait(0.1)
            self.assertEqual(after.store["agent/life"], b"2 boot-2")
            self.assertEqual(after.records(), OWN_RECORDS)
        after = self.again(bench, {}, {known: 0}, boot_id="boot-2")
        self.accept(after)
        self.assertIn(("t", "TASK_FINISHED"), after.updates())

    def test_another_machine_than_before_is_a_new_agent(self) -> None:
        bench = self.before()
        bench.run(task(), info=keeping())
        after = self.again(bench, boot_id="boot-2", hostname="other")
        self.assertIsInstance(after.sent[-1], internal.RegisterSlaveMessage)
        self.assertEqual(after.store, {})
        self.assertEqual(after.state.tasks, {})
        after.accept()
        self.assertEqual(after.records(), OWN_RECORDS)

    def test_without_a_reboot_it_is_refused(self) -> None:
        after = self.again(self.before(), hostname="other")
        (stop,) = [one for one in after.others if isinstance(one, Stop)]
        self.assertIn("hostname was host.example and is other", stop.why)


class DamageTests(ReconnectTestCase):
    """Records that cannot be read."""

    def damaged(self) -> tuple[Bench, ContainerId, ContainerId]:
        bench = self.before()
        bench.run(task("good"), task("bad"), info=keeping())
        for name in ("good", "bad"):
            bench.start(name)
        bench.acknowledge()
        bench.store[f"tasks/{FRAMEWORK_ID}/bad/bad"] = b"command torn"
        return bench, bench.container_of("good"), bench.container_of("bad")

    def test_strict_agent_does_not_start_and_says_how_to_go_on(self) -> None:
        bench, _, _ = self.damaged()
        after = Bench(self.options, bench.store)
        after.give(Recovered(bench.store.copy()))
        (stop,) = [one for one in after.others if isinstance(one, Stop)]
        for part in ("tasks/m-0000/bad/bad", "/w/checkpoints.sqlite", "--strict=false"):
            self.assertIn(part, stop.why)
        self.assertEqual(after.state.recovery.errors, 1)
        self.assertEqual(after.hands, [])

    def test_other_agent_goes_on_with_what_can_be_read(self) -> None:
        bench, good, bad = self.damaged()
        after = self.again(bench, {good: 7, bad: 8}, strict=False)
        self.assertEqual(after.state.recovery.errors, 1)
        self.assertEqual(after.hands, [Destroy(bad)])
        self.assertEqual(self.reported(after), {"good": "TASK_RUNNING"})
        message = internal.SlaveReregisteredMessage()
        message.slave_id.value = AGENT_ID
        asked = message.reconciliations.add()
        asked.framework_id.value = FRAMEWORK_ID
        asked.framework.CopyFrom(keeping())
        asked.statuses.add(state=TaskState.TASK_RUNNING).task_id.value = "bad"
        after.receive(message)
        after.acknowledge()
        after.exit("good", 0)
        after.acknowledge()
        self.assertIn(("good", "TASK_FINISHED"), after.updates())
        self.assertEqual(after.records() - OWN_RECORDS, set())

    def busy(self) -> Bench:
        bench = self.before()
        bench.run(task("t"), task("u", executor=custom_executor()), info=keeping())
        bench.run_group(task("one"), task("two"), info=keeping())
        for name in ("t", "one", "two"):
            bench.start(name)
        bench.subscribe()
        bench.kill("t")
        return bench

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_however_many_records_are_mixed_up_it_goes_on(self, data: st.DataObject) -> None:
        bench = self.busy()
        running = {bench.container_of(name): 7 for name in ("t", "u", "one", "two")}
        names = sorted(bench.store)
        for name in data.draw(st.lists(st.sampled_from(names), max_size=6)):
            other = data.draw(st.sampled_from(names))
            value = bench.store.get(other, b"")
            what = data.draw(st.sampled_from(("cut", "lose", "swap", "move", "write")))
            if what == "lose":
                bench.store.pop(name, None)
            elif what == "move":
                bench.store[data.draw(st.sampled_from((f"{name}x", f"{name}/x", "x", "")))] = value
            elif what == "write":
                bench.store[name] = data.draw(st.binary(max_size=40))
            else:
                bench.store[name] = value[: len(value) // 2] if what == "cut" else value
        kept = {one: pid for one, pid in running.items() if data.draw(st.booleans())}
        strict = Bench(self.options, bench.store)
        strict.give(Recovered(bench.store.copy()))
        after = self.again(bench, kept, strict=False)
        stops = [one.why for one in after.others if isinstance(one, Stop)]
        if stops:
            # Half of the agent's own record may well be that of another one.
            self.assertRegex(stops[0], "Incompatible agent info|written by a newer agent")
            return
        after.wait(2.1)
        if after.state.agent_id:
            self.accept(after)
        else:
            after.accept()
        for _ in range(4):
            after.acknowledge(20)
            for container in list(kept):
                after.give(ContainerExited(ContainerId(container), 9))
            after.wait(20)
        self.assertEqual(after.records(), OWN_RECORDS)

    def test_whatever_is_damaged_it_goes_on(self) -> None:
        bench = self.busy()
        store = dict(bench.store)
        for key, data in store.items():
            for broken in (b"", data[: len(data) // 2], b"\xff" + data, data + b"\xff\xff"):
                bench.store = {**store, key: broken}
                after = self.again(bench, strict=False)
                self.accept(after) if after.state.agent_id else after.accept()
                after.acknowledge(20)
                after.wait(100)
                after.acknowledge(20)
                self.assertEqual(after.records(), OWN_RECORDS, key)
                self.assertEqual(after.state.tasks, {})

    def test_records_of_a_newer_agent_are_refused_however_lenient(self) -> None:
        bench = self.before()
        bench.store["agent/life"] = b"3 boot-1"
        for strict in (True, False):
            after = self.again(bench, strict=strict)
            (stop,) = [one for one in after.others if isinstance(one, Stop)]
            self.assertIn("written by a newer agent: their layout is 3", stop.why)

    def test_records_of_before_are_read_and_marked(self) -> None:
        bench = self.before()
        bench.run(task(executor=custom_executor()), info=keeping(), launch=True)
        for key in [key for key in bench.store if key.startswith(("agent/life", "notes/"))]:
            del bench.store[key]
        after = self.again(bench, {bench.container_of(): 7})
        # Whether it had subscribed was not written then: nothing is given to it twice.
        self.assertFalse(after.state.recovery.done)
        after.subscribe()
        self.assertEqual(after.heard(), ["SUBSCRIBED"])
        after.wait(0.1)
        self.assertEqual(after.store["agent/life"], b"2 boot-1")

    def test_full_disk_at_recovery_keeps_nothing_from_running(self) -> None:
        bench = self.before()
        bench.run(task("t"), task("u"), task("v", executor=custom_executor()), info=keeping())
        for name in ("t", "u"):
            bench.start(name)
        bench.update(bench.subscribe(), 1, "v")
        bench.acknowledge()
        t, u = bench.container_of("t"), bench.container_of("u")
        v = bench.container_of("v")

        def full(*arguments: Any) -> FullDisk:
            disk = FullDisk(*arguments)
            disk.full = True
            return disk

        after = self.again(bench, {t: 7, v: 8}, {u: 0}, make=full, boot_id="boot-1")
        after.subscribe()
        self.accept(after)
        self.assertEqual(after.updates(), [("u", "TASK_FINISHED")])
        self.assertEqual(after.state.phase, Phase.RUNNING)
        self.assertEqual([one for one in after.hands if isinstance(one, Destroy)], [])
        assert isinstance(after, FullDisk)
        after.full = False
        after.wait(30)
        after.acknowledge()
        self.assertIn(f"tasks/{FRAMEWORK_ID}/t/t", after.store)
        self.assertNotIn(f"tasks/{FRAMEWORK_ID}/u/u", after.store)

    def test_containers_are_not_heard_twice(self) -> None:
        bench = self.before()
        bench.run(task(), info=keeping())
        bench.start()
        after = self.again(bench, {bench.container_of(): 7})
        self.assertEqual(after.give(RecoveredContainers()), [])


class WordsTests(ReconnectTestCase):
    """What is said between executors and agent has the types that the tests rely on."""

    def test_what_is_stored_of_an_idle_agent(self) -> None:
        bench = Bench(self.options)
        bench.recover()
        bench.give(Connected(MASTER, PeerKind.MASTER, "127.0.0.1:5050"))
        message = internal.SlaveRegisteredMessage()
        message.slave_id.value = AGENT_ID
        effects = bench.receive(message)
        (store,) = [one for one in effects if isinstance(one, Store)]
        self.assertEqual({key for key, _ in store.changes}, OWN_RECORDS)
        self.assertEqual(bench.store["agent/life"], b"2 boot-1")
        self.assertEqual(Event.Type.Name(Event.KILL), "KILL")
