"""The operator API, C{POST /api/v1}, as far as master and agent have it alike.

How a call is read and refused, how a message is answered, and the calls that are about the
process and not about the cluster (C{Master::Http::api} in C{src/master/http.cpp}).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from mesoskit.messages.mesos_pb2 import Metric
from mesoskit.messages.pieces import Many, Tree, byte_pieces, json_pieces
from mesoskit.model.build import Build
from mesoskit.web.routes import Reply, not_allowed, text
from mesoskit.web.sending import Document
from mesoskit.web.verbosity import VERBOSITY
from mesoskit.wire import media
from mesoskit.wire.exchange import Exchange

M = TypeVar("M", bound=Message)

_LONGEST: Final = 10 * 365 * 86400.0
"""No level of logging lasts longer, in seconds."""


@dataclass(slots=True, frozen=True)
class Facts:
    """
    What the calls about the process are answered from.

    @ivar version: the release of Mesos that this speaks like.
    @ivar flags: as they are shown.
    @ivar metrics: returns all metrics.
    @ivar build: what is told of the build.
    """

    version: str
    flags: Mapping[str, str]
    metrics: Callable[[], Mapping[str, float]]
    build: Build


class NotTaken(Exception):
    """
    A request is refused.

    @ivar reply: with which answer.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.status}: {reply.body!r}")
        self.reply = reply


def read(
    kind: type[M], request: Any, exchange: Exchange, validate: Callable[[M], str | None]
) -> tuple[M, str]:
    """
    Return the call in a request to the master, and the media type of its answer.

    Raises L{NotTaken}, the first reason first: the method, the body's type, the body, what the
    call lacks, what the client accepts.
    """
    if exchange.method != "POST":
        raise NotTaken(not_allowed(request, "POST"))
    try:
        call = media.read(kind, exchange.header("content-type"), exchange.body)
    except media.Unreadable as unreadable:
        raise NotTaken(text(unreadable.status, unreadable.why)) from None
    error = validate(call)
    if error is not None:
        raise NotTaken(text(400, f"Failed to validate master::Call: {error}"))
    accepted = media.preferred(exchange.header("accept"))
    if accepted is None:
        raise NotTaken(text(406, media.NOT_ACCEPTABLE))
    return call, accepted


def message_reply(message: Message, accepted: str) -> Reply:
    """Return an answer that is one message."""
    return Reply(body=media.WRITERS[accepted](message), headers={"Content-Type": accepted})


def tree_reply(
    kind: type[Message],
    name: str,
    accepted: str,
    content: Callable[[], Tree],
    after: Callable[[], Iterator[bytes]] = lambda: iter(()),
    key: str = "",
) -> Reply:
    """
    Return the answer to the call of this name, which may be big: it is made in slices.

    @param content: what is under the call's name; asked for when the answer is begun.
    @param after: what is to be done when it is made, with breaks (empty pieces).
    @param key: what tells the answer from those to others.
    """

    def begin() -> Iterator[bytes]:
        tree = {"type": name, name.lower(): content()}
        yield from json_pieces(tree) if accepted == media.JSON else byte_pieces(kind, tree)
        yield from after()

    document = Document(begin, f"{name} {accepted}{key}")
    return Reply(body=document, headers={"Content-Type": accepted})


def not_implemented(name: str) -> Reply:
    """Return the answer to a call of a feature that is not there."""
    if name == "UNKNOWN":
        return text(501, "501 Not Implemented.")
    return text(501, f"501 Not Implemented. mesoskit does not know the call {name} yet.")


def set_logging_level(call: Any, clock: Any) -> Reply:
    """Do what SET_LOGGING_LEVEL asks for."""
    wanted = call.set_logging_level
    seconds = wanted.duration.nanoseconds / 1e9
    VERBOSITY.set(wanted.level, min(max(0.0, seconds), _LONGEST), clock)
    return Reply()


def process_reply(kind: Any, name: str, facts: Facts, accepted: str) -> Reply | None:
    """
    Return the answer to a call about the process; L{None} where it is about something else.

    @param kind: the class C{Response} of the daemon's API.
    """
    if name == "GET_METRICS":
        return tree_reply(kind, name, accepted, lambda: _metrics(facts))
    fill = _ABOUT_THE_PROCESS.get(name)
    if fill is None:
        return None
    response = kind(type=name)
    answer = getattr(response, name.lower())
    answer.SetInParent()
    fill(answer, facts)
    return message_reply(response, accepted)


def _metrics(facts: Facts) -> Tree:
    def metric(item: tuple[str, float]) -> Metric:
        return Metric(name=item[0], value=item[1])

    return {"metrics": Many(metric, list(facts.metrics().items()))}


def _health(answer: Any, facts: Facts) -> None:
    answer.healthy = True


def _flags(answer: Any, facts: Facts) -> None:
    for name, value in facts.flags.items():
        answer.flags.add(name=name, value=value)


def _version(answer: Any, facts: Facts) -> None:
    info = answer.version_info
    info.version = facts.version
    for name, value in facts.build.as_json().items():
        setattr(info, name, value)


def _logging_level(answer: Any, facts: Facts) -> None:
    answer.level = VERBOSITY.level


_ABOUT_THE_PROCESS: Final[dict[str, Callable[[Any, Facts], None]]] = {
    "GET_HEALTH": _health,
    "GET_FLAGS": _flags,
    "GET_VERSION": _version,
    "GET_LOGGING_LEVEL": _logging_level,
}

PROCESS_CALLS: Final = frozenset(_ABOUT_THE_PROCESS) | {"GET_METRICS"}
"""The names of the calls about the process."""
