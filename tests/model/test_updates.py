"""The stream of a task's updates."""

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mesoskit.messages.internal_pb2 import StatusUpdate, StatusUpdateRecord
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.model.statuses import make_status, make_update
from mesoskit.model.tasks import Source, TaskState
from mesoskit.model.updates import (
    LIMIT,
    REMEMBERED,
    RETRY_MAX,
    RETRY_MIN,
    Changes,
    Receipt,
    UpdateError,
    UpdateStream,
)
from tests import example_count
from tests.base import SynchronousTestCase

KEY = "updates/f/t"
RUNNING = TaskState.TASK_RUNNING
FINISHED = TaskState.TASK_FINISHED


def update(number: int, state: int = RUNNING) -> StatusUpdate:
    """Return an update whose uuid is a number."""
    status = make_status("t", state, Source.SOURCE_EXECUTOR, 1.0, agent_id="a", uuid=uuid(number))
    return make_update("f", status)


def uuid(number: int) -> bytes:
    """Return the uuid of an update."""
    return number.to_bytes(16, "big")


def applied(store: dict[str, bytes], changes: Changes) -> None:
    """Do to a store what a stream asks for."""
    for key, value in changes:
        if value is None:
            del store[key]
        else:
            store[key] = value


class SendTests(SynchronousTestCase):
    """When the head of the queue is sent."""

    def setUp(self) -> None:
        self.stream = UpdateStream(KEY)

    def receive(self, now: float, number: int, state: int = RUNNING) -> Receipt:
        return self.stream.receive(now, update(number, state))[0]

    def test_an_update_is_sent_at_once(self):
        self.assertIsNone(self.stream.deadline)
        self.assertIs(self.receive(5, 1), Receipt.NEW)
        self.assertEqual(self.stream.deadline, 5)
        self.assertEqual(self.stream.send(5), update(1))

    def test_an_unacknowledged_update_is_sent_again_and_again_less_often(self):
        self.receive(0, 1)
        sent = []
        now: float = 0
        while now < 4000:
            self.assertEqual(self.stream.send(now), update(1))
            self.assertIsNone(self.stream.send(now))
            sent.append(now)
            now = self.stream.deadline or 0
        waits = [later - earlier for earlier, later in pairwise(sent)]
        self.assertEqual(waits[:7], [10, 20, 40, 80, 160, 320, 600])
        self.assertEqual(set(waits[6:]), {RETRY_MAX})

    def test_nothing_is_sent_before_its_time(self):
        self.receive(0, 1)
        self.stream.send(0)
        self.assertIsNone(self.stream.send(RETRY_MIN - 0.1))

    def test_the_next_update_waits_for_the_acknowledgement_of_the_one_before(self):
        self.receive(0, 1)
        self.receive(0, 2)
        self.stream.send(0)
        self.assertEqual(self.stream.deadline, RETRY_MIN)
        self.assertTrue(self.stream.acknowledge(3, uuid(1))[0])
        self.assertEqual(self.stream.deadline, 3)
        self.assertEqual(self.stream.send(3), update(2))
        self.assertEqual(self.stream.deadline, 3 + RETRY_MIN)

    def test_nothing_is_due_when_everything_is_acknowledged(self):
        self.receive(0, 1)
        self.stream.send(0)
        self.stream.acknowledge(1, uuid(1))
        self.assertIsNone(self.stream.deadline)
        self.assertIsNone(self.stream.send(100))
        self.assertFalse(self.stream.ended)

    def test_other_acknowledgements_are_told_apart(self):
        self.receive(0, 1)
        self.receive(0, 2)
        self.assertEqual(self.stream.acknowledge(1, uuid(2)), (False, ()))
        self.assertEqual(self.stream.acknowledge(1, uuid(9)), (False, ()))
        self.stream.acknowledge(1, uuid(1))
        self.assertEqual(self.stream.acknowledge(1, uuid(1)), (False, ()))
        self.assertEqual(self.stream.waiting, (update(2),))

    def test_an_acknowledged_terminal_update_ends_the_stream(self):
        self.receive(0, 1)
        self.receive(0, 2, FINISHED)
        self.stream.acknowledge(1, uuid(1))
        self.assertFalse(self.stream.ended)
        self.assertTrue(self.stream.acknowledge(1, uuid(2))[0])
        self.assertTrue(self.stream.ended)
        self.assertIsNone(self.stream.deadline)

    def test_without_a_master_nothing_is_due_and_with_a_new_one_the_head_is_at_once(self):
        self.receive(0, 1)
        self.stream.send(0)
        self.stream.send(10)
        self.stream.pause()
        self.assertIsNone(self.stream.deadline)
        self.assertIsNone(self.stream.send(1000))
        self.receive(1000, 2)
        self.assertIsNone(self.stream.deadline)
        self.stream.resume(2000)
        self.assertEqual(self.stream.send(2000), update(1))
        self.assertEqual(self.stream.deadline, 2000 + RETRY_MIN)


class ReceiveTests(SynchronousTestCase):
    """What is taken into the queue."""

    def test_an_update_is_taken_once(self):
        stream = UpdateStream(KEY)
        stream.receive(0, update(1))
        self.assertEqual(stream.receive(0, update(1)), (Receipt.DUPLICATE, ()))
        stream.acknowledge(0, uuid(1))
        self.assertEqual(stream.receive(0, update(1)), (Receipt.DUPLICATE, ()))
        self.assertEqual(len(stream), 0)

    def test_what_comes_after_the_end_is_late(self):
        stream = UpdateStream(KEY)
        stream.receive(0, update(1, FINISHED))
        self.assertEqual(stream.receive(0, update(2, FINISHED)), (Receipt.LATE, ()))
        self.assertEqual(len(stream), 1)

    def test_a_full_stream_takes_only_the_end(self):
        stream = UpdateStream(KEY)
        for number in range(LIMIT):
            stream.receive(0, update(number))
        self.assertEqual(stream.receive(0, update(LIMIT)), (Receipt.FULL, ()))
        self.assertIs(stream.receive(0, update(LIMIT, FINISHED))[0], Receipt.NEW)

    def test_an_update_without_uuid_is_refused(self):
        nameless = update(1)
        nameless.ClearField("uuid")
        self.assertRaises(UpdateError, UpdateStream(KEY).receive, 0, nameless)


class RecordsTests(SynchronousTestCase):
    """What is stored, and what is made of it."""

    def setUp(self) -> None:
        self.store: dict[str, bytes] = {}
        self.stream = UpdateStream(KEY)

    def receive(self, number: int, state: int = RUNNING) -> None:
        applied(self.store, self.stream.receive(0, update(number, state))[1])

    def acknowledge(self, number: int) -> None:
        applied(self.store, self.stream.acknowledge(0, uuid(number))[1])

    def test_an_update_is_a_record_that_its_acknowledgement_overwrites(self):
        self.receive(1)
        [(key, data)] = self.store.items()
        self.assertEqual(key, "updates/f/t/00000000")
        record = StatusUpdateRecord.FromString(data)
        self.assertEqual(record, StatusUpdateRecord(type="UPDATE", update=update(1)))
        self.acknowledge(1)
        record = StatusUpdateRecord.FromString(self.store[key])
        self.assertEqual((record.type, record.uuid), (StatusUpdateRecord.ACK, uuid(1)))
        self.assertEqual(record.update, update(1))

    def test_records_tell_what_was_said_whether_acknowledged_or_not_but_for_its_data(self):
        for number in (1, 2):
            said = update(number)
            said.status.data = b"much"
            applied(self.store, self.stream.receive(0, said)[1])
        self.acknowledge(1)
        told: list[TaskStatus] = []
        UpdateStream.restore(KEY, self.store.items(), told)
        self.assertEqual(
            [(one.uuid, one.data) for one in told], [(uuid(1), b""), (uuid(2), b"much")]
        )

    def test_records_of_before_say_nothing_of_what_was_acknowledged(self):
        told: list[TaskStatus] = []
        old = StatusUpdateRecord(type="ACK", uuid=uuid(1)).SerializeToString()
        UpdateStream.restore(KEY, [(f"{KEY}/00000000", old)], told)
        self.assertEqual(told, [])

    def test_nothing_is_left_of_a_stream_that_has_ended(self):
        self.receive(1)
        self.acknowledge(1)
        self.receive(2, FINISHED)
        self.assertEqual(len(self.store), 2)
        self.acknowledge(2)
        self.assertEqual(self.store, {})

    def test_nothing_is_left_of_a_stream_that_is_forgotten(self):
        for number in range(3):
            self.receive(number)
        self.acknowledge(0)
        applied(self.store, self.stream.forget())
        self.assertEqual(self.store, {})
        self.assertIsNone(self.stream.deadline)

    def test_an_acknowledgement_that_was_refused_stands_and_is_stored_later(self):
        self.receive(1)
        self.receive(2)
        self.assertIsNotNone(self.stream.send(0))
        before = self.store.copy()
        _, [(key, data)] = self.stream.acknowledge(0, uuid(1))
        self.assertTrue(self.stream.refused(0, key, data or b""))
        self.assertEqual(self.stream.send(0), update(2))
        self.assertEqual(self.store, before)
        applied(self.store, self.stream.again(key))
        self.assertEqual(self.store[key], data)
        self.assertEqual(self.stream.again(key), ())

    def test_what_waits_is_not_sent_again_because_an_acknowledgement_is_refused_again(self):
        self.receive(1)
        self.receive(2)
        _, [(key, data)] = self.stream.acknowledge(0, uuid(1))
        self.stream.refused(0, key, data or b"")
        self.assertEqual(self.stream.send(0), update(2))
        sent = 0
        for now in range(10, 610, 10):
            self.assertEqual(self.stream.again(key), ((key, data),))
            self.stream.refused(now, key, data or b"")
            sent += self.stream.send(now) is not None
        self.assertEqual(sent, 5)  # after 10 s, and twice as long each time
        # With a new acknowledgement that is refused what comes next was not sent.
        self.receive(3)
        _, changes = self.stream.acknowledge(600, uuid(2))
        for name, value in changes:
            self.stream.refused(600, name, value or b"")
        self.assertEqual(self.stream.send(600), update(3))

    def test_a_later_acknowledgement_is_not_stored_before_one_that_was_refused(self):
        for number in (1, 2):
            self.receive(number)
        _, [(key, data)] = self.stream.acknowledge(0, uuid(1))
        self.stream.refused(0, key, data or b"")
        _, changes = self.stream.acknowledge(0, uuid(2))
        self.assertEqual([name for name, _ in changes], [f"{KEY}/00000000", f"{KEY}/00000001"])
        self.assertEqual(changes[0], (key, data))
        self.assertEqual(self.stream.again(key), ())

    def test_nothing_is_stored_later_for_another_stream_or_what_is_forgotten(self):
        self.receive(1)
        _, [(key, data)] = self.stream.acknowledge(0, uuid(1))
        other = UpdateStream(KEY)
        other.receive(0, update(2))
        self.assertFalse(other.refused(0, key, data or b""))
        self.assertEqual(other.again(key), ())
        self.assertTrue(self.stream.refused(0, key, data or b""))
        self.stream.forget()
        self.assertEqual(self.stream.again(key), ((key, None),))

    def test_only_so_many_acknowledged_updates_are_remembered(self):
        for number in range(REMEMBERED + 10):
            self.receive(number)
            self.acknowledge(number)
        self.assertEqual(len(self.store), REMEMBERED)
        self.assertIs(self.stream.receive(0, update(REMEMBERED))[0], Receipt.DUPLICATE)
        self.assertIs(self.stream.receive(0, update(0))[0], Receipt.NEW)

    def test_a_restored_stream_waits_for_a_master(self):
        self.receive(1)
        restored = UpdateStream.restore(KEY, self.store.items())
        self.assertIsNone(restored.deadline)
        restored.resume(7)
        self.assertEqual(restored.send(7), update(1))

    def test_a_restored_stream_does_not_use_a_key_twice(self):
        self.receive(1)
        self.receive(2)
        self.acknowledge(1)
        restored = UpdateStream.restore(KEY, self.store.items())
        [(key, _)] = restored.receive(0, update(3))[1]
        self.assertEqual(key, "updates/f/t/00000002")

    def test_nothing_is_stored_for_frameworks_that_do_not_checkpoint(self):
        stream = UpdateStream(None)
        self.assertEqual(stream.receive(0, update(1)), (Receipt.NEW, ()))
        self.assertEqual(stream.acknowledge(0, uuid(1)), (True, ()))
        stream.receive(0, update(2))
        self.assertEqual(stream.forget(), ())

    def test_records_that_make_no_stream_are_named(self):
        right = StatusUpdateRecord(type="ACK", uuid=uuid(1)).SerializeToString()
        short = StatusUpdateRecord(type="ACK", uuid=b"1").SerializeToString()
        for records in (
            {f"{KEY}/x": right},
            {"updates/f/other/0": right},
            {f"{KEY}/0": b"\xff"},
            {f"{KEY}/0": short},
            {f"{KEY}/0": b"\x08\x00"},
            {f"{KEY}/0": right, f"{KEY}/1": right},
        ):
            error = self.assertRaises(UpdateError, UpdateStream.restore, KEY, records.items())
            self.assertIn([*records][-1], str(error))


class Stream(RuleBasedStateMachine):
    """A stream between an executor, a master that comes and goes, a framework, and crashes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.store: dict[str, bytes] = {}
        self.stream = UpdateStream(KEY)
        self.connected = True
        # What the executor sent and was told is safe, in order; what the framework saw of it.
        self.safe: list[int] = []
        self.seen: list[int] = []
        self.acknowledged = 0
        self.finished = False
        self.sent_at: float | None = None

    def deliver(self) -> None:
        """Send what is due, as the agent does after every turn."""
        head = self.stream.send(self.now)
        if head is None:
            return
        assert self.connected
        number = int.from_bytes(head.uuid, "big")
        assert number == self.safe[self.acknowledged], "out of order"
        if number not in self.seen:
            self.seen.append(number)
        self.sent_at = self.now

    @rule(terminal=st.integers(0, 9))
    def executor_sends(self, terminal: int) -> None:
        number = len(self.safe)
        state = FINISHED if terminal == 0 else RUNNING
        receipt, changes = self.stream.receive(self.now, update(number, state))
        applied(self.store, changes)
        if self.finished:
            assert receipt is Receipt.LATE
        else:
            assert receipt is Receipt.NEW
            self.safe.append(number)
            self.finished = state == FINISHED
        self.deliver()

    @precondition(lambda self: self.safe)
    @rule(data=st.data())
    def executor_repeats(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.safe))
        receipt, changes = self.stream.receive(self.now, update(number))
        assert (receipt, changes) == (Receipt.DUPLICATE, ()) or self.stream.ended
        self.deliver()

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def framework_acknowledges(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.seen))
        expected = self.acknowledged == number and number < len(self.safe)
        taken, changes = self.stream.acknowledge(self.now, uuid(number))
        assert taken == expected
        applied(self.store, changes)
        if taken:
            self.acknowledged += 1
            self.sent_at = None
        self.deliver()

    @rule(seconds=st.sampled_from([1.0, 10.0, 100.0, 600.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.deliver()

    @rule()
    def master_comes_or_goes(self) -> None:
        self.connected = not self.connected
        if self.connected:
            self.stream.resume(self.now)
        else:
            self.stream.pause()
        self.deliver()

    @precondition(lambda self: not self.stream.ended)
    @rule()
    def agent_restarts(self) -> None:
        before = self.stream.waiting
        self.stream = UpdateStream.restore(KEY, reversed(self.store.items()))
        assert self.stream.waiting == before
        self.connected = False

    @invariant()
    def an_unacknowledged_update_was_sent_or_will_be(self) -> None:
        if not self.connected or self.acknowledged == len(self.safe):
            assert self.stream.deadline is None
        else:
            assert self.stream.deadline is not None
            assert self.stream.deadline <= self.now + RETRY_MAX
            assert self.sent_at is not None

    @invariant()
    def the_end_leaves_nothing(self) -> None:
        ended = self.finished and self.acknowledged == len(self.safe)
        assert self.stream.ended == ended
        assert bool(self.store) == bool(self.safe and not ended)

    def teardown(self) -> None:
        """Whatever happened, every update reaches a framework that acknowledges."""
        self.stream.resume(self.now)
        self.connected = True
        for number in range(self.acknowledged, len(self.safe)):
            self.deliver()
            assert number in self.seen
            assert self.stream.acknowledge(self.now, uuid(number))[0]
            self.acknowledged += 1
        assert self.seen == self.safe


class StreamPropertiesTests(SynchronousTestCase):
    """Any order of events."""

    def test_every_update_is_delivered_in_order_until_it_is_acknowledged(self):
        run_state_machine_as_test(
            Stream,
            settings=settings(
                max_examples=example_count(60), stateful_step_count=30, deadline=None
            ),
        )
