"""Dominant resource fairness: who has the least of what he has most of goes first.

The rule is that of Ghodsi et al., I{Dominant Resource Fairness} (NSDI 2011), in the form Mesos
gives it: share over weight; among equals who was chosen less often; among those, by path.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, Mapping
from operator import itemgetter

from mesoskit.allocator.sorter import ClientTree, Entry, Node, SorterError

_path = itemgetter(2)
_FEW = 8
"""Up to this many moved children are put in place one by one; more by sorting them all."""


class DRFSorter(ClientTree):
    """
    A L{mesoskit.allocator.sorter.Sorter} by dominant share.

    Each node keeps its children in order. What changes a child's share only marks it; its place
    is found when the order is next asked for, so that a client which changes a hundred times
    between two passes is moved once, and one that changes moves alone.
    """

    def sort(self, among: Collection[str] | None = None) -> Iterable[str]:
        """Return the active clients, least dominant share over weight first."""
        pool = self._pool
        if pool.stale:
            pool.settle()
        root = self._root
        if among is not None:
            if len(among) <= _FEW:
                return self._few(among)
            return filter(among.__contains__, self._walk(root))
        if self._inner:
            return self._walk(root)
        if root.touched or root.version != pool.version:
            self._refresh(root)
        return map(_path, root.order)

    def allocated(self, client: str, quantities: Mapping[str, int]) -> None:
        """Note that a client was given this much, by one allocation."""
        node = self._clients.get(client) or self._leaf(client)
        while (parent := node.parent) is not None:
            allocation = node.allocation
            for name, quantity in quantities.items():
                allocation[name] = allocation.get(name, 0) + quantity
            node.count += 1
            if not node.stale:
                node.stale = True
                parent.touched.append(node)
            node = parent

    def unallocated(self, client: str, quantities: Mapping[str, int]) -> None:
        """Note that a client gave this much back."""
        node = self._clients.get(client) or self._leaf(client)
        while (parent := node.parent) is not None:
            allocation = node.allocation
            for name, quantity in quantities.items():
                allocation[name] = allocation.get(name, 0) - quantity
            if not node.stale:
                node.stale = True
                parent.touched.append(node)
            node = parent

    def adjusted(self, client: str, less: Mapping[str, int], more: Mapping[str, int]) -> None:
        """Note that what a client holds changed its shape; it is no further allocation."""
        self.unallocated(client, less)
        node = self._clients.get(client) or self._leaf(client)
        while node.parent is not None:
            for name, quantity in more.items():
                node.allocation[name] = node.allocation.get(name, 0) + quantity
            node = node.parent

    def share(self, path: str) -> float:
        """Return the dominant share over weight of a client, or of a node above clients."""
        node = self._clients.get(path) or self._find(path)
        if node is None:
            raise SorterError(f"{path!r} is neither a client nor above one")
        return self._pool.share(node.allocation) / self._weights.get(node.path, 1.0)

    def _moved(self, node: Node) -> None:
        node.touch()

    def _walk(self, node: Node) -> Iterator[str]:
        if node.touched or node.version != self._pool.version:
            self._refresh(node)
        for entry in node.order:
            child = entry[3]
            if child.client is not None:
                yield child.client
            else:
                yield from self._walk(child)

    def _few(self, among: Collection[str]) -> list[str]:
        """Order a handful of clients without walking past all the others."""
        leaves = [leaf for name in among if (leaf := self._clients.get(name)) and leaf.actives]
        if len(leaves) > 1:
            leaves.sort(key=self._standing)
        return [leaf.client for leaf in leaves if leaf.client is not None]

    def _standing(self, leaf: Node) -> list[tuple[float, int, str]]:
        """Return a leaf's key and those of the nodes above it, topmost first."""
        keys = []
        node = leaf
        while (parent := node.parent) is not None:
            if parent.touched or parent.version != self._pool.version:
                self._refresh(parent)
            assert node.entry is not None
            keys.append(node.entry[:3])
            node = parent
        keys.reverse()
        return keys

    def _entry(self, node: Node) -> Entry:
        share = 0.0
        get = node.allocation.get
        for name, total in self._pool.basis:
            held = get(name)
            if held and held / total > share:
                share = held / total
        if self._weights:
            share /= self._weights.get(node.path, 1.0)
        return (share, node.count, node.path, node)

    def _refresh(self, node: Node) -> None:
        """Bring a node's order up to date."""
        touched = node.touched
        if node.version != self._pool.version:
            node.version = self._pool.version
            moved = list(node.children.values())
            kept: list[Entry] = []
        else:
            moved = touched
            if len(moved) <= _FEW:
                self._move(node, moved)
                touched.clear()
                return
            for child in moved:
                child.entry = None
            kept = [entry for entry in node.order if entry[3].entry is not None]
        for child in touched:
            child.stale = False
        for child in moved:
            if child.actives and child.parent is node:
                child.entry = self._entry(child)
                kept.append(child.entry)
        kept.sort()
        node.order = kept
        touched.clear()

    def _move(self, node: Node, moved: list[Node]) -> None:
        order = node.order
        for child in moved:
            child.stale = False
            if child.parent is not node:
                continue
            old = child.entry
            if not child.actives:
                continue
            new = self._entry(child)
            if old is not None:
                del order[bisect_left(order, old)]
            insort(order, new)
            child.entry = new
