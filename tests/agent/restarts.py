"""Two lives of one agent, for the tests of what the second makes of the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.mesos_pb2 import FrameworkInfo, TaskState
from mesoskit.model.events import Connected, PeerKind
from tests.agent.bench import (
    AGENT_ID,
    AWARE,
    MASTER,
    OPTIONS,
    SEED,
    Bench,
    framework,
)
from tests.base import SynchronousTestCase


def keeping(*capabilities: int) -> FrameworkInfo:
    """Return a framework that checkpoints."""
    return framework(*(capabilities or (AWARE,)), checkpoint=True)


class ReconnectTestCase(SynchronousTestCase):
    """Two lives of one agent."""

    options = replace(OPTIONS, boot_id="boot-1")
    lives = 0

    def before(self) -> Bench:
        return Bench(self.options).register()

    def again(
        self,
        bench: Bench,
        running: Mapping[Any, int] | None = None,
        exited: Mapping[Any, int | None] | None = None,
        abandoned: tuple[str, ...] = (),
        make: Callable[..., Bench] = Bench,
        **changed: Any,
    ) -> Bench:
        """Start a second agent on the store of the first."""
        self.lives += 1
        seed = SEED[:-2] + bytes([0, self.lives % 256])
        after = make(replace(self.options, **changed), bench.store, seed)
        after.now = bench.now + 5
        after.recover(dict(running or {}), abandoned, **(exited or {}))
        after.give(Connected(MASTER, PeerKind.MASTER, "127.0.0.1:5050"))
        return after

    def accept(self, after: Bench) -> None:
        """Let the master accept the re-registration, and keep what is sent."""
        message = internal.SlaveReregisteredMessage()
        message.slave_id.value = AGENT_ID
        after.receive(message)

    def reported(self, after: Bench) -> dict[str, str]:
        """Return the states of tasks that the agent has re-registered with."""
        (message,) = [one for one in after.sent if isinstance(one, internal.ReregisterSlaveMessage)]
        return {one.task_id.value: TaskState.Name(one.state) for one in message.tasks}
