"""Attaching to containers over HTTP, and sessions: who may, to what, and when it is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from mesoskit.agent import authorizing, nested
from mesoskit.agent.attaching import Listening, Records, Speaking
from mesoskit.agent.consoles import DISABLED, Attaching, ConsoleError, Input, Output
from mesoskit.agent.container_call import ContainerAnswer
from mesoskit.messages.agent_pb2 import Call
from mesoskit.messages.mesos_pb2 import ContainerID
from mesoskit.model.authorization import Action, Subject, Thing
from mesoskit.model.ids import ContainerId
from mesoskit.web.api import NotTaken
from mesoskit.web.authorizing import FORBIDDEN
from mesoskit.web.routes import Reply, text
from mesoskit.wire.exchange import Exchange

if TYPE_CHECKING:
    from mesoskit.agent.service import AgentService


class Asked:
    """
    A request to the operator API, as far as it was read.

    @ivar streamed: its body is a stream of calls.
    @ivar written: the media type of a call.
    @ivar accepted: that of the answer; C{message_accepted}: of its records, where it has some.
    @ivar records: those of a body that is heard as it comes.
    """

    __slots__ = (
        "accepted",
        "call",
        "exchange",
        "message_accepted",
        "records",
        "streamed",
        "written",
    )

    def __init__(
        self, exchange: Exchange, streamed: bool, written: str, accepted: str, message_accepted: str
    ) -> None:
        self.exchange = exchange
        self.streamed = streamed
        self.written = written
        self.accepted = accepted
        self.message_accepted = message_accepted
        self.records: Records | None = None
        self.call = Call()


def call(service: AgentService, request: Any, asked: Asked) -> Any:
    """Answer one of L{CALLS}."""
    return _CALLS[Call.Type.Name(asked.call.type)](service, request, asked)


def _attachable(
    service: AgentService, container_id: ContainerID, who: Subject, action: Action
) -> ContainerId:
    """Return the name of a container to which somebody may attach. Raises L{NotTaken}."""
    state = service.state
    path = nested.path_of(container_id)
    name = ".".join(path)
    executor = nested.executor_of(state, path)
    if executor is None:
        raise NotTaken(text(404, f"Container {name} cannot be found"))
    thing = authorizing.of_executor(executor)
    allowed = Thing(
        thing.values, framework=thing.framework, executor=thing.executor, id=name, root=path[0]
    )
    if not who.may(action, allowed):
        raise NotTaken(text(403, FORBIDDEN))
    if not nested.is_alive(state, path):
        raise NotTaken(text(500, f"Unknown container {name}"))
    return nested.key_of(state, path)


def _consoles(service: AgentService) -> Attaching:
    found = service.hands.consoles
    if found is None:
        raise NotTaken(text(500, DISABLED))
    return found


def _failed(failure: Failure) -> Reply:
    failure.trap(ConsoleError)  # type: ignore[no-untyped-call]
    error: Any = failure.value
    return text(error.status, str(error))


# Output.


def _output(service: AgentService, request: Any, asked: Asked) -> Any:
    action = Action.ATTACH_CONTAINER_OUTPUT
    wanted = asked.call.attach_container_output
    try:
        key = _attachable(service, wanted.container_id, request.subject, action)
        return _listen(service, asked, key, lambda: None)
    except NotTaken as refused:
        return refused.reply


def _listen(
    service: AgentService, asked: Asked, key: ContainerId, gone: Callable[[], None]
) -> Deferred[Reply | int]:
    headers = {"Content-Type": asked.accepted}
    if asked.accepted != asked.message_accepted:
        headers["Message-Content-Type"] = asked.message_accepted
    listening = Listening(
        service.reactor,
        asked.exchange,
        headers,
        asked.message_accepted,
        service.state.options.http_heartbeat_interval,
        gone,
    )

    def attached(output: Output) -> int:
        listening.begin(output)
        return NOT_DONE_YET

    listened: Deferred[Any] = _consoles(service).listen(key, listening)
    return listened.addCallbacks(attached, _failed)


def _session(service: AgentService, request: Any, asked: Asked) -> Any:
    wanted = asked.call.launch_nested_container_session
    launched = service.container_calls.ask(asked.call, request.subject)
    request.notifyFinish().addErrback(lambda _: launched.cancel())

    def attach(answer: ContainerAnswer) -> Any:
        if answer.status != 200:
            return text(answer.status, str(answer.what)) if answer.what else Reply(answer.status)
        key = nested.key_of(service.state, nested.path_of(wanted.container_id))

        def over() -> None:
            service.container_calls.session_over(key)

        def not_attached(reply: Reply | int) -> Reply | int:
            if isinstance(reply, Reply):
                over()
            return reply

        action = Action.ATTACH_CONTAINER_OUTPUT
        try:
            _attachable(service, wanted.container_id, request.subject, action)
        except NotTaken as refused:
            if refused.reply.status == 403:
                over()
                return refused.reply
            # Its container has ended already: what it has said is there all the same.
        try:
            return _listen(service, asked, key, over).addCallback(not_attached)
        except NotTaken as refused:
            return not_attached(refused.reply)

    return launched.addCallback(attach)


# Input.


def _input(service: AgentService, request: Any, asked: Asked) -> Any:
    wanted = asked.call.attach_container_input
    if wanted.type != Call.AttachContainerInput.CONTAINER_ID:
        return text(400, "Expecting 'attach_container_input.type' to be CONTAINER_ID")
    try:
        action = Action.ATTACH_CONTAINER_INPUT
        key = _attachable(service, wanted.container_id, request.subject, action)
        consoles = _consoles(service)
    except NotTaken as refused:
        return refused.reply
    answered: Deferred[Reply] = Deferred()

    def answer(status: int, why: str) -> None:
        answered.callback(text(status, why) if why else Reply(status))

    def read(record: bytes) -> Call:
        from mesoskit.agent.operator_api import parse

        try:
            return parse(record, asked.written)
        except NotTaken as refused:
            raise ValueError(refused.reply.body.decode()) from None

    speaking = Speaking(read, answer)
    records = asked.records

    def full(paused: bool) -> None:
        if records is not None:
            records.pause(paused)

    def attached(speaker: Input) -> Deferred[Reply]:
        speaking.input = speaker
        if records is None:
            speaking.end()  # all of the body came at once, and nothing but the first record counts
        else:
            records.hear(speaking)
        return answered

    request.notifyFinish().addErrback(lambda _: speaking.left())
    spoken: Deferred[Any] = consoles.speak(key, full, speaking.end)
    return spoken.addCallbacks(attached, _failed)


_CALLS: Final[dict[str, Callable[[AgentService, Any, Asked], Any]]] = {
    "LAUNCH_NESTED_CONTAINER_SESSION": _session,
    "ATTACH_CONTAINER_OUTPUT": _output,
    "ATTACH_CONTAINER_INPUT": _input,
}

CALLS: Final = frozenset(_CALLS)
"""The names of these calls."""
