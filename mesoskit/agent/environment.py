"""What a container finds in its environment, and what process a C{CommandInfo} means.

The variables are those that Mesos' agent gives to executors (C{executorEnvironment} in
C{src/slave/slave.cpp}) and its built-in executors hand on to tasks; recordings of a real
cluster show C{LIBPROCESS_PORT=0} and the plain C{PATH} in each of them. Nothing of the
agent's own environment is passed on.
"""

from collections.abc import Iterable

from mesoskit.agent.container import Console, Uri
from mesoskit.agent.options import AgentOptions
from mesoskit.messages.mesos_pb2 import CommandInfo, ContainerInfo, FrameworkInfo, RLimitInfo
from mesoskit.model.durations import format_duration

EXECUTOR_SOCKET = "MESOSKIT_EXECUTOR_SOCKET"
"""The variable that names the UNIX socket at which the agent listens to executors."""

EXECUTOR_TOKEN = "MESOSKIT_EXECUTOR_TOKEN"
"""The variable with what an executor shows there, to prove which container it is."""

HTTP_TOKEN = "MESOS_EXECUTOR_AUTHENTICATION_TOKEN"
"""The variable with what an executor shows over HTTP, where the agent has a key to make it with."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The C{PATH} of a container where neither flag nor command gives one."""

_LARGEST = 0xFFFF
"""Rows, or columns, of a terminal."""

Variables = tuple[tuple[str, str], ...]


def agent_variables(options: AgentOptions, agent_id: str) -> dict[str, str]:
    """Return what is the same for every executor of an agent."""
    variables = {"PATH": DEFAULT_PATH}
    if options.libprocess_ip is not None:
        variables["LIBPROCESS_IP"] = options.libprocess_ip
    variables.update(options.executor_environment_variables)
    variables.update(
        LIBPROCESS_PORT="0",
        MESOS_SLAVE_ID=agent_id,
        MESOS_SLAVE_PID=options.pid,
        MESOS_AGENT_ENDPOINT=options.local_endpoint or f"{options.ip}:{options.port}",
        MESOS_HTTP_COMMAND_EXECUTOR="0",
    )
    return variables


def executor_variables(
    base: dict[str, str],
    framework_id: str,
    executor_id: str,
    directory: str,
    grace_period: float,
    checkpoint: bool,
    recovery_timeout: float = 15 * 60.0,
    reregistration_timeout: float = 2.0,
) -> dict[str, str]:
    """
    Return what an executor gets.

    @param base: from L{agent_variables}; it is not changed.
    @param grace_period: seconds that the executor has after C{SHUTDOWN}.
    @param checkpoint: whether its framework is checkpointed.
    @param recovery_timeout: seconds for which an executor waits for an agent that is gone.
    @param reregistration_timeout: seconds that a restarted agent waits for the executor, and so
        the longest wait between two attempts to reach it.
    """
    variables = dict(base)
    variables["MESOS_FRAMEWORK_ID"] = framework_id
    variables["MESOS_EXECUTOR_ID"] = executor_id
    variables["MESOS_DIRECTORY"] = directory
    variables["MESOS_SANDBOX"] = directory
    variables["MESOS_CHECKPOINT"] = "1" if checkpoint else "0"
    variables["MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD"] = format_duration(grace_period)
    if checkpoint:
        variables["MESOS_RECOVERY_TIMEOUT"] = format_duration(recovery_timeout)
        variables["MESOS_SUBSCRIPTION_BACKOFF_MAX"] = format_duration(reregistration_timeout)
    return variables


def group_task_variables(ip: str, role: str, directory: str) -> dict[str, str]:
    """
    Return what a task of a group gets: little, as from Mesos' default executor.

    @param role: the role that the task's resources are allocated to.
    """
    return {
        "PATH": DEFAULT_PATH,
        "MESOS_SANDBOX": directory,
        "MESOS_CONTAINER_IP": ip,
        "MESOS_ALLOCATION_ROLE": role,
    }


def with_command(variables: dict[str, str], command: CommandInfo) -> Variables:
    """
    Return the finished environment: the command's own variables override the agent's. A
    secret by value counts as a value; a reference to one cannot be resolved and is left out
    (what names one is not started at all: C{ContainerSpec.wrong}).
    """
    if command.HasField("environment"):
        for variable in command.environment.variables:
            if variable.HasField("secret"):
                if variable.secret.HasField("value"):
                    variables[variable.name] = variable.secret.value.data.decode("utf-8", "replace")
            else:
                variables[variable.name] = variable.value
    return tuple(variables.items())


def user_of(options: AgentOptions, framework: FrameworkInfo, command: CommandInfo) -> str | None:
    """Return whom a command runs as; L{None}: as the agent."""
    if not options.switch_user:
        return None
    return command.user if command.HasField("user") else framework.user


def process_of(command: CommandInfo) -> tuple[tuple[str, ...], str | None]:
    """
    Return argv and the executable (L{None}: the first of argv) of a command.

    A shell command is run as C{sh -c value}; otherwise C{value} is the executable and
    C{arguments} are all of argv, the first included.
    """
    if command.shell:
        return ("sh", "-c", command.value), "/bin/sh"
    return tuple(command.arguments) or (command.value,), command.value


def uris_of(command: CommandInfo) -> tuple[Uri, ...]:
    """Return what is to be fetched for a command."""
    return tuple(
        Uri(
            value=uri.value,
            executable=uri.executable,
            extract=uri.extract,
            cache=uri.cache,
            output_file=uri.output_file if uri.HasField("output_file") else None,
        )
        for uri in command.uris
    )


def rlimits_of(container: ContainerInfo) -> tuple[tuple[str, int | None, int | None], ...]:
    """Return (name, soft, hard) of each limit; without both values there is no limit."""
    return tuple(_rlimits(container.rlimit_info.rlimits))


def console_of(container: ContainerInfo, session: bool = False) -> Console | None:
    """Return how somebody may attach to a container; that of a session can always be attached."""
    if not container.HasField("tty_info"):
        return Console(session=True) if session else None
    size = container.tty_info.window_size
    return Console(True, session, min(size.rows, _LARGEST), min(size.columns, _LARGEST))


def _rlimits(
    limits: Iterable[RLimitInfo.RLimit],
) -> Iterable[tuple[str, int | None, int | None]]:
    for limit in limits:
        name = RLimitInfo.RLimit.Type.Name(limit.type)
        soft = limit.soft if limit.HasField("soft") else None
        hard = limit.hard if limit.HasField("hard") else None
        yield name, soft, hard
