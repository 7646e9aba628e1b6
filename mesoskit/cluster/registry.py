"""
The master's registry in ZooKeeper: a L{store<mesoskit.cluster.store.IStore>} for whoever leads.

It is below the cluster's own path, in C{mesoskit_registry}, which Mesos' tools pass over as they
pass over C{log_replicas}.

==========================  ==============================================================
C{mesoskit_registry}        who may write: the epoch of the master that led last (the fence)
C{.../log/<number>}         a group of changes each, oldest first
C{.../buckets/<00 to ff>}   what all earlier groups came to, a bucket for each hash of a key
==========================  ==============================================================

A group of changes is one node in the log, written in one transaction that holds only while the
fence is as this master has set it. So a change costs what it is long, however large the registry
is; and a master that was deposed and does not know it writes nothing any more. Groups that wait
for the one under way go with the next. From time to time what the log says is folded into the
buckets, and the log cut off; what it says twice comes to the same.

A write whose answer is lost is written again under its old number, for as long as the caller waits:
the servers may choose a leader of their own meanwhile.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred, FirstError, fail, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.cluster.ensemble import (
    BadVersion,
    Check,
    Closed,
    Create,
    Delete,
    Ensemble,
    EnsembleError,
    NodeExists,
    NoNode,
    Operation,
    Set,
    Unavailable,
)
from mesoskit.cluster.registry_format import (
    BUCKETS,
    Fence,
    Part,
    bucket_of,
    check,
    decode_part,
    encode_part,
    pack,
    size,
    split,
    unpack,
    whole_groups,
)
from mesoskit.cluster.store import Change, StoreError

NODE: Final = "mesoskit_registry"

LONGEST_LOG: Final = 256
"""Nodes in the log after which it is folded, whatever their size."""

SMALLEST_FOLD: Final = 1_000_000
"""Bytes in the log below which it is not folded for its size."""

MOST: Final = 1000
"""Groups that may wait for the one under way."""

_AT_ONCE: Final = 64
_PAUSE: Final = 0.1


class ZooKeeperStore:
    """
    The registry, for one master's time as a leader.

    @param ensemble: a client, which the election has too; it is not closed with the store.
    @param clock: the reactor.
    @param path: of the cluster.
    @param epoch: says this master's epoch, when the registry is read.
    @param master: this master's name, for people who look.
    @param longest_log: nodes in the log after which it is folded.
    """

    log = Logger()

    def __init__(
        self,
        ensemble: Ensemble,
        clock: IReactorTime,
        path: str,
        epoch: Callable[[], int],
        master: str = "",
        *,
        longest_log: int = LONGEST_LOG,
    ) -> None:
        self._ensemble = ensemble
        self._clock = clock
        self._root = f"{path}/{NODE}"
        self._epoch = epoch
        self._master = master
        self._longest_log = longest_log
        self._fence: Check | None = None
        # What the servers are known to hold; by bucket, for that is how it is written.
        self._buckets: list[dict[str, bytes]] = [{} for _ in range(BUCKETS)]
        self._bytes = 0
        # Which nodes a bucket is in, and which buckets the log has changed.
        self._nodes: set[str] = set()
        self._touched: set[int] = set()
        self._log: list[int] = []
        self._log_bytes = 0
        self._next = 0
        self._waiting: deque[tuple[tuple[Change, ...], Deferred[None]]] = deque()
        self._writing = False
        self._folding = False
        # Why nothing is written any more.
        self._why = f"{self._root}: it was not read"
        self._closed = False

    # The contract.

    def load(self) -> "Deferred[dict[str, bytes]]":
        """
        Take the registry over and read all of it: from here on no earlier leader writes there.

        Fails with L{StoreError}, also where a later one has taken it over.
        """
        return Deferred.fromCoroutine(self._load())

    def apply(self, changes: Sequence[Change]) -> "Deferred[None]":
        """Write a group of changes, all or none."""
        if self._why:
            return fail(StoreError(self._why))
        if len(self._waiting) >= MOST:
            return fail(StoreError(f"{self._root}: {MOST} groups wait to be written already"))
        if not changes:
            return succeed(None)
        try:
            for change in changes:
                check(change)
        except StoreError as error:
            return fail(error)
        # Cancelled where nobody waits any more; what was begun is not taken back.
        answer: Deferred[None] = Deferred()
        self._waiting.append((tuple(changes), answer))
        if not self._writing:
            self._writing = True
            Deferred.fromCoroutine(self._write_all()).addErrback(self._broken)
        return answer

    def close(self) -> "Deferred[None]":
        """Write nothing more."""
        self._closed = True
        self._end(f"{self._root}: it was closed")
        return succeed(None)

    # Reading.

    async def _load(self) -> dict[str, bytes]:
        try:
            await self._take_over()
            await self._read()
        except EnsembleError as error:
            raise StoreError(str(error)) from error
        if self._closed:
            raise StoreError(f"{self._root}: it was closed while it was read")
        self._why = ""
        return {key: value for bucket in self._buckets for key, value in bucket.items()}

    async def _take_over(self) -> None:
        root = self._root
        ours = Fence(self._epoch(), self._master)
        for path in (root, f"{root}/log", f"{root}/buckets"):
            await self._insist(partial(self._ensemble.create_path, path, private=True))
        while self._fence is None:
            data, stat = await self._insist(lambda: self._ensemble.get(root))
            fence = Fence.decode(data)
            if fence == ours:
                # An earlier attempt, whose answer was lost.
                self._fence = Check(root, stat.version)
            elif fence.epoch >= ours.epoch:
                raise StoreError(
                    f"{root}: a master of epoch {fence.epoch} has led, and ours is {ours.epoch};"
                    " where the cluster's nodes were deleted, delete this one's data too"
                )
            else:
                try:
                    await self._ensemble.set(root, ours.encode(), stat.version)
                except (Unavailable, BadVersion) as error:
                    # Look what became of it.
                    if isinstance(error, Closed):
                        raise

    async def _read(self) -> None:
        root = self._root
        names = await self._insist(lambda: self._ensemble.get_children(f"{root}/buckets"))
        numbers = await self._insist(lambda: self._ensemble.get_children(f"{root}/log"))
        for name, data in await self._get_all(f"{root}/buckets", names):
            self._nodes.add(name)
            for key, value in unpack(data, f"{root}/buckets/{name}"):
                if value is not None:
                    self._buckets[bucket_of(key)][key] = value
                    self._bytes += len(value)
        parts: dict[int, Part] = {}
        for name, data in await self._get_all(f"{root}/log", numbers):
            number = _number(name, f"{root}/log/{name}")
            parts[number] = decode_part(data, f"{root}/log/{name}")
            self._log.append(number)
            self._log_bytes += len(data)
        self._log.sort()
        for changes in whole_groups(parts):
            self._keep(changes)
        self._next = self._log[-1] + 1 if self._log else 0

    async def _get_all(self, path: str, names: Sequence[str]) -> list[tuple[str, bytes]]:
        """Return what nodes hold, many at a time."""
        found: list[tuple[str, bytes]] = []
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            answers = await self._insist(partial(self._get_some, path, some))
            found += [(name, data) for name, (data, _) in zip(some, answers, strict=True)]
        return found

    def _get_some(self, path: str, names: Sequence[str]) -> "Deferred[Any]":
        asked = [self._ensemble.get(f"{path}/{name}") for name in names]
        return gatherResults(asked, consumeErrors=True).addErrback(_first_failure)

    # Writing.

    async def _write_all(self) -> None:
        """Write what waits, and what comes meanwhile."""
        groups: list[tuple[tuple[Change, ...], Deferred[None]]] = []
        try:
            while self._waiting:
                groups = self._take()
                changes = [change for group, _ in groups for change in group]
                await self._append(changes)
                self._keep(changes)
                for _, answer in groups:
                    _fire(answer)
        except StoreError as error:
            # Whatever came after it would not stand in order.
            self._end(str(error))
            for _, answer in groups:
                _fire(answer, error)
        finally:
            self._writing = False
        self._fold_if_due()

    def _take(self) -> list[tuple[tuple[Change, ...], "Deferred[None]"]]:
        """Return the groups that go into the next node: one, and as many as have room beside it."""
        taken = [self._waiting.popleft()]
        room = SMALLEST_FOLD // 4 - sum(map(size, taken[0][0]))
        while self._waiting:
            room -= sum(map(size, self._waiting[0][0]))
            if room < 0:
                break
            taken.append(self._waiting.popleft())
        return taken

    async def _append(self, changes: Sequence[Change]) -> None:
        parts = list(split(changes))
        first = self._next
        for index, part in enumerate(parts):
            number = self._next
            data = encode_part(Part(first, index < len(parts) - 1, part))
            path = f"{self._root}/log/{number:010d}"
            await self._commit([Create(path, data, private=True)], done=NodeExists)
            self._next = number + 1
            self._log.append(number)
            self._log_bytes += len(data)

    def _keep(self, changes: Sequence[Change]) -> None:
        for key, value in changes:
            number = bucket_of(key)
            bucket = self._buckets[number]
            self._touched.add(number)
            self._bytes += len(value or b"") - len(bucket.get(key, b""))
            if value is None:
                bucket.pop(key, None)
            else:
                bucket[key] = value

    async def _commit(
        self, operations: Sequence[Operation], done: type[EnsembleError] | None = None
    ) -> None:
        """
        Do this, if nobody has taken the registry over.

        @param done: what a repetition fails with if the first attempt was carried out.
        """
        fence = self._fence
        assert fence is not None
        repeated = False
        while True:
            try:
                await self._ensemble.multi([fence, *operations])
                return
            except Unavailable as error:
                if isinstance(error, Closed) or self._why:
                    raise StoreError(self._why or str(error)) from None
                repeated = True
            except EnsembleError as error:
                if done is not None and repeated and isinstance(error, done):
                    return
                late = isinstance(error, BadVersion)
                why = f"{self._root}: a later master has taken it over" if late else str(error)
                raise StoreError(why) from error
            await deferLater(self._clock, _PAUSE)

    async def _insist(self, ask: Callable[[], "Deferred[Any]"]) -> Any:
        """Ask until there is an answer."""
        while True:
            try:
                return await ask()
            except Closed:
                raise
            except Unavailable:
                if self._closed:
                    raise
            await deferLater(self._clock, _PAUSE)

    def _broken(self, reason: Failure) -> None:
        self.log.failure("The registry cannot be written", failure=reason)
        self._end(reason.getErrorMessage())

    def _end(self, why: str) -> None:
        """Write nothing more, and tell everybody who waits."""
        self._why = self._why or why
        waiting, self._waiting = self._waiting, deque()
        for _, answer in waiting:
            _fire(answer, StoreError(why))

    # Folding.

    @property
    def folding(self) -> bool:
        """Whether the log is being folded."""
        return self._folding

    def _fold_if_due(self) -> None:
        due = len(self._log) > self._longest_log or self._log_bytes > max(
            SMALLEST_FOLD, self._bytes // 4
        )
        if due and not self._folding and not self._why:
            self._folding = True
            Deferred.fromCoroutine(self._fold()).addErrback(self._not_folded)

    async def _fold(self) -> None:
        """Write what the log has changed into the buckets, and cut the log off."""
        log, self._log = self._log, []
        self._log_bytes = 0
        touched, self._touched = self._touched, set()
        cut = 0
        try:
            for number in sorted(touched):
                await self._write_bucket(number)
            touched = set()
            # The oldest first: what is left of a log must be its end, or what it says of a key
            # would not be the last that was said.
            while cut < len(log):
                await self._delete(log[cut : cut + _AT_ONCE])
                cut += _AT_ONCE
        finally:
            self._folding = False
            self._log = log[cut:] + self._log
            self._touched |= touched

    async def _write_bucket(self, number: int) -> None:
        # What is not yet answered is not among it, so nothing that may fail is written here.
        chunks = list(split(sorted(self._buckets[number].items()))) or [[]]
        names = [f"{number:02x}" if n == 0 else f"{number:02x}.{n}" for n in range(len(chunks))]
        # The last first: until the first is written nothing is missing, and what is there twice
        # is the same.
        for name, chunk in reversed(list(zip(names, chunks, strict=True))):
            path, data = f"{self._root}/buckets/{name}", pack(chunk)
            if name in self._nodes:
                await self._commit([Set(path, data)])
            else:
                await self._commit([Create(path, data, private=True)], done=NodeExists)
                self._nodes.add(name)
        surplus = [n for n in self._nodes if n.startswith(f"{number:02x}.") and n not in names]
        for name in surplus:
            await self._commit([Delete(f"{self._root}/buckets/{name}")], done=NoNode)
            self._nodes.discard(name)

    async def _delete(self, numbers: Sequence[int]) -> None:
        """Delete nodes of the log, all of them at once."""
        deletions = [Delete(f"{self._root}/log/{number:010d}") for number in numbers]
        await self._commit(deletions, done=NoNode)

    def _not_folded(self, reason: Failure) -> None:
        if not self._why:
            # The log has all of it still, and the next master folds it.
            self.log.error("The registry was not folded: {why}", why=reason.getErrorMessage())


def _number(name: str, where: str) -> int:
    if not name.isascii() or not name.isdigit():
        raise StoreError(f"{where} is no node of the registry's log; delete it")
    return int(name)


def _first_failure(reason: Failure) -> Failure:
    return reason.value.subFailure if isinstance(reason.value, FirstError) else reason


def _fire(answer: "Deferred[None]", error: StoreError | None = None) -> None:
    if answer.called:
        return
    if error is None:
        answer.callback(None)
    else:
        answer.errback(error)
