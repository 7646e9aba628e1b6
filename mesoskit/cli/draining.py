"""Waiting until an agent that drains is done with it."""

import time
from collections.abc import Callable
from typing import Final

from mesoskit.cli.agents import REGISTRY, absent, present, tasks_on
from mesoskit.cli.asking import CannotBeDone, Master, NotNow
from mesoskit.cli.table import number_of
from mesoskit.model.durations import format_duration

INTERVAL: Final = 1.0
"""Seconds between two looks."""

Say = Callable[[str], None]


def seen(master: Master, agent_id: str) -> tuple[str, int]:
    """Return an agent's state, nothing where the master does not know it, and how many tasks."""
    agent = present(master.ask("GET_AGENTS").get_agents).get(agent_id)
    if agent is None:
        agent = absent(master.shown(REGISTRY)).get(agent_id)
    tasks = tasks_on(master.ask("GET_TASKS").get_tasks)[agent_id]
    return "" if agent is None else agent.state, tasks


def wait(
    master: Master,
    agent_id: str,
    mark_gone: bool,
    timeout: float,
    say: Say,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """
    Wait until an agent has drained, or is gone; say each change in a line.

    While no master answers or leads it goes on: draining outlives a master. Raises
    L{CannotBeDone} where the time is up, or where the agent drains no more.

    @param timeout: seconds to wait.
    """
    end = clock() + timeout
    said = ""
    while True:
        try:
            state, tasks = seen(master, agent_id)
            line = f"Agent {agent_id}: {state or 'not known'}, {number_of(tasks, 'task')}"
        except NotNow as error:
            state, line = "?", f"{error}; trying again"
            _look_again(master)
        if line != said:
            say(line)
            said = line
        if state == "gone" or (state == "drained" and not mark_gone):
            return
        if state in ("active", "deactivated"):
            raise CannotBeDone(f"agent {agent_id} drains no more: it is {state}")
        if not state:
            raise CannotBeDone(f"agent {agent_id} has left: nothing is known of it any more")
        if clock() >= end:
            raise CannotBeDone(
                f"agent {agent_id} has not drained within {format_duration(timeout)}; it goes on"
            )
        pause(min(INTERVAL, max(end - clock(), 0.0)))


def _look_again(master: Master) -> None:
    try:
        master.look_again()
    except NotNow:
        pass  # the next question says so
