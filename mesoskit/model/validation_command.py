"""What a task or executor asks to be run, and in what: commands, containers and volumes.

From C{src/common/validation.cpp}; see L{mesoskit.model.validation_ids} for what the functions
return.
"""

from mesoskit.messages.mesos_pb2 import (
    CommandInfo,
    ContainerInfo,
    Environment,
    Secret,
    Task,
    TaskInfo,
    Volume,
)

_VARIABLE = Environment.Variable
_SOURCE = Volume.Source


def validate_secret(secret: Secret) -> str | None:
    """A secret has what its type names, and only that. A type that is not known passes."""
    kind = secret.type
    if kind == Secret.REFERENCE:
        if not secret.HasField("reference"):
            return "Secret of type REFERENCE must have the 'reference' field set"
        if secret.HasField("value"):
            return (
                f"Secret '{secret.reference.name}' of type REFERENCE"
                " must not have the 'value' field set"
            )
    elif kind == Secret.VALUE:
        if not secret.HasField("value"):
            return "Secret of type VALUE must have the 'value' field set"
        if secret.HasField("reference"):
            return "Secret of type VALUE must not have the 'reference' field set"
    return None


def validate_environment(environment: Environment) -> str | None:
    """Each variable has a value or a secret, as its type says, and no secret has zero bytes."""
    for variable in environment.variables:
        error = _validate_variable(variable)
        if error is not None:
            return error
    return None


def _validate_variable(variable: Environment.Variable) -> str | None:
    kind = variable.type
    if kind == _VARIABLE.VALUE:
        if not variable.HasField("value"):
            return f"Environment variable '{variable.name}' of type 'VALUE' must have a value set"
        if variable.HasField("secret"):
            return (
                f"Environment variable '{variable.name}' of type 'VALUE' must not have a secret set"
            )
        return None
    if kind == _VARIABLE.UNKNOWN:
        return "Environment variable of type 'UNKNOWN' is not allowed"
    if not variable.HasField("secret"):
        return f"Environment variable '{variable.name}' of type 'SECRET' must have a secret set"
    if variable.HasField("value"):
        return f"Environment variable '{variable.name}' of type 'SECRET' must not have a value set"
    error = validate_secret(variable.secret)
    if error is not None:
        return f"Environment variable '{variable.name}' specifies an invalid secret: {error}"
    if b"\0" in variable.secret.value.data:
        return (
            f"Environment variable '{variable.name}' specifies a secret containing null bytes,"
            " which is not allowed in the environment"
        )
    return None


def validate_command(command: CommandInfo) -> str | None:
    """Of a command, Mesos looks at the environment alone."""
    if command.HasField("environment"):
        return validate_environment(command.environment)
    return None


def validate_volume(volume: Volume) -> str | None:
    """A volume comes from one place, and its source has what its type names."""
    given = volume.HasField("host_path") + volume.HasField("image") + volume.HasField("source")
    if given != 1:
        return "Only one of them should be set: 'host_path', 'image' and 'source'"
    if not volume.HasField("source"):
        return None
    source = volume.source
    kind = source.type
    if kind == _SOURCE.DOCKER_VOLUME:
        if not source.HasField("docker_volume"):
            return "'source.docker_volume' is not set for DOCKER_VOLUME volume"
    elif kind == _SOURCE.HOST_PATH:
        if not source.HasField("host_path"):
            return "'source.host_path' is not set for HOST_PATH volume"
    elif kind == _SOURCE.SANDBOX_PATH:
        if not source.HasField("sandbox_path"):
            return "'source.sandbox_path' is not set for SANDBOX_PATH volume"
    elif kind == _SOURCE.SECRET:
        if not source.HasField("secret"):
            return "'source.secret' is not set for SECRET volume"
    elif kind == _SOURCE.CSI_VOLUME:
        if not source.HasField("csi_volume"):
            return "'source.csi_volume' is not set for CSI volume"
        if not source.csi_volume.HasField("static_provisioning"):
            return "'source.csi_volume.static_provisioning' is not set for CSI volume"
    else:
        return "'source.type' is unknown"
    return None


def validate_container(container: ContainerInfo) -> str | None:
    """
    Volumes are right; a container of type C{DOCKER} says what image, and does not name itself.

    A part that belongs to another type is ignored, as Mesos ignores it (it logs a warning).
    """
    for volume in container.volumes:
        error = validate_volume(volume)
        if error is not None:
            return f"Invalid volume: {error}"
    if container.type == ContainerInfo.DOCKER:
        if not container.HasField("docker"):
            return "DockerInfo 'docker' is not set for DOCKER typed ContainerInfo"
        for parameter in container.docker.parameters:
            if parameter.key == "name":
                return "Parameter in DockerInfo must not be 'name'"
    return None


def shares_cgroups(task: TaskInfo | Task) -> bool:
    """Tell whether a task lives in its executor's cgroups, as it does unless it says not."""
    return not task.HasField("container") or task.container.linux_info.share_cgroups
