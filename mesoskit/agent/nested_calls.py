"""The agent's calls about single containers: what each needs, does, and is answered.

Texts and statuses are those of C{src/slave/http.cpp} and of
C{src/slave/containerizer/mesos/containerizer.cpp}; see L{mesoskit.agent.nested} for what
these containers are.
"""

from __future__ import annotations

from collections.abc import Callable
from signal import SIGKILL
from typing import TYPE_CHECKING, Any, Final

from mesoskit.agent import allotments, authorizing, docker, nested, processes, shutdown
from mesoskit.agent import nested_records as records
from mesoskit.agent.container import ContainerSpec, Launch, Remove, Signal
from mesoskit.agent.container_call import CallAbandoned, ContainerAnswer, ContainerCall, SessionOver
from mesoskit.agent.environment import (
    DEFAULT_PATH,
    EXECUTOR_TOKEN,
    HTTP_TOKEN,
    console_of,
    executor_variables,
    process_of,
    rlimits_of,
    uris_of,
    user_of,
    with_command,
)
from mesoskit.agent.frameworks import AgentTask, Executor
from mesoskit.agent.nested_records import Nested
from mesoskit.agent.networks import address_within, unknown_network
from mesoskit.messages.agent_pb2 import Call
from mesoskit.messages.mesos_pb2 import CommandInfo, ContainerInfo, FrameworkInfo, TaskInfo
from mesoskit.model.authorization import ANYTHING, Action, Thing
from mesoskit.model.events import Store, StoreFailed
from mesoskit.model.ids import ContainerId
from mesoskit.model.secrets import unresolved

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

LONGEST: Final = 512
"""Characters of the longest name of a container, those that it is nested in and dots included."""

NOT_SUPPORTED: Final = "The provided ContainerInfo is not supported"
NOT_TERMINATED: Final = "Nested container has not terminated yet"
UNKNOWN_ROOT: Final = "Unknown root container"
FORBIDDEN: Final = "403 Forbidden."


def call(state: AgentState, event: ContainerCall) -> None:
    """Take a call."""
    name = Call.Type.Name(event.call.type)
    _CALLS[name](state, event, getattr(event.call, name.lower()))


def abandoned(state: AgentState, event: CallAbandoned) -> None:
    """Whoever made a call has left."""
    state.nested.answers = [one for one in state.nested.answers if one.number != event.number]
    for key, waits in list(state.nested.waits.items()):
        left = [wait for wait in waits if wait[0] != event.number]
        if not left:
            del state.nested.waits[key]
        elif len(left) < len(waits):
            state.nested.waits[key] = left
    for one in list(state.nested.running.values()):
        if one.launching == event.number:
            one.launching = None
            if one.debug:
                state.destroy(one.key)


def session_over(state: AgentState, event: SessionOver) -> None:
    """Nobody listens to a session any more."""
    if ContainerId(event.container) in state.nested.running:
        state.destroy(ContainerId(event.container))


def store_failed(state: AgentState, event: StoreFailed) -> list[tuple[str, bytes | None]]:
    """What could not be recorded is not launched; return what else was not stored."""
    others = []
    for name, data in event.changes:
        kind, *path = name.split("/")
        one = state.nested.running.get(ContainerId(path[0])) if kind == records.KIND else None
        if one is None or len(path) > 1 or data is None or one.launching is None:
            others.append((name, data))
            continue
        number, one.launching = one.launching, None
        state.out.append(ContainerAnswer(number, 500, f"Failed to checkpoint: {event.why}"))
        nested.drop(state, one)
    return others


# Who may.


def _refused(
    state: AgentState,
    event: ContainerCall,
    path: tuple[str, ...],
    actions: tuple[Action, Action],
    command: CommandInfo | None = None,
) -> bool:
    """
    Answer 403 to whoever may not do this, and say so.

    @param actions: for containers within others, and for those that stand alone.
    """
    executor = nested.executor_of(state, path)
    thing = ANYTHING if executor is None else authorizing.of_executor(executor)
    thing = Thing(
        thing.values,
        framework=thing.framework,
        executor=thing.executor,
        command=command,
        id=".".join(path),
        root=path[0],
    )
    if event.who.may(actions[0 if len(path) > 1 else 1], thing):
        return False
    _answer(state, event, 403, FORBIDDEN)
    return True


def _answer(state: AgentState, event: ContainerCall, status: int, what: Any = "") -> None:
    state.out.append(ContainerAnswer(event.number, status, what))


# Launching.


def _launch(state: AgentState, event: ContainerCall, wanted: Any) -> None:
    action = Action.LAUNCH_NESTED_CONTAINER
    debug = event.call.type == Call.LAUNCH_NESTED_CONTAINER_SESSION
    if debug:
        action = Action.LAUNCH_NESTED_CONTAINER_SESSION
    path = nested.path_of(wanted.container_id)
    if _refused(state, event, path, (action, Action.LAUNCH_STANDALONE_CONTAINER), wanted.command):
        return
    key = nested.key_of(state, path)
    # Whether a container of the agent's own runs or ran under this name, as well.
    if nested.is_alive(state, path) or key in state.nested.all or key in state.doomed:
        _answer(state, event, 202)
        return
    why = _wrong(state, path, wanted)
    if why:
        _answer(state, event, 400, why)
        return
    launch = _as_launch(wanted)
    directory = nested.directory_of(state, path) if len(path) > 1 else None
    one = Nested(
        path,
        directory or nested.standalone_path(state, path[0]),
        launch.SerializeToString(),
        debug,
    )
    one.launching = event.number
    one.user = _user(state, path, launch.command)
    state.nested.all[one.key] = state.nested.running[one.key] = one
    state.out.append(Store(((records.key(one), records.record(one)),)))
    state.out.append(Launch(_spec(state, one, launch)))
    state.remember("nested container launched", one.key)


def _as_launch(wanted: Any) -> Call.LaunchContainer:
    """Return any of the three messages as C{LaunchContainer}, of which they are parts."""
    launch = Call.LaunchContainer(container_id=wanted.container_id)
    launch.command.CopyFrom(wanted.command)
    if wanted.HasField("container"):
        launch.container.CopyFrom(wanted.container)
    if isinstance(wanted, Call.LaunchContainer):
        launch.resources.extend(wanted.resources)
        for name, limit in wanted.limits.items():
            launch.limits[name].CopyFrom(limit)
    return launch


def _wrong(state: AgentState, path: tuple[str, ...], wanted: Any) -> str:
    """Say why a container cannot be launched, or nothing."""
    if wanted.HasField("container") and wanted.container.type != ContainerInfo.MESOS:
        return NOT_SUPPORTED
    for name, limit in wanted.limits.items() if isinstance(wanted, Call.LaunchContainer) else ():
        if not limit.value >= 0:
            return (
                f"The limit of '{name}' is {limit.value:g}: expected a number that is not negative,"
                " or infinity"
            )
    if len(".".join(path)) > LONGEST:
        return f"The container is nested too deep: its name is longer than {LONGEST} characters"
    # What is nested deeper ends after that which it is nested in: all around it is looked at.
    for size in range(len(path) - 1, 0, -1):
        parent = path[:size]
        name = ".".join(parent)
        if not nested.is_alive(state, parent):
            return f"Parent container {name} does not exist"
        if nested.key_of(state, parent) in state.destroying:
            return f"Parent container {name} is in 'DESTROYING' state"
    return ""


def _user(state: AgentState, path: tuple[str, ...], command: CommandInfo) -> str | None:
    """Return whom a container runs as: its command's user, or whom the one around it does."""
    if not state.options.switch_user or _in_engine(state, path):
        return None
    if command.HasField("user"):
        return command.user
    if len(path) == 1:
        return None
    parent = path[:-1]
    outer = state.nested.all.get(nested.key_of(state, parent))
    if outer is not None:
        return _user(state, parent, Call.LaunchContainer.FromString(outer.launch).command)
    owner = state.containers.get(nested.key_of(state, parent))
    if isinstance(owner, AgentTask):
        info = TaskInfo.FromString(owner.info)
        return user_of(state.options, owner.executor.framework.info, info.command)
    executor = nested.executor_of(state, parent)
    assert executor is not None
    executors = CommandInfo() if executor.info is None else executor.info.command
    return user_of(state.options, executor.framework.info, executors)


def _in_engine(state: AgentState, path: tuple[str, ...]) -> bool:
    """Tell whether the outermost container is the Docker engine's."""
    owner = state.containers.get(ContainerId(path[0]))
    if isinstance(owner, AgentTask):
        return owner.docker
    return owner is not None and owner.info is not None and docker.is_docker(owner.info.container)


def _spec(state: AgentState, one: Nested, launch: Call.LaunchContainer) -> ContainerSpec:
    command, info = launch.command, launch.container
    argv, file = process_of(command)
    nested_in = one.path[:-1]
    executor = nested.executor_of(state, one.path)
    return ContainerSpec(
        id=one.key,
        argv=argv,
        sandbox=one.directory,
        environment=with_command(_variables(state, one), command),
        file=file,
        user=one.user,
        rlimits=rlimits_of(info) if launch.HasField("container") else (),
        uris=uris_of(command),
        allotment=allotments.limited(allotments.of_resources(launch.resources), launch.limits),
        info=info.SerializeToString() if launch.HasField("container") else b"",
        parent=nested.key_of(state, nested_in) if nested_in else None,
        patience=_patience(state, one, executor),
        wrong=unresolved(command) or unknown_network(info, state.options.isolation),
        console=console_of(info, one.debug),
        image_user=command.user if command.HasField("user") else None,
    )


def _patience(state: AgentState, one: Nested, executor: Executor | None) -> float | None:
    """Return for how many seconds it goes on without an agent: as long as what it is in."""
    if one.debug:
        return 0.0
    if executor is None:
        return None
    return processes.patience_of(state, executor) + executor.grace_period


def _variables(state: AgentState, one: Nested) -> dict[str, str]:
    """
    Return what its environment holds besides its command's own variables. One of a session has
    what the container around it has, but no token: it does not speak for its executor.
    """
    if _in_engine(state, one.path):
        secret = (EXECUTOR_TOKEN, HTTP_TOKEN)
        return docker.beside_variables(state.options.docker, one.path, secret)
    ip = address_within(state.options.isolation, state.options.ip)
    variables = {"PATH": DEFAULT_PATH, "MESOS_CONTAINER_IP": ip}
    if one.debug:
        variables.update(_around(state, one.path[:-1]))
        variables.pop(EXECUTOR_TOKEN, None)
        variables.pop(HTTP_TOKEN, None)
    variables["MESOS_SANDBOX"] = one.directory
    return variables


def _around(state: AgentState, path: tuple[str, ...]) -> dict[str, str]:
    """Return the environment of a container."""
    key = nested.key_of(state, path)
    outer = state.nested.all.get(key)
    if outer is not None:
        command = Call.LaunchContainer.FromString(outer.launch).command
        return dict(with_command(_variables(state, outer), command))
    owner = state.containers.get(key)
    if isinstance(owner, AgentTask):
        info = TaskInfo.FromString(owner.info)
        _, variables = processes.surroundings(state, owner, info)
        return dict(with_command(variables, info.command))
    if not isinstance(owner, Executor) or owner.info is None:
        return {}
    framework: FrameworkInfo = owner.framework.info
    variables = executor_variables(
        state.variables,
        owner.framework.id,
        owner.id,
        owner.directory,
        owner.grace_period,
        framework.checkpoint,
        state.options.recovery_timeout,
        state.options.executor_reregistration_timeout,
    )
    return dict(with_command(variables, owner.info.command))


# Waiting, signalling, removing.


def _wait(state: AgentState, event: ContainerCall, wanted: Any) -> None:
    path = nested.path_of(wanted.container_id)
    actions = Action.WAIT_NESTED_CONTAINER, Action.WAIT_STANDALONE_CONTAINER
    if _refused(state, event, path, actions):
        return
    deprecated = event.call.type == Call.WAIT_NESTED_CONTAINER
    key = nested.key_of(state, path)
    one = state.nested.all.get(key)
    if one is not None and one.over:
        _answer(state, event, 200, nested.ended(one.status, one.limitation, deprecated))
    elif nested.is_alive(state, path):
        state.nested.waits.setdefault(key, []).append((event.number, deprecated))
    else:
        _answer(state, event, 404, f"Container {'.'.join(path)} cannot be found")


def _kill(state: AgentState, event: ContainerCall, wanted: Any) -> None:
    path = nested.path_of(wanted.container_id)
    actions = Action.KILL_NESTED_CONTAINER, Action.KILL_STANDALONE_CONTAINER
    if _refused(state, event, path, actions):
        return
    signum = wanted.signal if wanted.HasField("signal") else int(SIGKILL)
    if not 0 <= signum <= 64:
        _answer(state, event, 400, f"Expecting a signal between 0 and 64, but received {signum}")
        return
    key = nested.key_of(state, path)
    one = state.nested.running.get(key)
    group = nested.group_of(state, path)
    if key not in state.containers and one is None and group is None:
        why = f"Container '{'.'.join(path)}' cannot be found (or is already killed)"
        _answer(state, event, 404, why)
        return
    if group is not None:
        # It has no process of its own that could do anything else with a signal. In an event of
        # its own: this one must be answered, even where what follows cannot be stored.
        state.deadlines.set(("group", group.container), state.now)
    elif signum == SIGKILL or (one is not None and one.pid is None):
        state.destroy(key)
    elif signum:
        state.out.append(Signal(key, signum))
    _answer(state, event, 200)


def end_group(state: AgentState, container: ContainerId) -> None:
    """End an executor of groups of which somebody has called for the end."""
    group = nested.group_of(state, (container,))
    if group is not None:
        shutdown.shutdown_executor(state, group)


def _remove(state: AgentState, event: ContainerCall, wanted: Any) -> None:
    path = nested.path_of(wanted.container_id)
    actions = Action.REMOVE_NESTED_CONTAINER, Action.REMOVE_STANDALONE_CONTAINER
    if _refused(state, event, path, actions):
        return
    key = nested.key_of(state, path)
    one = state.nested.all.get(key)
    if nested.is_alive(state, path):
        _answer(state, event, 500, NOT_TERMINATED)
    elif len(path) > 1 and nested.root_of(state, path) is None:
        _answer(state, event, 500, UNKNOWN_ROOT)
    else:
        # Mesos removes what is there, and it is no error where nothing is.
        if one is not None:
            nested.drop(state, one)
        if one is not None or len(path) == 1:
            directory = nested.standalone_path(state, path[0]) if one is None else one.directory
            state.sandboxes.drop(directory)
            state.out.append(Remove(directory))
        _answer(state, event, 200)


_CALLS: Final[dict[str, Callable[[AgentState, ContainerCall, Any], None]]] = {
    "LAUNCH_NESTED_CONTAINER": _launch,
    "WAIT_NESTED_CONTAINER": _wait,
    "KILL_NESTED_CONTAINER": _kill,
    "REMOVE_NESTED_CONTAINER": _remove,
    "LAUNCH_NESTED_CONTAINER_SESSION": _launch,
    "LAUNCH_CONTAINER": _launch,
    "WAIT_CONTAINER": _wait,
    "KILL_CONTAINER": _kill,
    "REMOVE_CONTAINER": _remove,
}

CALLS: Final = frozenset(_CALLS)
"""The names of these calls."""
