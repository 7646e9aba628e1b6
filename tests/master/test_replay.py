"""A recorded list of events leads to the identical state and effects."""

from __future__ import annotations

from mesoskit.allocator.hierarchical import HierarchicalAllocator
from mesoskit.allocator.options import Options as AllocatorOptions
from mesoskit.master.state import MasterState
from mesoskit.model.ids import Ids
from tests.base import SynchronousTestCase
from tests.master.bench import SEED, accept, task
from tests.master.test_machine import ClusterMachine


class ReplayTests(SynchronousTestCase):
    """Events, given again."""

    def test_recorded_events_give_the_same_effects_again(self) -> None:
        machine = ClusterMachine()
        machine.new_agent(4)
        machine.new_agent(2)
        machine.new_framework(True, True, 1000.0)
        machine.new_framework(False, False, 0.0)
        machine.time_passes(1.0)
        for framework in machine.frameworks:
            for offer in list(framework.offers.values()):
                del framework.offers[offer.id.value]
                machine.tasks += 1
                assert framework.link is not None
                infos = [task(offer, f"t{machine.tasks}"), task(offer, "big", "cpus:99;mem:1")]
                machine.give(machine.bench.receive(framework.link, accept(offer, *infos)))
        for _ in range(3):
            machine._settle()
        machine._lose(machine.agents[0])
        machine.time_passes(100.0)
        machine._come_back(machine.agents[0])
        machine._lose(machine.frameworks[1])
        machine.time_passes(5.0)
        first = machine.bench
        self.assertGreater(len(first.events), 40)
        states = [
            MasterState(first.options, Ids(SEED), HierarchicalAllocator(AllocatorOptions()), 0.0)
            for _ in range(2)
        ]
        for now, event in first.events:
            one, other = [state.handle(now, event) for state in states]
            self.assertEqual(one, other)
            self.assertEqual(states[0].deadline(), states[1].deadline())
        for state in states:
            self.assertEqual(first.state.metrics(), state.metrics())
            self.assertEqual(list(first.state.past.entries), list(state.past.entries))
