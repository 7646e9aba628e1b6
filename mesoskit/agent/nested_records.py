"""What an agent keeps of a container that is no task's, and what is stored of it.

    nested/<container>        head line: the kind, then LaunchContainer
    nested/<container>/end    words: the wait status, C{-} where nobody knows it; then, where it
                              had taken too much, the reason and the message

The container is named as Mesos writes it: C{parent.child}. The kinds are C{debug} for the container
of a session and C{default} for all others. Of what a limited container took too much is not stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mesoskit.agent.container import Limitation
from mesoskit.messages.agent_pb2 import Call
from mesoskit.model.ids import ContainerId

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

KIND: Final = "nested"
"""What keys begin with."""

DEFAULT: Final = "default"
DEBUG: Final = "debug"

_UNKNOWN: Final = "-"


class Nested:
    """
    A container that is no task's.

    @ivar key: how hands and tables know it: the values of its id, the outermost first, with dots.
    @ivar path: these values.
    @ivar debug: it belongs to a session: it does not outlive whoever listens to it.
    @ivar launch: the C{LaunchContainer} as bytes, whatever call it came with.
    @ivar user: whom it runs as; L{None}: as the agent.
    @ivar directory: its sandbox.
    @ivar pid: of its first process, once it runs.
    @ivar launching: the number of the call that launched it, until that is answered.
    @ivar over: it has ended, with C{status} and C{limitation}.
    """

    __slots__ = (
        "debug",
        "directory",
        "key",
        "launch",
        "launching",
        "limitation",
        "over",
        "path",
        "pid",
        "status",
        "user",
    )

    def __init__(
        self, path: tuple[str, ...], directory: str, launch: bytes, debug: bool = False
    ) -> None:
        self.key = ContainerId(".".join(path))
        self.path = path
        self.directory = directory
        self.launch = launch
        self.debug = debug
        self.user: str | None = None
        self.pid: int | None = None
        self.launching: int | None = None
        self.over = False
        self.status: int | None = None
        self.limitation: Limitation | None = None


class StoredNested:
    """Such a container as it was stored; C{end}: how it ended, L{None} where it had not."""

    __slots__ = ("debug", "end", "launch", "path")

    def __init__(self, path: tuple[str, ...], debug: bool, launch: bytes) -> None:
        self.path = path
        self.debug = debug
        self.launch = launch
        self.end: tuple[int | None, Limitation | None] | None = None


# Keys and records.


def key(one: Nested) -> str:
    """Return the key of a container."""
    return f"{KIND}/{one.key}"


def end_key(one: Nested) -> str:
    """Return the key of how it ended."""
    return f"{KIND}/{one.key}/end"


def record(one: Nested) -> bytes:
    """Return what is stored of a container."""
    return f"{DEBUG if one.debug else DEFAULT}\n".encode() + one.launch


def end_record(one: Nested) -> bytes:
    """Return what is stored of how it ended."""
    words = _UNKNOWN if one.status is None else str(one.status)
    if one.limitation is not None:
        words += f" {one.limitation.reason} {one.limitation.message}"
    return words.encode()


def current(state: AgentState, path: list[str]) -> bytes | None:
    """Return what is to be stored under a key now, by what follows its kind; L{None}: nothing."""
    one = state.nested.all.get(ContainerId(path[0]))
    if one is None:
        return None
    if len(path) == 1:
        return record(one)
    return end_record(one) if one.over else None


def read(found: dict[ContainerId, StoredNested], path: list[str], data: bytes) -> None:
    """Read a record, of a container before of its end. Raises L{ValueError}, L{DecodeError}."""
    if len(path) == 2:
        one = found.get(ContainerId(path[0]))
        if one is None or path[1] != "end":
            raise ValueError("there is no readable record of this container")
        status, *limitation = data.decode().split(" ", 2)
        why = Limitation(int(limitation[0]), limitation[1]) if len(limitation) == 2 else None
        one.end = (None if status == _UNKNOWN else int(status)), why
        return
    head, newline, body = data.partition(b"\n")
    if not newline or head.decode() not in (DEFAULT, DEBUG):
        raise ValueError(f"head line {head[:80]!r} is neither {DEFAULT!r} nor {DEBUG!r}")
    Call.LaunchContainer.FromString(body)
    values = tuple(path[0].split("."))
    if not all(values):
        raise ValueError(f"a container such as 'parent.child' is wanted, not {path[0]!r}")
    found[ContainerId(path[0])] = StoredNested(values, head.decode() == DEBUG, body)
