"""What a task is asked for its checks, and what is heard of it.

The seam between the state, which decides when to ask (L{mesoskit.agent.checks}), and the hands
that ask (L{mesoskit.agent.probing}).
"""

from dataclasses import dataclass

from mesoskit.agent.container import ContainerSpec


@dataclass(slots=True, frozen=True)
class RunCommand:
    """A command beside the task: what counts is the status with which it exits."""

    spec: ContainerSpec


@dataclass(slots=True, frozen=True)
class HttpGet:
    """
    A request over HTTP; what counts is the status code at the end of all redirections. No
    certificate is looked at, as Mesos does not.

    @ivar scheme: C{http} or C{https}.
    @ivar ipv6: whether the task is at C{::1} rather than at C{127.0.0.1}.
    @ivar pid: its first process: where that has a network of its own, it is asked from inside of
        it. 0: it is known to have none, or none that could be entered.
    @ivar staged: that process may stand for the container's, and be outside of it.
    @ivar host: its address where it has one of its own, to be asked from outside.
    """

    port: int
    path: str = ""
    scheme: str = "http"
    ipv6: bool = False
    host: str = ""
    pid: int = 0
    staged: bool = False


@dataclass(slots=True, frozen=True)
class TcpConnect:
    """A connection; what counts is that there is one. See L{HttpGet}."""

    port: int
    ipv6: bool = False
    host: str = ""
    pid: int = 0
    staged: bool = False


@dataclass(slots=True)
class Probe:
    """
    Effect: ask. L{Probed} follows, whatever happens, unless it is abandoned.

    @ivar number: never used before in this life of the agent.
    @ivar timeout: seconds after which it counts as failed; L{None} for no end.
    """

    number: int
    what: RunCommand | HttpGet | TcpConnect
    timeout: float | None


@dataclass(slots=True)
class Abandon:
    """Effect: nobody wants to know any more."""

    number: int


@dataclass(slots=True)
class Probed:
    """
    Event: the answer to a L{Probe}.

    @ivar found: an exit status, a status code of HTTP, or 1 and 0 for a connection or none;
        L{None} where it could not be found out.
    @ivar why: what was in the way then.
    @ivar lost: whether that says nothing of the task: as if nobody had asked.
    """

    number: int
    found: int | None
    why: str = ""
    lost: bool = False
