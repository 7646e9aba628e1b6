"""How tasks are asked: in turn, in time, and whole."""

from __future__ import annotations

from signal import SIGKILL, SIGTERM
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from mesoskit.agent.container import ContainerSpec
from mesoskit.agent.containers.memory import MemoryContainers, MemoryLauncher
from mesoskit.agent.hands import Hands
from mesoskit.agent.probe import Abandon, HttpGet, Probe, Probed, RunCommand, TcpConnect
from mesoskit.agent.probing import Prober
from mesoskit.agent.probing_network import Network
from mesoskit.model.ids import ContainerId
from mesoskit.testing.certificates import Authority
from tests.base import SynchronousTestCase


class FakeNetwork:
    """Answers when a test wants."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Deferred[Any]]] = []
        self.cancelled: list[Any] = []

    def _ask(self, what: Any) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred(lambda _: self.cancelled.append(what))
        self.asked.append((what, deferred))
        return deferred

    http = tcp = _ask


def command(name: str, text: str = "sleep 1000") -> RunCommand:
    """Return a command."""
    return RunCommand(ContainerSpec(ContainerId(name), ("sh", "-c", text), "/sandbox"))


class ProberTests(SynchronousTestCase):
    """The prober between doubles."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = FakeNetwork()
        self.told: list[Probed] = []
        self.launcher = MemoryLauncher()
        self.containers = MemoryContainers(self.launcher, self.exited)
        self.containers.start()
        self.containers.recover()
        self.prober = Prober(
            self.clock, lambda: self.containers, lambda: self.network, self.told.append, most=2
        )
        self.others: list[Any] = []

    def exited(self, container: ContainerId, status: int | None, limitation: Any = None) -> None:
        if not self.prober.exited(container, status):
            self.others.append(container)

    def test_answers_are_told(self) -> None:
        self.prober.probe(Probe(1, HttpGet(80), 5.0))
        self.network.asked[0][1].callback(204)
        self.prober.probe(Probe(2, TcpConnect(80), 5.0))
        self.network.asked[1][1].callback(None)
        self.assertEqual([Probed(1, 204), Probed(2, 1)], self.told)

    def test_failures_are_told(self) -> None:
        self.prober.probe(Probe(1, HttpGet(80), 5.0))
        self.network.asked[0][1].errback(OSError("no way"))
        self.prober.probe(Probe(2, TcpConnect(80), 5.0))
        self.network.asked[1][1].errback(OSError("no way"))
        self.assertEqual([Probed(1, None, "no way"), Probed(2, 0)], self.told)

    def test_what_takes_too_long_has_failed(self) -> None:
        asked: list[HttpGet | TcpConnect] = [HttpGet(80), TcpConnect(80)]
        for number, what in enumerate(asked):
            self.prober.probe(Probe(number, what, 5.0))
            self.clock.advance(4.9)
            self.assertEqual(number, len(self.told))
            self.clock.advance(0.2)
            self.assertEqual(Probed(number, None, "it took longer than 5 seconds"), self.told[-1])
            self.assertIn(what, self.network.cancelled)

    def test_without_a_time_out_it_may_take_for_ever(self) -> None:
        self.prober.probe(Probe(1, HttpGet(80), None))
        self.clock.advance(1e6)
        self.assertEqual([], self.told)

    def test_what_waits_for_its_turn_does_not_use_up_its_time(self) -> None:
        for number in range(4):
            self.prober.probe(Probe(number, HttpGet(number), 5.0))
        self.assertEqual(2, len(self.network.asked))
        self.clock.advance(5)
        self.assertEqual([0, 1], [one.number for one in self.told])
        self.assertEqual(4, len(self.network.asked))
        self.clock.advance(4)
        self.assertEqual(2, len(self.told))
        self.network.asked[2][1].callback(200)
        self.assertEqual(Probed(2, 200), self.told[-1])

    def test_abandoned_probes_are_not_told_and_make_room(self) -> None:
        for number in range(4):
            self.prober.probe(Probe(number, HttpGet(number), 5.0))
        self.prober.abandon(Abandon(2))
        self.prober.abandon(Abandon(0))
        self.assertEqual([0, 1, 3], [what.port for what, _ in self.network.asked])
        self.assertEqual([HttpGet(0)], self.network.cancelled)
        self.assertEqual([], self.told)
        self.prober.abandon(Abandon(99))

    def test_stopping_gives_up_all(self) -> None:
        for number in range(4):
            self.prober.probe(Probe(number, HttpGet(number), 5.0))
        self.prober.stop()
        self.clock.advance(10)
        self.assertEqual([], self.told)
        self.assertEqual(2, len(self.network.cancelled))

    def test_a_command_counts_by_its_exit_status(self) -> None:
        for number, (status, expected) in enumerate(
            (
                (0, Probed(0, 0)),
                (3 << 8, Probed(1, 3)),
                (int(SIGTERM), Probed(2, None, "the command terminated with signal Terminated")),
                (None, Probed(3, None, "nobody knows how the command ended")),
            )
        ):
            self.prober.probe(Probe(number, command(f"c{number}"), 5.0))
            self.launcher.finish(ContainerId(f"c{number}"), status)
            self.assertEqual(expected, self.told[-1])
        self.assertEqual({}, self.launcher.ended, "nothing is left of them")
        self.assertEqual([], self.others)

    def test_a_command_that_takes_too_long_is_destroyed(self) -> None:
        self.prober.probe(Probe(1, command("slow"), 5.0))
        self.clock.advance(5)
        self.assertEqual([Probed(1, None, "it took longer than 5 seconds")], self.told)
        self.assertEqual({}, self.launcher.running)
        self.assertEqual({}, self.launcher.ended)

    def test_an_abandoned_command_is_destroyed(self) -> None:
        self.prober.probe(Probe(1, command("slow"), None))
        self.prober.abandon(Abandon(1))
        self.assertEqual(({}, {}), (self.launcher.running, self.launcher.ended))
        self.assertEqual([], self.told)

    def test_a_command_that_cannot_be_started_has_failed(self) -> None:
        self.launcher.refusals[ContainerId("bad")] = "no such file"
        self.prober.probe(Probe(1, command("bad"), 5.0))
        expected = Probed(1, None, "the command did not start: no such file")
        self.assertEqual([expected], self.told)

    def test_a_command_abandoned_while_it_is_started_is_destroyed_when_it_runs(self) -> None:
        starting: Deferred[int] = Deferred()
        launch = self.containers.launch
        self.patch(self.containers, "launch", lambda spec: starting)
        what = command("late")
        self.prober.probe(Probe(1, what, 5.0))
        self.clock.advance(5)
        self.assertEqual(1, len(self.told))
        launch(what.spec)
        starting.callback(1)
        self.assertEqual(({}, {}), (self.launcher.running, self.launcher.ended))

    def test_ends_of_other_containers_are_told_to_the_state(self) -> None:
        self.launcher.launch(command("other").spec)
        self.launcher.finish(ContainerId("other"), int(SIGKILL))
        self.containers.launch(command("mine").spec)
        self.launcher.finish(ContainerId("mine"), 0)
        self.assertEqual(["other", "mine"], self.others)

    def test_hands_without_a_prober_say_so(self) -> None:
        hands = Hands(None, None, None, self.told.append)  # type: ignore[arg-type]
        hands.perform(Probe(1, HttpGet(80), 5.0))
        hands.perform(Abandon(1))
        self.assertEqual([Probed(1, None, "there is nothing to check tasks with")], self.told)


class Page(Resource):
    """Pages that are well, sick, elsewhere, endless, or never there."""

    isLeaf = True

    def render_GET(self, request: Any) -> Any:
        word = request.path.strip(b"/").decode()
        if word.isdigit():
            request.setResponseCode(int(word))
            return b"x"
        if word == "moved":
            request.redirect(b"/204")
            return b""
        if word == "round":
            request.redirect(b"/round")
            return b""
        if word == "endless":
            request.write(b"x" * 100_000)
        return NOT_DONE_YET


class NetworkTests(TestCase):
    """Real ports of the loopback interface."""

    timeout = 300

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.network = Network(reactor)

    async def listen(self, factory: Any, ipv6: bool = False) -> int:
        endpoint: Any = TCP6ServerEndpoint if ipv6 else TCP4ServerEndpoint
        host = "::1" if ipv6 else "127.0.0.1"
        port = await endpoint(self.reactor, 0, interface=host).listen(factory)
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    async def why(self, asked: Deferred[Any]) -> str:
        try:
            await asked
        except Exception as error:
            return str(error)
        raise AssertionError("it did not fail")

    async def test_status_codes(self) -> None:
        port = await self.listen(Site(Page()))
        for path, code in (("/200", 200), ("/503", 503), ("/moved", 204), ("/endless", 200)):
            self.assertEqual(code, await self.network.http(HttpGet(port, path)))

    async def test_redirections_end(self) -> None:
        port = await self.listen(Site(Page()))
        why = await self.why(self.network.http(HttpGet(port, "/round")))
        self.assertIn("more than 20 redirections", why)

    async def test_over_ipv6(self) -> None:
        port = await self.listen(Site(Page()), ipv6=True)
        self.assertEqual(200, await self.network.http(HttpGet(port, "/200", ipv6=True)))
        await self.network.tcp(TcpConnect(port, ipv6=True))

    async def test_whatever_certificate_there_is(self) -> None:
        certificate, key = Authority().issue("somebody.else", ["somebody.else"])
        options = PrivateCertificate.loadPEM(certificate + key).options()
        port = self.reactor.listenSSL(0, Site(Page()), options, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        what = HttpGet(port.getHost().port, "/200", "https")
        self.assertEqual(200, await self.network.http(what))

    async def test_nobody_there(self) -> None:
        port = await TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1").listen(
            Factory.forProtocol(Protocol)
        )
        free = port.getHost().port
        await self.network.tcp(TcpConnect(free))
        await port.stopListening()
        self.assertIn("refused", await self.why(self.network.tcp(TcpConnect(free))))
        self.assertIn("refused", await self.why(self.network.http(HttpGet(free))))

    async def test_paths_that_no_request_can_have(self) -> None:
        port = await self.listen(Site(Page()))
        for path in ("/a b", "/a\r\nHost: x", "/\x00"):
            self.assertTrue(await self.why(self.network.http(HttpGet(port, path))))

    async def test_one_that_never_answers_can_be_given_up(self) -> None:
        port = await self.listen(Site(Page()))
        asked = self.network.http(HttpGet(port, "/never"))
        self.reactor.callLater(0.05, asked.cancel)
        await self.why(asked)
