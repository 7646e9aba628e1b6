"""What a real cluster's members sent each other is found right, and what they said is expected."""

from typing import Any

from mesoskit.messages import executor_pb2, internal_pb2, scheduler_pb2
from mesoskit.model.capabilities import AGENT_CAPABILITIES
from mesoskit.model.resources import Resources
from mesoskit.model.tasks import REASONS, Reason, Source, TaskState
from mesoskit.model.validation_agent import validate_register_agent, validate_reregister_agent
from mesoskit.model.validation_call import validate_executor_call, validate_scheduler_call
from mesoskit.model.validation_context import LaunchContext
from mesoskit.model.validation_group import validate_task_group
from mesoskit.model.validation_task import validate_task
from tests.base import SynchronousTestCase
from tests.messages.golden import bodies


def recorded(cls: Any) -> list[Any]:
    """Return every recorded message of a class."""
    name = cls.DESCRIPTOR.full_name
    found = [cls.FromString(body.data) for body in bodies() if body.name == name]
    assert found, name
    return found


class RecordedTests(SynchronousTestCase):
    """Messages of Mesos' own programs."""

    def test_calls_pass(self):
        for call in recorded(scheduler_pb2.Call):
            self.assertIsNone(validate_scheduler_call(call), call)
        for call in recorded(executor_pb2.Call):
            self.assertIsNone(validate_executor_call(call), call)

    def test_agents_pass(self):
        for message in recorded(internal_pb2.RegisterSlaveMessage):
            self.assertIsNone(validate_register_agent(message))
        for message in recorded(internal_pb2.ReregisterSlaveMessage):
            self.assertIsNone(validate_reregister_agent(message))

    def test_tasks_that_were_launched_pass(self):
        for message in recorded(internal_pb2.RunTaskMessage):
            task = message.task
            # The agent sends the message on to the executor with the executor filled in.
            if task.HasField("executor") and task.HasField("command"):
                continue
            offered = Resources.from_message([*task.resources, *task.executor.resources])
            where = LaunchContext(
                message.framework.id.value, task.agent_id.value, offered, AGENT_CAPABILITIES
            )
            self.assertIsNone(validate_task(task, where))
            self.assertEqual(where.total, offered)

    def test_groups_that_were_launched_pass(self):
        for message in recorded(internal_pb2.RunTaskGroupMessage):
            tasks = message.task_group.tasks
            parts = [message.executor.resources, *(task.resources for task in tasks)]
            offered = Resources.sum([Resources.from_message(part) for part in parts])
            where = LaunchContext(
                message.framework.id.value, tasks[0].agent_id.value, offered, AGENT_CAPABILITIES
            )
            error = validate_task_group(message.task_group, message.executor, where)
            self.assertIsNone(error)
            self.assertEqual(where.total, offered)

    def test_statuses_came_from_whom_and_for_reasons_that_the_table_knows(self):
        for message in recorded(internal_pb2.StatusUpdateMessage):
            status = message.update.status
            if status.HasField("reason"):
                known = REASONS[TaskState(status.state)][Source(status.source)]
                self.assertIn(Reason(status.reason), known, status)
