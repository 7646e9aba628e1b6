"""One suite for every store."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from mesoskit.cluster.store import Change, IStore, StoreError

KEYS = st.sampled_from([f"{prefix}/{n}" for prefix in ("agents", "tasks", "é") for n in range(4)])
GROUPS = st.lists(
    st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=40)), max_size=6), max_size=12
)


if TYPE_CHECKING:
    # A mixin for test cases: only the checker needs to know.
    from tests.base import SynchronousTestCase as _Case
else:
    _Case = object


class StoreContract(_Case):
    """
    What every store promises. A subclass gives L{open}: a store over the same place
    each time within one test, as a restart would find it.
    """

    def open(self) -> IStore:
        """Return a store that is not loaded yet."""
        raise NotImplementedError

    def restart(self, store: IStore) -> dict[str, bytes]:
        """Close a store and read what the next one over the same place finds."""
        self.successResultOf(store.close())
        again = self.open()
        found: dict[str, bytes] = self.successResultOf(again.load())
        self.successResultOf(again.close())
        return found

    def apply(self, store: IStore, *changes: Change) -> None:
        self.successResultOf(store.apply(changes))

    def test_new_store_is_empty(self):
        store = self.open()
        self.assertEqual(self.successResultOf(store.load()), {})
        self.successResultOf(store.close())

    def test_what_was_answered_is_there_after_a_restart(self):
        store = self.open()
        self.successResultOf(store.load())
        self.apply(store, ("agents/1", b"one"), ("agents/2", b"\x00\xff"))
        self.apply(store, ("agents/1", b"uno"))
        self.assertEqual(self.restart(store), {"agents/1": b"uno", "agents/2": b"\x00\xff"})

    def test_deletion_is_durable_and_deleting_nothing_is_no_error(self):
        store = self.open()
        self.successResultOf(store.load())
        self.apply(store, ("a", b"1"), ("b", b"2"))
        self.apply(store, ("a", None), ("never", None))
        self.assertEqual(self.restart(store), {"b": b"2"})

    def test_last_change_of_a_key_within_a_group_wins(self):
        store = self.open()
        self.successResultOf(store.load())
        self.apply(store, ("a", b"1"), ("a", None), ("a", b"3"))
        self.assertEqual(self.restart(store), {"a": b"3"})

    def test_empty_group_and_empty_value(self):
        store = self.open()
        self.successResultOf(store.load())
        self.apply(store)
        self.apply(store, ("a", b""))
        self.assertEqual(self.restart(store), {"a": b""})

    def test_large_values_and_groups(self):
        store = self.open()
        self.successResultOf(store.load())
        big = bytes(300_000)
        self.apply(store, ("big", big), *((f"k/{n}", b"%d" % n) for n in range(2_000)))
        found = self.restart(store)
        self.assertEqual(found["big"], big)
        self.assertEqual(len(found), 2_001)

    def test_any_groups_give_what_a_dict_would(self):
        @settings(max_examples=25, deadline=None)
        @given(GROUPS)
        def holds(groups: Sequence[Sequence[Change]]) -> None:
            store = self.open()
            held: dict[str, bytes] = self.successResultOf(store.load())
            expected = dict(held)
            for group in groups:
                self.apply(store, *group)
                for key, value in group:
                    if value is None:
                        expected.pop(key, None)
                    else:
                        expected[key] = value
            self.assertEqual(self.restart(store), expected)

        holds()


class FailingStoreContract(_Case):
    """What a store promises when it cannot write. A subclass gives a store that L{spoil} breaks."""

    def open(self) -> IStore:
        """Return a store that is not loaded yet."""
        raise NotImplementedError

    def spoil(self, store: IStore) -> None:
        """Let the store fail from here on."""
        raise NotImplementedError

    def mend(self, store: IStore) -> IStore:
        """Return a store over the same place that works again."""
        raise NotImplementedError

    def test_group_that_failed_left_nothing_behind(self):
        store = self.open()
        self.successResultOf(store.load())
        self.successResultOf(store.apply([("a", b"1")]))
        self.spoil(store)
        failed: Deferred[None] = store.apply([("a", b"2"), ("b", bytes(500_000))])
        error = self.failureResultOf(failed, StoreError)
        self.assertEqual(str(error.value) != "", True)
        again = self.mend(store)
        self.assertEqual(self.successResultOf(again.load()), {"a": b"1"})
        self.successResultOf(again.apply([("c", b"3")]))
        self.successResultOf(again.close())
