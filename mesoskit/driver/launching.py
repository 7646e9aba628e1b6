"""C{ACCEPT}: operations on offers, and the handles of the tasks that they launch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from mesoskit.driver.handles import TaskHandle
from mesoskit.driver.offers import Offer
from mesoskit.driver.tasks import Tasks
from mesoskit.messages.mesos_pb2 import ExecutorInfo, OfferID, TaskInfo
from mesoskit.messages.mesos_pb2 import Offer as OfferMessage
from mesoskit.messages.scheduler_pb2 import Call

Operation = OfferMessage.Operation

_LAUNCH: Final = Operation.LAUNCH
_LAUNCH_GROUP: Final = Operation.LAUNCH_GROUP


def accept(
    framework_id: str,
    offers: Sequence[Offer],
    operations: Iterable[TaskInfo | Operation],
    refuse_seconds: float,
    tasks: Tasks,
) -> tuple[Call, list[TaskHandle]]:
    """
    Return the call and the handles of all its tasks, in order.

    Tasks that follow each other become one C{LAUNCH}. What they leave open is filled in: the
    agent of each task and the framework of each executor.

    Raises L{TaskIdInUse<mesoskit.driver.errors.TaskIdInUse>}, and makes no handle then.
    """
    call = Call(type=Call.ACCEPT)
    call.framework_id.value = framework_id
    accepted = call.accept
    accepted.offer_ids.extend([OfferID(value=offer.id) for offer in offers])
    accepted.filters.refuse_seconds = refuse_seconds
    agent_id = offers[0].agent_id
    handles: list[TaskHandle] = []
    launch: OfferMessage.Operation.Launch | None = None
    try:
        for item in operations:
            if isinstance(item, TaskInfo):
                if launch is None:
                    operation = accepted.operations.add()
                    operation.type = _LAUNCH
                    launch = operation.launch
                info = launch.task_infos.add()
                info.CopyFrom(item)
                handles.append(_task(info, framework_id, agent_id, tasks))
            else:
                launch = None
                operation = accepted.operations.add()
                operation.CopyFrom(item)
                handles += _operation(operation, framework_id, agent_id, tasks)
    except BaseException:
        for handle in handles:
            tasks.discard(handle)
        raise
    return call, handles


def _operation(
    operation: Operation, framework_id: str, agent_id: str, tasks: Tasks
) -> list[TaskHandle]:
    if operation.type == _LAUNCH:
        infos = operation.launch.task_infos
    elif operation.type == _LAUNCH_GROUP:
        _executor(operation.launch_group.executor, framework_id)
        infos = operation.launch_group.task_group.tasks
    else:
        return []
    made: list[TaskHandle] = []
    try:
        for info in infos:
            made.append(_task(info, framework_id, agent_id, tasks))
    except BaseException:
        for handle in made:
            tasks.discard(handle)
        raise
    return made


def _task(info: TaskInfo, framework_id: str, agent_id: str, tasks: Tasks) -> TaskHandle:
    if not info.HasField("agent_id"):
        info.agent_id.value = agent_id
    if info.HasField("executor"):
        _executor(info.executor, framework_id)
    return tasks.add(info.task_id.value, info.agent_id.value, info)


def _executor(info: ExecutorInfo, framework_id: str) -> None:
    if not info.HasField("framework_id"):
        info.framework_id.value = framework_id
