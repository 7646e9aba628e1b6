"""What C{docs/states.md} says of agents and executors is what the code says."""

from __future__ import annotations

import inspect
import re
from enum import Enum
from pathlib import Path

from mesoskit.agent.frameworks import ExecutorState
from mesoskit.agent.phase import Phase
from tests.base import SynchronousTestCase

PAGE = Path(__file__).parents[2] / "docs" / "states.md"


def documented(title: str) -> dict[str, str]:
    """Return the states in the table under a title, each with its sentence."""
    _, _, section = PAGE.read_text("utf-8").partition(f"\n## {title}\n")
    section = section.partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE))


def coded(states: type[Enum]) -> dict[str, str]:
    """Return the states of the code, each with the text that follows it there."""
    return dict(re.findall(r'(\w+) = "\w+"\n\s+"""(.+?)"""', inspect.getsource(states)))


class DocumentTests(SynchronousTestCase):
    """A sentence a state, the same in both places."""

    def test_agents(self) -> None:
        self.assertEqual(documented("An agent, as it sees itself"), coded(Phase))
        self.assertEqual([*coded(Phase)], [phase.name for phase in Phase])

    def test_executors(self) -> None:
        self.assertEqual(documented("An executor"), coded(ExecutorState))
        self.assertEqual([*coded(ExecutorState)], [state.name for state in ExecutorState])

    def test_every_diagram_names_the_states_of_its_table(self) -> None:
        for states, title in (
            (Phase, "An agent, as it sees itself"),
            (ExecutorState, "An executor"),
        ):
            _, _, section = PAGE.read_text("utf-8").partition(f"\n## {title}\n")
            drawn = section.partition("```mermaid")[2].partition("```")[0]
            for state in states:
                self.assertIn(f" {state.name}", drawn)

    def test_links_lead_somewhere(self) -> None:
        page = PAGE.read_text("utf-8")
        anchors = {
            re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
            for title in re.findall(r"^#+ (.+)$", page, re.MULTILINE)
        }
        self.assertLessEqual(set(re.findall(r"\]\(#([\w-]+)\)", page)), anchors)
