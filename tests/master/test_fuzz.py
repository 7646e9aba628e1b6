"""No message, however strange, brings the state down or its records out of step."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesoskit.messages import internal_pb2
from mesoskit.messages.mesos_pb2 import Offer
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.model.events import PeerKind, Received
from tests import example_count
from tests.base import SynchronousTestCase
from tests.master.bench import (
    AWARE,
    Bench,
    accept,
    acknowledge,
    decline,
    executor,
    framework_info,
    group,
    registration,
    reported,
    reregistration,
    resources,
    scheduler_call,
    subscription,
    task,
    update_of,
)

_EXAMPLES = example_count(150)

_AGENT_MESSAGES = (
    internal_pb2.StatusUpdateMessage,
    internal_pb2.PongSlaveMessage,
    internal_pb2.RegisterSlaveMessage,
    internal_pb2.ReregisterSlaveMessage,
    internal_pb2.UnregisterSlaveMessage,
    internal_pb2.UpdateSlaveMessage,
    internal_pb2.ExitedExecutorMessage,
    internal_pb2.ExecutorToFrameworkMessage,
)
_MASTER = "aaf55e33-c4d3-48ac-8dc7-dfbdc4ab8e67"
_TEXTS = st.sampled_from(
    [
        f"{_MASTER}-0000",
        f"{_MASTER}-S0",
        f"{_MASTER}-S1",
        f"{_MASTER}-O0",
        f"{_MASTER}-O1",
        "t",
        "e",
        "*",
        "a/b",
        "cpus",
        "mem",
        "1.0.0",
        "agent.example",
        "",
        "..",
        "\x00",
        "x" * 300,
    ]
)
_BYTES = st.sampled_from([b"", b"short", bytes(16), bytes(range(16)), b"\x40" * 16])
_DOUBLES = st.sampled_from([0.0, 0.5, 1.0, 64.0, -1.0, 1e300, float("inf"), float("nan")])
_INTEGERS = st.sampled_from([0, 1, 5, 31000, 2**31 - 1])
_DEPTH = 7


def messages(cls: type[Message]) -> st.SearchStrategy[Message]:
    """Return a strategy for messages of a class, with all that they require."""
    return st.composite(_build)(cls.DESCRIPTOR, _DEPTH)


def _build(draw: Any, descriptor: Any, depth: int) -> Any:
    message: Any = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.is_required or (depth > 0 and draw(st.integers(0, 2)) == 0):
            _fill(draw, message, field, depth - 1)
    return message


def _fill(draw: Any, message: Any, field: FieldDescriptor, depth: int) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return
    repeated = field.is_repeated
    for _ in range(draw(st.integers(0, 2)) if repeated else 1):
        if field.message_type is not None:
            value = _build(draw, field.message_type, depth)
            if repeated:
                getattr(message, field.name).append(value)
            else:
                getattr(message, field.name).CopyFrom(value)
            continue
        value = draw(_scalars(field))
        if repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)


def _scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return _BYTES if field.type == FieldDescriptor.TYPE_BYTES else _TEXTS
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return _DOUBLES
    return _INTEGERS


def _bend(draw: Any, message: Any) -> None:
    """Change something in a message that was right: one field, at any depth."""
    fields = [field for field, _ in message.ListFields()]
    if not fields:
        return
    field = draw(st.sampled_from(fields))
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return
    inside = getattr(message, field.name)
    how = draw(st.integers(0, 3))
    if field.message_type is not None and how:
        _bend(draw, draw(st.sampled_from(list(inside))) if field.is_repeated else inside)
    elif field.is_repeated:
        if how == 1:
            del inside[:]
        else:
            inside.append(inside[0])
    elif field.message_type is None and (how or field.is_required):
        setattr(message, field.name, draw(_scalars(field)))
    elif not field.is_required:
        message.ClearField(field.name)


def _copy(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


def _right_calls(bench: Bench, framework_id: str) -> list[Any]:
    """Return calls that a framework might well make."""
    offer = next(iter(bench.state.offers.values()))
    shown = Offer()
    shown.id.value, shown.framework_id.value = offer.id, framework_id
    shown.agent_id.value = offer.agent_id
    whole = executor("e", framework_id, "cpus:0.1;mem:32;disk:1")
    calls = [
        accept(shown, task(shown, "u", executor=executor("e")), task(shown, "v")),
        group(shown, whole, task(shown, "g"), task(shown, "h")),
        decline(shown, 3.0),
        subscription(AWARE, id=framework_id),
        acknowledge(shown, "t", "TASK_RUNNING"),
    ]
    calls[0].accept.operations.add().type = Offer.Operation.RESERVE
    update_framework = scheduler_call(Call.UPDATE_FRAMEWORK, framework_id)
    update_framework.update_framework.framework_info.CopyFrom(framework_info(framework_id, AWARE))
    kill = scheduler_call(Call.KILL, framework_id)
    kill.kill.task_id.value = "t"
    return [*calls, update_framework, kill]


def _right_messages(bench: Bench, framework_id: str) -> list[Any]:
    """Return messages that an agent might well send."""
    agent_id = next(iter(bench.state.agents))
    info = framework_info(framework_id, AWARE)
    reservation = reregistration(agent_id, frameworks=[info])
    reservation.checkpointed_resources.extend(resources("cpus(r):1", "*"))
    exited = internal_pb2.ExitedExecutorMessage(status=1)
    exited.slave_id.value = agent_id
    exited.framework_id.value = framework_id
    exited.executor_id.value = "e"
    changed = internal_pb2.UpdateSlaveMessage()
    changed.slave_id.value = agent_id
    changed.oversubscribed_resources.extend(resources("cpus:1"))
    own = executor("e", framework_id)
    return [
        registration("new.example"),
        reregistration(
            agent_id,
            tasks=[
                reported(framework_id, agent_id, "t", executor_id="e"),
                reported(framework_id, agent_id, "w", "TASK_FINISHED"),
            ],
            executors=[own],
            frameworks=[info, framework_info("unknown-0000")],
        ),
        reregistration("old-S9", tasks=[reported("gone-0", "old-S9", "z")], frameworks=[]),
        reservation,
        update_of(framework_id, agent_id, "t", "TASK_RUNNING"),
        update_of(framework_id, agent_id, "t", "TASK_FINISHED"),
        exited,
        changed,
    ]


class FuzzTests(SynchronousTestCase):
    """Messages that nobody in his right mind would send."""

    def _bench(self) -> tuple[Bench, list[Any]]:
        bench = Bench()
        bench.honest = False
        agent, _ = bench.register()
        other, _ = bench.register("other.example")
        framework, _ = bench.subscribe(AWARE)
        offers = bench.offers(framework)
        bench.launch(framework, offers[0], task(offers[0], "t"))
        return bench, [agent, other, framework]

    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(
        calls=st.lists(messages(Call), min_size=1, max_size=3),
        agents=st.lists(st.one_of([messages(one) for one in _AGENT_MESSAGES]), max_size=4),
        numbered=st.booleans(),
    )
    def test_any_message(self, calls: list[Any], agents: list[Any], numbered: bool) -> None:
        bench, (agent, other, framework) = self._bench()
        self.assertEqual(_MASTER, bench.state.info.id)
        stranger = bench.connect(PeerKind.AGENT)
        for message in agents:
            for peer in (agent, stranger):
                if peer in bench.state.peers:
                    bench.give(Received(peer, message, 9 if numbered else None))
        for call in calls:
            if framework in bench.state.peers:
                call.framework_id.value = f"{_MASTER}-0000"
                bench.give(Received(framework, call, 9 if numbered else None))
        bench.run_until(bench.now + 20)
        bench.lose(other)

    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(data=st.data(), steps=st.integers(1, 12))
    def test_messages_that_are_nearly_right(self, data: st.DataObject, steps: int) -> None:
        bench, (agent, _, framework) = self._bench()
        framework_id = next(iter(bench.state.frameworks))
        stranger = bench.connect(PeerKind.AGENT)
        calls = _right_calls(bench, framework_id)
        told = _right_messages(bench, framework_id)
        for number in range(steps):
            if data.draw(st.booleans()):
                peer, message = framework, _copy(data.draw(st.sampled_from(calls)))
            else:
                peer = data.draw(st.sampled_from([agent, stranger]))
                message = _copy(data.draw(st.sampled_from(told)))
            for _ in range(data.draw(st.integers(0, 2))):
                _bend(data.draw, message)
            if peer in bench.state.peers and message.IsInitialized():
                bench.give(Received(peer, message, number))
            bench.run_until(bench.now + 1)

    def test_agent_that_reports_more_than_it_has(self) -> None:
        bench, (_, _, framework) = self._bench()
        del framework
        peer = bench.connect(PeerKind.AGENT)
        info = next(iter(bench.state.frameworks.values())).info
        message = reregistration(
            "liar-S0",
            tasks=[reported(info.id.value, "liar-S0", "huge", amounts="cpus:99;mem:64")],
            frameworks=[info],
        )
        bench.receive(peer, message)
        self.assertIn("huge", bench.state.frameworks[info.id.value].tasks)  # type: ignore[index]
