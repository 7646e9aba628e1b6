"""Whatever comes, validation answers: with nothing, or with a text."""

from collections.abc import Callable
from functools import partial
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesoskit.messages import agent_pb2, executor_pb2, internal_pb2, master_pb2, scheduler_pb2
from mesoskit.messages.mesos_pb2 import ExecutorInfo, FrameworkInfo, Offer, TaskGroupInfo, TaskInfo
from mesoskit.model.capabilities import AGENT_CAPABILITIES
from mesoskit.model.resources import Resources
from mesoskit.model.validation_agent import validate_register_agent, validate_reregister_agent
from mesoskit.model.validation_agent_call import validate_agent_call
from mesoskit.model.validation_call import (
    validate_executor_call,
    validate_master_call,
    validate_scheduler_call,
)
from mesoskit.model.validation_framework import validate_admission, validate_framework_update
from mesoskit.model.validation_group import validate_task_group
from mesoskit.model.validation_ids import validate_id
from mesoskit.model.validation_operation import (
    validate_operation_form,
    validate_reserve,
    validate_unreserve,
)
from mesoskit.model.validation_task import validate_task
from mesoskit.model.validation_volume_operation import (
    validate_create,
    validate_create_disk,
    validate_destroy,
    validate_destroy_disk,
    validate_grow_volume,
    validate_shrink_volume,
)
from tests.base import SynchronousTestCase
from tests.model.validation_messages import context, executor, task

_TEXTS = st.sampled_from(["", "*", "web", "web/a", "cpus", "mem", "disk", "gpus", "m-S0", "/", "é"])
_NUMBERS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats() | st.sampled_from([0.0, 1.0, -1.0, 0.001]),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
}
_DEPTH = 5


def _value(draw: st.DrawFn, field: Any, depth: int, whole: bool) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_MESSAGE:
        return _message(draw, field.message_type, depth, whole)
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return draw(st.sampled_from([one.number for one in field.enum_type.values]))
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return draw(st.binary(max_size=17))
        return draw(_TEXTS)
    return draw(_NUMBERS[kind])


def _message(draw: st.DrawFn, descriptor: Descriptor, depth: int, whole: bool) -> Any:
    """Draw a message with some of its fields; where it is whole, with all that are required."""
    message: Any = GetMessageClass(descriptor)()
    fields = [
        field
        for field in descriptor.fields
        if depth > 0 or field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE
    ]
    chosen = [field for field in descriptor.fields if whole and field.is_required]
    if fields:
        some = st.lists(st.sampled_from(fields), max_size=5, unique_by=lambda field: field.name)
        chosen += draw(some)
    for field in chosen:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _fill_map(draw, getattr(message, field.name), field.message_type, depth, whole)
        elif field.is_repeated:
            count = draw(st.integers(1, 2))
            values = [_value(draw, field, depth - 1, whole) for _ in range(count)]
            getattr(message, field.name).extend(values)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            getattr(message, field.name).CopyFrom(_value(draw, field, depth - 1, whole))
        else:
            setattr(message, field.name, _value(draw, field, depth, whole))
    return message


def _fill_map(draw: st.DrawFn, target: Any, entry: Descriptor, depth: int, whole: bool) -> None:
    field = entry.fields_by_name["value"]
    key = draw(_TEXTS)
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        target[key].CopyFrom(_value(draw, field, depth - 1, whole))
    else:
        target[key] = _value(draw, field, depth - 1, whole)


@st.composite
def messages(draw: st.DrawFn, cls: Any, whole: bool | None = None) -> Any:
    """
    Return a strategy of messages of a class, most of them wrong in some way.

    @param whole: whether required fields are there, as in all that comes through the
        codec; L{None} for both.
    """
    complete = draw(st.booleans()) if whole is None else whole
    return _message(draw, cls.DESCRIPTOR, _DEPTH, complete)


def _task_context(message: TaskInfo) -> str | None:
    return validate_task(message, context())


def _running(message: ExecutorInfo) -> str | None:
    """Launch with an executor whose id runs with another description."""
    message.executor_id.value = "e1"
    message.framework_id.value = "m-0000"
    mine = task(command=None, executor=message)
    return validate_task(mine, context(executors={"e1": executor()}))


def _group_of(message: TaskGroupInfo) -> str | None:
    own = message.tasks[0].executor if message.tasks else ExecutorInfo()
    return validate_task_group(message, own, context())


def _operation(message: Offer.Operation) -> str | None:
    """Validate each part as the master does: the form first, then the rest."""
    error = validate_operation_form(message)
    if error is not None:
        return error
    web = FrameworkInfo(user="u", name="n", role="web")
    nothing = Resources.EMPTY
    agent = AGENT_CAPABILITIES
    parts: dict[str, Callable[[Any], str | None]] = {
        "reserve": lambda part: validate_reserve(part, "ann", agent, web),
        "unreserve": validate_unreserve,
        "create": lambda part: validate_create(part, nothing, "ann", agent, web),
        "destroy": lambda part: validate_destroy(part, nothing, [nothing]),
        "grow_volume": lambda part: validate_grow_volume(part, agent),
        "shrink_volume": lambda part: validate_shrink_volume(part, agent),
        "create_disk": validate_create_disk,
        "destroy_disk": validate_destroy_disk,
    }
    for name, validate in parts.items():
        if message.HasField(name):
            error = error or validate(getattr(message, name))
    return error


class AnswersTests(SynchronousTestCase):
    """Random messages."""

    def check(
        self, cls: Any, validate: Callable[[Any], str | None], whole: bool | None = None
    ) -> None:
        @settings(
            max_examples=100,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        @given(messages(cls, whole))
        def holds(message: Any) -> None:
            answer = validate(message)
            assert answer is None or (isinstance(answer, str) and answer)

        holds()

    def test_tasks_are_answered(self):
        self.check(TaskInfo, _task_context)

    def test_executors_are_answered(self):
        self.check(ExecutorInfo, _running)

    def test_groups_are_answered(self):
        self.check(TaskGroupInfo, _group_of)

    def test_operations_are_answered(self):
        self.check(Offer.Operation, _operation, whole=True)

    def test_frameworks_are_answered(self):
        self.check(FrameworkInfo, partial(validate_admission, roles=("web",)))
        self.check(FrameworkInfo, lambda info: validate_framework_update(info, FrameworkInfo()))

    def test_agents_are_answered(self):
        self.check(internal_pb2.RegisterSlaveMessage, validate_register_agent)
        self.check(internal_pb2.ReregisterSlaveMessage, validate_reregister_agent)

    def test_calls_are_answered(self):
        self.check(scheduler_pb2.Call, validate_scheduler_call)
        self.check(executor_pb2.Call, validate_executor_call)
        self.check(master_pb2.Call, validate_master_call)
        self.check(agent_pb2.Call, validate_agent_call)

    @given(st.text(max_size=300))
    def test_an_id_is_right_if_it_can_name_a_directory(self, text: str):
        encoded = text.encode()
        names = 0 < len(encoded) <= 255 and text not in (".", "..")
        printable = all(character not in "/\\\x7f" and character >= " " for character in text)
        self.assertEqual(validate_id(text) is None, names and printable)


class TaskPropertiesTests(SynchronousTestCase):
    """What is found right is right."""

    @settings(max_examples=100, deadline=None, database=None)
    @given(messages(TaskInfo), st.booleans())
    def test_what_passes_fits_into_the_offer(self, message: TaskInfo, plain: bool):
        where = context()
        if plain:
            message.task_id.value, message.agent_id.value = "t", "m-S0"
            message.resources.MergeFrom(task().resources)
        if validate_task(message, where) is None:
            self.assertTrue(where.offered.contains(where.total))
            own = Resources.from_message(message.resources)
            self.assertTrue(where.total.contains(own))
