"""What an agent is told about some of its isolators, in flags of Mesos' names: plain values."""

from dataclasses import dataclass

from mesoskit.agent.net_cls import MOST
from mesoskit.model.values import Ranges


@dataclass(slots=True, frozen=True)
class Subsystems:
    """
    The flags.

    @ivar net_cls_primary: the upper half of the numbers of C{cgroups/net_cls}; L{None}: containers
        are given none.
    @ivar net_cls_secondaries: the first and the last of the lower halves.
    @ivar perf_events: what C{cgroups/perf_event} counts, by the names of C{PerfStatistics}.
    @ivar perf_interval: seconds from the beginning of one count to that of the next.
    @ivar perf_duration: seconds that one takes.
    @ivar enforce_ports: whether C{network/ports} ends containers that listen on what is not theirs.
    @ivar ports_interval: seconds between two looks.
    @ivar ports_isolated: which ports are looked at; L{None}: all.
    @ivar agent_ports_only: whether these are the ports that the agent offers.
    """

    net_cls_primary: int | None = None
    net_cls_secondaries: tuple[int, int] = (1, MOST)
    perf_events: tuple[str, ...] = ()
    perf_interval: float = 60.0
    perf_duration: float = 10.0
    enforce_ports: bool = False
    ports_interval: float = 30.0
    ports_isolated: Ranges | None = None
    agent_ports_only: bool = False
