"""A weighted shuffle: fair on average, and cheap where there are thousands of clients."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from mesoskit.allocator.sorter import ClientTree, Node, Pool


class Randomness(Protocol):
    """What is asked of a source of random numbers; a C{random.Random} will do."""

    def random(self) -> float:
        """Return a float that is at least 0.0 and less than 1.0."""


class RandomSorter(ClientTree):
    """
    A L{mesoskit.allocator.sorter.Sorter} that draws lots.

    A client's chance to come first is the product of the weights along its path, each as a part
    of the weights of its siblings with active clients (Mesos' --role_sorter=random).
    """

    def __init__(self, pool: Pool, randomness: Randomness) -> None:
        super().__init__(pool)
        self._randomness = randomness
        self._lots: list[str] | None = None
        self._chances: list[float] = []

    def sort(self, among: Collection[str] | None = None) -> Iterable[str]:
        """Return the active clients in a freshly drawn order."""
        if self._lots is None:
            self._reckon()
        assert self._lots is not None
        clients, chances = self._lots, self._chances
        if among is not None:
            chosen = [(c, w) for c, w in zip(clients, chances, strict=True) if c in among]
            clients, chances = [c for c, _ in chosen], [w for _, w in chosen]
        if len(set(chances)) <= 1:
            return self._shuffle(list(clients))
        # Sorting by u^(1/w) draws without replacement in proportion to w (Efraimidis and
        # Spirakis, 2006).
        draw = self._randomness.random
        mean = sum(chances) / len(chances)
        keys = [(-(draw() ** (mean / chance)), i) for i, chance in enumerate(chances)]
        keys.sort()
        return [clients[i] for _, i in keys]

    def _shuffle(self, clients: list[str]) -> Iterator[str]:
        """Draw one client after another: a caller who stops early pays for no more."""
        draw = self._randomness.random
        count = len(clients)
        for i in range(count):
            j = i + int(draw() * (count - i))
            clients[i], clients[j] = clients[j], clients[i]
            yield clients[i]

    def _reshaped(self) -> None:
        self._lots = None

    def allocated(self, client: str, quantities: object) -> None:
        """Note that a client was given something: no matter here."""

    def unallocated(self, client: str, quantities: object) -> None:
        """Note that a client gave something back: no matter here."""

    def adjusted(self, client: str, less: object, more: object) -> None:
        """Note that what a client holds changed its shape: no matter here."""

    def share(self, path: str) -> float:
        """Return 0.0: shares are not reckoned where lots are drawn."""
        return 0.0

    def _reckon(self) -> None:
        """Work out every active client's chance."""
        self._lots = []
        self._chances = []
        below: list[tuple[Node, float]] = [(self._root, 1.0)]
        while below:
            node, chance = below.pop()
            if node.client is not None:
                self._lots.append(node.client)
                self._chances.append(chance)
                continue
            children = [child for child in node.children.values() if child.actives]
            weights = [self._weights.get(child.path, 1.0) for child in children]
            whole = sum(weights)
            below.extend(
                (child, chance * weight / whole)
                for child, weight in zip(children, weights, strict=True)
            )
