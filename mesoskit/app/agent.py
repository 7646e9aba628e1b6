"""The agent as a program: its flags, and the service they make."""

import json
from typing import TYPE_CHECKING, Any

from mesoskit.app.daemon import (
    Daemon,
    DaemonOptions,
    StartError,
    advertised_ip,
    common_flags,
    directory,
    endpoints,
    host_name,
    refuse,
)
from mesoskit.flags import Flag, FlagError, Flags, Values, boolean, duration, integer, number, text
from mesoskit.model.attributes import parse_attributes

if TYPE_CHECKING:
    from mesoskit.agent.service import AgentService


def environment(value: str) -> tuple[tuple[str, str], ...]:
    """Read C{--executor_environment_variables}: a JSON object of texts."""
    try:
        given = json.loads(value)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(given, dict) or not all(isinstance(text, str) for text in given.values()):
        raise ValueError('expected a JSON object of texts such as {"PATH": "/bin:/usr/bin"}')
    return tuple(given.items())


def fraction(value: str) -> float:
    """Read a number from 0 to 1."""
    result = number(value)
    if not 0 <= result <= 1:
        raise ValueError("expected a number from 0.0 to 1.0")
    return result


FLAGS = Flags(
    "mesos-agent",
    [
        *common_flags(5051),
        Flag("master", text, None, "Where the master is: host:port.", required=True),
        Flag(
            "work_dir",
            text,
            None,
            "Where sandboxes and checkpoints are kept.",
            required=True,
            is_path=True,
        ),
        Flag(
            "resources",
            text,
            None,
            "What the agent offers: cpus:4;mem:1024;ports:[31000-32000], or JSON. What is not"
            " named is measured.",
        ),
        Flag("default_role", text, "*", "The role of resources that name none."),
        Flag("attributes", parse_attributes, None, "What to say of the machine: rack:2;os:linux."),
        Flag("switch_user", boolean, True, "Run tasks as the user that their framework names."),
        Flag(
            "executor_environment_variables",
            environment,
            (),
            "A JSON object of environment variables for executors and tasks.",
        ),
        Flag(
            "executor_registration_timeout",
            duration,
            60.0,
            "An executor that has not registered by then is killed.",
        ),
        Flag(
            "executor_shutdown_grace_period",
            duration,
            5.0,
            "How long an executor may take to shut down.",
        ),
        Flag("gc_delay", duration, 604800.0, "How long sandboxes of the past are kept, at most."),
        Flag(
            "gc_disk_headroom",
            fraction,
            0.1,
            "The part of the disk that is kept free of sandboxes.",
        ),
        Flag("disk_watch_interval", duration, 60.0, "Time between two looks at the disk."),
        Flag(
            "fetcher_stall_timeout", duration, 60.0, "A download that stalls so long is given up."
        ),
        Flag(
            "registration_backoff_factor",
            duration,
            1.0,
            "The longest first wait before the agent registers; it doubles to a minute.",
        ),
        Flag(
            "recover",
            text,
            "cleanup",
            "What becomes of what ran before a restart: cleanup ends it and reports it.",
        ),
        Flag(
            "reconfiguration_policy", text, "equal", "Which changes of flags keep the agent's id."
        ),
        Flag("max_completed_executors_per_framework", integer, 150, "How many to remember."),
    ],
)


class Options(DaemonOptions):
    """The options of C{twistd mesos-agent}."""

    flags = FLAGS


_ANY: Any = None
