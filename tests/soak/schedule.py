"""What goes wrong, and when: a list that a seed makes, the same each time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """A kind of fault; what it is done to is the first word, or C{cut}, C{slow} and C{break}."""

    LEADER_KILLED = "leader killed"
    LEADER_STOPPED = "leader stopped"
    LEADER_ENDED = "leader ended politely"
    MASTER_KILLED = "master killed"
    AGENT_KILLED = "agent killed"
    AGENT_STOPPED = "agent stopped"
    AGENT_ENDED = "agent ended politely"
    AGENT_FULL = "agent's disk full"
    AGENT_DRAINED = "agent drained"
    LAUNCHER_KILLED = "launcher killed"
    FRAMEWORK_KILLED = "framework killed"
    FRAMEWORK_STOPPED = "framework stopped"
    ZOOKEEPER_KILLED = "zookeeper killed"
    ZOOKEEPER_LEADER_KILLED = "zookeeper's leader killed"
    ZOOKEEPER_STOPPED = "zookeeper stopped"
    ZOOKEEPER_SILENT = "zookeeper without a majority"
    AGENT_CUT = "agent cut off"
    AGENT_DUMB = "agent is not heard"
    AGENT_DEAF = "agent does not hear"
    FRAMEWORK_CUT = "framework cut off"
    FRAMEWORK_DUMB = "framework is not heard"
    FRAMEWORK_DEAF = "framework does not hear"
    LEADER_CUT = "leader cut off from zookeeper"
    LEADER_DUMB = "leader is not heard by zookeeper"
    LEADER_DEAF = "leader does not hear zookeeper"
    LEADER_ALONE = "leader out of reach of all others"
    SLOW = "links slow"
    BROKEN = "links broken off"


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One thing that goes wrong.

    @ivar at: seconds after the beginning.
    @ivar lasts: seconds until it is over: the links are whole again, who was stopped goes on,
        who was killed is started.
    @ivar pick: from 0 to 1, which of those it could be done to.
    """

    at: float
    kind: Kind
    lasts: float
    pick: float


# Seconds that each lasts: shorter than what notices it, and longer. A master's session is 3 s, a
# silent agent is unreachable after 4 s, a silent link lost after 15 s.
_LASTS: Final[dict[Kind, tuple[float, float]]] = {
    Kind.LEADER_KILLED: (0.1, 4.0),
    Kind.LEADER_STOPPED: (0.1, 5.0),
    Kind.LEADER_ENDED: (0.1, 2.0),
    Kind.MASTER_KILLED: (0.1, 4.0),
    Kind.AGENT_KILLED: (0.1, 8.0),
    Kind.AGENT_STOPPED: (0.1, 8.0),
    Kind.AGENT_ENDED: (0.1, 4.0),
    Kind.AGENT_FULL: (0.5, 4.0),
    Kind.AGENT_DRAINED: (0.5, 4.0),
    Kind.LAUNCHER_KILLED: (0.5, 0.5),
    Kind.FRAMEWORK_KILLED: (0.1, 4.0),
    Kind.FRAMEWORK_STOPPED: (0.1, 5.0),
    Kind.ZOOKEEPER_KILLED: (0.1, 3.0),
    Kind.ZOOKEEPER_LEADER_KILLED: (0.1, 3.0),
    Kind.ZOOKEEPER_STOPPED: (0.1, 4.0),
    Kind.ZOOKEEPER_SILENT: (0.1, 5.0),
    Kind.AGENT_CUT: (0.2, 20.0),
    Kind.AGENT_DUMB: (0.2, 20.0),
    Kind.AGENT_DEAF: (0.2, 20.0),
    Kind.FRAMEWORK_CUT: (0.2, 18.0),
    Kind.FRAMEWORK_DUMB: (0.2, 18.0),
    Kind.FRAMEWORK_DEAF: (0.2, 18.0),
    Kind.LEADER_CUT: (0.2, 5.0),
    Kind.LEADER_DUMB: (0.2, 5.0),
    Kind.LEADER_DEAF: (0.2, 5.0),
    Kind.LEADER_ALONE: (0.2, 10.0),
    Kind.SLOW: (2.0, 8.0),
    Kind.BROKEN: (0.0, 0.0),
}


def schedule(
    seed: int,
    faults: int,
    interval: float,
    longest: float = 60.0,
    kinds: Sequence[Kind] = tuple(Kind),
) -> list[Fault]:
    """
    Return faults in order; all kinds come equally often, to one.

    @param interval: mean seconds between the beginnings of two.
    @param longest: seconds that none lasts longer than.
    """
    chance = random.Random(seed)
    drawn = [kinds[number % len(kinds)] for number in range(faults)]
    chance.shuffle(drawn)
    found = []
    at = 0.0
    for kind in drawn:
        at += chance.expovariate(1.0 / interval)
        low, high = _LASTS[kind]
        # Mostly short ones: more than half of all are over before anybody has noticed.
        lasts = low + (high - low) * chance.random() ** 2
        found.append(Fault(round(at, 3), kind, round(min(lasts, longest), 3), chance.random()))
    return found
