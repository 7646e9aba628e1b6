"""Agents, checks and health checks that Mesos refuses, and its texts."""

from typing import Any

from mesoskit.messages.internal_pb2 import RegisterSlaveMessage, ReregisterSlaveMessage
from mesoskit.messages.mesos_pb2 import AgentInfo, CheckInfo, HealthCheck
from mesoskit.model.validation_agent import validate_register_agent, validate_reregister_agent
from mesoskit.model.validation_check import validate_check, validate_health_check
from tests.model.texts_call import BAD_CPUS, BAD_CPUS_TEXT, ID, INFO
from tests.model.texts_task import BAD_ENVIRONMENT, BAD_VARIABLE, Row

AGENT_INFO: dict[str, Any] = {"hostname": "h", "id": {"value": "m-S0"}}
FRAMEWORK = {**INFO, "id": ID}
EXECUTOR = {"executor_id": {"value": "e"}, "framework_id": ID, "command": {"value": "x"}}
TASK = {
    "name": "t",
    "task_id": {"value": "t"},
    "framework_id": ID,
    "agent_id": {"value": "m-S0"},
    "state": "TASK_RUNNING",
}


def _without_checkpoint() -> AgentInfo:
    """Return the message of an agent that says that it does not checkpoint, as v0 could."""
    return AgentInfo.FromString(AgentInfo(**AGENT_INFO).SerializeToString() + b"\x38\x00")


def registering(**fields: Any) -> RegisterSlaveMessage:
    """Return the message of an agent that registers."""
    return RegisterSlaveMessage(**{"slave": AGENT_INFO, **fields})


def coming_back(**fields: Any) -> ReregisterSlaveMessage:
    """Return the message of an agent that registers again with a framework, executor and task."""
    right: dict[str, Any] = {
        "slave": AGENT_INFO,
        "frameworks": [FRAMEWORK],
        "executor_infos": [EXECUTOR],
        "tasks": [TASK],
    }
    return ReregisterSlaveMessage(**{**right, **fields})


def _back(text: str, section: str = "agent", **fields: Any) -> Row:
    return (section, validate_reregister_agent(coming_back(**fields)), text)


def _task(text: str, **fields: Any) -> Row:
    return _back(text, tasks=[{**TASK, **fields}])


def agents() -> list[Row]:
    """Return rows about agents that register, for the first time or again."""
    other = {"value": "m-0009"}
    return [
        (
            "ids",
            validate_register_agent(registering(slave={"hostname": "h", "id": {"value": ".."}})),
            "'..' is disallowed",
        ),
        (
            "agent",
            validate_register_agent(registering(slave={"hostname": "h", "resources": [BAD_CPUS]})),
            BAD_CPUS_TEXT,
        ),
        (
            "agent",
            validate_register_agent(
                registering(slave=_without_checkpoint(), checkpointed_resources=[BAD_CPUS])
            ),
            "Checkpointed resources provided when checkpointing is not enabled",
        ),
        (
            "agent",
            validate_register_agent(registering(checkpointed_resources=[BAD_CPUS])),
            BAD_CPUS_TEXT,
        ),
        _back(
            "'a/b' contains invalid characters",
            "ids",
            slave={"hostname": "h", "id": {"value": "a/b"}},
        ),
        _back(BAD_CPUS_TEXT, checkpointed_resources=[BAD_CPUS]),
        _back(
            "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable",
            "framework",
            frameworks=[{**FRAMEWORK, "roles": ["a"]}],
        ),
        _back("Framework has a duplicate FrameworkID: 'm-0000'", frameworks=[FRAMEWORK] * 2),
        _back(
            "'ExecutorInfo.command' must be set for 'CUSTOM' executor",
            "executor",
            executor_infos=[{"executor_id": {"value": "e"}, "type": "CUSTOM"}],
        ),
        _back(BAD_CPUS_TEXT, executor_infos=[{**EXECUTOR, "resources": [BAD_CPUS]}]),
        _back(
            "Executor has an invalid FrameworkID 'm-0009'",
            executor_infos=[{**EXECUTOR, "framework_id": other}],
        ),
        _back("Framework 'm-0000' has a duplicate ExecutorID 'e'", executor_infos=[EXECUTOR] * 2),
        _task("Task has an invalid TaskID: ID must not be empty", task_id={"value": ""}),
        _task("Task has an invalid SlaveID 'm-S9'", agent_id={"value": "m-S9"}),
        _task("Task has an invalid FrameworkID 'm-0009'", framework_id=other),
        _task("Task has an invalid ExecutorID 'x'", executor_id={"value": "x"}),
        ("task", *_task(f"Task uses invalid resources: {BAD_CPUS_TEXT}", resources=[BAD_CPUS])[1:]),
    ]


def _health(text: str, **fields: Any) -> Row:
    return ("check", validate_health_check(HealthCheck(**fields)), text)


def _check(text: str, **fields: Any) -> Row:
    return ("check", validate_check(CheckInfo(**fields)), text)


def checks() -> list[Row]:
    """Return rows about checks and health checks."""
    http = {"port": 80}
    health_times = ("delay", "grace_period", "interval", "timeout")
    return [
        _health("HealthCheck must specify 'type'"),
        _health("Expecting 'command' to be set for COMMAND health check", type="COMMAND"),
        _health("Command health check must contain 'shell command'", type="COMMAND", command={}),
        _health(
            "Command health check must contain 'executable path'",
            type="COMMAND",
            command={"shell": False},
        ),
        _health(
            f"Health check's `CommandInfo` is invalid: {BAD_VARIABLE}",
            type="COMMAND",
            command={"value": "true", **BAD_ENVIRONMENT},
        ),
        _health("Expecting 'http' to be set for HTTP health check", type="HTTP"),
        _health(
            "Unsupported HTTP health check scheme: 'ftp'",
            type="HTTP",
            http={**http, "scheme": "ftp"},
        ),
        _health(
            "The path 'up' of HTTP health check must start with '/'",
            type="HTTP",
            http={**http, "path": "up"},
        ),
        _health("Expecting 'tcp' to be set for TCP health check", type="TCP"),
        _health("'UNKNOWN' is not a valid health check type", type="UNKNOWN"),
        *(
            _health(
                f"Expecting '{name}_seconds' to be non-negative",
                type="TCP",
                tcp=http,
                **{f"{name}_seconds": -0.1},
            )
            for name in health_times
        ),
        _check("CheckInfo must specify 'type'"),
        _check("Expecting 'command' to be set for COMMAND check", type="COMMAND"),
        _check(
            "Command check must contain 'shell command'", type="COMMAND", command={"command": {}}
        ),
        _check(
            "Command check must contain 'executable path'",
            type="COMMAND",
            command={"command": {"shell": False}},
        ),
        _check(
            f"Check's `CommandInfo` is invalid: {BAD_VARIABLE}",
            type="COMMAND",
            command={"command": {"value": "true", **BAD_ENVIRONMENT}},
        ),
        _check("Expecting 'http' to be set for HTTP check", type="HTTP"),
        _check(
            "The path 'up' of HTTP check must start with '/'",
            type="HTTP",
            http={**http, "path": "up"},
        ),
        _check("Expecting 'tcp' to be set for TCP check", type="TCP"),
        _check("'UNKNOWN' is not a valid check type", type="UNKNOWN"),
        *(
            _check(
                f"Expecting '{name}_seconds' to be non-negative",
                type="TCP",
                tcp=http,
                **{f"{name}_seconds": -0.1},
            )
            for name in ("delay", "interval", "timeout")
        ),
    ]


ROWS: list[Row] = [*agents(), *checks()]
