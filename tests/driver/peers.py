"""A master and an agent that say what a test tells them to, over the network in memory."""

from __future__ import annotations

from itertools import count
from typing import Any

from google.protobuf.message import Message
from twisted.internet.defer import Deferred

from mesoskit.driver import Framework, FrameworkInfo, TaskHandle, TaskInfo, command_task
from mesoskit.driver import resources as amounts
from mesoskit.messages import executor_pb2 as executor
from mesoskit.messages.mesos_pb2 import Offer as OfferMessage
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.testing.network import Network
from mesoskit.wire.endpoints import server_endpoint
from mesoskit.wire.link import Hello, Link, Refused, Taken
from mesoskit.wire.stream import StreamFactory
from tests.base import SynchronousTestCase

ADDRESS = "127.0.0.1:5050"
FRAMEWORK_ID = "m-0000"
AGENT_ID = "m-S0"


class Scripted:
    """
    A peer that remembers what it was told and answers as it is told to.

    @ivar said: every message, oldest first.
    @ivar refusal: what calls of a type are answered with, in place of C{Taken}.
    @ivar mute: types of calls that are not answered.
    @ivar link: the one that stands, L{None} where none does.
    @ivar reasons: why each link was lost.
    """

    role = 1

    def __init__(self, network: Network, name: str) -> None:
        self.network = network
        self.host = network.host(name)
        self.said: list[Any] = []
        self.refusal: dict[int, Refused] = {}
        self.mute: set[int] = set()
        self.link: Link | None = None
        self.links = 0
        self.hellos: list[Hello] = []
        self.reasons: list[str] = []
        self.unanswered: list[tuple[Link, int]] = []
        self.port: Any = None

    def listen(self, endpoint: str) -> None:
        """Be there."""
        factory = StreamFactory(self, Hello(self.role), clock=self.host)
        listening = server_endpoint(self.host, endpoint).listen(factory)
        listening.addCallback(lambda port: setattr(self, "port", port))

    def leave(self) -> None:
        """Be gone."""
        self.port.stopListening()
        self.host.cut()

    # Receiver

    def connected(self, link: Link) -> None:
        self.link = link
        self.links += 1
        self.hellos.append(link.hello)

    def received(self, link: Link, message: Message, call: int | None) -> None:
        message_: Any = message
        self.said.append(message_)
        if call is not None:
            if message_.type in self.mute:
                self.unanswered.append((link, call))
            else:
                link.answer(call, self.refusal.get(message_.type, Taken()))
        self.react(message_)

    def react(self, message: Any) -> None:
        """Do what a message asks for."""

    def congestion(self, link: Link, congested: bool) -> None:
        pass

    def lost(self, link: Link, why: str) -> None:
        self.reasons.append(why)
        if self.link is link:
            self.link = None

    # What tests say and ask

    def send(self, message: Message) -> None:
        """Say something, and let it arrive."""
        assert self.link is not None, "nobody is here"
        self.link.send(message)
        self.network.advance(0)

    def of_type(self, kind: int) -> list[Any]:
        """Return the calls of a type, oldest first."""
        return [each for each in self.said if each.type == kind]


class Master(Scripted):
    """
    A master; it answers C{SUBSCRIBE} with C{SUBSCRIBED}, and everything else not at all.

    @ivar silent: whether it does not.
    """

    def __init__(self, network: Network) -> None:
        super().__init__(network, "master")
        self.silent = False
        self.offers = count(1)
        self.uuids = count(1)
        self.listen(ADDRESS)

    def react(self, message: Any) -> None:
        if message.type == Call.SUBSCRIBE and not self.silent and not self.refusal:
            assert self.link is not None
            event = Event(type=Event.SUBSCRIBED)
            event.subscribed.framework_id.value = message.framework_id.value or FRAMEWORK_ID
            self.link.send(event)

    def offer(self, how_many: int = 1, agent_id: str = AGENT_ID) -> list[str]:
        """Make offers of 4 CPUs, in one event; returns their ids."""
        event = Event(type=Event.OFFERS)
        for _ in range(how_many):
            event.offers.offers.append(self.offer_message(agent_id))
        ids = [each.id.value for each in event.offers.offers]
        self.send(event)
        return ids

    def offer_message(self, agent_id: str = AGENT_ID) -> OfferMessage:
        """Return an offer."""
        offer = OfferMessage(hostname="host.test", resources=amounts(cpus=4, mem=1024))
        offer.id.value = f"o{next(self.offers)}"
        offer.framework_id.value = FRAMEWORK_ID
        offer.agent_id.value = agent_id
        return offer

    def rescind(self, offer_id: str) -> None:
        """Take an offer back."""
        event = Event(type=Event.RESCIND)
        event.rescind.offer_id.value = offer_id
        self.send(event)

    def update(self, task_id: str, state: str, uuid: bytes | None = None, **more: Any) -> bytes:
        """Tell of a task's state; returns the uuid. C{uuid=b""}: without one."""
        if uuid is None:
            uuid = next(self.uuids).to_bytes(16, "big")
        status = TaskStatus(state=state, **more)
        status.task_id.value = task_id
        status.agent_id.value = AGENT_ID
        if uuid:
            status.uuid = uuid
        event = Event(type=Event.UPDATE)
        event.update.status.CopyFrom(status)
        self.send(event)
        return uuid

    def acknowledged(self) -> list[bytes]:
        """Return the uuids that were acknowledged, in order."""
        return [call.acknowledge.uuid for call in self.of_type(Call.ACKNOWLEDGE)]

    def declined(self) -> list[str]:
        """Return the offers that were declined, in order."""
        return [
            each.value for call in self.of_type(Call.DECLINE) for each in call.decline.offer_ids
        ]

    def killed(self) -> list[str]:
        """Return the tasks that were to be killed, in order."""
        return [call.kill.task_id.value for call in self.of_type(Call.KILL)]

    def reconciled(self) -> list[list[str]]:
        """Return the tasks that were asked for, a list for each call."""
        return [
            [task.task_id.value for task in call.reconcile.tasks]
            for call in self.of_type(Call.RECONCILE)
        ]


class Agent(Scripted):
    """
    An agent's door; it answers C{SUBSCRIBE} with C{SUBSCRIBED}.

    @ivar silent: whether it does not.
    """

    role = 2

    def __init__(self, network: Network, path: str) -> None:
        super().__init__(network, "agent")
        self.silent = False
        self.path = path
        self.listen(f"unix:{path}")

    def react(self, message: Any) -> None:
        kind = executor.Call.SUBSCRIBE
        if message.type == kind and not self.silent and kind not in self.refusal:
            assert self.link is not None
            event = executor.Event(type=executor.Event.SUBSCRIBED)
            event.subscribed.executor_info.executor_id.value = message.executor_id.value
            event.subscribed.framework_info.CopyFrom(FrameworkInfo(user="u", name="n"))
            event.subscribed.agent_info.hostname = "host.test"
            self.link.send(event)


class FrameworkCase(SynchronousTestCase):
    """A framework, and a master that does what it is told."""

    def setUp(self) -> None:
        self.network = Network()
        self.master = Master(self.network)
        self.host = self.network.host("framework")

    def framework(self, start: bool = True, **more: Any) -> Framework:
        """Return a framework that is subscribed."""
        fields = more.pop("fields", {})
        framework = Framework(
            self.host,
            ADDRESS,
            FrameworkInfo(user="", name="test", **fields),
            chance=more.pop("chance", lambda: 0.5),
            **more,
        )
        if start:
            framework.startService()
            self.advance()
        return framework

    def advance(self, seconds: float = 0.0) -> None:
        """Let time pass."""
        self.network.advance(seconds)

    def launch(self, framework: Framework, *infos: TaskInfo) -> list[TaskHandle]:
        """Offer something, and launch tasks on it."""
        stream = framework.offers()
        waiting = stream.__anext__()
        self.master.offer()
        launched = framework.accept(self.successResultOf(waiting), infos)
        stream.aclose()
        self.advance()
        handles: list[TaskHandle] = self.successResultOf(launched)
        return handles

    def launch_one(self, framework: Framework, task_id: str = "t") -> TaskHandle:
        """Launch a task."""
        [handle] = self.launch(framework, command_task("t", "true", id=task_id))
        return handle

    def start(self, coroutine: Any) -> Deferred[Any]:
        """Start a coroutine."""
        return Deferred.fromCoroutine(coroutine)
