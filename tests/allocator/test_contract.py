"""The allocators that there are, held to the contract."""

from dataclasses import replace
from random import Random

from mesoskit.allocator.hierarchical import HierarchicalAllocator
from mesoskit.allocator.interface import AllocatorError, IAllocator
from mesoskit.allocator.options import Options
from tests.allocator.contract import AllocatorContract


class FairTests(AllocatorContract):
    """The hierarchical allocator by dominant resource fairness."""

    def make(self, options: Options) -> IAllocator:
        return HierarchicalAllocator(options)


class RandomTests(AllocatorContract):
    """The same by lots."""

    def make(self, options: Options) -> IAllocator:
        drawn = replace(options, role_sorter="random", framework_sorter="random")
        return HierarchicalAllocator(drawn, Random(5))

    def test_it_needs_randomness(self):
        self.assertRaises(AllocatorError, HierarchicalAllocator, Options(role_sorter="random"))


del AllocatorContract
