"""The order in which clients are served: a narrow door, and the tree behind it.

A sorter knows clients by name (roles, or the frameworks of one role), how much each holds,
and nothing else. The allocator asks it for an order; who may have what is not its business.

Roles form a tree (C{eng/web} is a child of C{eng}), and so do a sorter's clients. As in Mesos
(src/master/allocator/mesos/sorter/drf/sorter.hpp), a client that has children of its own competes
with them as a virtual leaf named C{"."} under its node.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol, TypeAlias

Entry: TypeAlias = "tuple[float, int, str, Node]"
"""A child's place among its siblings: share, allocations ever made, path, and the child itself."""


class SorterError(Exception):
    """A client was added twice, or one was named that a sorter does not know."""


class Sorter(Protocol):
    """
    What the allocator asks of an order of clients.

    Clients are added inactive; only active ones are sorted. Quantities are of scalar
    resources, by name, in thousandths.
    """

    def add(self, client: str) -> None:
        """Take in a client, inactive and holding nothing; L{SorterError} if it is there."""

    def remove(self, client: str) -> None:
        """Forget a client and what it holds."""

    def activate(self, client: str) -> None:
        """Let a client be sorted."""

    def deactivate(self, client: str) -> None:
        """Leave a client out of the order; what it holds still counts for its ancestors."""

    def update_weight(self, path: str, weight: float) -> None:
        """Give a client, or an inner node of the tree, a weight; it may come before the client."""

    def allocated(self, client: str, quantities: Mapping[str, int]) -> None:
        """Note that a client was given this much, by one allocation."""

    def unallocated(self, client: str, quantities: Mapping[str, int]) -> None:
        """Note that a client gave this much back."""

    def adjusted(self, client: str, less: Mapping[str, int], more: Mapping[str, int]) -> None:
        """Note that what a client holds changed its shape; it is no further allocation."""

    def sort(self, among: Collection[str] | None = None) -> Iterable[str]:
        """
        Return the active clients, first to be served first.

        C{allocated}, C{unallocated} and C{adjusted} may be called while the result is
        walked and do not change it; any other verb ends it.

        @param among: only these clients, in the same order.
        """

    def share(self, path: str) -> float:
        """Return the dominant share over weight of a client, or of a node above clients."""

    def contains(self, client: str) -> bool:
        """Tell whether the client was added."""

    def count(self) -> int:
        """Return how many clients there are, active or not."""


class Pool:
    """
    What all sorters of an allocator divide: the cluster's total scalar quantities.

    A changed total changes every client's share, but seldom the order: where all totals grow
    by the same factor, every share shrinks by it. So sorters order by a I{basis}, the totals as
    they stood when the basis was last taken, and the basis is taken anew only when some resource
    has drifted against another by more than C{tolerance}. Agents of one shape may then come and
    go by the thousand without a single client being sorted again.

    @ivar basis: pairs of name and total that shares are reckoned by.
    @ivar version: grows whenever C{basis} is taken anew.
    @ivar stale: the totals changed since L{settle} last looked.
    """

    __slots__ = ("_excluded", "_tolerance", "_totals", "basis", "stale", "version")

    def __init__(self, excluded: Collection[str] = (), tolerance: float = 0.001) -> None:
        self._excluded = frozenset(excluded)
        self._tolerance = tolerance
        self._totals: dict[str, int] = {}
        self.basis: tuple[tuple[str, int], ...] = ()
        self.version = 0
        self.stale = False

    @property
    def totals(self) -> Mapping[str, int]:
        """The totals, thousandths by name."""
        return self._totals

    def add(self, quantities: Mapping[str, int]) -> None:
        """Count in what an agent has."""
        for name, quantity in quantities.items():
            self._totals[name] = self._totals.get(name, 0) + quantity
        self.stale = True

    def subtract(self, quantities: Mapping[str, int]) -> None:
        """Count out what an agent had."""
        for name, quantity in quantities.items():
            left = self._totals.get(name, 0) - quantity
            if left:
                self._totals[name] = left
            else:
                self._totals.pop(name, None)
        self.stale = True

    def settle(self) -> None:
        """Take the basis anew if the totals have drifted too far from it."""
        self.stale = False
        current = {
            name: total
            for name, total in self._totals.items()
            if total > 0 and name not in self._excluded
        }
        if len(current) == len(self.basis) and all(name in current for name, _ in self.basis):
            drifts = [current[name] / total for name, total in self.basis]
            if not drifts or max(drifts) <= min(drifts) * (1 + self._tolerance):
                return
        self.basis = tuple(sorted(current.items()))
        self.version += 1

    def share(self, quantities: Mapping[str, int]) -> float:
        """Return the dominant share of some quantities in the totals as they are now."""
        return max(
            (
                quantities.get(name, 0) / total
                for name, total in self._totals.items()
                if total > 0 and name not in self._excluded
            ),
            default=0.0,
        )


class Node:
    """
    A node of a sorter's tree: a client (a leaf) or what holds clients together.

    @ivar path: names from the root down, joined by C{/}; a virtual leaf's ends in C{/.}.
    @ivar client: the client's name, L{None} for inner nodes.
    @ivar actives: active clients in the subtree; for a leaf 1 or 0.
    @ivar allocation: what the subtree's clients hold, thousandths by name.
    @ivar count: allocations ever made to the subtree, so that equals take turns.
    @ivar entry: this node's place in its parent's C{order}; L{None} if it has none.
    @ivar order: the entries of children with active clients, always sorted, perhaps out of date:
    @ivar touched: children whose place has to be found again; those have C{stale} set.
    @ivar version: the L{Pool.version} by which C{order} was made.
    """

    __slots__ = (
        "actives",
        "allocation",
        "children",
        "client",
        "count",
        "entry",
        "name",
        "order",
        "parent",
        "path",
        "stale",
        "touched",
        "version",
    )

    def __init__(self, name: str, parent: Node | None) -> None:
        self.name = name
        self.parent = parent
        self.path: str = name if parent is None or not parent.path else f"{parent.path}/{name}"
        self.children: dict[str, Node] = {}
        self.client: str | None = None
        self.actives = 0
        self.allocation: dict[str, int] = {}
        self.count = 0
        self.entry: Entry | None = None
        self.order: list[Entry] = []
        self.touched: list[Node] = []
        self.stale = False
        self.version = -1

    def touch(self) -> None:
        """Have this node's place among its siblings found again before it is next asked for."""
        if not self.stale and self.parent is not None:
            self.stale = True
            self.parent.touched.append(self)

    def unplace(self) -> None:
        """Take this node out of its parent's order."""
        if self.entry is not None and self.parent is not None:
            order = self.parent.order
            del order[bisect_left(order, self.entry)]
            self.entry = None


class ClientTree:
    """
    Clients and their weights as a tree: what every sorter here is built on.

    @ivar _inner: how many inner nodes there are below the root; with none the order is flat.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._root = Node("", None)
        self._clients: dict[str, Node] = {}
        self._weights: dict[str, float] = {}
        self._inner = 0

    def add(self, client: str) -> None:
        """Take in a client, inactive and holding nothing; L{SorterError} if it is there."""
        if client in self._clients:
            raise SorterError(f"client {client!r} was added before; add it once")
        node = self._root
        for name in client.split("/"):
            if node.client is not None:
                self._branch(node)
            child = node.children.get(name)
            if child is None:
                child = node.children[name] = Node(name, node)
                self._inner += 1
            node = child
        if node.children:
            node = self._virtual(node)
            self._inner += 1
        node.client = client
        self._clients[client] = node
        self._inner -= 1
        self._reshaped()

    def remove(self, client: str) -> None:
        """Forget a client and what it holds."""
        leaf = self._leaf(client)
        self.deactivate(client)
        del self._clients[client]
        for name, quantity in leaf.allocation.items():
            node = leaf.parent
            while node is not None and node.parent is not None:
                node.allocation[name] -= quantity
                node = node.parent
        self._inner += 1
        leaf.client = None
        self._prune(leaf)
        self._reshaped()

    def activate(self, client: str) -> None:
        """Let a client be sorted."""
        node: Node | None = self._leaf(client)
        if node is None or node.actives:
            return
        while node is not None:
            node.actives += 1
            self._moved(node)
            node = node.parent
        self._reshaped()

    def deactivate(self, client: str) -> None:
        """Leave a client out of the order; what it holds still counts for its ancestors."""
        node: Node | None = self._leaf(client)
        if node is None or not node.actives:
            return
        while node is not None:
            node.actives -= 1
            if not node.actives:
                node.unplace()
            node = node.parent
        self._reshaped()

    def update_weight(self, path: str, weight: float) -> None:
        """Give a client, or an inner node of the tree, a weight; it may come before the client."""
        self._weights[path] = weight
        node = self._find(path)
        if node is not None:
            self._moved(node)
        self._reshaped()

    def contains(self, client: str) -> bool:
        """Tell whether the client was added."""
        return client in self._clients

    def count(self) -> int:
        """Return how many clients there are, active or not."""
        return len(self._clients)

    def _reshaped(self) -> None:
        """Hear that clients came, went, woke or slept, or that a weight changed."""

    def _moved(self, node: Node) -> None:
        """Hear that a node's place among its siblings may be another now."""

    def _leaf(self, client: str) -> Node:
        node = self._clients.get(client)
        if node is None:
            raise SorterError(f"no client {client!r} here; add it first")
        return node

    def _find(self, path: str) -> Node | None:
        """Return the node at a path: where a client has children, the node above them all."""
        node: Node | None = self._root
        for name in path.split("/"):
            if node is None:
                return None
            node = node.children.get(name)
        return node

    def _virtual(self, node: Node) -> Node:
        virtual = node.children["."] = Node(".", node)
        return virtual

    def _branch(self, node: Node) -> None:
        """Turn a leaf into an inner node with its client as the virtual leaf below it."""
        virtual = self._virtual(node)
        virtual.client, node.client = node.client, None
        virtual.actives = node.actives
        virtual.allocation = dict(node.allocation)
        virtual.count = node.count
        self._moved(virtual)
        assert virtual.client is not None
        self._clients[virtual.client] = virtual
        self._inner += 1

    def _prune(self, node: Node) -> None:
        """Remove a node without children, and what is superfluous above it."""
        while (parent := node.parent) is not None:
            if not node.children and node.client is None:
                node.unplace()
                del parent.children[node.name]
                node.parent = None
                self._inner -= 1
            elif len(node.children) == 1 and "." in node.children:
                virtual = node.children.pop(".")
                virtual.parent = None
                node.order.clear()
                node.touched.clear()
                node.client, virtual.client = virtual.client, None
                assert node.client is not None
                self._clients[node.client] = node
                self._inner -= 1
            node = parent
