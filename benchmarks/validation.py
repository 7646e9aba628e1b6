"""What it costs to validate a task: C{python benchmarks/validation.py}.

The master validates every task that it launches; the whole life of a task may cost it some
150 microseconds. Prints microseconds a call, the best of five runs.
"""

from collections.abc import Callable
from timeit import Timer

from mesoskit.messages.internal_pb2 import StatusUpdate
from mesoskit.messages.mesos_pb2 import ExecutorInfo, Resource, TaskInfo
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.model.capabilities import AGENT_CAPABILITIES
from mesoskit.model.resources import Resources
from mesoskit.model.statuses import make_status, make_task, make_update
from mesoskit.model.tasks import Source, TaskState, after_update, legal
from mesoskit.model.updates import UpdateStream
from mesoskit.model.validation_call import validate_scheduler_call
from mesoskit.model.validation_context import LaunchContext
from mesoskit.model.validation_task import validate_task

CALLS = 20_000


def scalar(name: str, value: float) -> Resource:
    resource = Resource(name=name, type="SCALAR", scalar={"value": value})
    resource.allocation_info.role = "web"
    return resource


def tasks(count: int, **more: object) -> list[TaskInfo]:
    """Return tasks that differ in their ids, as those of one application do."""
    return [
        TaskInfo(
            name="sleeper",
            task_id={"value": f"sleeper.{number}"},
            agent_id={"value": "m-S0"},
            resources=[scalar("cpus", 0.1), scalar("mem", 32)],
            command={"value": "sleep 1000"},
            **more,  # type: ignore[arg-type]
        )
        for number in range(count)
    ]


def figure(name: str, work: Callable[[], object], calls: int = CALLS) -> None:
    """Measure and print one row."""
    best = min(Timer(work).repeat(5, calls)) / calls
    print(f"{best * 1e6:8.2f} µs  {name}")


def launches() -> None:
    offered = Resources.of(cpus=64, mem=65536, disk=1000).allocated("web")
    known = {f"other.{number}": None for number in range(10_000)}
    context = LaunchContext("m-0000", "m-S0", offered, AGENT_CAPABILITIES, tasks=known)
    plain = iter(tasks(1) * (5 * CALLS))
    figure("a plain command task", lambda: validate_task(next(plain), context))
    fresh = tasks(2000)
    for number, task in enumerate(fresh):
        # Resources never seen before: nothing is remembered of them.
        task.resources[1].scalar.value = 32 + number / 1000
    new = iter(fresh)
    figure("the same, with resources never seen", lambda: validate_task(next(new), context), 400)
    environment = {"variables": [{"name": f"V{n}", "value": "x"} for n in range(10)]}
    command = {"value": "sleep 1000", "environment": environment}
    [larger] = tasks(1, health_check={"type": "HTTP", "http": {"port": 80}})
    larger.command.environment.MergeFrom(TaskInfo(command=command).command.environment)
    figure("with 10 variables and a health check", lambda: validate_task(larger, context))
    [custom] = tasks(1)
    custom.ClearField("command")
    custom.executor.CopyFrom(
        ExecutorInfo(
            executor_id={"value": "e"},
            framework_id={"value": "m-0000"},
            command={"value": "./executor"},
            resources=[scalar("cpus", 0.1), scalar("mem", 32)],
        )
    )
    figure("with an executor of its own", lambda: validate_task(custom, context))
    running = LaunchContext(
        "m-0000", "m-S0", offered, AGENT_CAPABILITIES, executors={"e": custom.executor}
    )
    figure("for an executor that runs", lambda: validate_task(custom, running))
    [one] = tasks(1)
    figure("a Task of a TaskInfo", lambda: make_task(one, TaskState.TASK_STAGING, "m-0000"))


def calls() -> None:
    accept = Call(type="ACCEPT", framework_id={"value": "m-0000"})
    accept.accept.operations.add(type="LAUNCH", launch={"task_infos": tasks(10)})
    figure("an ACCEPT of 10 tasks", lambda: validate_scheduler_call(accept))
    uuid = bytes.fromhex("00112233445546778899aabbccddeeff")
    fields = {"agent_id": {"value": "a"}, "task_id": {"value": "t"}, "uuid": uuid}
    acknowledge = Call(type="ACKNOWLEDGE", framework_id={"value": "m-0000"}, acknowledge=fields)
    figure("an ACKNOWLEDGE", lambda: validate_scheduler_call(acknowledge))


def updates() -> None:
    running, staging = TaskState.TASK_RUNNING, TaskState.TASK_STAGING
    figure("legal", lambda: legal(staging, running))
    figure("after_update", lambda: after_update(staging, running, running))

    def make(number: int) -> StatusUpdate:
        uuid = number.to_bytes(16, "big")
        status = make_status("t", running, Source.SOURCE_EXECUTOR, 1.0, agent_id="a", uuid=uuid)
        return make_update("f", status)

    figure("a status and its update", lambda: make(1))
    stream = UpdateStream("updates/f/t")
    waiting = iter([make(number) for number in range(5 * CALLS)])

    def life() -> None:
        update = next(waiting)
        stream.receive(0.0, update)
        stream.send(0.0)
        stream.acknowledge(0.0, update.uuid)

    figure("an update received, sent and acknowledged", life)


if __name__ == "__main__":
    launches()
    calls()
    updates()
