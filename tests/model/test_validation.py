"""What validation lets pass, which of several faults it names, and what else it tells."""

from mesoskit.messages import executor_pb2, master_pb2, scheduler_pb2
from mesoskit.messages.mesos_pb2 import (
    CheckInfo,
    ContainerInfo,
    Environment,
    ExecutorInfo,
    FrameworkInfo,
    HealthCheck,
    Offer,
    Secret,
)
from mesoskit.model.resources import Resources
from mesoskit.model.validation_agent import validate_register_agent, validate_reregister_agent
from mesoskit.model.validation_call import (
    validate_executor_call,
    validate_master_call,
    validate_scheduler_call,
)
from mesoskit.model.validation_check import validate_check, validate_health_check
from mesoskit.model.validation_command import (
    shares_cgroups,
    validate_container,
    validate_environment,
    validate_secret,
)
from mesoskit.model.validation_demand import read_demand
from mesoskit.model.validation_executor import same_executor
from mesoskit.model.validation_framework import (
    framework_roles,
    validate_admission,
    validate_authentication,
    validate_framework,
    validate_framework_update,
)
from mesoskit.model.validation_group import validate_task_group
from mesoskit.model.validation_ids import validate_id, validate_uuid
from mesoskit.model.validation_operation import validate_operation_form, validate_unreserve
from mesoskit.model.validation_task import validate_task
from tests.base import SynchronousTestCase
from tests.model import texts_operation as operations
from tests.model.texts_agent import EXECUTOR, TASK, coming_back, registering
from tests.model.texts_call import ID, INFO, MULTI_ROLE, UUID, info
from tests.model.validation_messages import (
    CPUS,
    MEM,
    OFFERED,
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


class TaskTests(SynchronousTestCase):
    """Tasks of a C{LAUNCH}."""

    def assert_passes(self, **fields: object) -> None:
        self.assertIsNone(validate_task(task(**fields), context()))

    def test_right_tasks_pass(self):
        self.assert_passes()
        self.assert_passes(command=None, executor=executor())
        self.assert_passes(command=None, executor=executor(type="CUSTOM", resources=[]))
        self.assert_passes(check={"type": "TCP", "tcp": {"port": 80}})
        self.assert_passes(health_check={"type": "HTTP", "http": {"port": 80, "path": "/"}})
        self.assert_passes(kill_policy={}, max_completion_time={"nanoseconds": 0})
        self.assert_passes(container={"type": "MESOS", "linux_info": {"share_cgroups": True}})
        self.assert_passes(resources=[CPUS, ports(31000, 31001)])
        self.assert_passes(task_id={"value": "x" * 255})

    def test_limits_not_below_what_is_asked_for_pass(self):
        for cpus, mem in ((1, 64), (1.5, 64.5), (float("inf"), float("inf"))):
            self.assert_passes(limits={"cpus": {"value": cpus}, "mem": {"value": mem}})

    def test_memory_is_limited_in_whole_megabytes(self):
        self.assert_passes(resources=[scalar("mem", 64.9)], limits={"mem": {"value": 64}})

    def test_the_first_fault_in_mesos_order_is_named(self):
        faults: list[tuple[str, dict[str, object]]] = [
            ("ID must not be empty", {"task_id": {"value": ""}}),
            ("Task uses invalid agent", {"agent_id": {"value": "x"}}),
            ("Task's 'kill_policy", {"kill_policy": {"grace_period": {"nanoseconds": -1}}}),
            ("Task's `max_completion", {"max_completion_time": {"nanoseconds": -1}}),
            ("Task uses invalid check", {"check": {}}),
            ("Task uses invalid health check", {"health_check": {}}),
            ("Task uses no resources", {"resources": []}),
            ("Task's `CommandInfo`", {"command": {"environment": {"variables": [{"name": "X"}]}}}),
            ("Task's `ContainerInfo`", {"container": {"type": "DOCKER"}}),
            ("Only cpus and mem", {"limits": {"x": {"value": 1}}}),
            ("Task should have at least one", {"executor": executor()}),
        ]
        while faults:
            fields: dict[str, object] = {}
            for _, fault in faults:
                fields.update(fault)
            error = validate_task(task(**fields), context())
            self.assertTrue(str(error).startswith(faults[0][0]), error)
            del faults[0]

    def test_a_task_may_take_all_that_was_offered_and_no_more(self):
        self.assert_passes(resources=OFFERED)
        where = context()
        self.assertIsNone(validate_task(task(resources=OFFERED), where))
        where.offered -= where.total
        self.assertEqual(where.offered, Resources.EMPTY)
        self.assertIn("is more than available {}", str(validate_task(task(), where)))

    def test_a_new_executor_is_taken_from_the_offer_too(self):
        where = context()
        info = task(command=None, executor=executor())
        self.assertIsNone(validate_task(info, where))
        own = Resources.of(cpus=1.1, mem=96, disk=32).allocated("web")
        self.assertEqual(where.total, own)
        running = context(executors={"e1": executor()})
        self.assertIsNone(validate_task(info, running))
        self.assertEqual(running.total, Resources.of(cpus=1, mem=64).allocated("web"))


class GroupTests(SynchronousTestCase):
    """Tasks of a C{LAUNCH_GROUP}."""

    def test_right_groups_pass_and_say_what_they_take(self):
        where = context()
        two = group(member(), member(task_id={"value": "t2"}))
        self.assertIsNone(validate_task_group(two, default_executor(), where))
        total = Resources.of(cpus=2.1, mem=160, disk=32).allocated("web")
        self.assertEqual(where.total, total)

    def test_a_custom_executor_may_run_groups(self):
        own = executor(type="CUSTOM")
        self.assertIsNone(validate_task_group(group(member(own)), own, context()))

    def test_tasks_apart_from_their_executor_may_have_limits(self):
        apart = {"type": "MESOS", "linux_info": {"share_cgroups": False}}
        limited = member(container=apart, limits={"cpus": {"value": 2}})
        running = {"e1": default_executor()}
        where = context(executors=running, tasks_share_cgroups=lambda _: [False, False])
        self.assertFalse(shares_cgroups(limited))
        self.assertIsNone(validate_task_group(group(limited), default_executor(), where))
        self.assertEqual(where.total, Resources.of(cpus=1, mem=64).allocated("web"))


class SameExecutorTests(SynchronousTestCase):
    """When a second description is of the executor that runs already."""

    def test_order_and_what_the_agent_settles_do_not_count(self):
        uris = [{"value": "a"}, {"value": "b", "cache": True}]
        variables = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
        left = executor(
            command={"value": "x", "uris": uris, "environment": {"variables": variables}},
            labels={"labels": [{"key": "k"}]},
            container={"type": "MESOS", "volumes": _volumes("/a", "/b")},
        )
        right = executor(
            command={
                "value": "x",
                "uris": [{"value": "b"}, {"value": "a"}],
                "environment": {"variables": variables[::-1]},
            },
            resources=[scalar("disk", 32), scalar("cpus", 0.1), scalar("mem", 32)],
            container={"type": "MESOS", "volumes": _volumes("/b", "/a")},
            shutdown_grace_period={"nanoseconds": 1},
        )
        self.assertTrue(same_executor(left, right))
        running = context(executors={"e1": left})
        self.assertIsNone(validate_task(task(command=None, executor=right), running))

    def test_whatever_else_differs_makes_another_executor(self):
        docker = {"image": "i", "parameters": [{"key": "k", "value": "v"}]}
        differences: list[dict[str, object]] = [
            {"type": "CUSTOM"},
            {"executor_id": {"value": "e2"}},
            {"framework_id": None},
            {"data": b"d"},
            {"name": "n"},
            {"source": "s"},
            {"resources": [CPUS]},
            {"command": {"value": "y"}},
            {"command": {"value": "./executor", "arguments": ["a"]}},
            {"command": {"value": "./executor", "uris": [{"value": "u"}]}},
            {"container": {"type": "MESOS"}},
            {"container": {"type": "DOCKER", "docker": docker}},
            {"discovery": {"visibility": "CLUSTER"}},
            {"discovery": {"visibility": "FRAMEWORK", "ports": {"ports": [{"number": 1}]}}},
        ]
        for difference in differences:
            other = executor(**difference)
            self.assertFalse(same_executor(executor(), other), difference)
            self.assertTrue(
                same_executor(other, ExecutorInfo.FromString(other.SerializeToString()))
            )


def _volumes(*paths: str) -> list[dict[str, str]]:
    return [{"container_path": path, "host_path": path, "mode": "RW"} for path in paths]


class PartsTests(SynchronousTestCase):
    """Identifiers, commands, containers and checks."""

    def test_ids_of_all_sorts_pass(self):
        for value in ("a", "...", "task 1", "é" * 127, "x" * 255, "a.b:c*", "\x80"):
            self.assertIsNone(validate_id(value), value)

    def test_uuids_of_all_versions_pass(self):
        for version in range(1, 6):
            self.assertIsNone(validate_uuid(bytes(6) + bytes([version << 4]) + bytes(9)))

    def test_secrets_in_the_environment_pass(self):
        secret = {"type": "VALUE", "value": {"data": b"s"}}
        environment = Environment(
            variables=[
                {"name": "A", "value": ""},
                {"name": "B", "type": "SECRET", "secret": secret},
                {"name": "C", "type": "SECRET", "secret": {}},
            ]
        )
        self.assertIsNone(validate_environment(environment))
        self.assertIsNone(validate_secret(Secret(type="REFERENCE", reference={"name": "n"})))

    def test_a_part_of_another_type_is_ignored(self):
        container = ContainerInfo(type="MESOS", docker={"image": "i"})
        self.assertIsNone(validate_container(container))

    def test_checks_with_all_that_they_need_pass(self):
        parts: list[tuple[str, dict[str, object]]] = [
            ("COMMAND", {"command": {"value": "true"}}),
            ("HTTP", {"http": {"port": 80, "scheme": "https", "path": "/up"}}),
            ("TCP", {"tcp": {"port": 80}}),
        ]
        for kind, part in parts:
            zero = {"delay_seconds": 0, "grace_period_seconds": 0}
            self.assertIsNone(validate_health_check(HealthCheck(type=kind, **part, **zero)))  # type: ignore[arg-type]
        self.assertIsNone(validate_check(CheckInfo(type="TCP", tcp={"port": 80})))
        self.assertIsNone(
            validate_check(CheckInfo(type="COMMAND", command={"command": {"value": "true"}}))
        )

    def test_resources_that_come_again_are_judged_once(self):
        first = read_demand(task().resources)
        self.assertIs(read_demand(task().resources), first)
        many = [scalar(f"r{number}", 1) for number in range(40)]
        self.assertTrue(read_demand(task(resources=many).resources).sound)


class CallTests(SynchronousTestCase):
    """Calls of all kinds."""

    def test_right_calls_of_schedulers_pass(self):
        acknowledge = {"agent_id": ID, "task_id": {"value": "t"}, "uuid": UUID}
        for call in (
            scheduler_pb2.Call(type="SUBSCRIBE", subscribe={"framework_info": INFO}),
            scheduler_pb2.Call(
                type="SUBSCRIBE",
                framework_id=ID,
                subscribe={"framework_info": {**INFO, "id": ID, "principal": "ann"}},
            ),
            scheduler_pb2.Call(type="REVIVE", framework_id=ID),
            scheduler_pb2.Call(type="SUPPRESS", framework_id=ID),
            scheduler_pb2.Call(type="TEARDOWN", framework_id=ID),
            scheduler_pb2.Call(type="UNKNOWN", framework_id=ID),
            scheduler_pb2.Call(type="ACCEPT", framework_id=ID, accept={}),
            scheduler_pb2.Call(type="ACKNOWLEDGE", framework_id=ID, acknowledge=acknowledge),
        ):
            self.assertIsNone(validate_scheduler_call(call, "ann"), call)

    def test_right_calls_of_executors_pass(self):
        status = {
            "task_id": {"value": "t"},
            "state": "TASK_FINISHED",
            "uuid": UUID,
            "source": "SOURCE_EXECUTOR",
            "executor_id": {"value": "e"},
            "check_status": {"type": "HTTP", "http": {}},
        }
        parts: list[dict[str, object]] = [
            {"type": "SUBSCRIBE", "subscribe": {}},
            {"type": "UPDATE", "update": {"status": status}},
            {"type": "MESSAGE", "message": {"data": b""}},
            {"type": "HEARTBEAT"},
            {"type": "UNKNOWN"},
        ]
        for fields in parts:
            call = executor_pb2.Call(executor_id={"value": "e"}, framework_id=ID, **fields)  # type: ignore[arg-type]
            self.assertIsNone(validate_executor_call(call), fields)

    def test_right_calls_of_operators_pass(self):
        for name in ("GET_STATE", "GET_AGENTS", "SUBSCRIBE", "GET_HEALTH", "UNKNOWN"):
            self.assertIsNone(validate_master_call(master_pb2.Call(type=name)))


class FrameworkTests(SynchronousTestCase):
    """Frameworks."""

    def test_right_frameworks_pass(self):
        for fields in (
            {},
            {"role": "eng/web", "id": {"value": ""}},
            {"roles": ["a", "b/c"], "capabilities": MULTI_ROLE},
            {"capabilities": MULTI_ROLE},
            {"failover_timeout": 1e9},
            {"failover_timeout": -1.0},
        ):
            self.assertIsNone(validate_framework(info(**fields)), fields)

    def test_roles_are_those_of_the_field_that_counts(self):
        self.assertEqual(framework_roles(info()), {"*"})
        self.assertEqual(framework_roles(info(role="a")), {"a"})
        several: FrameworkInfo = info(roles=["a", "b"], capabilities=MULTI_ROLE)
        self.assertEqual(framework_roles(several), {"a", "b"})

    def test_a_master_with_roles_admits_those_and_the_default_one(self):
        self.assertIsNone(validate_admission(info(), roles=("web",)))
        self.assertIsNone(validate_admission(info(role="web"), roles=("web",)))
        self.assertIsNone(validate_admission(info(user="root")))

    def test_a_framework_is_who_it_proved_to_be(self):
        self.assertIsNone(validate_authentication(info(principal="ann"), "x@y:1", "ann", True))
        self.assertIsNone(validate_authentication(info(), "x@y:1", "ann", True))
        self.assertIsNone(validate_authentication(info(principal="ann"), "x@y:1", None, False))

    def test_most_of_a_framework_may_change(self):
        self.assertIsNone(
            validate_framework_update(info(role="a"), info(role="b", name="m", webui_url="w"))
        )


class AgentTests(SynchronousTestCase):
    """Agents."""

    def test_right_agents_pass(self):
        self.assertIsNone(validate_register_agent(registering()))
        self.assertIsNone(validate_reregister_agent(coming_back()))
        right = {**TASK, "executor_id": {"value": "e"}}
        self.assertIsNone(validate_reregister_agent(coming_back(tasks=[right])))

    def test_only_a_running_task_needs_its_executor(self):
        ended = {**TASK, "executor_id": {"value": "gone"}, "state": "TASK_FINISHED"}
        self.assertIsNone(validate_reregister_agent(coming_back(tasks=[ended])))

    def test_executors_of_two_frameworks_may_have_one_id(self):
        other = {"value": "m-0001"}
        frameworks = [{**INFO, "id": ID}, {**INFO, "id": other}]
        executors = [EXECUTOR, {**EXECUTOR, "framework_id": other}]
        message = coming_back(frameworks=frameworks, executor_infos=executors)
        self.assertIsNone(validate_reregister_agent(message))


class OperationTests(SynchronousTestCase):
    """Operations that change resources."""

    def test_right_reservations_pass(self):
        self.assertIsNone(operations.reserve(operations.RESERVED))
        self.assertIsNone(operations.reserve(operations.RESERVED, principal=None))
        free = {**operations.RESERVED, **operations.FREE}
        self.assertIsNone(operations.reserve(free, framework=None))
        unreserve = Offer.Operation.Unreserve(resources=[operations.RESERVED])
        self.assertIsNone(validate_unreserve(unreserve))

    def test_a_reservation_may_replace_another_of_the_same_size(self):
        source = [scalar("cpus", 1)]
        self.assertIsNone(operations.reserve(operations.RESERVED, source=source))

    def test_reservations_in_the_old_form_are_understood(self):
        old = scalar("cpus", 1, role="web", reservation={"principal": "ann"})
        self.assertIsNone(operations.reserve(old))
        text = "Resource cpus(allocated: web)(reservations: [(STATIC,web)]):1 is not dynamically"
        self.assertIn(text, str(operations.reserve(scalar("cpus", 1, role="web"))))

    def test_right_volumes_pass(self):
        self.assertIsNone(operations.create(volume(), volume("v2")))
        self.assertIsNone(operations.create(volume(**operations.FREE), framework=None))

    def test_the_same_id_may_name_volumes_of_two_roles(self):
        held = operations.resources(
            volume(reservations=[{**operations.DYNAMIC, "role": "db"}], **operations.FREE)
        )
        self.assertIsNone(operations.create(volume(), held=held))

    def test_right_sizes_pass(self):
        more = scalar("disk", 64, reservations=[operations.DYNAMIC])
        self.assertIsNone(operations.grow(volume(), more))
        self.assertIsNone(operations.shrink(volume(), 63.999))

    def test_disks_of_resource_providers_pass(self):
        raw = operations.disk("RAW", profile="fast")
        self.assertIsNone(operations.create_disk(raw))
        self.assertIsNone(operations.create_disk(operations.disk("RAW"), target_profile="fast"))
        self.assertIsNone(operations.destroy_disk(operations.disk("BLOCK", id="i")))

    def test_right_forms_pass(self):
        launch = Offer.Operation(type="LAUNCH", launch={"task_infos": [task()]})
        self.assertIsNone(validate_operation_form(launch))
        reserve = Offer.Operation(type="RESERVE", reserve={"resources": [CPUS, MEM]})
        self.assertIsNone(validate_operation_form(reserve))
