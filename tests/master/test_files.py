"""Sandboxes of agents at the master's port: a whole cluster in memory, with files on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from mesoskit.agent.containers.memory import MemoryContainers
from mesoskit.agent.hands import Hands
from mesoskit.agent.options import AgentOptions
from mesoskit.agent.sandboxes import Sandboxes
from mesoskit.driver import command_task
from mesoskit.master import bulk, files_http
from mesoskit.messages.codec import to_json
from mesoskit.messages.master_pb2 import Call, Response
from mesoskit.messages.stream_pb2 import Purpose, Role
from mesoskit.testing.cluster import MASTER, TestAgent, TestCluster, _AnyUser, _ReadyFetcher
from mesoskit.wire.link import Hello
from mesoskit.wire.stream import DialFailed, dial
from tests.agent.test_service import at_once
from tests.base import SynchronousTestCase
from tests.web.asking import Answer, ask
from tests.wire.ears import Ear

_BIG = 2_000_000


class _Agent(TestAgent):
    """An agent whose sandboxes are really there."""

    def __init__(self, cluster: TestCluster, number: int, resources: str, work_dir: str) -> None:
        self._work_dir = work_dir
        super().__init__(cluster, number, resources)

    def start(self) -> None:
        self._options = replace(
            self._options, work_dir=self._work_dir, switch_user=False, gc_delay=100.0
        )
        super().start()

    def _hands(self, reactor: Any, options: AgentOptions, tell: Callable[[Any], None]) -> Hands:
        sandboxes = Sandboxes(options.work_dir, at_once)
        hands = Hands(_AnyUser(), sandboxes, _ReadyFetcher(), tell)
        hands.containers = MemoryContainers(
            self.containers, hands.exited, lambda turn: reactor.callLater(0, turn)
        )
        return hands


class _Browser(Protocol):
    """A client whose connection goes over the cluster's network."""

    def __init__(self, request: str, paused: bool = False) -> None:
        self._request = request
        self._paused = paused
        self.heard = b""
        self.lost: Failure | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(f"GET {self._request} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.pause(self._paused)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason

    def pause(self, paused: bool) -> None:
        """Read nothing more, or go on."""
        transport: Any = self.transport
        transport.stall(paused)

    @property
    def body(self) -> bytes:
        return self.heard.partition(b"\r\n\r\n")[2]


class Bench(SynchronousTestCase):
    """A master and two agents, and a task that runs on one of them."""

    def setUp(self) -> None:
        self.cluster = cluster = TestCluster(agents=0)
        self.addCleanup(cluster.stop)
        for number in range(2):
            work_dir = os.path.realpath(self.mktemp())
            os.makedirs(work_dir)
            cluster.agents.append(_Agent(cluster, number, "cpus:4;mem:4096", work_dir))
        cluster.advance(2)
        self.framework = cluster.framework(user="alice")
        self.launch("t", "sleep 1000")
        (self.task,) = cluster.master.frameworks[self.framework_id].tasks.values()
        (self.agent,) = (one for one in cluster.agents if one.id == self.task.agent_id)
        (self.other,) = (one for one in cluster.agents if one.id != self.task.agent_id)
        self.sandbox = self.sandbox_of("t")
        (self.sandbox / "stdout").write_text("hello\n")
        (self.sandbox / "big").write_bytes(b"b" * _BIG)

    @property
    def framework_id(self) -> Any:
        (framework_id,) = self.cluster.master.frameworks
        return framework_id

    def launch(self, name: str, command: str) -> None:
        async def one() -> None:
            async for offer in self.framework.offers():
                await self.framework.accept(offer, [command_task(name, command, id=name)])
                return

        self.cluster.wait(Deferred.fromCoroutine(one()))
        self.cluster.advance(1)

    def sandbox_of(self, executor: str) -> Path:
        for agent in self.cluster.agents:
            for framework in (
                *agent.state.frameworks.values(),
                *agent.state.completed_frameworks.values(),
            ):
                for found in (*framework.executors.values(), *framework.completed):
                    if found.id == executor:
                        return Path(found.directory)
        raise AssertionError(f"no executor {executor}")

    def turn(self) -> None:
        self.cluster.advance(0.5)

    @property
    def links(self) -> bulk.BulkLinks:
        assert self.cluster.master_service is not None
        return self.cluster.master_service.bulk

    def ask(self, request: str, body: str = "", **headers: str) -> Answer:
        assert self.cluster.master_service is not None
        return ask(self.cluster.master_service.port, request, self.turn, body, **headers)

    def direct(self, request: str, **headers: str) -> Answer:
        assert self.agent.service is not None
        return ask(self.agent.service.port, request, self.turn, **headers)

    def get(self, what: str, path: object, more: str = "", **headers: str) -> Answer:
        return self.ask(f"GET /files/{what}?path={quote(str(path))}{more}", **headers)

    def browser(self, request: str, paused: bool = False) -> _Browser:
        host = self.cluster.network.host("browser.test")
        browser = _Browser(request, paused)
        name, _, port = MASTER.partition(":")
        connectProtocol(TCP4ClientEndpoint(host, name, int(port)), browser)
        self.cluster.advance()
        return browser


class SameAsTheAgentTests(Bench):
    """Through the master everything is as at the agent: status, headers and body."""

    def check(self, request: str, **headers: str) -> Answer:
        through, direct = self.ask(request, **headers), self.direct(request, **headers)
        for answer in (through, direct):
            answer.headers.pop("date", None)
        self.assertEqual(direct, through, request)
        return through

    def test_what_browsers_ask_for(self) -> None:
        sandbox = self.sandbox
        (sandbox / "dir").mkdir()
        (sandbox / 'no "name ä').write_text("x")
        (sandbox / "empty").touch()
        for number in range(50):
            (sandbox / "dir" / f"entry{number}").touch()
        latest = f"/frameworks/{self.framework_id}/executors/t/runs/latest"
        for root in (str(sandbox), str(sandbox.parent / "latest"), latest):
            for name in ("", "/", "/stdout", "/dir", "/no%20%22name%20%C3%A4", "/empty", "/nosuch"):
                for what in ("browse", "read", "download"):
                    self.check(f"GET /files/{what}?path={quote(root)}{name}")
                    self.check(f"HEAD /files/{what}?path={quote(root)}{name}")
        for more in ("&offset=0", "&offset=2&length=2", "&offset=x", "&length=-5", "&offset=99999"):
            self.check(f"GET /files/read?path={sandbox}/stdout{more}")
        self.assertEqual(
            {"data": "hello\n", "offset": 0},
            self.check(f"GET /files/read?path={sandbox}/stdout&offset=0").json(),
        )

    def test_scripts_and_zipped_answers(self) -> None:
        for number in range(50):
            (self.sandbox / f"entry{number}").touch()
        answer = self.check(f"GET /files/browse?path={self.sandbox}", Accept_Encoding="gzip")
        self.assertEqual("gzip", answer.headers["content-encoding"])
        answer = self.check(f"GET /files/browse?path={self.sandbox}&jsonp=show")
        self.assertTrue(answer.body.startswith(b"show("))
        self.assertEqual("text/javascript", answer.headers["content-type"])

    def test_parts_of_files(self) -> None:
        for part in ("bytes=1-3", "bytes=-2", "bytes=0-", "bytes=99-", "nonsense"):
            self.check(f"GET /files/download?path={self.sandbox}/stdout", Range=part)
            self.check(f"HEAD /files/download?path={self.sandbox}/stdout", Range=part)

    def test_nothing_else_of_the_machine_can_be_read(self) -> None:
        secret = Path(self.agent.state.options.work_dir, "secret")
        secret.write_text("secret")
        inside = str(self.sandbox)
        (self.sandbox / "out").symlink_to("/etc/passwd")
        for path in (
            f"{inside}/../../../../../../../../secret",
            f"{inside}/%2e%2e/%2e%2e",
            f"{inside}/..%2f..%2f..",
            f"{inside}/out",
            f"//{inside}/./../stdout/../../..",
            f"{inside}%00/etc/passwd",
            f"{os.path.dirname(inside)}/../runs",
            f"/frameworks/{self.framework_id}/executors/t/runs/..",
        ):
            for what in ("read", "browse", "download"):
                answer = self.check(f"GET /files/{what}?path={path}&offset=0")
                self.assertIn(answer.status, (400, 404), (what, path))
                self.assertNotIn(b"root:", answer.body)

    def test_a_download_is_whole(self) -> None:
        answer = self.get("download", self.sandbox / "big")
        self.assertEqual((200, str(_BIG)), (answer.status, answer.headers["content-length"]))
        self.assertEqual(b"b" * _BIG, answer.body)

    def test_debug_with_an_agent(self) -> None:
        self.assertEqual({}, self.ask("GET /files/debug").json())
        for name in ("agent_id", "slave_id"):
            through = self.ask(f"GET /files/debug?{name}={self.agent.id}")
            self.assertEqual(self.direct("GET /files/debug").json(), through.json())
            self.assertIn(str(self.sandbox), through.json())


class WhichAgentTests(Bench):
    """A path says where it is, or the master finds it out, or whoever asks says it."""

    def test_the_sandbox_of_a_task_that_has_ended(self) -> None:
        self.cluster.finish("t")
        self.cluster.advance(10)
        self.assertEqual({}, self.cluster.master.frameworks[self.framework_id].tasks)
        latest = f"/frameworks/{self.framework_id}/executors/t/runs/latest"
        for path in (self.sandbox, latest):
            answer = self.get("read", f"{path}/stdout", "&offset=0")
            self.assertEqual("hello\n", answer.json()["data"], path)
        self.cluster.advance(200)
        self.assertEqual(404, self.get("browse", self.sandbox).status)

    def test_an_agent_that_is_named(self) -> None:
        latest = f"/frameworks/{self.framework_id}/executors/t/runs/latest"
        answer = self.get("browse", latest, f"&agent_id={self.agent.id}")
        self.assertEqual(200, answer.status)
        answer = self.get("browse", latest, f"&slave_id={self.other.id}")
        self.assertEqual((404, b""), (answer.status, answer.body))

    def test_where_nothing_can_be_asked(self) -> None:
        for what, body in (("browse", ""), ("read", ""), ("download", "404 Not Found.")):
            for path in ("/", "/etc/passwd", "/master/log", "/frameworks/f/executors/e/runs/r"):
                answer = self.get(what, path)
                self.assertEqual((404, body.encode()), (answer.status, answer.body), path)
            answer = self.ask(f"GET /files/{what}")
            self.assertEqual(
                (400, b"Expecting 'path=value' in query.\n"), (answer.status, answer.body)
            )
            answer = self.get(what, "/", "&agent_id=nobody")
            self.assertEqual((404, b"There is no agent 'nobody'.\n"), (answer.status, answer.body))
        self.assertEqual(0, self.links.asked)

    def test_agents_that_are_away(self) -> None:
        path, agent_id = self.sandbox, self.agent.id
        self.agent.stop()
        self.turn()
        answer = self.get("browse", path)
        self.assertEqual(
            (503, f"Agent {agent_id} is disconnected.\n"), (answer.status, answer.body.decode())
        )
        self.cluster.restart_master()
        self.turn()
        answer = self.get("browse", path)
        self.assertEqual(503, answer.status)
        self.assertIn(b"has not come back yet", answer.body)
        self.cluster.advance(700)
        answer = self.get("browse", path)
        self.assertEqual(503, answer.status)
        self.assertIn(b"is unreachable", answer.body)
        self.agent.start()
        self.cluster.advance(2)
        self.assertEqual(200, self.get("browse", path).status)

    def test_a_master_that_does_not_lead_sends_to_the_one_that_does(self) -> None:
        service = self.cluster.master_service
        assert service is not None
        leader = type(service.state.info)()
        leader.CopyFrom(service.state.info)
        leader.id, leader.hostname, leader.port = "another", "leader.test", 5055
        service.leader = leader
        answer = self.get("browse", self.sandbox)
        self.assertEqual(307, answer.status)
        self.assertEqual(
            f"//leader.test:5055/files/browse?path={self.sandbox}", answer.headers["location"]
        )
        service.leader = None
        self.assertEqual(503, self.get("download", self.sandbox).status)


class OperatorTests(Bench):
    """LIST_FILES and READ_FILE of the master's operator API."""

    def call(self, accept: str = "application/x-protobuf", **fields: Any) -> Answer:
        call = Call(**fields)
        return self.ask(
            "POST /api/v1",
            to_json(call).decode(),
            Content_Type="application/json",
            Accept=accept,
        )

    def test_files_of_a_sandbox(self) -> None:
        answer = self.call(type=Call.LIST_FILES, list_files={"path": str(self.sandbox)})
        response = Response.FromString(answer.body)
        self.assertEqual(Response.LIST_FILES, response.type)
        found = {one.path: one.size for one in response.list_files.file_infos}
        self.assertEqual(6, found[f"{self.sandbox}/stdout"])
        wanted = {"path": f"{self.sandbox}/stdout", "offset": 1, "length": 3}
        answer = self.call(type=Call.READ_FILE, read_file=wanted)
        response = Response.FromString(answer.body)
        self.assertEqual((6, b"ell"), (response.read_file.size, response.read_file.data))
        answer = self.call("application/json", type=Call.READ_FILE, read_file=wanted)
        self.assertEqual({"data": "ZWxs", "size": 6}, answer.json()["read_file"])

    def test_what_is_not_for_reading(self) -> None:
        for path, status in (
            ("/etc/passwd", 404),
            (f"{self.sandbox}/..", 400),
            (self.sandbox, 400),
        ):
            wanted = {"path": str(path), "offset": 0}
            self.assertEqual(status, self.call(type=Call.READ_FILE, read_file=wanted).status, path)


class NonsenseTests(Bench):
    """Whatever is asked for, an answer in its place, and nothing that is not in a sandbox."""

    def test_nonsense(self) -> None:
        secret = Path(self.agent.state.options.work_dir, "secret")
        secret.write_text("s3cret")
        (self.sandbox / "out").symlink_to(secret)
        inside = str(self.sandbox)
        word = st.one_of(
            st.sampled_from(
                ("..", "%2e%2e", "%2F", "/", "//", ".", "stdout", "out", inside, "slaves", "%00")
            ),
            st.text(alphabet="/.%?&=+aä\0", max_size=5).map(quote),
        )
        names = st.sampled_from(("offset", "length", "agent_id", "slave_id", "jsonp", "path", "x"))
        values = st.sampled_from(("0", "-1", "-7", "9" * 30, "x", "", self.agent.id, inside))

        @given(
            st.sampled_from(("browse", "read", "download", "debug")),
            st.lists(word, max_size=8),
            st.lists(st.tuples(names, values), max_size=3),
            st.sampled_from(("GET", "HEAD", "POST")),
            st.sampled_from(("", "bytes=1-", "bytes=-1", "bytes=9-1", "x" * 200)),
        )
        @settings(max_examples=150, deadline=None)
        def ask_for(
            what: str, words: list[str], more: list[tuple[str, str]], method: str, part: str
        ) -> None:
            query = "&".join(
                ["path=" + "/".join(words), *(f"{one}={other}" for one, other in more)]
            )
            answer = self.ask(f"{method} /files/{what}?{query}", Range=part)
            self.assertIn(answer.status, (200, 206, 400, 404, 416))
            self.assertNotIn(b"s3cret", answer.body)

        ask_for()
        self.assertEqual((0, 0), (len(self.links), self.links.held))


class LinkTests(Bench):
    """Bulk links come when they are needed, and go; none is anybody's but an invited agent's."""

    def test_one_link_serves_many_and_goes_when_nobody_needs_it(self) -> None:
        self.assertEqual(0, self.links.opened)
        for _ in range(5):
            self.get("browse", self.sandbox)
        self.assertEqual((1, 5, 0), (self.links.opened, self.links.asked, len(self.links)))
        self.assertEqual(1, self.links.metrics()["mesoskit/bulk_links"])
        self.cluster.advance(50)
        self.get("browse", self.sandbox)
        self.cluster.advance(50)
        self.assertEqual(1, self.links.metrics()["mesoskit/bulk_links"])
        self.cluster.advance(20)
        self.assertEqual(0, self.links.metrics()["mesoskit/bulk_links"])
        self.assertEqual(200, self.get("browse", self.sandbox).status)
        self.assertEqual(2, self.links.opened)

    def test_a_link_that_was_lost_comes_back(self) -> None:
        self.get("browse", self.sandbox)
        self.agent.host.cut()
        self.cluster.advance(3)
        self.assertEqual(200, self.get("browse", self.sandbox).status)
        self.agent.restart()
        self.cluster.advance(3)
        self.assertEqual(200, self.get("browse", self.sandbox).status)
        self.cluster.restart_master()
        self.cluster.advance(3)
        self.assertEqual(200, self.get("browse", self.sandbox).status)
        self.assertEqual(1, self.links.opened)

    def test_an_agent_that_does_not_dial(self) -> None:
        assert self.agent.service is not None
        self.patch(self.agent.service.bulk, "invited", lambda _: None)
        assert self.cluster.master_service is not None
        browser = self.browser(f"/files/browse?path={self.sandbox}")
        self.cluster.advance(9)
        self.assertEqual(b"", browser.heard)
        self.cluster.advance(2)
        self.assertTrue(browser.heard.startswith(b"HTTP/1.1 504 "))
        self.assertEqual(b"the agent has dialled no bulk link within 10 s.\n", browser.body)
        self.assertEqual(0, len(self.links))

    def test_an_agent_that_cannot_dial_may_be_able_to_later(self) -> None:
        assert self.agent.service is not None
        links = self.agent.service.bulk
        dial = self.patch(links, "_dial", lambda *_: fail(DialFailed("there", "no way")))
        browser = self.browser(f"/files/browse?path={self.sandbox}")
        self.cluster.advance(11)
        self.assertTrue(browser.heard.startswith(b"HTTP/1.1 504 "))
        dial.restore()
        self.assertEqual(200, self.get("browse", self.sandbox).status)

    def test_an_agent_of_an_older_kind(self) -> None:
        assert self.agent.service is not None
        dialer: Any = self.agent.service._dialer
        dialer._hello = replace(dialer._hello, bulk=False, software="mesoskit/0.0.9")
        self.agent.host.cut()
        self.cluster.advance(3)
        answer = self.get("browse", self.sandbox)
        self.assertEqual(503, answer.status)
        self.assertIn(b"mesoskit/0.0.9, which does not send files", answer.body)

    def test_whoever_was_not_invited_gets_no_link(self) -> None:
        service = self.cluster.master_service
        assert service is not None
        taken: list[Any] = []
        assert self.agent.service is not None
        self.patch(self.agent.service.bulk, "invited", taken.append)
        self.browser(f"/files/browse?path={self.sandbox}")
        self.cluster.advance(1)
        (invitation,) = taken
        link = service.peers.link(service.state.agents[self.task.agent_id].peer.id)  # type: ignore[union-attr]
        assert link is not None
        instance = link.hello.instance
        for hello in (
            Hello(Role.AGENT, instance=instance, purpose=Purpose.BULK),
            Hello(Role.AGENT, instance=instance, purpose=Purpose.BULK, token="guess"),
            Hello(Role.AGENT, instance="x", purpose=Purpose.BULK, token=invitation.ticket),
            # The ticket is good once, whoever shows it.
            Hello(Role.AGENT, instance=instance, purpose=Purpose.BULK, token=invitation.ticket),
        ):
            ear = Ear()
            dial(MASTER, ear, hello, clock=self.cluster.network.host("x"))
            self.cluster.advance(1)
            self.assertTrue(ear.reasons, hello)
        self.assertEqual((4, 0), (self.links.refused, self.links.opened))

    def test_a_link_must_be_the_same_principals(self) -> None:
        service = self.cluster.master_service
        assert service is not None
        control: Any = service.peers.link(service.state.agents[self.task.agent_id].peer.id)  # type: ignore[union-attr]
        control._principal = "somebody"
        self.browser(f"/files/browse?path={self.sandbox}")
        self.cluster.advance(1)
        self.assertEqual((1, 0), (self.links.refused, self.links.opened))


class EndTests(Bench):
    """Slow readers, readers that leave, agents that go in the middle, and too many of all."""

    def begin(self) -> _Browser:
        """Begin a download that is not taken."""
        browser = self.browser(f"/files/download?path={self.sandbox}/big", paused=True)
        self.cluster.advance(1)
        return browser

    def test_a_slow_reader_stops_the_reading_and_nobody_else(self) -> None:
        browser = self.begin()
        self.assertLess(self.links.metrics()["mesoskit/bulk_bytes_waiting"], 600_000)
        assert self.agent.service is not None
        self.assertEqual(1, len(self.agent.service.bulk))
        self.assertEqual(_BIG, len(self.get("download", self.sandbox / "big").body))
        self.assertEqual(1, len(self.agent.service.bulk))
        browser.pause(False)
        self.cluster.advance(1)
        self.assertEqual(_BIG, len(browser.body))
        self.assertEqual(0, len(self.links))

    def test_a_reader_that_leaves_ends_the_reading(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        browser = self.begin()
        assert self.agent.service is not None
        self.assertEqual(before + 1, len(os.listdir("/proc/self/fd")))
        transport: Any = browser.transport
        transport.abortConnection()
        self.cluster.advance(1)
        self.assertEqual((0, 0), (len(self.links), len(self.agent.service.bulk)))
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))

    def test_a_reader_that_takes_nothing_for_minutes_is_cut_off(self) -> None:
        browser = self.begin()
        self.cluster.advance(310)
        self.assertEqual(0, len(self.links))
        browser.pause(False)
        self.cluster.advance(1)
        self.assertIsNotNone(browser.lost)
        self.assertLess(len(browser.body), _BIG)

    def test_an_agent_that_goes_in_the_middle(self) -> None:
        for go in (self.agent.host.cut, self.agent.stop):
            browser = self.begin()
            go()
            browser.pause(False)
            self.cluster.advance(3)
            self.assertIsNotNone(browser.lost)
            self.assertLess(len(browser.body), _BIG)
            self.assertEqual(0, len(self.links))

    def test_an_agent_whose_machine_is_gone(self) -> None:
        self.get("browse", self.sandbox)
        self.agent.host.isolate()
        browser = self.browser(f"/files/browse?path={self.sandbox}")
        self.cluster.advance(31)
        self.assertTrue(browser.heard.startswith(b"HTTP/1.1 503 "), browser.heard)
        self.agent.host.isolate(False)

    def test_a_reader_that_leaves_before_there_is_a_link(self) -> None:
        self.agent.host.isolate()
        browser = self.browser(f"/files/download?path={self.sandbox}/big")
        self.assertEqual(1, len(self.links))
        transport: Any = browser.transport
        transport.abortConnection()
        self.cluster.advance(1)
        self.assertEqual(0, len(self.links))
        self.agent.host.isolate(False)

    def test_the_master_stops_in_the_middle(self) -> None:
        browser = self.begin()
        self.cluster.stop_master()
        self.cluster.advance(1)
        self.assertIsNotNone(browser.lost)
        assert self.agent.service is not None
        self.assertEqual(0, len(self.agent.service.bulk))

    def test_too_many_readers(self) -> None:
        browsers = [self.begin() for _ in range(32)]
        answer = self.get("browse", self.sandbox)
        self.assertEqual(503, answer.status)
        self.assertIn(b"32 files of agent", answer.body)
        self.patch(bulk, "MOST", 32)
        self.assertIn(b"32 files are being read already", self.get("browse", self.sandbox).body)
        for browser in browsers:
            browser.pause(False)
        self.cluster.advance(1)
        self.assertEqual({_BIG}, {len(browser.body) for browser in browsers})
        self.assertEqual(200, self.get("browse", self.sandbox).status)

    def test_answers_that_are_held_whole_are_bounded(self) -> None:
        self.patch(files_http, "MOST_HELD", 100)
        answer = self.get("browse", self.sandbox)
        self.assertEqual(503, answer.status)
        self.assertIn(b"there is no room for an answer of", answer.body)
        self.assertEqual((0, 0), (self.links.held, len(self.links)))
        self.assertEqual(200, self.get("read", self.sandbox / "stdout", "&offset=0").status)
