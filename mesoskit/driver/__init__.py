"""What the author of a framework imports.

Everything is imported when it is first asked for, so that an executor, which is started often
and should be there soon, does not wait for what only frameworks need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mesoskit.driver.builders import (
        command_info,
        command_task,
        create,
        destroy,
        executor_info,
        labels,
        launch_group,
        new_task_id,
        reserve,
        resources,
        task,
        unreserve,
        variables,
    )
    from mesoskit.driver.connection import Backoff
    from mesoskit.driver.environment import ExecutorEnvironment, NoAgent
    from mesoskit.driver.errors import (
        AuthenticationFailed,
        DriverError,
        FailedOver,
        FrameworkError,
        FrameworkStopped,
        NotEnough,
        NotSubscribed,
        OfferGone,
        TaskDropped,
        TaskEnded,
        TaskFailed,
        TaskGone,
        TaskIdInUse,
        TaskInvalid,
        TaskKilled,
        TaskLost,
        TaskUnreachable,
    )
    from mesoskit.driver.executor import Executor, IExecutor
    from mesoskit.driver.executor_driver import ExecutorDriver
    from mesoskit.driver.executor_service import ExecutorService
    from mesoskit.driver.framework import Framework
    from mesoskit.driver.handles import TaskHandle
    from mesoskit.driver.identity import IdStore
    from mesoskit.driver.offers import Offer, OfferStream
    from mesoskit.driver.running import run_executor
    from mesoskit.driver.scheduler import IScheduler, Scheduler
    from mesoskit.driver.settings import DriverSettings
    from mesoskit.messages.mesos_pb2 import (
        CommandInfo,
        ContainerInfo,
        ExecutorInfo,
        FrameworkInfo,
        HealthCheck,
        Resource,
        TaskInfo,
        TaskStatus,
    )
    from mesoskit.model.resources import Resources
    from mesoskit.model.tasks import Reason, TaskState
    from mesoskit.wire.auth.credentials import Credential, CredentialError
    from mesoskit.wire.link import CallRefused, LinkLost
    from mesoskit.wire.tls import TLS, TLSError

_HOMES = {
    "mesoskit.driver.builders": "command_info command_task create destroy executor_info labels"
    " launch_group new_task_id reserve resources task unreserve variables",
    "mesoskit.driver.connection": "Backoff",
    "mesoskit.driver.errors": "AuthenticationFailed DriverError FailedOver FrameworkError"
    " FrameworkStopped NotEnough NotSubscribed OfferGone TaskDropped TaskEnded TaskFailed"
    " TaskGone TaskIdInUse TaskInvalid TaskKilled TaskLost TaskUnreachable",
    "mesoskit.driver.environment": "ExecutorEnvironment NoAgent",
    "mesoskit.driver.executor": "Executor IExecutor",
    "mesoskit.driver.executor_driver": "ExecutorDriver",
    "mesoskit.driver.executor_service": "ExecutorService",
    "mesoskit.driver.framework": "Framework",
    "mesoskit.driver.running": "run_executor",
    "mesoskit.driver.handles": "TaskHandle",
    "mesoskit.driver.identity": "IdStore",
    "mesoskit.driver.offers": "Offer OfferStream",
    "mesoskit.driver.scheduler": "IScheduler Scheduler",
    "mesoskit.driver.settings": "DriverSettings",
    "mesoskit.messages.mesos_pb2": "CommandInfo ContainerInfo ExecutorInfo FrameworkInfo"
    " HealthCheck Resource TaskInfo TaskStatus",
    "mesoskit.model.resources": "Resources",
    "mesoskit.model.tasks": "Reason TaskState",
    "mesoskit.wire.auth.credentials": "Credential CredentialError",
    "mesoskit.wire.link": "CallRefused LinkLost",
    "mesoskit.wire.tls": "TLS TLSError",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "TLS",
    "AuthenticationFailed",
    "Backoff",
    "CallRefused",
    "CommandInfo",
    "ContainerInfo",
    "Credential",
    "CredentialError",
    "DriverError",
    "DriverSettings",
    "Executor",
    "ExecutorDriver",
    "ExecutorEnvironment",
    "ExecutorInfo",
    "ExecutorService",
    "FailedOver",
    "Framework",
    "FrameworkError",
    "FrameworkInfo",
    "FrameworkStopped",
    "HealthCheck",
    "IExecutor",
    "IScheduler",
    "IdStore",
    "LinkLost",
    "NoAgent",
    "NotEnough",
    "NotSubscribed",
    "Offer",
    "OfferGone",
    "OfferStream",
    "Reason",
    "Resource",
    "Resources",
    "Scheduler",
    "TLSError",
    "TaskDropped",
    "TaskEnded",
    "TaskFailed",
    "TaskGone",
    "TaskHandle",
    "TaskIdInUse",
    "TaskInfo",
    "TaskInvalid",
    "TaskKilled",
    "TaskLost",
    "TaskState",
    "TaskStatus",
    "TaskUnreachable",
    "command_info",
    "command_task",
    "create",
    "destroy",
    "executor_info",
    "labels",
    "launch_group",
    "new_task_id",
    "reserve",
    "resources",
    "run_executor",
    "task",
    "unreserve",
    "variables",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import what is asked for."""
        home = _HOME.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(home), name)
        return value
