"""What only an agent's state hears, besides the events that all states share."""

from dataclasses import dataclass


@dataclass(slots=True)
class ShutDown:
    """
    Event: an operator wants the agent to leave for good (Mesos: SIGUSR1): it unregisters, ends
    all it has, forgets its id and stops.
    """

    why: str


@dataclass(slots=True)
class Leave:
    """
    Event: the agent's process is asked to end (SIGTERM), and may be started again. What would not
    go on at its next start ends now and is reported; then the state asks to L{Stop}. Where the
    process is killed nothing hears this, and the next start does the same.
    """
