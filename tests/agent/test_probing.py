"""How tasks are asked: in turn, in time, and whole."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
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
from mesoskit.agent.probing_inside import open_network
from mesoskit.agent.probing_network import Network
from mesoskit.model.ids import ContainerId
from mesoskit.testing.certificates import Authority
from tests.agent.real import until
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
                (None, Probed(3, None, "nobody knows how the command ended", lost=True)),
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


class RealNetworkTestCase(TestCase):
    """A test with a network."""

    timeout = 300

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.network = Network(reactor)

    async def why(self, asked: Deferred[Any]) -> str:
        try:
            await asked
        except Exception as error:
            return str(error)
        raise AssertionError("it did not fail")


class NetworkTests(RealNetworkTestCase):
    """Real ports of the loopback interface."""

    async def listen(self, factory: Any, ipv6: bool = False) -> int:
        endpoint: Any = TCP6ServerEndpoint if ipv6 else TCP4ServerEndpoint
        host = "::1" if ipv6 else "127.0.0.1"
        port = await endpoint(self.reactor, 0, interface=host).listen(factory)
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

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


# In a network of its own, of which only a loopback is there: pages, once in the clear and once not.
_SERVERS = """
import fcntl, os, socket, ssl, struct, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
class Pages(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(self.path[1:4]))
        self.send_header("Location", f"http://localhost:{plain.server_port}/299")
        self.end_headers()
    def log_message(self, *_):
        pass
class Six(HTTPServer):
    address_family = socket.AF_INET6
any_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 1))
plain = HTTPServer(("127.0.0.1", 0), Pages)
secret = Six(("::1", 0), Pages)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
secret.socket = context.wrap_socket(secret.socket, server_side=True)
for server in plain, secret:
    threading.Thread(target=server.serve_forever).start()
print(plain.server_port, secret.server_port, flush=True)
"""


class InsideTests(RealNetworkTestCase):
    """Real ports in another network than ours."""

    if os.geteuid() != 0:
        skip = "only root can isolate"

    def setUp(self) -> None:
        super().setUp()
        certificates = self.mktemp()
        Path(certificates).write_bytes(b"".join(Authority().issue("any", ["any"])))
        self.pid, ports = self.run_inside(sys.executable, "-c", _SERVERS, certificates)
        self.port, self.secret = map(int, ports.split())

    def run_inside(self, *command: str, outside: tuple[str, ...] = ()) -> tuple[int, str]:
        """Run something in a network of its own; return its pid and the first line it says."""
        process = subprocess.Popen(
            [*outside, "unshare", "--net", *command],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None

        def end() -> None:
            os.killpg(process.pid, SIGKILL)
            process.wait()

        self.addCleanup(process.stdout.close)
        self.addCleanup(end)
        return process.pid, process.stdout.readline()

    async def test_pages_in_the_clear_and_not(self) -> None:
        for what, code in (
            (HttpGet(self.port, "/200", pid=self.pid), 200),
            (HttpGet(self.port, "/503", pid=self.pid), 503),
            (HttpGet(self.port, "/302", pid=self.pid), 299),
            (HttpGet(self.secret, "/200", "https", True, pid=self.pid), 200),
            (HttpGet(self.port, "/200", pid=self.pid, host="127.0.0.77"), 200),
        ):
            self.assertEqual(code, await self.network.http(what), what)
        self.assertIn("refused", await self.why(self.network.http(HttpGet(self.port, "/200"))))

    async def test_connections(self) -> None:
        await self.network.tcp(TcpConnect(self.port, pid=self.pid))
        await self.network.tcp(TcpConnect(self.secret, True, pid=self.pid))
        closed = TcpConnect(self.secret, pid=self.pid)
        self.assertIn("refused", await self.why(self.network.tcp(closed)))

    async def test_the_port_of_a_container_that_stands_behind_another_process(self) -> None:
        command = ("sh", "-c", "echo ready; exec sleep 1000")
        # A shell that waits for its child, as what hands signals on to an OCI runtime's does.
        pid, _ = self.run_inside(*command, outside=("sh", "-c", '"$@"; exit $?', "sh"))
        # That one is in this machine's network, where nobody listens either.
        self.assertIn("refused", await self.why(self.network.tcp(TcpConnect(1, pid=pid))))
        staged = TcpConnect(1, pid=pid, staged=True)
        # Its loopback was never raised: there is not even anybody who could refuse.
        self.assertIn("unreachable", await self.why(self.network.tcp(staged)))

    async def test_a_process_of_our_own_network_is_asked_as_any_other(self) -> None:
        self.assertIsNone(open_network(os.getpid()))
        listening = await TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1").listen(
            Factory.forProtocol(Protocol)
        )
        self.addCleanup(listening.stopListening)
        await self.network.tcp(TcpConnect(listening.getHost().port, pid=os.getpid()))

    async def test_a_process_that_is_gone_is_not_taken_for_this_machine(self) -> None:
        process = subprocess.Popen(["true"])
        process.wait()
        why = await self.why(self.network.tcp(TcpConnect(self.port, pid=process.pid)))
        self.assertEqual(f"process {process.pid} is gone", why)

    async def test_nothing_is_left_of_what_was_given_up(self) -> None:
        for _ in range(5):
            await self.network.tcp(TcpConnect(self.port, pid=self.pid))
        await until(lambda: threading.active_count() < 3)
        before = len(os.listdir("/proc/self/fd")), os.readlink("/proc/self/ns/net")
        for delay in (0, 0.0005, 0.002):
            for what in (TcpConnect(self.port, pid=self.pid), TcpConnect(1, pid=self.pid)):
                asked = self.network.tcp(what)
                self.reactor.callLater(delay, asked.cancel)
                with contextlib.suppress(Exception):
                    await asked
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before[0])
        self.assertEqual(before[1], os.readlink("/proc/self/ns/net"))
