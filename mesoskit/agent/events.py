"""What only an agent's state hears, besides the events that all states share."""

from dataclasses import dataclass


@dataclass(slots=True)
class ShutDown:
    """
    Event: an operator wants the agent to leave for good (Mesos: SIGUSR1): it unregisters, ends
    all it has, forgets its id and stops. A mere end of the process is no event: what
    runs is then found again at the next start.
    """

    why: str
