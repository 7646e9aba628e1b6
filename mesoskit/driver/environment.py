"""What an executor finds in its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mesoskit.model.durations import InvalidDuration, parse_duration

SOCKET: Final = "MESOSKIT_EXECUTOR_SOCKET"
"""The variable that names the UNIX socket at which the agent listens to executors."""

TOKEN: Final = "MESOSKIT_EXECUTOR_TOKEN"
"""The variable with what proves which container this is."""


class NoAgent(Exception):
    """The environment is not that of an executor, so there is no agent to talk to."""


@dataclass(slots=True, frozen=True)
class ExecutorEnvironment:
    """
    The variables that an agent gives to each executor; times are seconds.

    Those that begin with C{MESOS_} are Mesos' own (C{executorEnvironment} in
    C{src/slave/slave.cpp}).

    @ivar socket: the path of the agent's UNIX socket.
    @ivar token: the proof of who one is.
    @ivar directory: the sandbox.
    @ivar checkpoint: whether tasks outlive their agent, so that it is worth waiting for.
    @ivar recovery_timeout: how long an agent that is gone is waited for.
    @ivar backoff: the longest wait between two attempts to reach it.
    @ivar shutdown_grace: how long a shutdown may take.
    """

    socket: str
    token: str
    framework_id: str
    executor_id: str
    agent_id: str = ""
    directory: str = ""
    checkpoint: bool = False
    recovery_timeout: float = 900.0
    backoff: float = 2.0
    shutdown_grace: float = 5.0

    @classmethod
    def read(cls, variables: Mapping[str, str] | None = None) -> ExecutorEnvironment:
        """
        Read it; raises L{NoAgent} where a variable is missing or wrong.

        @param variables: the process' own by default.
        """
        given = os.environ if variables is None else variables

        def needed(name: str) -> str:
            value = given.get(name, "")
            if not value:
                raise NoAgent(f"{name} is not set: only an agent of mesoskit starts executors")
            return value

        def duration(name: str, default: float) -> float:
            text = given.get(name)
            if not text:
                return default
            try:
                return parse_duration(text)
            except InvalidDuration as error:
                raise NoAgent(f"{name} is {text!r}: {error}") from None

        return cls(
            socket=needed(SOCKET),
            token=needed(TOKEN),
            framework_id=needed("MESOS_FRAMEWORK_ID"),
            executor_id=needed("MESOS_EXECUTOR_ID"),
            agent_id=given.get("MESOS_SLAVE_ID", ""),
            directory=given.get("MESOS_SANDBOX") or given.get("MESOS_DIRECTORY", ""),
            checkpoint=given.get("MESOS_CHECKPOINT") == "1",
            recovery_timeout=duration("MESOS_RECOVERY_TIMEOUT", 900.0),
            backoff=duration("MESOS_SUBSCRIPTION_BACKOFF_MAX", 2.0),
            shutdown_grace=duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", 5.0),
        )
