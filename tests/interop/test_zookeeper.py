"""The client of ZooKeeper against real servers, and the one in memory, held to one suite."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mesoskit.cluster.ensemble import Closed, Create, NotAllowed, Session, Unavailable
from mesoskit.cluster.zk_url import ZooKeeperURL
from mesoskit.cluster.zookeeper import ZooKeeper, ZooKeeperTLS
from mesoskit.testing.certificates import make
from mesoskit.testing.zookeeper import MemoryEnsemble
from tests.cluster import zookeepers
from tests.cluster.harness import free_port
from tests.cluster.waiting import pause, reactor, until
from tests.interop.ensemble_contract import EnsembleContract


class MemoryTests(EnsembleContract, TestCase):
    """The double."""

    def setUp(self) -> None:
        self.ensemble = MemoryEnsemble(reactor)
        self.numbers = count()

    def client(self, *who: Any, **options: Any) -> Any:
        client = self.ensemble.client()
        self.addCleanup(client.close)
        return client

    async def expire(self, client: Any) -> None:
        client.expire()

    def path(self) -> str:
        return f"/test/{next(self.numbers)}"


class ServerTestCase(TestCase):
    """Tests with one real server, which they share."""

    timeout = 300

    def setUp(self) -> None:
        self.servers = zookeepers.shared()
        self.url = ZooKeeperURL.parse(self.servers.url())

    def client(self, who: str = "", **options: Any) -> ZooKeeper:
        url = ZooKeeperURL.parse(f"zk://{who}{self.servers.hosts}{self.url.path}")
        client = ZooKeeper(reactor, url, **options)
        self.addCleanup(client.close)
        return client

    def path(self) -> str:
        return self.url.path


class ServerTests(ServerTestCase, EnsembleContract):
    """The real thing."""

    async def expire(self, client: Any) -> None:
        """Close the session from another connection, as a client that is the same one can."""
        from kazoo.client import KazooClient
        from twisted.internet.threads import deferToThread

        double = KazooClient(self.servers.hosts, client_id=client._client.client_id)

        def end() -> None:
            double.start(10)
            double.stop()
            double.close()

        await deferToThread(end)

    async def test_servers_say_how_long_a_session_lasts(self) -> None:
        for asked, agreed in ((0.1, 0.8), (3.0, 3.0), (500.0, 20.0)):
            client = self.client(session_timeout=asked)
            await client.connect()
            self.assertEqual(client.session_timeout, agreed)
            await client.close()

    async def test_nobody_else_reads_what_is_private(self) -> None:
        ours = self.client("bob:se:cr@t@")
        await ours.connect()
        await ours.create_path(self.path())
        await ours.create(f"{self.path()}/a", b"secret", private=True)
        await ours.multi([Create(f"{self.path()}/b", b"secret", private=True)])
        for who in ("", "bob:wrong@"):
            theirs = self.client(who)
            await theirs.connect()
            await self.assertFailure(theirs.get(f"{self.path()}/a"), NotAllowed)
            await self.assertFailure(theirs.get(f"{self.path()}/b"), NotAllowed)
        again = self.client("bob:se:cr@t@")
        await again.connect()
        self.assertEqual((await again.get(f"{self.path()}/a"))[0], b"secret")

    async def test_everybody_reads_and_the_creator_writes_where_there_is_a_credential(self) -> None:
        ours = self.client("bob:secret@")
        await ours.connect()
        await ours.create_path(self.path())
        theirs = self.client()
        await theirs.connect()
        self.assertEqual(await theirs.get_children(self.path()), [])
        await self.assertFailure(theirs.create(f"{self.path()}/a"), NotAllowed)
        await self.assertFailure(theirs.delete(self.path()), NotAllowed)


class FaultTests(TestCase):
    """What becomes of a client whose servers stand still, die, or were never there."""

    timeout = 300

    async def start(self, size: int = 1, **options: Any) -> tuple[zookeepers.Servers, ZooKeeper]:
        servers = zookeepers.Servers(size)
        self.addCleanup(servers.close)
        servers.start()
        client = ZooKeeper(reactor, ZooKeeperURL.parse(servers.url()), **options)
        self.addCleanup(client.close)
        self.heard: list[Session] = []
        client.listen(self.heard.append)
        await client.connect()
        return servers, client

    async def test_server_that_stands_still_and_dies_and_comes_back(self) -> None:
        servers, client = await self.start(session_timeout=6.0, operation_timeout=0.3)
        (server,) = servers.servers
        server.pause()
        error = await self.assertFailure(client.get("/"), Unavailable)
        self.assertIn("0.3 s", str(error))
        await until("the silence is noticed", lambda: not client.connected)
        self.assertEqual(self.heard, [Session.CONNECTED, Session.SUSPENDED])
        await self.assertFailure(client.get("/"), Unavailable)
        server.kill()
        server.start()
        await until("it is connected again", lambda: client.connected)
        await client.get("/")

    async def test_another_server_is_found_when_one_is_suspected(self) -> None:
        servers, client = await self.start(3, session_timeout=6.0, operation_timeout=1.0)
        session = client.session
        await client.create_path("/a/b")
        assert client._handler is not None
        port = client._handler._socket.getpeername()[1]
        server = next(each for each in servers.servers if each.port == port)
        server.pause()
        client.suspect()
        await until("it is suspended", lambda: Session.SUSPENDED in self.heard)
        await until("it is connected again", lambda: client.connected)
        await client.get("/a/b")
        self.assertEqual(client.session, session)
        self.assertNotIn(Session.EXPIRED, self.heard)
        server.go_on()

    async def test_servers_that_were_never_there(self) -> None:
        client = ZooKeeper(reactor, ZooKeeperURL.parse("zk://127.0.0.1:1/a"), session_timeout=1.0)
        connecting: Deferred[None] = client.connect()
        ended = self.assertFailure(connecting, Closed)
        await pause(0.2)
        self.assertFalse(connecting.called)
        await client.close()
        await ended


class TLSTests(TestCase):
    """Servers that speak TLS, and want to be shown a certificate."""

    timeout = 300

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        make(self.directory, ["127.0.0.1"])
        server = self.directory / "zookeeper.pem"
        server.write_bytes(
            (self.directory / "server-key.pem").read_bytes()
            + (self.directory / "server.pem").read_bytes()
        )
        self.port = free_port()
        servers = zookeepers.Servers(
            more="serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n"
            f"secureClientPort={self.port}\nsecureClientPortAddress=127.0.0.1\n"
            f"ssl.keyStore.location={server}\nssl.keyStore.type=PEM\n"
            f"ssl.trustStore.location={self.directory / 'ca.pem'}\nssl.trustStore.type=PEM\n"
            "ssl.clientAuth=need\n"
        )
        self.addCleanup(servers.close)
        servers.start()

    def client(self, tls: ZooKeeperTLS | None) -> ZooKeeper:
        url = ZooKeeperURL.parse(f"zk://127.0.0.1:{self.port}/mesos")
        client = ZooKeeper(reactor, url, session_timeout=10.0, tls=tls)
        self.addCleanup(client.close)
        return client

    def file(self, name: str) -> str:
        return str(self.directory / f"{name}.pem")

    async def test_servers_are_spoken_to_and_others_are_not_believed(self) -> None:
        cert, key = self.file("client"), self.file("client-key")
        good = self.client(ZooKeeperTLS(self.file("ca"), cert, key))
        await good.connect()
        await good.create_path("/mesos")
        self.assertEqual(await good.get_children("/mesos"), [])
        make(self.directory / "other", ["127.0.0.1"])
        bad = [
            self.client(ZooKeeperTLS(str(self.directory / "other" / "ca.pem"), cert, key)),
            self.client(ZooKeeperTLS(ca_file=self.file("ca"))),
            self.client(None),
        ]
        connecting: list[Any] = [client.connect() for client in bad]
        ended = [self.assertFailure(each, Closed) for each in connecting]
        await pause(1.5)
        self.assertEqual([client.connected for client in bad], [False] * 3)
        for client in bad:
            await client.close()
        for each in ended:
            await each
        for wrong in (
            ZooKeeperTLS(ca_file="/nowhere"),
            ZooKeeperTLS(cert_file=cert, key_file=self.file("server-key")),
        ):
            failing: Deferred[Any] = self.client(wrong).connect()
            error = await self.assertFailure(failing, NotAllowed)
            self.assertIn(wrong.ca_file or cert, str(error))
