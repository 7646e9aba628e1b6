"""Tasks, commands, executors, groups and offers that Mesos refuses, and its texts."""

from dataclasses import dataclass

from mesoskit.messages.mesos_pb2 import (
    ContainerInfo,
    Environment,
    ExecutorInfo,
    Secret,
    TaskGroupInfo,
    TaskInfo,
    Volume,
)
from mesoskit.model.capabilities import AgentCapability
from mesoskit.model.validation_command import (
    validate_container,
    validate_environment,
    validate_secret,
    validate_volume,
)
from mesoskit.model.validation_context import LaunchContext
from mesoskit.model.validation_executor import validate_executor_info
from mesoskit.model.validation_group import validate_task_group
from mesoskit.model.validation_ids import validate_id, validate_uuid
from mesoskit.model.validation_offer import validate_inverse_offers, validate_offers
from mesoskit.model.validation_task import validate_task
from tests.model.validation_messages import (
    CPUS,
    MEM,
    Fields,
    context,
    default_executor,
    executor,
    group,
    member,
    ports,
    scalar,
    task,
    volume,
)

Row = tuple[str, str | None, str]
"""A section of the list of texts, what was said, and what should have been."""

NEGATIVE = {"nanoseconds": -1}
BAD_ENVIRONMENT = {"environment": {"variables": [{"name": "X"}]}}
BAD_VARIABLE = "Environment variable 'X' of type 'VALUE' must have a value set"
BAD_CONTAINER = {"type": "DOCKER"}
NO_DOCKER = "DockerInfo 'docker' is not set for DOCKER typed ContainerInfo"
BAD_SCALAR = (
    "Invalid resources: Resource 'x(allocated: web):-1' is invalid:"
    " Invalid scalar resource: value <= 0"
)
REVOCABLE: Fields = {"revocable": {}}
OTHER_ROLE = {"allocation_info": {"role": "db"}}
APART = {"type": "MESOS", "linux_info": {"share_cgroups": False}}
TOGETHER = {"type": "MESOS", "linux_info": {"share_cgroups": True}}


def ids() -> list[Row]:
    """Return rows about identifiers."""
    return [
        ("ids", validate_id(""), "ID must not be empty"),
        ("ids", validate_id("x" * 256), "ID must not be greater than 255 characters"),
        ("ids", validate_id("é" * 128), "ID must not be greater than 255 characters"),
        ("ids", validate_id("."), "'.' is disallowed"),
        ("ids", validate_id(".."), "'..' is disallowed"),
        ("ids", validate_id("a/b"), "'a/b' contains invalid characters"),
        ("ids", validate_id("a\\b"), "'a\\b' contains invalid characters"),
        ("ids", validate_id("a\n"), "'a\n' contains invalid characters"),
        ("ids", validate_id("a\x7f"), "'a\x7f' contains invalid characters"),
        ("ids", validate_uuid(b"short"), "Not a valid UUID"),
        ("ids", validate_uuid(bytes(16)), "Not a valid UUID"),
    ]


def _task(text: str, where: LaunchContext | None = None, **fields: object) -> Row:
    return ("task", validate_task(task(**fields), where or context()), text)


def tasks() -> list[Row]:
    """Return rows about tasks without an executor of their own."""
    no_limits = context(agent=AgentCapability(0))
    mixed = "Cannot use both revocable and non-revocable 'cpus' at the same time"
    return [
        ("ids", validate_task(task(task_id={"value": ""}), context()), "ID must not be empty"),
        _task("Task has duplicate ID: t1", context(tasks={"t1"})),
        _task("Task reuses the ID of an unreachable task: t1", context(unreachable={"t1"})),
        _task(
            "Task uses invalid agent m-S9 while agent m-S0 is expected",
            agent_id={"value": "m-S9"},
        ),
        _task(
            "Task's 'kill_policy.grace_period' must be non-negative",
            kill_policy={"grace_period": NEGATIVE},
        ),
        _task("Task's `max_completion_time` must be non-negative", max_completion_time=NEGATIVE),
        _task("Task uses invalid check: CheckInfo must specify 'type'", check={}),
        _task("Task uses invalid health check: HealthCheck must specify 'type'", health_check={}),
        _task("Task uses no resources", resources=[]),
        _task(f"Task uses invalid resources: {BAD_SCALAR}", resources=[scalar("x", -1)]),
        _task(
            "Task uses invalid resources: Invalid 'gpus' resource:"
            " The 'gpus' resource must be an unsigned integer",
            resources=[scalar("gpus", 0.5)],
        ),
        _task(
            "Task uses duplicate persistence ID: Persistence ID 'v1' is not unique",
            resources=[volume(), volume(size=32)],
        ),
        _task(
            "Invalid task resources: The resources have multiple allocation roles"
            " ('db' and 'web') but only one allocation role is allowed",
            resources=[CPUS, scalar("mem", 64, **OTHER_ROLE)],
        ),
        _task(
            "Invalid task resources: The resources are not allocated to a role",
            resources=[scalar("cpus", 1, allocation_info=None)],
        ),
        _task(
            f"Task mixes revocable and non-revocable resources: {mixed}",
            resources=[CPUS, scalar("cpus", 1, **REVOCABLE)],
        ),
        _task(f"Task's `CommandInfo` is invalid: {BAD_VARIABLE}", command=BAD_ENVIRONMENT),
        _task(f"Task's `ContainerInfo` is invalid: {NO_DOCKER}", container=BAD_CONTAINER),
        _task(
            "Agent is not capable of handling task resource limits",
            no_limits,
            limits={"cpus": {"value": 2}},
        ),
        _task(
            "Only cpus and mem may be included in a task's resource limits",
            limits={"disk": {"value": 2}, "cpus": {"value": 2}},
        ),
        _task(
            "When a CPU limit is specified, a CPU request must also be specified",
            resources=[MEM],
            limits={"cpus": {"value": 2}},
        ),
        _task(
            "The cpu limit must be greater than or equal to the cpu request",
            limits={"cpus": {"value": 0.5}},
        ),
        _task(
            "The cpu limit must be greater than or equal to the cpu request",
            limits={"cpus": {"value": float("nan")}},
        ),
        _task(
            "When a memory limit is specified, a memory request must also be specified",
            resources=[CPUS],
            limits={"mem": {"value": 2}},
        ),
        _task(
            "The memory limit must be greater than or equal to the memory request",
            limits={"mem": {"value": 63}},
        ),
        _task(
            "Only tasks in a task group may have 'share_cgroups' set to 'false'",
            container=APART,
        ),
        _task(
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
            command=None,
        ),
        _task(
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
            executor=executor(),
        ),
        _task(
            "Total resources cpus(allocated: web):8; mem(allocated: web):64 required by task and"
            " its executor is more than available cpus(allocated: web):4;"
            " mem(allocated: web):1024; disk(allocated: web):1024;"
            " ports(allocated: web):[31000-31999]",
            resources=[scalar("cpus", 8), MEM],
        ),
    ]


def _with_executor(text: str, its: ExecutorInfo, section: str = "task", **fields: object) -> Row:
    info = task(command=None, executor=its, **fields)
    return (section, validate_task(info, context()), text)


def tasks_with_executors() -> list[Row]:
    """Return rows about tasks and the executors that they bring along."""
    shared = volume(shared={})
    mixed = "Cannot use both revocable and non-revocable 'cpus' at the same time"
    return [
        _with_executor("'ExecutorInfo.type' must be 'CUSTOM'", default_executor()),
        _with_executor("'ExecutorInfo.command' must be set", executor(command=None)),
        _with_executor(
            "Executor resources disk(allocated: web)(reservations: [(DYNAMIC,web,ann)])"
            "[v1:data]<SHARED>:64<1> should not contain any shared resources",
            executor(resources=[shared]),
        ),
        _with_executor(
            "The 'share_cgroups' field cannot be set to 'true' on executor containers",
            executor(container=TOGETHER),
        ),
        _with_executor(
            "There are overlapping resources in the task resources"
            " ports(allocated: web):[31000-31001] and executor resources"
            " ports(allocated: web):[31001-31002]",
            executor(resources=[ports(31001, 31002)]),
            resources=[ports(31000, 31001)],
        ),
        _with_executor(
            "Task and its executor use duplicate persistence ID: Persistence ID 'v1' is not unique",
            executor(resources=[volume(size=32)]),
            resources=[volume()],
        ),
        _with_executor(
            f"Task and its executor mix revocable and non-revocable resources: {mixed}",
            executor(resources=[CPUS]),
            resources=[scalar("cpus", 1, **REVOCABLE)],
        ),
    ]


def _variable(text: str, **fields: object) -> Row:
    environment = Environment(variables=[{"name": "X", **fields}])
    return ("command", validate_environment(environment), text)


def _volume(text: str, **fields: object) -> Row:
    info = Volume(container_path="/data", mode="RW", **fields)  # type: ignore[arg-type]
    return ("command", validate_volume(info), text)


def _source(text: str, kind: str, **fields: object) -> Row:
    return _volume(text, source={"type": kind, **fields})


def _container(text: str, **fields: object) -> Row:
    return ("command", validate_container(ContainerInfo(**fields)), text)  # type: ignore[arg-type]


def commands() -> list[Row]:
    """Return rows about secrets, environments, volumes and containers."""
    value = {"data": b"s"}
    reference = {"name": "n"}
    return [
        (
            "command",
            validate_secret(Secret(type="REFERENCE")),
            "Secret of type REFERENCE must have the 'reference' field set",
        ),
        (
            "command",
            validate_secret(Secret(type="REFERENCE", reference=reference, value=value)),
            "Secret 'n' of type REFERENCE must not have the 'value' field set",
        ),
        (
            "command",
            validate_secret(Secret(type="VALUE")),
            "Secret of type VALUE must have the 'value' field set",
        ),
        (
            "command",
            validate_secret(Secret(type="VALUE", reference=reference, value=value)),
            "Secret of type VALUE must not have the 'reference' field set",
        ),
        _variable(BAD_VARIABLE),
        _variable(
            "Environment variable 'X' of type 'VALUE' must not have a secret set",
            value="v",
            secret={},
        ),
        _variable("Environment variable of type 'UNKNOWN' is not allowed", type="UNKNOWN"),
        _variable(
            "Environment variable 'X' of type 'SECRET' must have a secret set", type="SECRET"
        ),
        _variable(
            "Environment variable 'X' of type 'SECRET' must not have a value set",
            type="SECRET",
            secret={},
            value="v",
        ),
        _variable(
            "Environment variable 'X' specifies an invalid secret:"
            " Secret of type VALUE must have the 'value' field set",
            type="SECRET",
            secret={"type": "VALUE"},
        ),
        _variable(
            "Environment variable 'X' specifies a secret containing null bytes,"
            " which is not allowed in the environment",
            type="SECRET",
            secret={"type": "VALUE", "value": {"data": b"a\0b"}},
        ),
        _volume("Only one of them should be set: 'host_path', 'image' and 'source'"),
        _volume(
            "Only one of them should be set: 'host_path', 'image' and 'source'",
            host_path="/h",
            source={"type": "HOST_PATH"},
        ),
        _source("'source.docker_volume' is not set for DOCKER_VOLUME volume", "DOCKER_VOLUME"),
        _source("'source.host_path' is not set for HOST_PATH volume", "HOST_PATH"),
        _source("'source.sandbox_path' is not set for SANDBOX_PATH volume", "SANDBOX_PATH"),
        _source("'source.secret' is not set for SECRET volume", "SECRET"),
        _source("'source.csi_volume' is not set for CSI volume", "CSI_VOLUME"),
        _source(
            "'source.csi_volume.static_provisioning' is not set for CSI volume",
            "CSI_VOLUME",
            csi_volume={"plugin_name": "p"},
        ),
        _source("'source.type' is unknown", "UNKNOWN"),
        _container(
            "Invalid volume: Only one of them should be set: 'host_path', 'image' and 'source'",
            type="MESOS",
            volumes=[{"container_path": "/data", "mode": "RW"}],
        ),
        _container(NO_DOCKER, **BAD_CONTAINER),
        _container(
            "Parameter in DockerInfo must not be 'name'",
            type="DOCKER",
            docker={"image": "i", "parameters": [{"key": "name", "value": "n"}]},
        ),
    ]


def _info(text: str, **fields: object) -> Row:
    return ("executor", validate_executor_info(executor(**fields)), text)


def executors() -> list[Row]:
    """Return rows about executors, by themselves and on their agent."""
    mixed = "Cannot use both revocable and non-revocable 'cpus' at the same time"
    image = {"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": "i"}}}}
    other = executor(name="another")
    theirs = context(executors={"e1": other})
    rule = "-" * 60
    incompatible = (
        "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.\n"
        f"{rule}\nExisting ExecutorInfo:\n{other}\n{rule}\nExecutorInfo:\n{executor()}\n{rule}\n"
    )
    return [
        (
            "ids",
            validate_executor_info(executor(executor_id={"value": "a/b"})),
            "'a/b' contains invalid characters",
        ),
        _info("'ExecutorInfo.command' must not be set for 'DEFAULT' executor", type="DEFAULT"),
        _info(
            "'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor",
            type="DEFAULT",
            command=None,
            container={"type": "DOCKER"},
        ),
        _info(
            "'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor",
            type="DEFAULT",
            command=None,
            container=image,
        ),
        _info(
            "'ExecutorInfo.command' must be set for 'CUSTOM' executor", type="CUSTOM", command=None
        ),
        _info(
            "ExecutorInfo's 'shutdown_grace_period' must be non-negative",
            shutdown_grace_period=NEGATIVE,
        ),
        _info(f"Executor's `CommandInfo` is invalid: {BAD_VARIABLE}", command=BAD_ENVIRONMENT),
        _info(f"Executor's `ContainerInfo` is invalid: {NO_DOCKER}", container=BAD_CONTAINER),
        _with_executor(
            "'ExecutorInfo.framework_id' must be set", executor(framework_id=None), "executor"
        ),
        _with_executor(
            "ExecutorInfo has an invalid FrameworkID (Actual: m-0009 vs Expected: m-0000)",
            executor(framework_id={"value": "m-0009"}),
            "executor",
        ),
        _with_executor(
            f"Executor uses invalid resources: {BAD_SCALAR}",
            executor(resources=[scalar("x", -1)]),
            "executor",
        ),
        _with_executor(
            "Executor uses duplicate persistence ID: Persistence ID 'v1' is not unique",
            executor(resources=[volume(), volume(size=32)]),
            "executor",
        ),
        _with_executor(
            "Invalid executor resources: The resources have multiple allocation roles"
            " ('db' and 'web') but only one allocation role is allowed",
            executor(resources=[CPUS, scalar("mem", 64, **OTHER_ROLE)]),
            "executor",
        ),
        _with_executor(
            f"Executor mixes revocable and non-revocable resources: {mixed}",
            executor(resources=[CPUS, scalar("cpus", 1, **REVOCABLE)]),
            "executor",
        ),
        (
            "executor",
            validate_task(task(command=None, executor=executor()), theirs),
            incompatible,
        ),
    ]


def _group(
    text: str,
    *tasks: TaskInfo,
    its: ExecutorInfo | None = None,
    where: LaunchContext | None = None,
) -> Row:
    info: TaskGroupInfo = group(*(tasks or (member(its),)))
    return ("group", validate_task_group(info, its or default_executor(), where or context()), text)


def _own(**changes: float) -> list[Fields]:
    amounts = {"cpus": 0.1, "mem": 32.0, "disk": 32.0, **changes}
    return [scalar(name, amount) for name, amount in amounts.items() if amount]


def groups() -> list[Row]:
    """Return rows about task groups."""
    mixed = "Cannot use both revocable and non-revocable 'cpus' at the same time"
    untyped = executor()
    unknown = executor(type="UNKNOWN")
    docker = executor(type="CUSTOM", container={"type": "DOCKER", "docker": {"image": "i"}})
    little = default_executor(resources=_own(cpus=0.001))
    cpuless = default_executor(resources=_own(cpus=0))
    small = default_executor(resources=_own(mem=1.5))
    memless = default_executor(resources=_own(mem=0))
    diskless = default_executor(resources=_own(disk=0))
    lasting = default_executor(resources=[*_own(disk=0), volume(size=32)])
    sharing = default_executor(container=TOGETHER)
    http = {"type": "HTTP", "http": {"port": 80}}
    network = {"type": "MESOS", "network_infos": [{}]}
    second: Fields = {"task_id": {"value": "t2"}}
    return [
        _group("Task 't1' is invalid: Task uses no resources", member(resources=[])),
        _group("Task 't1' is invalid: Task has duplicate ID: t1", member(), member()),
        _group("Task 't1' is invalid: 'TaskInfo.executor' must be set", task()),
        _group(
            "Task 't1' is invalid: HTTP and TCP health checks are not supported for"
            " nested containers not joining parent's network",
            member(health_check=http, container=network),
        ),
        _group(
            "Task 't1' is invalid: Docker ContainerInfo is not supported on the task",
            member(container={"type": "DOCKER", "docker": {"image": "i"}}),
        ),
        _group(
            "Task 't1' is invalid: Resource limits may only be set for tasks within a task group"
            " when the 'share_cgroups' field is set to 'false'.",
            member(limits={"cpus": {"value": 2}}),
        ),
        _group("'ExecutorInfo.type' must be set", its=untyped),
        _group("Unknown executor type", its=unknown),
        _group("Docker ContainerInfo is not supported on the executor", its=docker),
        _group(
            "The `ExecutorInfo` of task 't1' is different from executor 'e1'",
            member(default_executor(name="another")),
        ),
        _group("Executor 'e1' uses less CPUs (0.001) than the minimum required (0.01)", its=little),
        _group("Executor 'e1' uses less CPUs (None) than the minimum required (0.01)", its=cpuless),
        _group("Executor 'e1' uses less memory (1MB) than the minimum required (32MB)", its=small),
        _group(
            "Executor 'e1' uses less memory (None) than the minimum required (32MB)", its=memless
        ),
        _group("Executor 'e1' uses no disk", its=diskless),
        _group(
            "Task group and executor use duplicate persistence ID:"
            " Persistence ID 'v1' is not unique",
            member(lasting, resources=[volume()]),
            its=lasting,
        ),
        _group(
            f"Task group and executor mix revocable and non-revocable resources: {mixed}",
            member(),
            member(**second, resources=[scalar("cpus", 1, **REVOCABLE)]),
        ),
        _group(
            "There are overlapping resources in the task group's task resources"
            " [ ports(allocated: web):[31000-31001], ports(allocated: web):[31001-31002] ]"
            " and/or executor resources cpus(allocated: web):0.1; mem(allocated: web):32;"
            " disk(allocated: web):32",
            member(resources=[ports(31000, 31001)]),
            member(**second, resources=[ports(31001, 31002)]),
        ),
        _group(
            "Total resources cpus(allocated: web):4.1; mem(allocated: web):32;"
            " disk(allocated: web):32 required by task group and its executor"
            " are more than available cpus(allocated: web):4",
            member(resources=[scalar("cpus", 4)]),
            where=context([scalar("cpus", 4)]),
        ),
        (
            "task",
            validate_task_group(group(member(sharing)), sharing, context()),
            "The 'share_cgroups' field cannot be set to 'true' on executor containers",
        ),
        _group(
            "If set, the value of 'share_cgroups' must be the same for all"
            " tasks in each task group and under a single executor",
            member(),
            member(**second, container=APART),
        ),
        _group(
            "If set, the value of 'share_cgroups' must be the same for all"
            " tasks in each task group and under a single executor",
            where=context(
                executors={"e1": default_executor()}, tasks_share_cgroups=lambda _: [False]
            ),
        ),
    ]


@dataclass
class _Offer:
    framework_id: str = "m-0000"
    agent_id: str = "m-S0"
    role: str = "web"


def offers() -> list[Row]:
    """Return rows about offers and inverse offers."""
    table = {
        "o1": _Offer(),
        "o2": _Offer(framework_id="m-0009"),
        "o3": _Offer(role="db"),
        "o4": _Offer(agent_id="m-S9"),
    }

    def row(text: str, *offer_ids: str) -> Row:
        return ("offer", validate_offers(offer_ids, table, "m-0000"), text)

    def inverse(text: str, *offer_ids: str) -> Row:
        return ("offer", validate_inverse_offers(offer_ids, table, "m-0000"), text)

    foreign = "Offer o2 has invalid framework m-0009 while framework m-0000 is expected"
    apart = (
        "Aggregated offers must belong to one single agent. Offer o4 uses agent m-S9 and agent m-S0"
    )
    return [
        row("No offers specified"),
        row("Duplicate offer o1 in offer list", "o1", "o9", "o1"),
        row("Offer o9 is no longer valid", "o1", "o9"),
        row(foreign, "o1", "o2"),
        row(
            "Aggregated offers must be allocated to the same role."
            " Offer o3 uses role 'db but another is using role 'web",
            "o1",
            "o3",
        ),
        row(apart, "o1", "o4"),
        inverse("Duplicate offer o1 in offer list", "o1", "o1"),
        inverse("Inverse offer o9 is no longer valid", "o9"),
        inverse(foreign, "o2"),
        inverse(apart, "o1", "o4"),
    ]


ROWS: list[Row] = [
    *ids(),
    *tasks(),
    *tasks_with_executors(),
    *commands(),
    *executors(),
    *groups(),
    *offers(),
]
