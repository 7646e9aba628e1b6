"""C{mesos.v1.scheduler.Call}, one function a call that takes more than a line."""

from __future__ import annotations

from collections.abc import Iterable

from mesoskit.messages.mesos_pb2 import (
    FrameworkInfo,
    KillPolicy,
    OfferID,
    OperationStatus,
    TaskStatus,
)
from mesoskit.messages.scheduler_pb2 import Call, OfferConstraints


def subscribe(
    info: FrameworkInfo, suppressed: Iterable[str], constraints: OfferConstraints | None
) -> Call:
    """Return C{SUBSCRIBE}; its C{framework_id} is that of C{info}, if there is one."""
    call = Call(type=Call.SUBSCRIBE)
    call.subscribe.framework_info.CopyFrom(info)
    call.subscribe.suppressed_roles.extend(suppressed)
    if constraints is not None:
        call.subscribe.offer_constraints.CopyFrom(constraints)
    if info.id.value:
        call.framework_id.value = info.id.value
    return call


def decline(offer_ids: Iterable[str], refuse_seconds: float | None) -> Call:
    """Return C{DECLINE}."""
    call = Call(type=Call.DECLINE)
    call.decline.offer_ids.extend(OfferID(value=each) for each in offer_ids)
    if refuse_seconds is not None:
        call.decline.filters.refuse_seconds = refuse_seconds
    return call


def roles_call(kind: Call.Type, roles: Iterable[str]) -> Call:
    """Return C{REVIVE} or C{SUPPRESS}; no roles mean all of them."""
    call = Call(type=kind)
    if kind == Call.REVIVE:
        call.revive.roles.extend(roles)
    else:
        call.suppress.roles.extend(roles)
    return call


def kill(task_id: str, agent_id: str, grace: float | None) -> Call:
    """Return C{KILL}; C{grace} is the seconds that the task has to end by itself."""
    call = Call(type=Call.KILL)
    call.kill.task_id.value = task_id
    if agent_id:
        call.kill.agent_id.value = agent_id
    if grace is not None:
        call.kill.kill_policy.CopyFrom(kill_policy(grace))
    return call


def kill_policy(grace: float) -> KillPolicy:
    """Return a policy with so many seconds of grace."""
    policy = KillPolicy()
    policy.grace_period.nanoseconds = round(grace * 1e9)
    return policy


def acknowledge(framework_id: str, status: TaskStatus) -> Call:
    """Return C{ACKNOWLEDGE} for a status with a uuid."""
    call = Call(type=Call.ACKNOWLEDGE)
    call.framework_id.value = framework_id
    acknowledgement = call.acknowledge
    acknowledgement.agent_id.value = status.agent_id.value
    acknowledgement.task_id.value = status.task_id.value
    acknowledgement.uuid = status.uuid
    return call


def acknowledge_operation(framework_id: str, status: OperationStatus) -> Call:
    """Return C{ACKNOWLEDGE_OPERATION_STATUS} for a status with a uuid."""
    call = Call(type=Call.ACKNOWLEDGE_OPERATION_STATUS)
    call.framework_id.value = framework_id
    acknowledgement = call.acknowledge_operation_status
    if status.HasField("agent_id"):
        acknowledgement.agent_id.value = status.agent_id.value
    if status.HasField("resource_provider_id"):
        acknowledgement.resource_provider_id.value = status.resource_provider_id.value
    acknowledgement.uuid = status.uuid.value
    acknowledgement.operation_id.value = status.operation_id.value
    return call


def reconcile(tasks: Iterable[tuple[str, str]]) -> Call:
    """Return C{RECONCILE} for pairs of task and agent (C{""}: unknown); none ask for all."""
    call = Call(type=Call.RECONCILE)
    call.reconcile.SetInParent()
    for task_id, agent_id in tasks:
        task = call.reconcile.tasks.add()
        task.task_id.value = task_id
        if agent_id:
            task.agent_id.value = agent_id
    return call
