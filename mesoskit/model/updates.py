"""The status updates of one task on their way from its agent to its framework.

Mesos' promise is that a framework hears of every update at least once and in order,
however often agent and master restart in between. The agent keeps it: it stores an update,
then acknowledges it to the executor, then sends it to the master, again and again,
until the framework's own acknowledgement comes back; only then the next one. One
L{UpdateStream} a task does the bookkeeping (C{src/slave/task_status_update_manager.cpp}).

It changes nothing by itself. Its owner gives it what happens, stores the changes it
names, and asks L{UpdateStream.send} whether there is something to send now::

    receipt, changes = stream.receive(now, update)
    if receipt is Receipt.NEW:
        effects.append(Store(changes))      # the acknowledgement stands behind the store
        head = stream.send(now)             # and so does what is sent
        ...
    deadlines.set(key, stream.deadline)

Records are C{mesos.internal.StatusUpdateRecord}, one a key. The key of an update is
overwritten by its acknowledgement, which remembers the uuid, so that the update is
known when an executor repeats it, and what was said but for its C{data}, so that an agent
that starts again knows what state the task is in.
"""

from collections import deque
from collections.abc import Iterable
from enum import Enum
from itertools import islice

from google.protobuf.message import DecodeError

from mesoskit.messages.internal_pb2 import StatusUpdate, StatusUpdateRecord
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.model.tasks import TERMINAL

RETRY_MIN = 10.0
"""Seconds until an update that nobody acknowledged is sent again."""

RETRY_MAX = 600.0
"""Seconds that the wait, doubled each time, does not exceed."""

LIMIT = 1000
"""How many updates wait in a stream at most, a terminal one not counted."""

REMEMBERED = 256
"""How many acknowledged uuids a stream remembers: an executor repeats only its latest few."""

Changes = tuple[tuple[str, bytes | None], ...]
"""What is to be stored, as in L{mesoskit.model.events.Store}."""


class UpdateError(ValueError):
    """An update cannot be taken, or stored records make no stream; the message says why."""


class Receipt(Enum):
    """What became of an update that came from an executor (or from the agent itself)."""

    NEW = "new"
    """It is in the queue: store the changes, then acknowledge it to the executor."""

    DUPLICATE = "duplicate"
    """It was here before, acknowledged or not: acknowledge it to the executor, again."""

    LATE = "late"
    """A terminal one came before it: acknowledge it to the executor; nobody else hears of it."""

    FULL = "full"
    """Too many wait already: do not acknowledge it; the executor will send it again."""


class UpdateStream:
    """
    The updates of one task: a queue whose head is on its way.

    @ivar ended: the framework has acknowledged a terminal update; the task may be forgotten.
    """

    __slots__ = (
        "_due",
        "_finishing",
        "_interval",
        "_key",
        "_known",
        "_next",
        "_paused",
        "_pending",
        "_refused",
        "_repeated",
        "ended",
    )

    def __init__(self, key: str | None, paused: bool = False) -> None:
        """
        Make an empty stream.

        @param key: what the keys of its records begin with, up to and without the last C{/};
            L{None} where nothing is stored (the framework does not checkpoint).
        @param paused: there is no master to send to at the moment.
        """
        self._key = key
        self._paused = paused
        self._pending: deque[tuple[int, StatusUpdate]] = deque()
        self._known: dict[bytes, int] = {}  # uuid -> number; what waits and what is remembered
        self._refused: dict[str, bytes] = {}
        self._repeated: set[str] = set()
        self._next = 0
        self._due: float | None = None
        self._interval = RETRY_MIN
        self._finishing = False
        self.ended = False

    def __len__(self) -> int:
        """Return how many updates wait to be acknowledged."""
        return len(self._pending)

    @property
    def waiting(self) -> tuple[StatusUpdate, ...]:
        """The updates that wait to be acknowledged, the head first."""
        return tuple(update for _, update in self._pending)

    @property
    def deadline(self) -> float | None:
        """When L{send} will have something to send; L{None} if only an event changes that."""
        return None if self._paused else self._due

    def receive(self, now: float, update: StatusUpdate) -> tuple[Receipt, Changes]:
        """
        Take an update, and name what is to be stored of it.

        Raises L{UpdateError} if it has no uuid: nobody could acknowledge it.
        """
        uuid = update.uuid
        if len(uuid) != 16:
            raise UpdateError(
                f"status update for task {update.status.task_id.value!r} has the uuid {uuid!r};"
                " an update that is to be acknowledged needs one of 16 bytes"
            )
        if uuid in self._known:
            return Receipt.DUPLICATE, ()
        if self._finishing:
            return Receipt.LATE, ()
        terminal = update.status.state in TERMINAL
        if len(self._pending) >= LIMIT and not terminal:
            return Receipt.FULL, ()
        number = self._append(update, terminal)
        if len(self._pending) == 1:
            self._due = now
        if self._key is None:
            return Receipt.NEW, ()
        return Receipt.NEW, ((self._key_of(number), _unacknowledged(update)),)

    def send(self, now: float) -> StatusUpdate | None:
        """
        Return the head if it is to be sent now, and note that it was.

        The message is the stream's own: set its C{latest_state} if you like, and nothing else.
        """
        due = self._due
        if self._paused or due is None or now < due:
            return None
        self._due = now + self._interval
        self._interval = min(self._interval * 2, RETRY_MAX)
        return self._pending[0][1]

    def acknowledge(self, now: float, uuid: bytes) -> tuple[bool, Changes]:
        """
        Take a framework's acknowledgement. Returns whether it was the head's, and what is
        to be stored. Any other (the second one for an update that was sent twice, say)
        changes nothing.
        """
        if not self._pending:
            return False, ()
        number, head = self._pending[0]
        if head.uuid != uuid:
            return False, ()
        if head.status.state in TERMINAL:
            self.ended = True
            return True, self.forget()
        self._pending.popleft()
        self._interval = RETRY_MIN
        self._due = now if self._pending else None
        forgotten = self._trim()
        if self._key is None:
            return True, ()
        # What was refused before comes first: what is stored is never acknowledged out of order.
        self._refused[self._key_of(number)] = _acknowledged(head)
        self._repeated.discard(self._key_of(number))
        changes: Changes = tuple(self._refused.items())
        self._refused.clear()
        return True, changes + tuple((self._key_of(old), None) for old in forgotten)

    def forget(self) -> Changes:
        """Empty the stream and name the deletion of all its records: the task is forgotten."""
        numbers = sorted(self._known.values())
        self._pending.clear()
        self._known.clear()
        self._refused.clear()
        self._due = None
        if self._key is None:
            return ()
        return tuple((self._key_of(number), None) for number in numbers)

    def refused(self, now: float, name: str, data: bytes) -> bool:
        """
        Take note that an acknowledgement could not be stored. It stands all the same, and what
        comes after it is due, for that was not sent either; not where L{again} had asked for
        nothing but the storing. An agent that starts again would only send its update once more.
        Return whether L{again} has something to store for it: not where it is of another stream.
        """
        record = StatusUpdateRecord.FromString(data)
        number = self._known.get(record.uuid)
        if self._key is None or number is None or self._key_of(number) != name:
            return False
        self._refused[name] = data
        if self._pending and name not in self._repeated:
            self._due = now
        return True

    def again(self, name: str) -> Changes:
        """Name what is to be stored by now under a key that the store refused to change."""
        data = self._refused.pop(name, None)
        if name not in map(self._key_of, self._known.values()):
            return ((name, None),)
        if data is None:
            return ()
        self._repeated.add(name)
        return ((name, data),)

    def is_written(self, uuid: bytes) -> bool:
        """
        Tell whether an agent that starts again will know of an update that was received: it need
        not where it has forgotten it itself.
        """
        number = self._known.get(uuid)
        if number is None:
            return True
        return self._key is not None and self._key_of(number) not in self._refused

    def store_under(self, key: str, before: Iterable[StatusUpdate]) -> Changes:
        """
        Begin to store a stream of which nothing was stored, and name all its records.

        @param before: what was acknowledged, as far as that is known, in order.
        """
        waiting = self.waiting
        self._key = key
        self._next = 0
        self._known.clear()
        self._pending.clear()
        changes = []
        for update in before:
            number = self._next
            self._next += 1
            self._known[update.uuid] = number
            changes.append((self._key_of(number), _acknowledged(update)))
        for update in waiting:
            number = self._append(update, update.status.state in TERMINAL)
            changes.append((self._key_of(number), _unacknowledged(update)))
        self._repeated.update(key for key, _ in changes)  # Nothing is sent with them.
        return tuple(changes)

    def pause(self) -> None:
        """Send nothing: the master is away."""
        self._paused = True

    def resume(self, now: float) -> None:
        """Send the head at once, whenever it was sent before: the agent is registered (again)."""
        self._paused = False
        self._interval = RETRY_MIN
        self._due = now if self._pending else None

    @classmethod
    def restore(
        cls,
        key: str,
        records: Iterable[tuple[str, bytes]],
        told: list[TaskStatus] | None = None,
    ) -> "UpdateStream":
        """
        Return the stream that these records (all that are stored under C{key/}, in any
        order) are of. It is paused, for a restarted agent has no master yet.

        Raises L{UpdateError} naming the first record that cannot be read.

        @param told: is given every status that the records remember, acknowledged or not, in order.
        """
        stream = cls(key, paused=True)
        for name, data in sorted(records):
            number, record = _read(key, name, data)
            waits = record.type == StatusUpdateRecord.UPDATE
            uuid = record.update.uuid if waits else record.uuid
            if uuid in stream._known:
                raise UpdateError(f"record {name!r} has the uuid of an earlier one: {uuid.hex()}")
            stream._known[uuid] = number
            stream._next = number + 1
            if told is not None and record.HasField("update"):
                told.append(record.update.status)
            if waits:
                stream._pending.append((number, record.update))
                stream._finishing |= record.update.status.state in TERMINAL
        return stream

    def _append(self, update: StatusUpdate, terminal: bool) -> int:
        number = self._next
        self._next += 1
        self._pending.append((number, update))
        self._known[update.uuid] = number
        self._finishing = terminal
        return number

    def _trim(self) -> list[int]:
        """Forget the oldest acknowledged uuids over the limit; return their numbers."""
        surplus = len(self._known) - len(self._pending) - REMEMBERED
        if surplus <= 0:
            return []
        # Acknowledgements keep the order of the updates: what waits stands behind.
        return [self._known.pop(uuid) for uuid in [*islice(self._known, surplus)]]

    def _key_of(self, number: int) -> str:
        return f"{self._key}/{number:08d}"


def _unacknowledged(update: StatusUpdate) -> bytes:
    record = StatusUpdateRecord()
    record.type = StatusUpdateRecord.UPDATE
    record.update.CopyFrom(update)
    return record.SerializeToString()


def _acknowledged(update: StatusUpdate) -> bytes:
    record = StatusUpdateRecord()
    record.type = StatusUpdateRecord.ACK
    record.uuid = update.uuid
    record.update.CopyFrom(update)
    record.update.status.ClearField("data")
    return record.SerializeToString()


def _read(key: str, name: str, data: bytes) -> tuple[int, StatusUpdateRecord]:
    """Return the number and the record that stand under a name, or raise L{UpdateError}."""
    suffix = name[len(key) + 1 :]
    if not name.startswith(key + "/") or not suffix.isdecimal():
        raise UpdateError(f"record {name!r} is none of the updates under {key!r}/<number>")
    try:
        record = StatusUpdateRecord.FromString(data)
    except DecodeError as error:
        raise UpdateError(f"record {name!r} is no StatusUpdateRecord: {error}") from error
    uuid = record.update.uuid if record.type == StatusUpdateRecord.UPDATE else record.uuid
    if not record.IsInitialized() or len(uuid) != 16:
        raise UpdateError(f"record {name!r} is incomplete: {record!r}")
    return int(suffix), record
