"""What a master counts: plain numbers, named as in Mesos' metrics after C{master/}."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """
    The counters of one master; each only grows.

    @ivar terminal: how many tasks ended in each L{TaskState}, by its number.
    @ivar reasons: how many ended in a (state, source, reason), by the three numbers.
    @ivar operations: how many offer operations of a type came to a state, by the two numbers.
    """

    dropped_messages: int = 0
    invalid_executor_to_framework_messages: int = 0
    invalid_framework_to_executor_messages: int = 0
    invalid_operation_status_update_acknowledgements: int = 0
    invalid_operation_status_updates: int = 0
    invalid_status_update_acknowledgements: int = 0
    invalid_status_updates: int = 0
    messages_authenticate: int = 0
    messages_deactivate_framework: int = 0
    messages_decline_offers: int = 0
    messages_executor_to_framework: int = 0
    messages_exited_executor: int = 0
    messages_framework_to_executor: int = 0
    messages_kill_task: int = 0
    messages_launch_tasks: int = 0
    messages_operation_status_update: int = 0
    messages_operation_status_update_acknowledgement: int = 0
    messages_reconcile_operations: int = 0
    messages_reconcile_tasks: int = 0
    messages_register_framework: int = 0
    messages_register_slave: int = 0
    messages_reregister_framework: int = 0
    messages_reregister_slave: int = 0
    messages_resource_request: int = 0
    messages_revive_offers: int = 0
    messages_status_update: int = 0
    messages_status_update_acknowledgement: int = 0
    messages_suppress_offers: int = 0
    messages_unregister_framework: int = 0
    messages_unregister_slave: int = 0
    messages_update_slave: int = 0
    recovery_slave_removals: int = 0
    slave_registrations: int = 0
    slave_removals: int = 0
    slave_removals_reason_registered: int = 0
    slave_removals_reason_unhealthy: int = 0
    slave_removals_reason_unregistered: int = 0
    slave_reregistrations: int = 0
    slave_shutdowns_canceled: int = 0
    slave_shutdowns_completed: int = 0
    slave_shutdowns_scheduled: int = 0
    slave_unreachable_canceled: int = 0
    slave_unreachable_completed: int = 0
    slave_unreachable_scheduled: int = 0
    valid_executor_to_framework_messages: int = 0
    valid_framework_to_executor_messages: int = 0
    valid_operation_status_update_acknowledgements: int = 0
    valid_operation_status_updates: int = 0
    valid_status_update_acknowledgements: int = 0
    valid_status_updates: int = 0
    terminal: list[int] = field(default_factory=lambda: [0] * 14)
    reasons: dict[tuple[int, int, int], int] = field(default_factory=dict)
    operations: dict[tuple[int, int], int] = field(default_factory=dict)

    def named(self) -> dict[str, int]:
        """Return the plain counters by their names in C{/metrics/snapshot}, without C{master/}."""
        return {name.replace("_reason_", "/reason_"): getattr(self, name) for name in _NAMES}


_NAMES = tuple(
    name
    for name in Counters.__dataclass_fields__
    if name not in ("terminal", "reasons", "operations")
)
