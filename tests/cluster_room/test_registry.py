"""The registry in ZooKeeper, over servers in memory."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from mesoskit.cluster.registry import ZooKeeperStore
from mesoskit.cluster.registry_format import (
    LARGEST,
    Fence,
    Part,
    bucket_of,
    decode_part,
    encode_part,
    pack,
    split,
    unpack,
    whole_groups,
)
from mesoskit.cluster.store import Change, IStore, StoreError
from mesoskit.testing.zookeeper import MemoryEnsemble, MemoryZooKeeper
from tests.base import SynchronousTestCase
from tests.cluster_room.store_contract import FailingStoreContract, StoreContract

PATH = "/mesos"
ROOT = f"{PATH}/mesoskit_registry"


class Places:
    """Stores over one place, each of a later leader's."""

    longest_log = 256

    def setUp(self) -> None:
        self.clock = Clock()
        self.ensemble = MemoryEnsemble(self.clock)
        self.epoch = 0

    def client(self) -> MemoryZooKeeper:
        client: MemoryZooKeeper = self.ensemble.client(operation_timeout=4.0)
        client.connect()
        return client

    def open(self) -> Any:
        self.epoch += 1
        epoch = self.epoch
        self.client_of_last = self.client()
        return ZooKeeperStore(
            self.client_of_last,
            self.clock,
            PATH,
            lambda: epoch,
            f"m{epoch}",
            longest_log=self.longest_log,
        )


class ContractTests(Places, StoreContract, SynchronousTestCase):
    """What every store promises."""


class FoldingContractTests(Places, StoreContract, SynchronousTestCase):
    """The same where the log is folded at every turn."""

    longest_log = 1


class DeposedTests(Places, FailingStoreContract, SynchronousTestCase):
    """A leader that was deposed cannot write, and the next one finds what was written."""

    def spoil(self, store: IStore) -> None:
        again = self.open()
        self.successResultOf(again.load())

    def mend(self, store: IStore) -> IStore:
        again: IStore = self.open()
        return again


class RegistryTests(Places, SynchronousTestCase):
    """What is particular to it."""

    def log(self) -> list[str]:
        return sorted(self.ensemble.children(f"{ROOT}/log"))

    def loaded(self) -> ZooKeeperStore:
        store: ZooKeeperStore = self.open()
        self.successResultOf(store.load())
        return store

    def found(self) -> dict[str, bytes]:
        store = self.open()
        found: dict[str, bytes] = self.successResultOf(store.load())
        return found

    def test_deposed_leader_writes_nothing_and_is_told_why(self) -> None:
        old = self.loaded()
        self.loaded()
        for _ in range(2):
            error = self.failureResultOf(old.apply([("a", b"1")]), StoreError)
            self.assertIn("a later master has taken it over", str(error.value))
        self.assertEqual(self.log(), [])

    def test_leader_of_an_earlier_epoch_does_not_take_over(self) -> None:
        late = self.open()
        self.loaded()
        error = self.failureResultOf(late.load(), StoreError)
        self.assertIn("epoch 2 has led, and ours is 1", str(error.value))

    def test_store_that_was_not_read_writes_nothing(self) -> None:
        self.failureResultOf(self.open().apply([("a", b"1")]), StoreError)

    def test_groups_that_wait_are_written_together_and_in_order(self) -> None:
        store = self.loaded()
        client = self.client_of_last
        client.freeze()
        answers = [store.apply([("a", b"%d" % n), (f"k{n}", b"x")]) for n in range(50)]
        client.thaw()
        for answer in answers:
            self.successResultOf(answer)
        self.assertLess(len(self.log()), 5)
        found = self.found()
        self.assertEqual(found["a"], b"49")
        self.assertEqual(len(found), 51)

    def test_lost_answer_is_not_a_second_write(self) -> None:
        store = self.loaded()
        client = self.client_of_last
        client.freeze()
        answer = store.apply([("a", b"1")])
        # It is carried out, and nobody hears of it.
        client.cut()
        self.ensemble.make(f"{ROOT}/log/0000000000", encode_part(Part(0, False, [("a", b"1")])))
        client.thaw()
        client.mend()
        self.clock.advance(0.1)
        self.successResultOf(answer)
        self.assertEqual(self.log(), ["0000000000"])
        self.successResultOf(store.apply([("b", b"2")]))
        self.assertEqual(self.found(), {"a": b"1", "b": b"2"})

    def test_servers_that_are_away_for_a_while_cost_nothing(self) -> None:
        store = self.loaded()
        client = self.client_of_last
        client.cut()
        answer = store.apply([("a", b"1")])
        self.clock.pump([0.1] * 30)
        self.assertNoResult(answer)
        client.mend()
        self.clock.advance(0.1)
        self.successResultOf(answer)
        self.assertEqual(self.found(), {"a": b"1"})

    def test_registry_is_read_though_servers_are_away_for_a_while(self) -> None:
        self.successResultOf(self.loaded().apply([("a", b"1")]))
        store = self.open()
        self.client_of_last.cut()
        reading = store.load()
        self.clock.pump([0.1] * 30)
        self.assertNoResult(reading)
        self.client_of_last.mend()
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(reading), {"a": b"1"})

    def test_log_is_folded_and_nothing_is_lost(self) -> None:
        self.longest_log = 10
        store = self.loaded()
        for n in range(100):
            self.successResultOf(store.apply([(f"k{n % 30}", b"%d" % n), ("gone", b"x")]))
        self.successResultOf(store.apply([("gone", None)]))
        self.assertLess(len(self.log()), 12)
        found = self.found()
        expected = {f"k{n % 30}": b"%d" % n for n in range(100)}
        self.assertEqual(found, expected)

    def test_bucket_may_be_larger_than_a_node(self) -> None:
        self.longest_log = 0
        store = self.loaded()
        keys = [key for n in range(5000) if bucket_of(key := f"k{n}") == 0][:5]
        for key in keys:
            self.successResultOf(store.apply([(key, bytes(400_000))]))
        names = sorted(self.ensemble.children(f"{ROOT}/buckets"))
        self.assertEqual([name for name in names if name.startswith("00")], ["00", "00.1", "00.2"])
        found = self.found()
        self.assertEqual({key: len(found[key]) for key in keys}, dict.fromkeys(keys, 400_000))
        # It becomes smaller again.
        again = self.loaded()
        for key in keys[1:]:
            self.successResultOf(again.apply([(key, None)]))
        self.assertEqual(self.ensemble.children(f"{ROOT}/buckets"), ["00"])
        self.assertEqual(set(self.found()), {keys[0]})

    def test_master_that_dies_at_any_write_of_a_fold_loses_nothing(self) -> None:
        """Whatever of a fold was done: what is read afterwards is what was answered."""
        for writes in range(40):
            self.setUp()
            self.longest_log = 6
            store = self.loaded()
            left = writes
            multi = self.client_of_last.multi

            def dying(operations: Any, multi: Any = multi) -> Any:
                nonlocal left
                if left == 0:
                    self.client_of_last.freeze()
                left -= 1
                return multi(operations)

            self.client_of_last.multi = dying  # type: ignore[method-assign]
            expected: dict[str, bytes] = {}
            unknown = None
            for n in range(20):
                key, value = f"k{n % 7}", (b"%d" % n if n % 5 else None)
                answer = store.apply([(key, value)])
                if not answer.called:
                    unknown = key
                    answer.addErrback(lambda _: None)
                    break
                if value is None:
                    expected.pop(key, None)
                else:
                    expected[key] = value
            found = self.found()
            self.assertEqual(
                {k: v for k, v in found.items() if k != unknown},
                {k: v for k, v in expected.items() if k != unknown},
            )

    def test_entry_that_fits_in_no_node_is_refused_and_harms_nothing(self) -> None:
        store = self.loaded()
        error = self.failureResultOf(store.apply([("big", bytes(LARGEST))]), StoreError)
        self.assertIn("big", str(error.value))
        self.successResultOf(store.apply([("a", b"1")]))
        self.assertEqual(self.found(), {"a": b"1"})

    def test_group_larger_than_a_node_is_all_or_nothing(self) -> None:
        group = [(f"k{n}", bytes(400_000)) for n in range(5)]
        store = self.loaded()
        client = self.client_of_last
        multi, count = client.multi, 0

        def dying(operations: Any) -> Any:
            nonlocal count
            count += 1
            if count == 3:
                client.freeze()
            return multi(operations)

        client.multi = dying  # type: ignore[method-assign]
        store.apply(group).addErrback(lambda _: None)
        self.assertEqual(len(self.log()), 2)
        again = self.loaded()
        self.successResultOf(again.apply([("a", b"1")]))
        self.assertEqual(self.found(), {"a": b"1"})
        last = self.loaded()
        self.successResultOf(last.apply(group))
        self.assertEqual(len(self.found()), 6)

    def test_what_is_there_and_cannot_be_read_is_named(self) -> None:
        self.successResultOf(self.loaded().apply([("a", b"1")]))
        for path, data in (
            (f"{ROOT}/log/0000000000", b"mk\x01"),
            (f"{ROOT}/log/0000000000", b"xx\x01" + bytes(20)),
            (f"{ROOT}/log/0000000000", b"mk\x01" + bytes(20)),
            (ROOT, b"nonsense"),
            (ROOT, Fence(1, "m").encode().replace(b'"format":1', b'"format":2')),
        ):
            node = self.ensemble.nodes[path]
            before, node.data = node.data, data
            error = self.failureResultOf(self.open().load(), StoreError)
            self.assertIn(path if path != ROOT else "registry", str(error.value))
            node.data = before
        self.ensemble.make(f"{ROOT}/log/notes", b"")
        error = self.failureResultOf(self.open().load(), StoreError)
        self.assertIn("log/notes", str(error.value))

    def test_closed_store_answers_what_waits_and_writes_nothing(self) -> None:
        store = self.loaded()
        self.client_of_last.freeze()
        answers = [store.apply([("a", b"%d" % n)]) for n in range(3)]
        self.successResultOf(store.close())
        for answer in answers[1:]:
            self.failureResultOf(answer, StoreError)
        self.failureResultOf(store.apply([("b", b"1")]), StoreError)
        answers[0].addErrback(lambda _: None)

    def test_store_that_is_closed_while_it_is_read_stays_closed(self) -> None:
        store = self.open()
        self.client_of_last.freeze()
        reading = store.load()
        self.successResultOf(store.close())
        self.client_of_last.thaw()
        self.failureResultOf(reading, StoreError)
        self.failureResultOf(store.apply([("a", b"1")]), StoreError)


CHANGES = st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=30)), max_size=9)


class FormatTests(SynchronousTestCase):
    """What is written is read, and nothing else is."""

    def test_changes_are_read_as_they_were_written(self) -> None:
        @given(CHANGES, st.booleans(), st.integers(0, 2**40))
        def holds(changes: Any, more: bool, first: int) -> None:
            part = Part(first, more, changes)
            self.assertEqual(decode_part(encode_part(part), "x"), part)
            self.assertEqual([each for some in split(changes) for each in some], changes)

        holds()

    def test_any_bytes_are_read_or_refused(self) -> None:
        @settings(max_examples=200)
        @given(st.binary(max_size=80), CHANGES, st.integers(0, 60))
        def holds(data: bytes, changes: Any, cut: int) -> None:
            whole = encode_part(Part(3, False, changes))
            for given_ in (data, whole[:cut], whole[:15] + data, b"mk\x01\x00" + data):
                try:
                    decode_part(given_, "log/3")
                except StoreError as error:
                    self.assertIn("log/3", str(error))

        holds()
        self.assertEqual(unpack(pack([]), "x"), [])

    def test_unfinished_groups_never_happened(self) -> None:
        a: list[Change] = [("a", b"1")]
        b: list[Change] = [("b", b"2")]
        c: list[Change] = [("c", b"3")]
        for parts, groups in (
            ({}, []),
            ({5: Part(5, False, a)}, [a]),
            ({5: Part(5, True, a), 6: Part(5, False, b)}, [a + b]),
            ({5: Part(5, True, a)}, []),
            ({5: Part(5, True, a), 6: Part(6, False, c)}, [c]),
            ({6: Part(5, False, b), 7: Part(7, False, c)}, [c]),
            ({5: Part(5, True, a), 7: Part(5, False, b)}, []),
        ):
            self.assertEqual(list(whole_groups(parts)), groups)
