"""Calls of schedulers, executors and operators: is everything there that a call needs.

From C{src/master/validation.cpp} and C{src/common/validation.cpp}; the calls of the agent's
API are in L{mesoskit.model.validation_agent_call}. A refused call is answered with 400 and
the text. See L{mesoskit.model.validation_ids} for what the functions return.

The codec lets no message pass that lacks required fields; C{Not initialized} is said to
those who build messages in the same process.
"""

from google.protobuf.message import Message

from mesoskit.messages import executor_pb2, master_pb2, scheduler_pb2
from mesoskit.messages.mesos_pb2 import TaskState, TaskStatus
from mesoskit.model.resource_validation import validate_format
from mesoskit.model.validation_check import validate_check_status
from mesoskit.model.validation_ids import validate_uuid

_Scheduler = scheduler_pb2.Call
_Executor = executor_pb2.Call
_Master = master_pb2.Call

_SCHEDULER_NEEDS: dict[int, str] = {
    _Scheduler.ACCEPT: "accept",
    _Scheduler.DECLINE: "decline",
    _Scheduler.ACCEPT_INVERSE_OFFERS: "accept_inverse_offers",
    _Scheduler.DECLINE_INVERSE_OFFERS: "decline_inverse_offers",
    _Scheduler.KILL: "kill",
    _Scheduler.SHUTDOWN: "shutdown",
    _Scheduler.ACKNOWLEDGE: "acknowledge",
    _Scheduler.ACKNOWLEDGE_OPERATION_STATUS: "acknowledge_operation_status",
    _Scheduler.RECONCILE: "reconcile",
    _Scheduler.RECONCILE_OPERATIONS: "reconcile_operations",
    _Scheduler.MESSAGE: "message",
    _Scheduler.REQUEST: "request",
    _Scheduler.UPDATE_FRAMEWORK: "update_framework",
}

_MASTER_NEEDS: dict[int, str] = {
    _Master.GET_METRICS: "get_metrics",
    _Master.SET_LOGGING_LEVEL: "set_logging_level",
    _Master.LIST_FILES: "list_files",
    _Master.READ_FILE: "read_file",
    _Master.UPDATE_WEIGHTS: "update_weights",
    _Master.RESERVE_RESOURCES: "reserve_resources",
    _Master.UNRESERVE_RESOURCES: "unreserve_resources",
    _Master.CREATE_VOLUMES: "create_volumes",
    _Master.DESTROY_VOLUMES: "destroy_volumes",
    _Master.GROW_VOLUME: "grow_volume",
    _Master.SHRINK_VOLUME: "shrink_volume",
    _Master.UPDATE_MAINTENANCE_SCHEDULE: "update_maintenance_schedule",
    _Master.START_MAINTENANCE: "start_maintenance",
    _Master.STOP_MAINTENANCE: "stop_maintenance",
    _Master.DRAIN_AGENT: "drain_agent",
    _Master.DEACTIVATE_AGENT: "deactivate_agent",
    _Master.REACTIVATE_AGENT: "reactivate_agent",
    _Master.UPDATE_QUOTA: "update_quota",
    _Master.SET_QUOTA: "set_quota",
    _Master.REMOVE_QUOTA: "remove_quota",
    _Master.TEARDOWN: "teardown",
    _Master.MARK_AGENT_GONE: "mark_agent_gone",
}


def validate_initialized(message: Message) -> str | None:
    """All required fields are there, at whatever depth."""
    if message.IsInitialized():
        return None
    return "Not initialized: " + ", ".join(message.FindInitializationErrors())  # type: ignore[attr-defined]


def validate_scheduler_call(call: scheduler_pb2.Call, principal: str | None = None) -> str | None:
    """
    Say what is wrong with a framework's call.

    @param principal: who the caller proved to be; a C{FrameworkInfo} may not name another.
    """
    error = validate_initialized(call)
    if error is not None:
        return error
    if not call.HasField("type"):
        return "Expecting 'type' to be present"
    kind = call.type
    if kind == _Scheduler.SUBSCRIBE:
        return _validate_subscribe(call, principal)
    if not call.HasField("framework_id"):
        return "Expecting 'framework_id' to be present"
    needed = _SCHEDULER_NEEDS.get(kind)
    if needed is not None and not call.HasField(needed):
        return f"Expecting '{needed}' to be present"
    if kind == _Scheduler.ACKNOWLEDGE:
        return validate_uuid(call.acknowledge.uuid)
    if kind == _Scheduler.ACKNOWLEDGE_OPERATION_STATUS:
        error = validate_uuid(call.acknowledge_operation_status.uuid)
        if error is not None:
            return error
        if not call.acknowledge_operation_status.HasField("agent_id"):
            return "Expecting 'agent_id' to be present"
    if (
        kind == _Scheduler.UPDATE_FRAMEWORK
        and call.framework_id.value != call.update_framework.framework_info.id.value
    ):
        return "'framework_id' differs from 'update_framework.framework_info.id'"
    return None


def _validate_subscribe(call: scheduler_pb2.Call, principal: str | None) -> str | None:
    if not call.HasField("subscribe"):
        return "Expecting 'subscribe' to be present"
    info = call.subscribe.framework_info
    if info.id.value != call.framework_id.value:
        return "'framework_id' differs from 'subscribe.framework_info.id'"
    if principal is not None and info.HasField("principal") and info.principal != principal:
        return (
            f"Authenticated principal '{principal}' does not match"
            f" principal '{info.principal}' set in `FrameworkInfo`"
        )
    return None


def validate_executor_call(call: executor_pb2.Call) -> str | None:
    """Say what is wrong with an executor's call."""
    error = validate_initialized(call)
    if error is not None:
        return error
    if not call.HasField("type"):
        return "Expecting 'type' to be present"
    kind = call.type
    if kind == _Executor.SUBSCRIBE:
        return None if call.HasField("subscribe") else "Expecting 'subscribe' to be present"
    if kind == _Executor.MESSAGE:
        return None if call.HasField("message") else "Expecting 'message' to be present"
    if kind == _Executor.UPDATE:
        if not call.HasField("update"):
            return "Expecting 'update' to be present"
        return _validate_executor_update(call)
    return None


def _validate_executor_update(call: executor_pb2.Call) -> str | None:
    status = call.update.status
    if not status.HasField("uuid"):
        return "Expecting 'uuid' to be present"
    error = validate_uuid(status.uuid)
    if error is not None:
        return error
    executor_id = call.executor_id.value
    if status.HasField("executor_id") and status.executor_id.value != executor_id:
        return (
            f"ExecutorID in Call: {executor_id}"
            f" does not match ExecutorID in TaskStatus: {status.executor_id.value}"
        )
    # Unset is SOURCE_MASTER, which is none of an executor's either.
    if status.source != TaskStatus.SOURCE_EXECUTOR:
        return (
            f"Received Call from executor {executor_id} of framework {call.framework_id.value}"
            " with invalid source, expecting 'SOURCE_EXECUTOR'"
        )
    if status.state == TaskState.TASK_STAGING:
        return (
            f"Received TASK_STAGING from executor {executor_id}"
            f" of framework {call.framework_id.value} which is not allowed"
        )
    if status.HasField("check_status"):
        return validate_check_status(status.check_status)
    return None


def validate_master_call(call: master_pb2.Call) -> str | None:
    """Say what is wrong with an operator's call to the master."""
    error = validate_initialized(call)
    if error is not None:
        return error
    if not call.HasField("type"):
        return "Expecting 'type' to be present"
    kind = call.type
    needed = _MASTER_NEEDS.get(kind)
    if needed is not None and not call.HasField(needed):
        return f"Expecting '{needed}' to be present"
    if kind == _Master.DRAIN_AGENT and call.drain_agent.HasField("max_grace_period"):
        grace = call.drain_agent.max_grace_period.ToNanoseconds()
        if not 0 <= grace < 1 << 63:
            return f"Expecting 'max_grace_period' to be from 0 to 292 years, not {grace} ns"
    if kind == _Master.RESERVE_RESOURCES:
        return validate_format(call.reserve_resources.resources)
    if kind == _Master.UNRESERVE_RESOURCES:
        return validate_format(call.unreserve_resources.resources)
    if (kind == _Master.GROW_VOLUME and not call.grow_volume.HasField("agent_id")) or (
        kind == _Master.SHRINK_VOLUME and not call.shrink_volume.HasField("agent_id")
    ):
        return (
            "Expecting 'agent_id' to be present;"
            " only agent default resources are supported right now"
        )
    return None
