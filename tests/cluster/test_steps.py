"""Agents that are killed at every single step of a task's life, and what they leave: as root."""

from __future__ import annotations

import os
from typing import Any
from unittest import skipIf

from mesoskit.driver import Offer, executor_info, launch_group
from tests.cluster.at_every_step import StepTestCase
from tests.cluster.ledger import Ledger

ALL = "cgroups/cpu,cgroups/mem,cgroups/pids,disk/du,namespaces/pid,filesystem/linux"


def task(ledger: Ledger, offer: Offer, name: str) -> Any:
    """Launch a command task."""
    return ledger.framework.accept(offer, [ledger.task(name, "sleep 1000", cpus=0.1, mem=32)])


def group(ledger: Ledger, offer: Offer, name: str) -> Any:
    """Launch a group of two tasks."""
    tasks = [ledger.task(each, "sleep 1000", cpus=0.1, mem=32) for each in (name, f"{name}-2")]
    return ledger.framework.accept(offer, [launch_group(executor_info(f"pod-{name}"), tasks)])


@skipIf(os.geteuid() != 0, "only root can isolate")
class StepTests(StepTestCase):
    """Real daemons."""

    async def test_nothing_is_left_of_a_task_at_whichever_step_its_agent_was_killed(self) -> None:
        await self.at_every_step({"isolation": ALL}, task)

    async def test_nothing_is_left_of_a_group_at_whichever_step_its_agent_was_killed(self) -> None:
        await self.at_every_step({"isolation": ALL}, group, every=4)
