"""The statuses that masters and agents make."""

from typing import Any

from mesoskit.messages.mesos_pb2 import Task, TaskInfo, TaskStatus
from mesoskit.model.statuses import (
    LATEST_STATE,
    complete_status,
    make_status,
    make_task,
    make_update,
    reconciled_status,
)
from mesoskit.model.tasks import Reason, Source, TaskState
from tests.base import SynchronousTestCase


class MakeStatusTests(SynchronousTestCase):
    """Statuses of our own."""

    def test_only_what_is_given_is_set(self):
        status = make_status("t", TaskState.TASK_ERROR, Source.SOURCE_MASTER, 1.5)
        self.assertEqual(
            status,
            TaskStatus(
                task_id={"value": "t"},
                state="TASK_ERROR",
                source="SOURCE_MASTER",
                message="",
                timestamp=1.5,
            ),
        )

    def test_an_update_carries_the_status_and_repeats_it(self):
        status = make_status(
            "t",
            TaskState.TASK_FAILED,
            Source.SOURCE_AGENT,
            2.5,
            agent_id="a",
            executor_id="e",
            reason=Reason.REASON_EXECUTOR_TERMINATED,
            message="Executor terminated",
            uuid=b"u" * 16,
        )
        update = make_update("f", status, latest_state=TaskState.TASK_FAILED)
        self.assertEqual(update.framework_id.value, "f")
        self.assertEqual(update.status, status)
        self.assertEqual((update.slave_id.value, update.executor_id.value), ("a", "e"))
        self.assertEqual((update.timestamp, update.uuid), (2.5, b"u" * 16))
        self.assertEqual(update.latest_state, TaskState.TASK_FAILED)
        self.assertTrue(update.IsInitialized())

    def test_an_update_without_a_uuid_is_not_to_be_acknowledged(self):
        status = make_status("t", TaskState.TASK_LOST, Source.SOURCE_MASTER, 1.0)
        update = make_update("f", status, agent_id="a", executor_id="e")
        self.assertFalse(update.HasField("uuid"))
        self.assertFalse(update.HasField("latest_state"))
        self.assertEqual((update.slave_id.value, update.executor_id.value), ("a", "e"))

    def test_an_executors_status_is_completed(self):
        status = TaskStatus(
            task_id={"value": "t"}, state="TASK_RUNNING", executor_id={"value": "x"}
        )
        complete_status(status, "a", "e", 3.0)
        self.assertEqual(status.source, TaskStatus.SOURCE_EXECUTOR)
        self.assertEqual((status.agent_id.value, status.executor_id.value), ("a", "e"))
        self.assertEqual(status.timestamp, 3.0)
        complete_status(status, "a", "e", 4.0)
        self.assertEqual(status.timestamp, 3.0)


class ReconciledStatusTests(SynchronousTestCase):
    """What a master that is asked says of a task it knows."""

    def test_the_newest_health_and_container_are_told(self):
        task = Task(
            name="t",
            task_id={"value": "t"},
            framework_id={"value": "f"},
            agent_id={"value": "a"},
            executor_id={"value": "e"},
            state="TASK_RUNNING",
            statuses=[
                {
                    "task_id": {"value": "t"},
                    "state": "TASK_STARTING",
                    "healthy": False,
                    "container_status": {"executor_pid": 7},
                    "message": "old",
                    "data": b"old",
                    "uuid": b"u" * 16,
                },
                {
                    "task_id": {"value": "t"},
                    "state": "TASK_RUNNING",
                    "healthy": True,
                    "check_status": {"type": "TCP", "tcp": {"succeeded": True}},
                },
            ],
        )
        told = reconciled_status(task, TaskState.TASK_STARTING, 9.0)
        self.assertEqual(
            told,
            TaskStatus(
                task_id={"value": "t"},
                state="TASK_STARTING",
                source="SOURCE_MASTER",
                reason="REASON_RECONCILIATION",
                message=LATEST_STATE,
                timestamp=9.0,
                agent_id={"value": "a"},
                executor_id={"value": "e"},
                healthy=True,
                check_status={"type": "TCP", "tcp": {"succeeded": True}},
                container_status={"executor_pid": 7},
            ),
        )

    def test_a_task_without_statuses_is_told_bare(self):
        task = Task(
            name="t",
            task_id={"value": "t"},
            framework_id={"value": "f"},
            agent_id={"value": "a"},
            state="TASK_STAGING",
        )
        told = reconciled_status(task, TaskState.TASK_STAGING, 9.0)
        self.assertFalse(told.HasField("executor_id"))
        self.assertFalse(told.HasField("healthy"))
        self.assertFalse(told.HasField("container_status"))


class MakeTaskTests(SynchronousTestCase):
    """The C{Task} of a C{TaskInfo}."""

    def test_what_is_of_use_after_the_launch_is_kept(self):
        kept: dict[str, Any] = {
            "name": "t",
            "task_id": {"value": "t"},
            "agent_id": {"value": "a"},
            "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}],
            "labels": {"labels": [{"key": "k"}]},
            "discovery": {"visibility": "CLUSTER", "name": "n"},
            "container": {"type": "MESOS"},
            "health_check": {"type": "TCP", "tcp": {"port": 80}},
            "kill_policy": {"grace_period": {"nanoseconds": 5}},
        }
        info = TaskInfo(
            **kept, data=b"d", executor={"executor_id": {"value": "e"}, "command": {"user": "u"}}
        )
        info.limits["cpus"].value = 2
        task = make_task(info, TaskState.TASK_STAGING, "f")
        expected = Task(
            **kept,
            framework_id={"value": "f"},
            state="TASK_STAGING",
            executor_id={"value": "e"},
            user="u",
        )
        expected.limits["cpus"].value = 2
        self.assertEqual(task, expected)

    def test_a_command_task_has_no_executor_id_and_the_commands_user(self):
        info = TaskInfo(
            name="t",
            task_id={"value": "t"},
            agent_id={"value": "a"},
            command={"value": "true", "user": "root"},
        )
        task = make_task(info, TaskState.TASK_STAGING, "f")
        self.assertFalse(task.HasField("executor_id"))
        self.assertEqual(task.user, "root")
