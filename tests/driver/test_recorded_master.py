"""The driver against a master of Apache Mesos, as far as recordings of one go.

The answers' heads are those that were recorded (scenarios 04, 09 and 10), byte for byte but for
the ids, and the events are recorded ones.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.protocol import Factory, Protocol

from mesoskit.driver import DriverSettings, FailedOver, Framework, FrameworkInfo, Offer, Scheduler
from mesoskit.messages.codec import from_json
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.testing.network import Network
from mesoskit.wire import recordio
from tests.base import SynchronousTestCase
from tests.messages import golden

STREAM = (
    b"HTTP/1.1 200 OK\r\nDate: Fri, 20 Nov 2026 21:40:49 GMT\r\nTransfer-Encoding: chunked\r\n"
    b"Mesos-Stream-Id: 0a6f2ecd-14f6-48b6-bf71-02e5e4e35ef4\r\nContent-Type: %b\r\n\r\n"
)
ACCEPTED = (
    b"HTTP/1.1 202 Accepted\r\nDate: Fri, 20 Nov 2026 21:40:49 GMT\r\nContent-Length: 0\r\n\r\n"
)
ELSEWHERE = (
    b"HTTP/1.1 307 Temporary Redirect\r\nDate: Fri, 20 Nov 2026 21:40:11 GMT\r\n"
    b"Location: //127.0.0.1:25050/master/api/v1/scheduler\r\nContent-Length: 0\r\n\r\n"
)
NOT_ELECTED = (
    b"HTTP/1.1 503 Service Unavailable\r\nDate: Fri, 20 Nov 2026 21:40:11 GMT\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 17\r\n\r\nNo leader elected"
)


class Speaker(Protocol):
    """A connection of the master's: it answers every call, and keeps the stream."""

    transport: Any

    def __init__(self, master: RecordedMaster) -> None:
        self.master = master
        self.held = b""

    def dataReceived(self, data: bytes) -> None:
        self.held += data
        while (end := self.held.find(b"\r\n\r\n")) >= 0:
            lines = self.held[:end].decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines[1:])
            stop = end + 4 + int(headers["Content-Length"])
            if len(self.held) < stop:
                return
            body, self.held = self.held[end + 4 : stop], self.held[stop:]
            self.master.asked(self, lines[0], headers, body)


class RecordedMaster(Factory):
    """
    Answers as it was recorded.

    @ivar heard: the calls, with the first line of each request and its headers.
    """

    noisy = False

    def __init__(self, first: bytes = b"") -> None:
        self.first = first
        self.heard: list[tuple[str, dict[str, str], Call]] = []
        self.stream: Speaker | None = None
        self.media = ""

    def buildProtocol(self, addr: Any) -> Speaker:
        return Speaker(self)

    def asked(self, speaker: Speaker, line: str, headers: dict[str, str], body: bytes) -> None:
        media = headers["Content-Type"]
        call = from_json(Call, body) if media.endswith("json") else Call.FromString(body)
        self.heard.append((line, headers, call))
        if call.type != Call.SUBSCRIBE:
            speaker.transport.write(ACCEPTED)
        elif self.first:
            speaker.transport.write(self.first)
        else:
            self.stream, self.media = speaker, headers["Accept"]
            speaker.transport.write(STREAM % self.media.encode())

    def calls(self, kind: int) -> list[Call]:
        return [call for _, _, call in self.heard if call.type == kind]

    def say(self, text: str) -> None:
        """Send an event, one chunk a record."""
        assert self.stream is not None
        data = text.encode()
        if not self.media.endswith("json"):
            data = from_json(Event, data).SerializeToString()
        record = recordio.encode(data)
        self.stream.transport.write(b"%x\r\n%b\r\n" % (len(record), record))

    def end(self) -> None:
        """End the stream; the connection stays, as it did."""
        assert self.stream is not None
        self.stream.transport.write(b"0\r\n\r\n")


class Log(Scheduler):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.offers: list[Offer] = []
        self.statuses: list[TaskStatus] = []

    def resource_offers(self, framework: Framework, offers: list[Offer]) -> None:
        self.offers += offers

    def status_update(self, framework: Framework, status: TaskStatus) -> None:
        self.statuses.append(status)


def recorded(scenario: str) -> list[str]:
    """Return the recorded events of a scenario, in order."""
    return [
        each.text
        for each in golden.jsons()
        if f"(scenarios {scenario}" in each.where and each.name.endswith("scheduler.Event")
    ]


class RecordedMasterTests(SynchronousTestCase):
    """In protobuf, and in JSON."""

    def setUp(self) -> None:
        self.network = Network()
        self.master = RecordedMaster()
        self.network.host("master").listenTCP(25050, self.master)
        self.log = Log()

    def framework(self, master: str = "http://127.0.0.1:25050", **more: Any) -> Framework:
        framework = Framework(
            self.network.host("framework"),
            master,
            FrameworkInfo(user="root", name="mesos-execute instance"),
            scheduler=self.log,
            chance=lambda: 0.5,
            **more,
        )
        framework.startService()
        self.network.advance(0)
        return framework

    def test_every_recorded_event_is_taken(self) -> None:
        for settings in (DriverSettings(), DriverSettings(http_json=True)):
            for scenario in ("04", "10"):
                self.setUp()
                events = recorded(scenario)
                self.assertGreater(len(events), 4)
                framework = self.framework(settings=settings)
                kinds = set()
                for text in sorted(events, key=lambda text: "SUBSCRIBED" not in text):
                    if '"ERROR"' not in text:
                        kinds.add(json.loads(text)["type"])
                        self.master.say(text)
                        self.network.advance(0)
                self.assertTrue(framework.subscribed)
                self.assertLessEqual({"SUBSCRIBED", "OFFERS", "UPDATE"}, kinds)
                self.assertTrue(self.log.offers)
                uuids = {status.uuid for status in self.log.statuses if status.uuid}
                acknowledged = self.master.calls(Call.ACKNOWLEDGE)
                self.assertEqual(uuids, {call.acknowledge.uuid for call in acknowledged})
                framework.stopService()
                self.network.advance(10)

    def test_what_is_sent_is_what_such_a_master_asks_for(self) -> None:
        framework = self.framework()
        self.master.say(next(text for text in recorded("04") if "SUBSCRIBED" in text))
        self.network.advance(0)
        framework.revive()
        self.network.advance(0)
        for line, headers, call in self.master.heard:
            self.assertEqual("POST /api/v1/scheduler HTTP/1.1", line)
            self.assertEqual("application/x-protobuf", headers["Content-Type"])
            self.assertEqual("application/x-protobuf", headers["Accept"])
            self.assertEqual(call.type != Call.SUBSCRIBE, "Mesos-Stream-Id" in headers)
            self.assertEqual(call.type != Call.SUBSCRIBE, bool(call.framework_id.value))
        [subscribe] = self.master.calls(Call.SUBSCRIBE)
        self.assertEqual("mesos-execute instance", subscribe.subscribe.framework_info.name)

    def test_standby_masters_send_on_and_those_before_an_election_are_asked_again(self) -> None:
        standby = RecordedMaster(ELSEWHERE)
        self.network.host("standby").listenTCP(25060, standby)
        framework = self.framework("http://127.0.0.1:25060,http://127.0.0.1:25070")
        [line, *_] = [line for line, _, _ in self.master.heard]
        self.assertEqual("POST /master/api/v1/scheduler HTTP/1.1", line)
        self.master.say(next(text for text in recorded("04") if "SUBSCRIBED" in text))
        self.network.advance(0)
        self.assertTrue(framework.subscribed)

        # The leader dies: nobody leads, then the other one does.
        known = framework.id
        standby.first = NOT_ELECTED
        assert self.master.stream is not None
        self.master.stream.transport.abortConnection()
        self.network.advance(30)
        self.assertFalse(framework.subscribed)
        self.assertGreater(len(standby.calls(Call.SUBSCRIBE)), 2)
        standby.first = b""
        self.network.advance(30)
        self.assertIsNotNone(standby.stream)
        self.assertEqual(known, standby.calls(Call.SUBSCRIBE)[-1].framework_id.value)

    def test_failover(self) -> None:
        """The old stream gets an ERROR and the end of its chunks; the connection stays."""
        framework = self.framework()
        ended = framework.run()
        events = recorded("10")
        for start in ('{"type":"SUBSCRIBED"', '{"type":"ERROR"'):
            self.master.say(next(text for text in events if text.startswith(start)))
            self.network.advance(0)
        self.master.end()
        self.network.advance(0)
        self.failureResultOf(ended, FailedOver)
        self.network.advance(60)
        self.assertEqual(1, len(self.master.calls(Call.SUBSCRIBE)))

    def test_heartbeats_that_stay_away(self) -> None:
        framework = self.framework()
        for kind in ("SUBSCRIBED", "HEARTBEAT"):
            text = '{"type":"HEARTBEAT"}'
            if kind == "SUBSCRIBED":
                text = next(text for text in recorded("04") if "SUBSCRIBED" in text)
            self.master.say(text)
        for _ in range(10):
            self.network.advance(15)
            self.master.say('{"type":"HEARTBEAT"}')
        self.network.advance(14)
        self.assertTrue(framework.subscribed)
        self.network.advance(76)
        self.assertFalse(framework.subscribed)
        self.network.advance(10)
        self.assertGreater(len(self.master.calls(Call.SUBSCRIBE)), 1)
