"""One suite for every client of a ZooKeeper: what L{mesoskit.cluster.ensemble} promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

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
    NotEmpty,
    Operation,
    Session,
    Set,
    TooLarge,
    Unavailable,
)

if TYPE_CHECKING:
    # A mixin for test cases: only the checker needs to know.
    _Case = TestCase
else:
    _Case = object


class EnsembleContract(_Case):
    """What is promised. A subclass gives L{client} and L{expire}."""

    timeout = 300

    def client(self, *who: Any, **options: Any) -> Any:
        """Return a client of the test's servers that is not connected, and is closed at the end."""
        raise NotImplementedError

    async def expire(self, client: Any) -> None:
        """Let the client's session end."""
        raise NotImplementedError

    def path(self) -> str:
        """Return a path of the test's own."""
        raise NotImplementedError

    async def connected(self) -> Ensemble:
        client: Ensemble = self.client()
        await client.connect()
        return client

    async def prepared(self) -> tuple[Ensemble, str]:
        client = await self.connected()
        path = self.path()
        await client.create_path(path)
        return client, path

    async def test_session_begins_and_ends(self) -> None:
        client = self.client()
        heard: list[Session] = []
        client.listen(heard.append)
        self.assertEqual((client.connected, client.session), (False, None))
        await client.connect()
        self.assertTrue(client.connected)
        self.assertTrue(client.session)
        self.assertEqual(heard, [Session.CONNECTED])
        await client.close()
        self.assertFalse(client.connected)
        with self.assertRaises(Closed):
            await client.get("/")
        await client.close()

    async def test_closing_before_there_is_a_session(self) -> None:
        client = self.client()
        connecting = client.connect()
        ended = self.assertFailure(connecting, Closed) if not connecting.called else None
        await client.close()
        if ended is not None:
            await ended

    async def test_operation_before_there_is_a_session(self) -> None:
        client = self.client()
        with self.assertRaises(Unavailable):
            await client.get("/")

    async def test_node_is_made_read_changed_and_deleted(self) -> None:
        client, path = await self.prepared()
        self.assertEqual(await client.create(f"{path}/a", b"one"), f"{path}/a")
        data, stat = await client.get(f"{path}/a")
        self.assertEqual((data, stat.version, stat.owner), (b"one", 0, 0))
        self.assertEqual((await client.set(f"{path}/a", b"two", 0)).version, 1)
        self.assertEqual((await client.get(f"{path}/a"))[0], b"two")
        self.assertEqual(await client.get_children(path), ["a"])
        await client.delete(f"{path}/a", 1)
        self.assertEqual(await client.get_children(path), [])

    async def test_what_cannot_be_done_is_told_apart(self) -> None:
        client, path = await self.prepared()
        await client.create(f"{path}/a")
        attempts: list[tuple[type[EnsembleError], Deferred[Any]]] = [
            (NodeExists, client.create(f"{path}/a")),
            (NoNode, client.create(f"{path}/b/c")),
            (NoNode, client.get(f"{path}/b")),
            (NoNode, client.get_children(f"{path}/b")),
            (NoNode, client.set(f"{path}/b", b"")),
            (NoNode, client.delete(f"{path}/b")),
            (BadVersion, client.set(f"{path}/a", b"", 7)),
            (BadVersion, client.delete(f"{path}/a", 7)),
            (NotEmpty, client.delete(path)),
            (TooLarge, client.set(f"{path}/a", bytes(1_000_001))),
        ]
        for wrong, doing in attempts:
            error = await self.assertFailure(doing, wrong)
            self.assertIn(path, str(error))

    async def test_large_node(self) -> None:
        client, path = await self.prepared()
        await client.create(f"{path}/a", bytes(1_000_000))
        self.assertEqual(len((await client.get(f"{path}/a"))[0]), 1_000_000)

    async def test_path_is_made_whatever_is_there_of_it(self) -> None:
        client, path = await self.prepared()
        await client.create_path(path)
        await client.create_path(f"{path}/a/b/c")
        self.assertEqual(await client.get_children(f"{path}/a/b"), ["c"])

    async def test_numbers_grow_and_ephemeral_nodes_go_with_their_session(self) -> None:
        client, path = await self.prepared()
        other = await self.connected()
        made = [
            await each.create(f"{path}/n_", b"", ephemeral=True, sequence=True)
            for each in (client, other, client)
        ]
        self.assertEqual(made, [f"{path}/n_{n:010d}" for n in range(3)])
        self.assertEqual((await other.get(made[0]))[1].owner, client.session)
        await client.close()
        self.assertEqual(await other.get_children(path), ["n_0000000001"])

    async def test_watch_of_children(self) -> None:
        client, path = await self.prepared()
        other = await self.connected()
        names, changed = await client.get_children_and_watch(path)
        self.assertEqual(names, [])
        self.assertFalse(changed.called)
        await other.create(f"{path}/a")
        await changed
        names, changed = await client.get_children_and_watch(path)
        self.assertEqual(names, ["a"])
        await other.set(f"{path}/a", b"x")
        self.assertFalse(changed.called)
        await other.delete(f"{path}/a")
        await changed

    async def test_watch_of_data_and_of_existence(self) -> None:
        client, path = await self.prepared()
        stat, appeared = await client.exists_and_watch(f"{path}/a")
        self.assertEqual(stat, None)
        other = await self.connected()
        await other.create(f"{path}/a", b"1")
        await appeared
        data, _, changed = await client.get_and_watch(f"{path}/a")
        self.assertEqual(data, b"1")
        await other.set(f"{path}/a", b"2")
        await changed
        stat, gone = await client.exists_and_watch(f"{path}/a")
        assert stat is not None
        self.assertEqual(stat.version, 1)
        await other.delete(f"{path}/a")
        await gone

    async def test_group_is_done_as_a_whole(self) -> None:
        client, path = await self.prepared()
        await client.multi([])
        await client.multi([Create(f"{path}/a", b"1"), Create(f"{path}/b", b"2")])
        await client.multi(
            [Check(f"{path}/b", 0), Set(f"{path}/a", b"3", 0), Delete(f"{path}/b", 0)]
        )
        self.assertEqual(await client.get_children(path), ["a"])
        self.assertEqual((await client.get(f"{path}/a"))[0], b"3")

    async def test_group_fails_as_its_first_bad_part_does_and_leaves_nothing(self) -> None:
        client, path = await self.prepared()
        await client.create(f"{path}/a", b"1")
        cases: list[tuple[type[EnsembleError], Operation]] = [
            (BadVersion, Check(f"{path}/a", 3)),
            (NodeExists, Create(f"{path}/a")),
            (NoNode, Set(f"{path}/c", b"")),
            (NoNode, Delete(f"{path}/c")),
        ]
        for wrong, bad in cases:
            group: list[Operation] = [
                Set(f"{path}/a", b"2"),
                Create(f"{path}/b"),
                bad,
                Check(f"{path}/never", 1),
            ]
            await self.assertFailure(client.multi(group), wrong)
            self.assertEqual(await client.get_children(path), ["a"])
            self.assertEqual((await client.get(f"{path}/a"))[0], b"1")
        large = [Create(f"{path}/{n}", bytes(600_000)) for n in range(2)]
        await self.assertFailure(client.multi(large), TooLarge)

    async def test_operations_are_done_in_order(self) -> None:
        client, path = await self.prepared()
        await client.create(f"{path}/a")
        doing: list[Deferred[Any]] = [client.set(f"{path}/a", b"%d" % n) for n in range(200)]
        for each in doing:
            await each
        data, stat = await client.get(f"{path}/a")
        self.assertEqual((data, stat.version), (b"199", 200))

    async def test_session_that_ended_is_followed_by_another(self) -> None:
        client, path = await self.prepared()
        heard: list[Session] = []
        await client.create(f"{path}/a", ephemeral=True)
        _, changed = await client.get_children_and_watch(path)
        before = client.session
        again: Deferred[None] = Deferred()

        def hear(event: Session) -> None:
            heard.append(event)
            if event is Session.CONNECTED and Session.EXPIRED in heard and not again.called:
                again.callback(None)

        client.listen(hear)
        await self.expire(client)
        await again
        # Whoever watched is told, for the watch went with the session.
        await changed
        self.assertNotEqual(client.session, before)
        self.assertEqual(await client.get_children(path), [])
