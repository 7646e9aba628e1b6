"""Where an agent is in its life."""

from enum import Enum


class Phase(Enum):
    """C{Slave::State} of Mesos (C{src/slave/slave.hpp})."""

    RECOVERING = "RECOVERING"
    """It does not know yet what it had and what still runs."""

    DISCONNECTED = "DISCONNECTED"
    """It has no master, or is not registered with it yet."""

    RUNNING = "RUNNING"
    """It is registered."""

    TERMINATING = "TERMINATING"
    """It ends all it has, forgets its id, and then itself ends."""
