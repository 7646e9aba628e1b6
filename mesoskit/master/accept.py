"""ACCEPT: what a framework does with offers, operation by operation.

The offers that it names are gone whatever comes of them. Each operation takes from what they
offered; what is left at the end goes back to the allocator, under the filter that the
framework asks for (5 seconds where it asks for none).

This master launches tasks and task groups. Any other operation is dropped the way Mesos drops one
that it finds invalid: C{OPERATION_ERROR} where it has an id, a line in the log where not.
"""

from typing import TYPE_CHECKING, cast

from mesoskit.master import authorizing, launch, offers
from mesoskit.master.records import Framework, Offer
from mesoskit.master.tasks import refuse_task
from mesoskit.messages import mesos_pb2
from mesoskit.messages.mesos_pb2 import OPERATION_ERROR, TaskInfo
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.ids import OfferId
from mesoskit.model.tasks import Reason, TaskState
from mesoskit.model.validation_offer import validate_offers
from mesoskit.model.validation_operation import validate_launch_id, validate_operation_form

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mesoskit.master.state import MasterState

_LAUNCH = mesos_pb2.Offer.Operation.LAUNCH
_LAUNCH_GROUP = mesos_pb2.Offer.Operation.LAUNCH_GROUP


def accept(state: "MasterState", framework: Framework, call: Call) -> None:
    """Take an ACCEPT."""
    accepted = call.accept
    operations = accepted.operations
    counters = state.counters
    for operation in operations:
        if operation.type == _LAUNCH:
            if len(operation.launch.task_infos):
                counters.messages_launch_tasks += 1
            else:
                counters.messages_decline_offers += 1
    offer_ids = [OfferId(one.value) for one in accepted.offer_ids]
    error = None
    if len(offer_ids) != 1 or offer_ids[0] not in framework.offers:
        outstanding = cast("Mapping[str, Offer]", state.offers)
        error = validate_offers(offer_ids, outstanding, framework.id)
    if error is not None:
        _refuse(state, framework, call, error)
        return
    first = state.offers[offer_ids[0]]
    offered = first.resources
    for offer_id in offer_ids:
        offer = state.offers[offer_id]
        if offer is not first:
            offered = offered + offer.resources
        offers.forget(state, offer)
        state.past.add((state.now, "accepted", offer_id, framework.id, first.agent_id))
    framework.offers_accepted += len(offer_ids)
    remaining = offered
    if len(operations):
        launcher = launch.Launcher(state, framework, first.agent, first.role, offered)
        for operation in operations:
            _operate(state, framework, launcher, operation)
        remaining = launcher.remaining()
    if remaining:
        state.allocator.recover_resources(
            state.now,
            framework.id,
            first.agent_id,
            first.role,
            remaining,
            accepted.filters.refuse_seconds,
        )


def _operate(
    state: "MasterState",
    framework: Framework,
    launcher: launch.Launcher,
    operation: mesos_pb2.Offer.Operation,
) -> None:
    kind = operation.type
    error = validate_operation_form(operation) or validate_launch_id(operation)
    if kind == _LAUNCH:
        if error is None:
            launcher.launch(operation.launch.task_infos)
        else:
            tasks = operation.launch.task_infos
            launcher.refuse(tasks, Reason.REASON_TASK_INVALID, error)
    elif kind == _LAUNCH_GROUP:
        if error is None:
            launcher.launch_group(operation.launch_group)
        else:
            tasks = operation.launch_group.task_group.tasks
            launcher.refuse(tasks, Reason.REASON_TASK_GROUP_INVALID, error)
    else:
        name = mesos_pb2.Offer.Operation.Type.Name(kind)
        if error is None and state.options.authorizer is not None:
            error = authorizing.operation_error(state, framework, operation)
        error = error or f"{name} operations are not supported by this master"
        drop_operation(state, framework, operation, error)


def drop_operation(
    state: "MasterState", framework: Framework, operation: mesos_pb2.Offer.Operation, why: str
) -> None:
    """Drop an operation that is invalid or that the master cannot do."""
    key = (operation.type, OPERATION_ERROR)
    state.counters.operations[key] = state.counters.operations.get(key, 0) + 1
    name = mesos_pb2.Offer.Operation.Type.Name(operation.type)
    state.note("warn", f"Dropped a {name} operation of framework {framework.id}: {why}")
    if operation.HasField("id"):
        event = Event()
        event.type = Event.UPDATE_OPERATION_STATUS
        status = event.update_operation_status.status
        status.operation_id.value = operation.id.value
        status.state = OPERATION_ERROR
        status.message = why
        state.to_framework(framework, event)


def _refuse(state: "MasterState", framework: Framework, call: Call, error: str) -> None:
    """Answer for all that was to be done with offers that cannot be accepted."""
    accepted = call.accept
    for one in accepted.offer_ids:
        offer = framework.offers.get(OfferId(one.value))
        if offer is not None:
            offers.discard(state, offer, None)
    for operation in accepted.operations:
        infos: Iterable[TaskInfo]
        if operation.type == _LAUNCH:
            infos = operation.launch.task_infos
        elif operation.type == _LAUNCH_GROUP:
            infos = operation.launch_group.task_group.tasks
        else:
            drop_operation(
                state, framework, operation, f"Operation attempted with invalid offers: {error}"
            )
            continue
        for info in infos:
            refuse_task(
                state,
                framework,
                info.task_id.value,
                info.agent_id.value,
                TaskState.TASK_DROPPED,
                Reason.REASON_INVALID_OFFERS,
                f"Task launched with invalid offers: {error}",
            )
