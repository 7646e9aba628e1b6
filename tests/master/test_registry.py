"""What the registry holds, and what becomes of a master that cannot write it."""

from __future__ import annotations

from dataclasses import replace

from mesoskit.allocator.hierarchical import HierarchicalAllocator
from mesoskit.master.options import MasterOptions
from mesoskit.master.registry import Registry, RegistryError
from mesoskit.master.state import MasterState
from mesoskit.messages.mesos_pb2 import MasterInfo
from mesoskit.model.events import Recovered, StoreFailed
from mesoskit.model.ids import AgentId, Ids
from tests.base import SynchronousTestCase
from tests.master.bench import Bench, stops


class RegistryTests(SynchronousTestCase):
    """Reading and writing."""

    def test_leading_master_writes_itself_down_first(self) -> None:
        bench = Bench()
        self.assertEqual(bench.state.info, MasterInfo.FromString(bench.stored["master"]))

    def test_what_was_written_is_read_back(self) -> None:
        bench = Bench()
        _, first = bench.register("one.example")
        _, second = bench.register("two.example")
        bench.run_until(75)
        self.assertEqual(
            {"master", f"unreachable/{first}", f"unreachable/{second}"}, set(bench.stored)
        )
        again = Registry(bench.stored)
        self.assertEqual({first: 75 * 10**9, second: 75 * 10**9}, again.unreachable)
        self.assertEqual(bench.state.info, again.master)
        after = Bench(bench.stored, seed=b"another")
        self.assertEqual(bench.state.unreachable, after.state.unreachable)

    def test_admitted_agents_are_awaited(self) -> None:
        bench = Bench()
        _, agent_id = bench.register("one.example")
        after = Bench(bench.stored, seed=b"another")
        self.assertEqual([agent_id], list(after.state.recovered))
        self.assertEqual("one.example", after.state.recovered[agent_id].hostname)

    def test_broken_entry_is_named(self) -> None:
        with self.assertRaises(RegistryError) as raised:
            Registry({"agents/S0": b"\xff\xff"})
        self.assertIn("'agents/S0'", str(raised.exception))

    def test_master_does_not_start_on_a_broken_registry(self) -> None:
        state = MasterState(MasterOptions(), Ids(bytes(16)), HierarchicalAllocator())
        (stop,) = state.handle(0.0, Recovered({"gone/S0": b"\xff"}))
        self.assertEqual(1, stop.status)
        self.assertIn("'gone/S0' cannot be read", stop.why)

    def test_keys_of_others_are_left_alone(self) -> None:
        read = Registry({"quota/role": b"whatever", "gone/S1": b"\x08\x07"})
        self.assertEqual({AgentId("S1"): 7}, read.gone)

    def test_master_that_cannot_write_stops(self) -> None:
        bench = Bench()
        (stop,) = stops(bench.give(StoreFailed((("agents/S0", b"x"),), "disk full")))
        self.assertEqual(1, stop.status)
        self.assertEqual("The registry could not be written (agents/S0): disk full", stop.why)


class OptionsTests(SynchronousTestCase):
    """What cannot be set."""

    def test_what_cannot_work_is_refused(self) -> None:
        for name, value in (
            ("agent_ping_timeout", 0.0),
            ("max_agent_ping_timeouts", 0),
            ("offer_timeout", 0.0),
            ("max_completed_frameworks", -1),
            ("registry_gc_interval", float("nan")),
        ):
            with self.assertRaises(ValueError) as raised:
                replace(MasterOptions(), **{name: value})  # type: ignore[arg-type]
            self.assertIn(name, str(raised.exception))
