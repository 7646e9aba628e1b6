"""Calls and frameworks that Mesos refuses, and its texts."""

from math import inf, nan
from typing import Any

from mesoskit.messages import agent_pb2, executor_pb2, master_pb2, scheduler_pb2
from mesoskit.messages.mesos_pb2 import ContainerID, FrameworkInfo
from mesoskit.model.validation_agent_call import validate_agent_call, validate_container_id
from mesoskit.model.validation_call import (
    validate_executor_call,
    validate_master_call,
    validate_scheduler_call,
)
from mesoskit.model.validation_framework import (
    validate_admission,
    validate_authentication,
    validate_constrained_roles,
    validate_framework,
    validate_framework_update,
    validate_principal_kept,
    validate_suppressed_roles,
)
from tests.model.texts_task import (
    APART,
    BAD_CONTAINER,
    BAD_ENVIRONMENT,
    BAD_VARIABLE,
    NO_DOCKER,
    TOGETHER,
    Row,
)

UUID = bytes.fromhex("00112233445546778899aabbccddeeff")
INFO = {"user": "u", "name": "n"}
ID = {"value": "m-0000"}
BAD_CPUS = {"name": "cpus", "type": "SCALAR", "scalar": {"value": -1}}
BAD_CPUS_TEXT = "Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0"
MULTI_ROLE = [{"type": "MULTI_ROLE"}]
AGENT = {"value": "m-S0"}


def _scheduler(text: str, principal: str | None = None, **fields: Any) -> Row:
    return ("call", validate_scheduler_call(scheduler_pb2.Call(**fields), principal), text)


def scheduler_calls() -> list[Row]:
    """Return rows about calls of schedulers."""
    acknowledge = {"agent_id": AGENT, "task_id": {"value": "t"}, "uuid": b"short"}
    operation = {"uuid": b"short", "operation_id": {"value": "o"}}
    unnamed = {**operation, "uuid": UUID}
    needing = (
        "accept decline accept_inverse_offers decline_inverse_offers kill shutdown acknowledge"
        " acknowledge_operation_status reconcile reconcile_operations message request"
        " update_framework"
    )
    return [
        _scheduler(
            "Not initialized: subscribe.framework_info.user",
            subscribe={"framework_info": {"name": "n"}},
        ),
        _scheduler("Expecting 'type' to be present"),
        _scheduler("Expecting 'subscribe' to be present", type="SUBSCRIBE"),
        _scheduler("Expecting 'framework_id' to be present", type="TEARDOWN"),
        *(
            _scheduler(f"Expecting '{name}' to be present", type=name.upper(), framework_id=ID)
            for name in needing.split()
        ),
        _scheduler(
            "'framework_id' differs from 'subscribe.framework_info.id'",
            type="SUBSCRIBE",
            subscribe={"framework_info": {**INFO, "id": ID}},
        ),
        _scheduler(
            "Authenticated principal 'ann' does not match principal 'bob' set in `FrameworkInfo`",
            "ann",
            type="SUBSCRIBE",
            subscribe={"framework_info": {**INFO, "principal": "bob"}},
        ),
        (
            "ids",
            validate_scheduler_call(
                scheduler_pb2.Call(type="ACKNOWLEDGE", framework_id=ID, acknowledge=acknowledge)
            ),
            "Not a valid UUID",
        ),
        (
            "ids",
            validate_scheduler_call(
                scheduler_pb2.Call(
                    type="ACKNOWLEDGE_OPERATION_STATUS",
                    framework_id=ID,
                    acknowledge_operation_status=operation,
                )
            ),
            "Not a valid UUID",
        ),
        _scheduler(
            "Expecting 'agent_id' to be present",
            type="ACKNOWLEDGE_OPERATION_STATUS",
            framework_id=ID,
            acknowledge_operation_status=unnamed,
        ),
        _scheduler(
            "'framework_id' differs from 'update_framework.framework_info.id'",
            type="UPDATE_FRAMEWORK",
            framework_id=ID,
            update_framework={"framework_info": INFO},
        ),
    ]


def _executor(text: str, section: str = "call", **fields: Any) -> Row:
    call = executor_pb2.Call(executor_id={"value": "e"}, framework_id=ID, **fields)
    return (section, validate_executor_call(call), text)


def executor_calls() -> list[Row]:
    """Return rows about calls of executors."""
    right = {
        "task_id": {"value": "t"},
        "state": "TASK_RUNNING",
        "uuid": UUID,
        "source": "SOURCE_EXECUTOR",
    }

    def update(text: str, section: str = "call", **changes: Any) -> Row:
        status = {name: v for name, v in {**right, **changes}.items() if v is not None}
        return _executor(text, section, type="UPDATE", update={"status": status})

    def checked(text: str, **fields: Any) -> Row:
        return update(text, "check", check_status=fields)

    return [
        (
            "call",
            validate_executor_call(executor_pb2.Call(type="HEARTBEAT")),
            "Not initialized: executor_id, framework_id",
        ),
        _executor("Expecting 'type' to be present"),
        _executor("Expecting 'subscribe' to be present", type="SUBSCRIBE"),
        _executor("Expecting 'update' to be present", type="UPDATE"),
        _executor("Expecting 'message' to be present", type="MESSAGE"),
        update("Expecting 'uuid' to be present", uuid=None),
        update("Not a valid UUID", "ids", uuid=b""),
        update(
            "ExecutorID in Call: e does not match ExecutorID in TaskStatus: x",
            executor_id={"value": "x"},
        ),
        update(
            "Received Call from executor e of framework m-0000"
            " with invalid source, expecting 'SOURCE_EXECUTOR'",
            source=None,
        ),
        update(
            "Received TASK_STAGING from executor e of framework m-0000 which is not allowed",
            state="TASK_STAGING",
        ),
        checked("CheckStatusInfo must specify 'type'"),
        checked("Expecting 'command' to be set for COMMAND check's status", type="COMMAND"),
        checked("Expecting 'http' to be set for HTTP check's status", type="HTTP"),
        checked("Expecting 'tcp' to be set for TCP check's status", type="TCP"),
        checked("'UNKNOWN' is not a valid check's status type", type="UNKNOWN"),
    ]


def _master(text: str, **fields: Any) -> Row:
    return ("call", validate_master_call(master_pb2.Call(**fields)), text)


def master_calls() -> list[Row]:
    """Return rows about calls of operators to the master."""
    needing = (
        "get_metrics set_logging_level list_files read_file update_weights reserve_resources"
        " unreserve_resources create_volumes destroy_volumes grow_volume shrink_volume"
        " update_maintenance_schedule start_maintenance stop_maintenance drain_agent"
        " deactivate_agent reactivate_agent update_quota set_quota remove_quota teardown"
        " mark_agent_gone"
    )
    disk = {"name": "disk", "type": "SCALAR"}
    only_agents = (
        "Expecting 'agent_id' to be present; only agent default resources are supported right now"
    )
    bad = {"agent_id": AGENT, "resources": [BAD_CPUS]}
    return [
        _master("Not initialized: teardown.framework_id", type="TEARDOWN", teardown={}),
        _master("Expecting 'type' to be present"),
        *(
            _master(f"Expecting '{name}' to be present", type=name.upper())
            for name in needing.split()
        ),
        _master(BAD_CPUS_TEXT, type="RESERVE_RESOURCES", reserve_resources=bad),
        _master(BAD_CPUS_TEXT, type="UNRESERVE_RESOURCES", unreserve_resources=bad),
        _master(only_agents, type="GROW_VOLUME", grow_volume={"volume": disk, "addition": disk}),
        _master(
            only_agents,
            type="SHRINK_VOLUME",
            shrink_volume={"volume": disk, "subtract": {"value": 1}},
        ),
    ]


def _agent(text: str, **fields: Any) -> Row:
    return ("agent call", validate_agent_call(agent_pb2.Call(**fields)), text)


def _launch(text: str, parents: int = 0, **fields: Any) -> Row:
    container_id: dict[str, Any] = {"value": "c"}
    for _ in range(parents):
        container_id = {"value": "c", "parent": container_id}
    fields = {"container_id": container_id, **fields}
    return _agent(text, type="LAUNCH_CONTAINER", launch_container=fields)


def agent_calls() -> list[Row]:
    """Return rows about calls to the agent."""
    needing = (
        "launch_nested_container wait_nested_container kill_nested_container"
        " remove_nested_container launch_nested_container_session attach_container_input"
        " attach_container_output launch_container wait_container kill_container"
        " remove_container add_resource_provider_config update_resource_provider_config"
        " remove_resource_provider_config mark_resource_provider_gone"
    )
    dotted = "'ContainerID.value' 'a.b' contains invalid characters"
    deep = "containers nested at the second level or greater cannot"
    named = {"type": "t", "name": "n", "id": {"value": "i"}}

    def naming(call: str, why: str, **container_id: Any) -> Row:
        return _agent(
            f"'{call}.container_id' is invalid: {why}",
            type=call.upper(),
            **{call: {"container_id": container_id}},
        )

    def orphan(call: str) -> Row:
        return _agent(
            f"Expecting '{call}.container_id.parent' to be present",
            type=call.upper(),
            **{call: {"container_id": {"value": "c"}}},
        )

    def nested(call: str, text: str, **fields: Any) -> Row:
        fields = {"container_id": {"value": "c", "parent": {"value": "p"}}, **fields}
        return _agent(f"'{call}{text}", type=call.upper(), **{call: fields})

    nesting = ("launch_nested_container", "launch_nested_container_session")
    twice = {"value": "c", "parent": {"value": "p", "parent": {"value": "q"}}}
    cpus = {"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}
    return [
        ("call", validate_agent_call(agent_pb2.Call()), "Expecting 'type' to be present"),
        *(
            (
                "call",
                validate_agent_call(agent_pb2.Call(type=name.upper())),
                f"Expecting '{name}' to be present",
            )
            for name in "get_metrics set_logging_level list_files read_file".split()
        ),
        *(
            _agent(f"Expecting '{name}' to be present", type=name.upper())
            for name in needing.split()
        ),
        (
            "agent call",
            validate_container_id(ContainerID(value="a b")),
            "'ContainerID.value' 'a b' contains invalid characters",
        ),
        (
            "agent call",
            validate_container_id(ContainerID(value="x" * 243)),
            f"'ContainerID.value' '{'x' * 243}' exceeds the maximum length (242)",
        ),
        (
            "agent call",
            validate_container_id(ContainerID(value="c", parent={"value": ""})),
            "'ContainerID.parent' is invalid: ID must not be empty",
        ),
        naming("wait_container", "ID must not be empty", value=""),
        naming(
            "wait_container",
            f"'ContainerID.value' '{'x' * 243}' exceeds the maximum length (242)",
            value="x" * 243,
        ),
        *(
            naming(call, dotted, value="a.b")
            for call in (
                "wait_nested_container kill_nested_container remove_nested_container"
                " attach_container_output wait_container kill_container remove_container"
                " launch_container launch_nested_container launch_nested_container_session"
            ).split()
        ),
        naming(
            "kill_container",
            f"'ContainerID.parent' is invalid: {dotted}",
            value="c",
            parent={"value": "a.b"},
        ),
        *(
            orphan(call)
            for call in (
                *nesting,
                *(f"{verb}_nested_container" for verb in ("wait", "kill", "remove")),
            )
        ),
        *(
            nested(call, f".command' is invalid: {BAD_VARIABLE}", command=BAD_ENVIRONMENT)
            for call in nesting
        ),
        *(
            nested(call, f".container' is invalid: {NO_DOCKER}", container=BAD_CONTAINER)
            for call in nesting
        ),
        nested(
            "launch_nested_container",
            f"' is invalid: {deep} set 'share_cgroups' to 'false'",
            container_id=twice,
            container=APART,
        ),
        nested(
            "launch_nested_container_session",
            ".container.linux_info' is invalid: 'share_cgroups' cannot be set to 'false'"
            " for nested container sessions",
            container=APART,
        ),
        _agent(
            "Expecting 'attach_container_input.type' to be present",
            type="ATTACH_CONTAINER_INPUT",
            attach_container_input={},
        ),
        _agent(
            "'attach_container_input.type' is unknown",
            type="ATTACH_CONTAINER_INPUT",
            attach_container_input={"type": "UNKNOWN"},
        ),
        _agent(
            "'attach_container_input.container_id' is invalid: ID must not be empty",
            type="ATTACH_CONTAINER_INPUT",
            attach_container_input={"type": "CONTAINER_ID"},
        ),
        _launch(f"Invalid resources: {BAD_CPUS_TEXT}", resources=[BAD_CPUS]),
        _launch(
            "Invalid GPU resources: The 'gpus' resource must be an unsigned integer",
            resources=[{**cpus, "name": "gpus", "scalar": {"value": 0.5}}],
        ),
        _launch(
            "'launch_container.resources' must be unreserved",
            resources=[{**cpus, "role": "web"}],
        ),
        _launch(
            "'launch_container.resources' may not use persistent volumes",
            resources=[{**cpus, "name": "disk", "disk": {"persistence": {"id": "i"}}}],
        ),
        _launch(
            "'launch_container.resources' must be non-revocable",
            resources=[{**cpus, "revocable": {}}],
        ),
        _launch(f"'launch_container.command' is invalid: {BAD_VARIABLE}", command=BAD_ENVIRONMENT),
        _launch(f"'launch_container.container' is invalid: {NO_DOCKER}", container=BAD_CONTAINER),
        _launch(f"'launch_container' is invalid: {deep} specify resources", 2, resources=[cpus]),
        _launch(
            f"'launch_container' is invalid: {deep} specify resource limits",
            2,
            limits={"cpus": {"value": 1}},
        ),
        _launch(
            f"'launch_container' is invalid: {deep} set 'share_cgroups' to 'false'",
            2,
            container=APART,
        ),
        _launch(
            "'launch_container' is invalid: containers without a parent"
            " cannot set 'share_cgroups' to 'true'",
            container=TOGETHER,
        ),
        *(
            _agent(
                f"Expecting '{call}.info.id' to be unset",
                type=call.upper(),
                **{call: {"info": named}},
            )
            for call in ("add_resource_provider_config", "update_resource_provider_config")
        ),
    ]


def info(**fields: Any) -> FrameworkInfo:
    """Return a framework with these fields."""
    return FrameworkInfo(**{**INFO, **fields})


def _framework(text: str, **fields: Any) -> Row:
    return ("framework", validate_framework(info(**fields)), text)


def _quantity(value: float, why: str) -> Row:
    alternatives = [{"quantities": {"cpus": {"value": value}}}]
    filters = {"web": {"min_allocatable_resources": {"quantities": alternatives}}}
    return _framework(f"Invalid resource quantity for 'cpus': {why}", offer_filters=filters)


def frameworks() -> list[Row]:
    """Return rows about frameworks: new ones, changed ones, and those not admitted."""
    empty: dict[str, Any] = {"web": {"min_allocatable_resources": {"quantities": [{}]}}}
    slash = "Role '/a' cannot start with a slash"
    dash = "Role component '-a' is invalid because it starts with a dash"
    constraints = scheduler_pb2.OfferConstraints()
    constraints.role_constraints["db"].SetInParent()
    ann = info(principal="ann")
    address = "scheduler-1@127.0.0.1:4242"
    timeout = "The framework failover_timeout"
    return [
        ("ids", validate_framework(info(id={"value": "a/b"})), "'a/b' contains invalid characters"),
        _framework(
            "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable",
            role="web",
            capabilities=MULTI_ROLE,
        ),
        _framework(
            "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable",
            roles=["web"],
        ),
        _framework(
            "'FrameworkInfo.roles' contains duplicate items: { db, web }",
            roles=["web", "db", "web", "x", "db"],
            capabilities=MULTI_ROLE,
        ),
        _framework(
            f"'FrameworkInfo.roles' contains invalid role: {slash}",
            roles=["web", "/a"],
            capabilities=MULTI_ROLE,
        ),
        _framework(f"'FrameworkInfo.role' is not a valid role: {dash}", role="-a"),
        _framework(f"{timeout} (1e+10) is invalid", failover_timeout=1e10),
        _framework(f"{timeout} (-1e+10) is invalid", failover_timeout=-1e10),
        _framework(f"{timeout} (nan) is invalid", failover_timeout=nan),
        _framework("Resource quantities must contain at least one quantity", offer_filters=empty),
        _quantity(inf, "Infinite values not supported"),
        _quantity(-inf, "Infinite values not supported"),
        _quantity(nan, "NaN not supported"),
        _quantity(1e-310, "Subnormal values not supported"),
        _quantity(-1, "Negative values not supported"),
        (
            "framework",
            validate_suppressed_roles({"web"}, ["x", "db"]),
            "Suppressed roles { db, x } are not contained in the set of roles",
        ),
        (
            "framework",
            validate_constrained_roles({"web"}, constraints),
            (
                "Offer constraints specify `role_constraints` for a role 'db'"
                "not contained in the set of roles"
            ),
        ),
        (
            "framework",
            validate_admission(info(role="db"), roles={"web"}),
            "Roles { db } are not present in the master's --roles",
        ),
        (
            "framework",
            validate_admission(info(user="root"), root_submissions=False),
            "User 'root' is not allowed to run frameworks without --root_submissions set",
        ),
        ("framework", validate_admission(info(), removed=True), "Framework has been removed"),
        (
            "framework",
            validate_authentication(ann, address, None, True),
            f"Framework at {address} is not authenticated",
        ),
        (
            "framework",
            validate_authentication(ann, address, "bob", True),
            "Framework principal 'ann' does not match authenticated principal 'bob'",
        ),
        (
            "framework",
            validate_principal_kept(ann, info()),
            "Changing framework's principal is not allowed.",
        ),
        (
            "framework",
            validate_framework_update(info(), info(principal="")),
            "Changing framework's principal is not allowed.",
        ),
        (
            "framework",
            validate_framework_update(info(user="a"), info(user="b")),
            "Updating 'FrameworkInfo.user' is unsupported; attempted to update from 'a' to 'b'",
        ),
        (
            "framework",
            validate_framework_update(info(checkpoint=True), info()),
            (
                "Updating 'FrameworkInfo.checkpoint' is unsupported;"
                " attempted to update from 'true' to 'false'"
            ),
        ),
    ]


ROWS: list[Row] = [
    *scheduler_calls(),
    *executor_calls(),
    *master_calls(),
    *agent_calls(),
    *frameworks(),
]
