"""Status updates that are not as they should be."""

from __future__ import annotations

from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.model.events import PeerKind
from tests.base import SynchronousTestCase
from tests.master.bench import (
    Bench,
    acknowledge,
    sent,
    statuses,
    task,
    told,
    update,
    update_of,
)


class Updates(SynchronousTestCase):
    """What is forwarded, and what is not."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.agent, self.agent_id = self.bench.register()
        self.framework, self.framework_id = self.bench.subscribe()
        self.offer = self.bench.offer(self.framework)
        self.bench.launch(self.framework, self.offer, task(self.offer, "t"))
        self.counters = self.bench.state.counters

    def test_update_of_an_unknown_task_is_forwarded_all_the_same(self) -> None:
        effects = self.bench.receive(self.agent, update(self.offer, "other", "TASK_FAILED"))
        self.assertEqual([("other", "TASK_FAILED")], told(effects, self.framework))
        self.assertEqual(1, self.counters.invalid_status_updates)
        effects = self.bench.receive(
            self.framework, acknowledge(self.offer, "other", "TASK_FAILED")
        )
        self.assertEqual(1, len(sent(effects, self.agent)))

    def test_update_of_an_unknown_framework_is_dropped(self) -> None:
        message = update_of("nobody", self.agent_id, "t", "TASK_RUNNING")
        self.assertEqual([], self.bench.receive(self.agent, message))

    def test_update_in_another_agent_s_name_is_dropped(self) -> None:
        other, _ = self.bench.register("other.example")
        self.assertEqual([], self.bench.receive(other, update(self.offer, "t", "TASK_FINISHED")))
        stranger = self.bench.connect(PeerKind.AGENT)
        self.assertEqual([], self.bench.receive(stranger, update(self.offer, "t", "TASK_FINISHED")))
        self.assertEqual(2, self.counters.invalid_status_updates)

    def test_update_of_a_task_on_another_agent_leaves_it_alone(self) -> None:
        other, other_id = self.bench.register("other.example")
        message = update_of(self.framework_id, other_id, "t", "TASK_FINISHED")
        effects = self.bench.receive(other, message)
        self.assertEqual([("t", "TASK_FINISHED")], told(effects, self.framework))
        self.assertEqual(6, self.bench.state.frameworks[self.framework_id].tasks["t"].state)  # type: ignore[index]

    def test_update_without_a_uuid_is_dropped(self) -> None:
        message = update(self.offer, "t", "TASK_RUNNING")
        message.update.ClearField("uuid")
        self.assertEqual([], self.bench.receive(self.agent, message))

    def test_uuid_that_only_the_update_has_is_in_the_status(self) -> None:
        message = update(self.offer, "t", "TASK_RUNNING")
        message.update.status.ClearField("uuid")
        (status,) = statuses(self.bench.receive(self.agent, message), self.framework)
        self.assertEqual(message.update.uuid, status.uuid)

    def test_data_is_forwarded_but_not_kept(self) -> None:
        message = update(self.offer, "t", "TASK_RUNNING", data=b"x" * 1000)
        (status,) = statuses(self.bench.receive(self.agent, message), self.framework)
        self.assertEqual(b"x" * 1000, status.data)
        (kept,) = self.bench.state.frameworks[self.framework_id].tasks["t"].statuses  # type: ignore[index]
        self.assertEqual(b"", TaskStatus.FromString(kept).data)

    def test_one_status_a_state_is_kept(self) -> None:
        for healthy in (True, False, True):
            self.bench.receive(self.agent, update(self.offer, "t", "TASK_RUNNING", healthy=healthy))
        kept = self.bench.state.frameworks[self.framework_id].tasks["t"].statuses  # type: ignore[index]
        self.assertEqual([True], [TaskStatus.FromString(one).healthy for one in kept])

    def test_acknowledgement_of_an_update_never_sent_is_dropped(self) -> None:
        self.assertEqual(
            [],
            self.bench.receive(self.framework, acknowledge(self.offer, "t", "TASK_RUNNING")),
        )
        self.assertEqual(1, self.counters.invalid_status_update_acknowledgements)

    def test_acknowledgement_for_an_agent_that_is_away_is_dropped(self) -> None:
        self.bench.receive(self.agent, update(self.offer, "t", "TASK_RUNNING"))
        self.bench.lose(self.agent)
        self.assertEqual(
            [],
            self.bench.receive(self.framework, acknowledge(self.offer, "t", "TASK_RUNNING")),
        )

    def test_acknowledgement_that_is_no_uuid_is_refused(self) -> None:
        call = acknowledge(self.offer, "t", "TASK_RUNNING")
        call.acknowledge.uuid = b"short"
        self.assertEqual(
            (400, "Failed to validate scheduler::Call: Not a valid UUID"),
            self.bench.call(self.framework, call),
        )

    def test_number_of_completed_tasks_is_limited(self) -> None:
        self.bench = Bench(max_completed_tasks_per_framework=2)
        self.setUp_again()
        for task_id in ("a", "b", "c"):
            offer = self.bench.running(self.agent, self.framework, task_id)
            self.bench.receive(self.agent, update(offer, task_id, "TASK_FINISHED"))
            self.bench.receive(self.framework, acknowledge(offer, task_id, "TASK_FINISHED"))
        completed = self.bench.state.frameworks[self.framework_id].completed
        self.assertEqual(["b", "c"], [one.id for one in completed])

    def setUp_again(self) -> None:
        self.agent, self.agent_id = self.bench.register()
        self.framework, self.framework_id = self.bench.subscribe()
