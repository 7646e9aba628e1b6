"""What happened to whom: the agent's memory of transitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

LIMIT: Final = 10_000
"""How many transitions are remembered."""

Entry = tuple[float, tuple[str, ...], str]
"""When, to whom, what."""


def tell(state: AgentState, subject: str) -> list[str]:
    """
    Return the remembered transitions of a subject as lines, oldest first: seconds since
    1970, then what happened.
    """
    return [f"{when:.3f} {text}" for when, subjects, text in state.events if subject in subjects]
