"""The master held to what a real one did: recorded sequences, played to the state.

C{recorded.tsv} holds what went between a Mesos 1.12 master, an agent and v1 schedulers, in order:
C{mesos-execute} (04), kills and grace periods (05, 06), task groups with the default
executor (07), restarts of the agent (08) and of the master (09), failover of a framework (10).
What came in is given to the state at its time; what goes out must be what went out, in the
same order for each peer. Only offers may come at other moments: when one is answered, ours is
compared with the recorded one, and its id put into the answer. Acknowledgements that came when
the link of their framework had broken, and that the real master dropped, are left out of the
file.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.message import Message

from mesoskit.master.operator import Requested, Teardown
from mesoskit.messages import codec
from mesoskit.messages.internal_pb2 import PingSlaveMessage, PongSlaveMessage
from mesoskit.messages.mesos_pb2 import Offer, TaskStatus
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.events import PeerKind, Send
from mesoskit.model.ids import FrameworkId, PeerId
from tests.base import SynchronousTestCase
from tests.master.bench import Bench

_FILE = Path(__file__).with_name("recorded.tsv")


class Row(NamedTuple):
    """
    One line of the recording.

    @ivar way: C{in} to the master, C{out} of it, C{lost} link, an operator's C{teardown}, or
        C{restart} of the master, under the id that is the name.
    """

    seconds: float
    way: str
    peer: str
    name: str
    message: Any


def rows(scenario: str) -> Iterator[Row]:
    """Give the lines of a scenario."""
    for line in _FILE.read_text().splitlines()[1:]:
        number, seconds, way, peer, name, data = line.split("\t")
        if number == scenario:
            message = codec.decode(name, b64decode(data)) if data or "." in name else None
            yield Row(float(seconds), way, peer, name, message)


class Player:
    """Plays a scenario to a state, and gathers what each peer is sent."""

    def __init__(self, test: RecordingTests, scenario: str) -> None:
        self.test = test
        self.rows = list(rows(scenario))
        self.bench = Bench(hostname="127.0.0.1", port=25050)
        registered = next(row for row in self.rows if row.name.endswith("SlaveRegisteredMessage"))
        # What a master does follows from its id, which is random.
        self.bench.state.info.id = registered.message.slave_id.value.removesuffix("-S0")
        self.links: dict[str, PeerId] = {}
        self.names: dict[PeerId, str] = {}
        self.sent: dict[str, list[Message]] = {}
        self.offers: dict[str, dict[str, Offer]] = {}
        self.recorded_offers = {
            offer.id.value: offer
            for row in self.rows
            if row.way == "out" and isinstance(row.message, Event)
            for offer in row.message.offers.offers
        }

    def play(self) -> None:
        """Give the state all that came in."""
        for row in self.rows:
            if row.way != "out":
                self.take(self.bench.run_until(max(row.seconds, self.bench.now)))
            if row.way == "lost":
                peer = self.links.pop(row.peer, None)
                if peer is not None:
                    self.take(self.bench.lose(peer))
            elif row.way == "restart":
                self.restart(row.name)
            elif row.way == "teardown":
                framework_id = FrameworkId(row.name.partition("=")[2])
                self.take(self.bench.give(Requested(1, Teardown(framework_id))))
            elif row.way == "in":
                self.give(row)
        self.take(self.bench.run_until(self.rows[-1].seconds + 1))

    def restart(self, master_id: str) -> None:
        """Go on with a master that knows what the registry holds."""
        before = self.bench
        self.bench = Bench(before.stored, now=before.now, hostname="127.0.0.1", port=25050)
        self.bench.state.info.id = master_id
        self.links.clear()
        self.names.clear()
        self.offers.clear()

    def give(self, row: Row) -> None:
        """Give the state one message."""
        message = row.message
        if isinstance(message, Call):
            message = self.answered(row.peer, message)
        self.take(self.bench.receive(self.link(row.peer), message))

    def link(self, name: str) -> PeerId:
        """Return a peer's link, connecting it first if it is new."""
        if name not in self.links:
            if name == "agent":
                peer = self.bench.connect(PeerKind.AGENT, "slave(1)@127.0.0.1:25051")
            else:
                peer = self.bench.connect(PeerKind.FRAMEWORK, "127.0.0.1:50000")
            self.links[name] = peer
            self.names[peer] = name
        return self.links[name]

    def take(self, effects: list[Any]) -> None:
        """Gather what is sent; answer pings."""
        for effect in effects:
            if not isinstance(effect, Send):
                continue
            name, message = self.names[effect.peer], effect.message
            if isinstance(message, PingSlaveMessage):
                if self.links.get(name) == effect.peer:
                    self.take(self.bench.receive(effect.peer, PongSlaveMessage()))
                continue
            if isinstance(message, Event) and message.type == Event.OFFERS:
                mine = self.offers.setdefault(name, {})
                mine.update((offer.id.value, offer) for offer in message.offers.offers)
            elif isinstance(message, Event) and message.type == Event.RESCIND:
                del self.offers[name][message.rescind.offer_id.value]
            self.sent.setdefault(name, []).append(message)

    def answered(self, name: str, call: Call) -> Call:
        """Return a call with our offers in the place of the recorded ones."""
        if call.type == Call.ACCEPT:
            ids = call.accept.offer_ids
        elif call.type == Call.DECLINE:
            ids = call.decline.offer_ids
        else:
            return call
        for one in ids:
            mine = self.offers.setdefault(name, {})
            while not mine:
                self.take(self.bench.wake())
            recorded, ours = self.recorded_offers[one.value], mine.pop(next(iter(mine)))
            self.test.assertEqual(_plain(recorded), _plain(ours))
            one.value = ours.id.value
        return call


def _plain(offer: Offer) -> Offer:
    """Return an offer without what may differ: its id, and the order of resources."""
    copy = Offer()
    copy.CopyFrom(offer)
    copy.id.value = "any"
    resources = sorted(copy.resources, key=lambda one: one.name)
    del copy.resources[:]
    copy.resources.extend(resources)
    return copy


def _comparable(messages: list[Any]) -> list[dict[str, Any]]:
    """Return what is compared: no offers, and neither the master's own times nor its version."""
    result = []
    for message in messages:
        if isinstance(message, Event):
            if message.type in (Event.OFFERS, Event.RESCIND):
                continue
            copy = Event()
            copy.CopyFrom(message)
            if copy.HasField("subscribed"):
                copy.subscribed.master_info.ClearField("version")
                copy.subscribed.master_info.ClearField("capabilities")
            status = copy.update.status
            if copy.HasField("update") and status.source == TaskStatus.SOURCE_MASTER:
                copy.update.status.ClearField("timestamp")
            message = copy
        # As JSON, which says what is meant where a field is not there.
        result.append(codec.to_dict(message))
    return result


class RecordingTests(SynchronousTestCase):
    """One test a scenario."""

    maxDiff = None

    def _play(self, scenario: str) -> None:
        player = Player(self, scenario)
        player.play()
        names = {row.peer for row in player.rows if row.way == "out"}
        for name in sorted(names | set(player.sent)):
            recorded = [row.message for row in player.rows if row.way == "out" and row.peer == name]
            ours = _comparable(player.sent.get(name, []))
            for number, expected in enumerate(_comparable(recorded)):
                self.assertLess(number, len(ours), f"{name} is not sent {expected}")
                self.assertEqual(expected, ours[number], f"message {number} to {name}")
            self.assertEqual([], ours[len(_comparable(recorded)) :], f"{name} is sent more")

    def test_04_mesos_execute(self) -> None:
        self._play("04")

    def test_05_command_executor(self) -> None:
        self._play("05")

    def test_06_command_executor_over_http(self) -> None:
        self._play("06")

    def test_07_task_groups(self) -> None:
        self._play("07")

    def test_08_agent_restart(self) -> None:
        self._play("08")

    def test_09_master_restart(self) -> None:
        self._play("09")

    def test_10_framework_failover(self) -> None:
        self._play("10")
