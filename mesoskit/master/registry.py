"""What a master writes down, and how it reads it back.

The registry outlives the master: which agents were admitted, which are unreachable and
which are gone. Everything else a new master learns from those who come back to it.

====================  =====================================================
key                   value
====================  =====================================================
C{agents/<id>}        C{mesos.v1.AgentInfo} of an admitted agent, serialized
C{unreachable/<id>}   C{mesos.v1.TimeInfo}: when it was found unreachable
C{gone/<id>}          C{mesos.v1.TimeInfo}: when it was marked gone
C{deactivated/<id>}   C{mesos.v1.DrainInfo} of an agent that drains or has; else empty
C{weights/<role>}     C{mesos.v1.WeightInfo} of a role whose weight was set
C{master}             C{mesos.v1.MasterInfo} of the last master that led
====================  =====================================================

An agent is under one of the first three, and one that is not gone may be deactivated too
(C{src/master/registry.proto} holds the same in one message.)
"""

from collections.abc import Iterable, Mapping

from google.protobuf.message import DecodeError

from mesoskit.messages.mesos_pb2 import AgentInfo, DrainInfo, MasterInfo, TimeInfo, WeightInfo
from mesoskit.model.events import Store
from mesoskit.model.ids import AgentId

AGENTS = "agents/"
UNREACHABLE = "unreachable/"
GONE = "gone/"
DEACTIVATED = "deactivated/"
WEIGHTS = "weights/"
MASTER = "master"


class RegistryError(ValueError):
    """The store holds something under a key that does not belong there; the message says what."""


class Registry:
    """
    What was read.

    @ivar agents: the admitted agents by id.
    @ivar unreachable: when (nanoseconds since 1970) each of these became unreachable.
    @ivar gone: when each of these was marked gone.
    @ivar deactivated: those that are not offered, and how they are drained if so.
    @ivar weights: of roles.
    @ivar master: who led last, or L{None}.
    """

    __slots__ = ("agents", "deactivated", "gone", "master", "unreachable", "weights")

    def __init__(self, snapshot: Mapping[str, bytes]) -> None:
        self.agents: dict[AgentId, AgentInfo] = {}
        self.unreachable: dict[AgentId, int] = {}
        self.gone: dict[AgentId, int] = {}
        self.deactivated: dict[AgentId, DrainInfo | None] = {}
        self.weights: dict[str, float] = {}
        self.master: MasterInfo | None = None
        for key in sorted(snapshot):
            try:
                self._read(key, snapshot[key])
            except DecodeError as error:
                raise RegistryError(
                    f"the registry's entry {key!r} cannot be read: {error};"
                    " restore the store from a copy, or delete the entry"
                ) from error

    def _read(self, key: str, value: bytes) -> None:
        if key.startswith(AGENTS):
            self.agents[AgentId(key[len(AGENTS) :])] = AgentInfo.FromString(value)
        elif key.startswith(UNREACHABLE):
            moment = TimeInfo.FromString(value).nanoseconds
            self.unreachable[AgentId(key[len(UNREACHABLE) :])] = moment
        elif key.startswith(GONE):
            self.gone[AgentId(key[len(GONE) :])] = TimeInfo.FromString(value).nanoseconds
        elif key.startswith(DEACTIVATED):
            drain = DrainInfo.FromString(value) if value else None
            self.deactivated[AgentId(key[len(DEACTIVATED) :])] = drain
        elif key.startswith(WEIGHTS):
            self.weights[key[len(WEIGHTS) :]] = WeightInfo.FromString(value).weight
        elif key == MASTER:
            self.master = MasterInfo.FromString(value)
        # Other keys belong to a later release; they are left as they are.


def admit(info: AgentInfo) -> Store:
    """An agent was admitted, or changed what it says of itself, or came back."""
    agent_id = info.id.value
    return Store(
        (
            (AGENTS + agent_id, info.SerializeToString(deterministic=True)),
            (UNREACHABLE + agent_id, None),
        )
    )


def remove(agent_id: AgentId) -> Store:
    """An agent left, or was replaced."""
    return Store(((AGENTS + agent_id, None),))


def mark_unreachable(agent_id: AgentId, nanoseconds: int) -> Store:
    """An agent does not answer."""
    return Store(((AGENTS + agent_id, None), (UNREACHABLE + agent_id, _moment(nanoseconds))))


def mark_gone(agent_id: AgentId, nanoseconds: int) -> Store:
    """An operator says that an agent will never come back."""
    return Store(
        (
            (AGENTS + agent_id, None),
            (UNREACHABLE + agent_id, None),
            (GONE + agent_id, _moment(nanoseconds)),
        )
    )


def forget(unreachable: Iterable[AgentId], gone: Iterable[AgentId]) -> Store:
    """These were unreachable or gone for so long that nobody asks for them any more."""
    keys = [UNREACHABLE + agent_id for agent_id in unreachable]
    keys += [GONE + agent_id for agent_id in gone]
    return Store(tuple((key, None) for key in keys))


def deactivate(agent_id: AgentId, drain: DrainInfo | None) -> Store:
    """An agent is not offered any more, and drained where C{drain} says how."""
    value = b"" if drain is None else drain.SerializeToString(deterministic=True)
    return Store(((DEACTIVATED + agent_id, value),))


def reactivate(agent_id: AgentId) -> Store:
    """An agent is offered again, or is not there to be offered."""
    return Store(((DEACTIVATED + agent_id, None),))


def weigh(weights: Mapping[str, float]) -> Store:
    """Roles have other weights than before."""
    return Store(
        tuple(
            (WEIGHTS + role, WeightInfo(role=role, weight=weight).SerializeToString())
            for role, weight in weights.items()
        )
    )


def lead(info: MasterInfo) -> Store:
    """A master has begun to lead; before this is written it may promise nothing."""
    return Store(((MASTER, info.SerializeToString(deterministic=True)),))


def _moment(nanoseconds: int) -> bytes:
    return TimeInfo(nanoseconds=nanoseconds).SerializeToString()
