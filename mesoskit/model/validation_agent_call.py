"""Calls of the agent's API: of operators, and of executors that run containers of their own.

From C{src/slave/validation.cpp}; see L{mesoskit.model.validation_ids} for what the functions
return.
"""

from typing import TypeAlias

from mesoskit.messages.agent_pb2 import Call
from mesoskit.messages.mesos_pb2 import ContainerID
from mesoskit.model.resource_message import read_reservations
from mesoskit.model.resource_validation import validate_format, validate_gpus
from mesoskit.model.validation_call import validate_initialized
from mesoskit.model.validation_command import validate_command, validate_container
from mesoskit.model.validation_ids import validate_id

_Nested: TypeAlias = Call.LaunchNestedContainer | Call.LaunchNestedContainerSession

MAX_CONTAINER_ID_LENGTH = 242
"""Shorter than other ids, for the directory's name is made of it and more."""

_NEEDS: dict[int, str] = {
    Call.GET_METRICS: "get_metrics",
    Call.SET_LOGGING_LEVEL: "set_logging_level",
    Call.LIST_FILES: "list_files",
    Call.READ_FILE: "read_file",
    Call.LAUNCH_NESTED_CONTAINER: "launch_nested_container",
    Call.WAIT_NESTED_CONTAINER: "wait_nested_container",
    Call.KILL_NESTED_CONTAINER: "kill_nested_container",
    Call.REMOVE_NESTED_CONTAINER: "remove_nested_container",
    Call.LAUNCH_NESTED_CONTAINER_SESSION: "launch_nested_container_session",
    Call.ATTACH_CONTAINER_INPUT: "attach_container_input",
    Call.ATTACH_CONTAINER_OUTPUT: "attach_container_output",
    Call.LAUNCH_CONTAINER: "launch_container",
    Call.WAIT_CONTAINER: "wait_container",
    Call.KILL_CONTAINER: "kill_container",
    Call.REMOVE_CONTAINER: "remove_container",
    Call.ADD_RESOURCE_PROVIDER_CONFIG: "add_resource_provider_config",
    Call.UPDATE_RESOURCE_PROVIDER_CONFIG: "update_resource_provider_config",
    Call.REMOVE_RESOURCE_PROVIDER_CONFIG: "remove_resource_provider_config",
    Call.MARK_RESOURCE_PROVIDER_GONE: "mark_resource_provider_gone",
}

_NAMING_A_CONTAINER = frozenset(
    (
        Call.WAIT_NESTED_CONTAINER,
        Call.KILL_NESTED_CONTAINER,
        Call.REMOVE_NESTED_CONTAINER,
        Call.ATTACH_CONTAINER_OUTPUT,
        Call.WAIT_CONTAINER,
        Call.KILL_CONTAINER,
        Call.REMOVE_CONTAINER,
    )
)


def validate_container_id(container_id: ContainerID) -> str | None:
    """
    Say what is wrong with the id of a container or of one that it is nested in: it is also
    written as C{parent.child}.
    """
    value = container_id.value
    error = validate_id(value)
    if error is not None:
        return error
    if len(value.encode()) > MAX_CONTAINER_ID_LENGTH:
        return (
            f"'ContainerID.value' '{value}' exceeds the maximum length ({MAX_CONTAINER_ID_LENGTH})"
        )
    if "." in value or " " in value:
        return f"'ContainerID.value' '{value}' contains invalid characters"
    if container_id.HasField("parent"):
        error = validate_container_id(container_id.parent)
        if error is not None:
            return f"'ContainerID.parent' is invalid: {error}"
    return None


def validate_agent_call(call: Call) -> str | None:
    """Say what is wrong with a call to the agent."""
    error = validate_initialized(call)
    if error is not None:
        return error
    if not call.HasField("type"):
        return "Expecting 'type' to be present"
    kind = call.type
    needed = _NEEDS.get(kind)
    if needed is None:
        return None
    if not call.HasField(needed):
        return f"Expecting '{needed}' to be present"
    if kind in _NAMING_A_CONTAINER:
        return _validate_naming(needed, getattr(call, needed).container_id)
    if kind == Call.LAUNCH_CONTAINER:
        return _validate_launch(call.launch_container)
    if kind == Call.LAUNCH_NESTED_CONTAINER:
        return _validate_nested(needed, call.launch_nested_container)
    if kind == Call.LAUNCH_NESTED_CONTAINER_SESSION:
        return _validate_nested(needed, call.launch_nested_container_session)
    if kind == Call.ATTACH_CONTAINER_INPUT:
        return _validate_attach_input(call.attach_container_input)
    if (
        kind in (Call.ADD_RESOURCE_PROVIDER_CONFIG, Call.UPDATE_RESOURCE_PROVIDER_CONFIG)
    ) and getattr(call, needed).info.HasField("id"):
        return f"Expecting '{needed}.info.id' to be unset"
    return None


def _validate_naming(name: str, container_id: ContainerID) -> str | None:
    error = validate_container_id(container_id)
    if error is not None:
        return f"'{name}.container_id' is invalid: {error}"
    if "nested" in name and not container_id.HasField("parent"):
        return f"Expecting '{name}.container_id.parent' to be present"
    return None


def _validate_parts(name: str, launch: Call.LaunchContainer | _Nested) -> str | None:
    if launch.HasField("command"):
        error = validate_command(launch.command)
        if error is not None:
            return f"'{name}.command' is invalid: {error}"
    if launch.HasField("container"):
        error = validate_container(launch.container)
        if error is not None:
            return f"'{name}.container' is invalid: {error}"
    return None


def _validate_nested(name: str, launch: _Nested) -> str | None:
    error = _validate_naming(name, launch.container_id) or _validate_parts(name, launch)
    if error is not None:
        return error
    if launch.container.linux_info.share_cgroups:
        return None
    if name == "launch_nested_container_session":
        return (
            f"'{name}.container.linux_info' is invalid: 'share_cgroups'"
            " cannot be set to 'false' for nested container sessions"
        )
    if launch.container_id.parent.HasField("parent"):
        return f"'{name}' is invalid: {_TOO_DEEP} cannot set 'share_cgroups' to 'false'"
    return None


_TOO_DEEP = "containers nested at the second level or greater"


def _validate_attach_input(attach: Call.AttachContainerInput) -> str | None:
    if not attach.HasField("type"):
        return "Expecting 'attach_container_input.type' to be present"
    if attach.type == Call.AttachContainerInput.UNKNOWN:
        return "'attach_container_input.type' is unknown"
    if attach.type == Call.AttachContainerInput.CONTAINER_ID:
        error = validate_container_id(attach.container_id)
        if error is not None:
            return f"'attach_container_input.container_id' is invalid: {error}"
    return None


def _validate_launch(launch: Call.LaunchContainer) -> str | None:
    """A container that is nested, or that stands alone and the master knows nothing of."""
    name = "launch_container"
    error = _validate_naming(name, launch.container_id)
    if error is not None:
        return error
    error = validate_format(launch.resources)
    if error is not None:
        return f"Invalid resources: {error}"
    error = validate_gpus(launch.resources)
    if error is not None:
        return f"Invalid GPU resources: {error}"
    nested = launch.container_id.HasField("parent")
    error = (None if nested else _validate_standalone(launch)) or _validate_parts(name, launch)
    if error is not None:
        return error
    linux = launch.container.linux_info
    if nested and launch.container_id.parent.HasField("parent"):
        if launch.resources:
            return f"'{name}' is invalid: {_TOO_DEEP} cannot specify resources"
        if launch.limits:
            return f"'{name}' is invalid: {_TOO_DEEP} cannot specify resource limits"
        if not linux.share_cgroups:
            return f"'{name}' is invalid: {_TOO_DEEP} cannot set 'share_cgroups' to 'false'"
    if not nested and linux.HasField("share_cgroups") and linux.share_cgroups:
        return (
            f"'{name}' is invalid: containers without a parent cannot set 'share_cgroups' to 'true'"
        )
    return None


def _validate_standalone(launch: Call.LaunchContainer) -> str | None:
    for resource in launch.resources:
        if read_reservations(resource):
            return "'launch_container.resources' must be unreserved"
        if resource.disk.HasField("persistence"):
            return "'launch_container.resources' may not use persistent volumes"
        if resource.HasField("revocable"):
            return "'launch_container.resources' must be non-revocable"
    return None
