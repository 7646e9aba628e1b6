"""Metrics: the names that Mesos has, and what they count."""

from __future__ import annotations

import re

from mesoskit.messages.scheduler_pb2 import Call
from tests.base import SynchronousTestCase
from tests.master.bench import AWARE, Bench, acknowledge, scheduler_call, update

_FRAMEWORK = re.compile(r"master/frameworks/[^/]+/[^/]+/(.*)")


class Metrics(SynchronousTestCase):
    """What C{/metrics/snapshot} shows of the state."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.agent, _ = self.bench.register()
        self.framework, self.framework_id = self.bench.subscribe(
            AWARE, name="a name/with more", checkpoint=True
        )

    def test_gauges_and_counters(self) -> None:
        offer = self.bench.running(self.agent, self.framework, "a", "b")
        self.bench.receive(self.agent, update(offer, "b", "TASK_FAILED"))
        self.bench.receive(self.framework, acknowledge(offer, "b", "TASK_FAILED"))
        shown = self.bench.state.metrics()
        prefix = f"master/frameworks/a%20name%2Fwith%20more/{self.framework_id}/"
        for name, value in {
            "master/elected": 1,
            "master/slaves_active": 1,
            "master/slaves_connected": 1,
            "master/frameworks_active": 1,
            "master/outstanding_offers": 0,
            "master/tasks_running": 1,
            "master/tasks_failed": 1,
            "master/cpus_total": 4,
            "master/cpus_used": 1,
            "master/cpus_percent": 0.25,
            "master/mem_used": 64,
            "master/messages_launch_tasks": 1,
            "master/valid_status_updates": 3,
            "master/valid_status_update_acknowledgements": 1,
            "master/slave_registrations": 1,
            prefix + "calls/accept": 1,
            prefix + "calls": 3,
            prefix + "events/update": 3,
            prefix + "tasks/active/task_running": 1,
            prefix + "tasks/terminal/task_failed": 1,
            prefix + "offers/accepted": 1,
            prefix + "operations/launch": 2,
            prefix + "roles/*/suppressed": 0,
            prefix + "subscribed": 1,
        }.items():
            self.assertEqual(float(value), shown[name], name)
        self.assertTrue(all(isinstance(value, float) for value in shown.values()))

    def test_agents_that_are_away(self) -> None:
        self.bench.running(self.agent, self.framework, "a")
        self.bench.lose(self.agent)
        shown = self.bench.state.metrics()
        self.assertEqual(
            (0.0, 1.0), (shown["master/slaves_active"], shown["master/slaves_disconnected"])
        )
        self.bench.run_until(100)
        shown = self.bench.state.metrics()
        self.assertEqual(
            (1.0, 1.0, 1.0),
            (
                shown["master/slaves_unreachable"],
                shown["master/tasks_unreachable"],
                shown["master/slave_removals/reason_unhealthy"],
            ),
        )

    def test_lost_tasks_are_counted_by_reason(self) -> None:
        framework, _ = self.bench.subscribe()
        self.bench.receive(self.framework, _suppress(self.framework_id))
        self.bench.running(self.agent, framework, "t")
        self.bench.lose(self.agent)
        shown = self.bench.state.metrics()
        self.assertEqual(1.0, shown["master/task_lost/source_master/reason_slave_disconnected"])

    def test_every_name_of_mesos_is_there(self) -> None:
        shown = self.bench.state.metrics()
        short = {_FRAMEWORK.sub(r"FRAMEWORK/\1", name) for name in shown}
        self.assertEqual([], sorted(_NAMES - short))


def _suppress(framework_id: str) -> Call:
    return scheduler_call(Call.SUPPRESS, framework_id)


_NAMES = frozenset(
    """
FRAMEWORK/calls FRAMEWORK/calls/accept FRAMEWORK/calls/accept_inverse_offers
FRAMEWORK/calls/acknowledge FRAMEWORK/calls/acknowledge_operation_status FRAMEWORK/calls/decline
FRAMEWORK/calls/decline_inverse_offers FRAMEWORK/calls/kill FRAMEWORK/calls/message
FRAMEWORK/calls/reconcile FRAMEWORK/calls/reconcile_operations FRAMEWORK/calls/request
FRAMEWORK/calls/revive FRAMEWORK/calls/shutdown FRAMEWORK/calls/subscribe
FRAMEWORK/calls/suppress FRAMEWORK/calls/teardown FRAMEWORK/calls/update_framework
FRAMEWORK/events FRAMEWORK/events/error FRAMEWORK/events/failure FRAMEWORK/events/heartbeat
FRAMEWORK/events/inverse_offers FRAMEWORK/events/message FRAMEWORK/events/offers
FRAMEWORK/events/rescind FRAMEWORK/events/rescind_inverse_offer FRAMEWORK/events/subscribed
FRAMEWORK/events/update FRAMEWORK/events/update_operation_status FRAMEWORK/offers/accepted
FRAMEWORK/offers/declined FRAMEWORK/offers/rescinded FRAMEWORK/offers/sent FRAMEWORK/operations
FRAMEWORK/operations/create FRAMEWORK/operations/create_disk FRAMEWORK/operations/destroy
FRAMEWORK/operations/destroy_disk FRAMEWORK/operations/grow_volume FRAMEWORK/operations/launch
FRAMEWORK/operations/launch_group FRAMEWORK/operations/reserve
FRAMEWORK/operations/shrink_volume FRAMEWORK/operations/unreserve FRAMEWORK/subscribed
FRAMEWORK/tasks/active/task_killing FRAMEWORK/tasks/active/task_running
FRAMEWORK/tasks/active/task_staging FRAMEWORK/tasks/active/task_starting
FRAMEWORK/tasks/active/task_unknown FRAMEWORK/tasks/active/task_unreachable
FRAMEWORK/tasks/terminal/task_dropped FRAMEWORK/tasks/terminal/task_error
FRAMEWORK/tasks/terminal/task_failed FRAMEWORK/tasks/terminal/task_finished
FRAMEWORK/tasks/terminal/task_gone FRAMEWORK/tasks/terminal/task_gone_by_operator
FRAMEWORK/tasks/terminal/task_killed FRAMEWORK/tasks/terminal/task_lost master/cpus_percent
master/cpus_revocable_percent master/cpus_revocable_total master/cpus_revocable_used
master/cpus_total master/cpus_used master/disk_percent master/disk_revocable_percent
master/disk_revocable_total master/disk_revocable_used master/disk_total master/disk_used
master/dropped_messages master/elected master/event_queue_dispatches
master/event_queue_http_requests master/event_queue_messages master/frameworks_active
master/frameworks_connected master/frameworks_disconnected master/frameworks_inactive
master/gpus_percent master/gpus_revocable_percent master/gpus_revocable_total
master/gpus_revocable_used master/gpus_total master/gpus_used master/http_cache_hits
master/invalid_executor_to_framework_messages master/invalid_framework_to_executor_messages
master/invalid_operation_status_update_acknowledgements master/invalid_operation_status_updates
master/invalid_status_update_acknowledgements master/invalid_status_updates master/mem_percent
master/mem_revocable_percent master/mem_revocable_total master/mem_revocable_used
master/mem_total master/mem_used master/messages_authenticate
master/messages_deactivate_framework master/messages_decline_offers
master/messages_executor_to_framework master/messages_exited_executor
master/messages_framework_to_executor master/messages_kill_task master/messages_launch_tasks
master/messages_operation_status_update master/messages_operation_status_update_acknowledgement
master/messages_reconcile_operations master/messages_reconcile_tasks
master/messages_register_framework master/messages_register_slave
master/messages_reregister_framework master/messages_reregister_slave
master/messages_resource_request master/messages_revive_offers master/messages_status_update
master/messages_status_update_acknowledgement master/messages_suppress_offers
master/messages_unregister_framework master/messages_unregister_slave
master/messages_update_slave master/operations/create/dropped master/operations/create/error
master/operations/create/failed master/operations/create/finished
master/operations/create/gone_by_operator master/operations/create/pending
master/operations/create/recovering master/operations/create/total
master/operations/create/unreachable master/operations/create_disk/dropped
master/operations/create_disk/error master/operations/create_disk/failed
master/operations/create_disk/finished master/operations/create_disk/gone_by_operator
master/operations/create_disk/pending master/operations/create_disk/recovering
master/operations/create_disk/total master/operations/create_disk/unreachable
master/operations/destroy/dropped master/operations/destroy/error
master/operations/destroy/failed master/operations/destroy/finished
master/operations/destroy/gone_by_operator master/operations/destroy/pending
master/operations/destroy/recovering master/operations/destroy/total
master/operations/destroy/unreachable master/operations/destroy_disk/dropped
master/operations/destroy_disk/error master/operations/destroy_disk/failed
master/operations/destroy_disk/finished master/operations/destroy_disk/gone_by_operator
master/operations/destroy_disk/pending master/operations/destroy_disk/recovering
master/operations/destroy_disk/total master/operations/destroy_disk/unreachable
master/operations/dropped master/operations/error master/operations/failed
master/operations/finished master/operations/gone_by_operator
master/operations/grow_volume/dropped master/operations/grow_volume/error
master/operations/grow_volume/failed master/operations/grow_volume/finished
master/operations/grow_volume/gone_by_operator master/operations/grow_volume/pending
master/operations/grow_volume/recovering master/operations/grow_volume/total
master/operations/grow_volume/unreachable master/operations/pending master/operations/recovering
master/operations/reserve/dropped master/operations/reserve/error
master/operations/reserve/failed master/operations/reserve/finished
master/operations/reserve/gone_by_operator master/operations/reserve/pending
master/operations/reserve/recovering master/operations/reserve/total
master/operations/reserve/unreachable master/operations/shrink_volume/dropped
master/operations/shrink_volume/error master/operations/shrink_volume/failed
master/operations/shrink_volume/finished master/operations/shrink_volume/gone_by_operator
master/operations/shrink_volume/pending master/operations/shrink_volume/recovering
master/operations/shrink_volume/total master/operations/shrink_volume/unreachable
master/operations/total master/operations/unreachable master/operations/unreserve/dropped
master/operations/unreserve/error master/operations/unreserve/failed
master/operations/unreserve/finished master/operations/unreserve/gone_by_operator
master/operations/unreserve/pending master/operations/unreserve/recovering
master/operations/unreserve/total master/operations/unreserve/unreachable
master/operator_event_stream_subscribers master/outstanding_offers
master/recovery_slave_removals master/slave_registrations master/slave_removals
master/slave_removals/reason_registered master/slave_removals/reason_unhealthy
master/slave_removals/reason_unregistered master/slave_reregistrations
master/slave_shutdowns_canceled master/slave_shutdowns_completed
master/slave_shutdowns_scheduled master/slave_unreachable_canceled
master/slave_unreachable_completed master/slave_unreachable_scheduled master/slaves_active
master/slaves_connected master/slaves_disconnected master/slaves_inactive
master/slaves_unreachable master/tasks_dropped master/tasks_error master/tasks_failed
master/tasks_finished master/tasks_gone master/tasks_gone_by_operator master/tasks_killed
master/tasks_killing master/tasks_lost master/tasks_running master/tasks_staging
master/tasks_starting master/tasks_unreachable master/uptime_secs
master/valid_executor_to_framework_messages master/valid_framework_to_executor_messages
master/valid_operation_status_update_acknowledgements master/valid_operation_status_updates
master/valid_status_update_acknowledgements master/valid_status_updates
""".split()
)
