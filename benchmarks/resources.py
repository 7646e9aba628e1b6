"""What the operations on resources cost: nanoseconds each, median of several runs.

The master does dozens of them in the life of a task. Run as C{python benchmarks/resources.py}.
"""

from collections.abc import Callable
from itertools import cycle
from statistics import median
from timeit import Timer

from mesoskit.model.resource_validation import validate_resources
from mesoskit.model.resources import PRE, Resources

LOOPS = 5_000
RUNS = 9

AGENT = Resources.parse("cpus:16;mem:65536;disk:500000;ports:[31000-32000]")
TASK = Resources.parse("cpus:0.5;mem:128;disk:10;ports:[31502-31503]")
REST = AGENT - TASK
FRAGMENTED = AGENT - Resources.of(ports=[(port, port) for port in range(31001, 31999, 10)])
MESSAGES = TASK.to_message()
# More than are remembered, so that none is met again while it is.
NEW = cycle(
    Resources.of(cpus=0.5, mem=128, disk=10, ports=[(port, port)]).to_message()
    for port in range(31000, 37000)
)
LARGE = FRAGMENTED.to_message()
TEXT = str(AGENT)


def fresh() -> Resources:
    """Return resources with nothing computed about them yet."""
    return REST + TASK


OPERATIONS: dict[str, Callable[[], object]] = {
    "agent - task": lambda: AGENT - TASK,
    "rest + task": lambda: REST + TASK,
    "agent contains task": lambda: AGENT.contains(TASK),
    "agent == rest": lambda: AGENT == REST,
    "agent.minus(task)": lambda: AGENT.minus(TASK),
    "100 port ranges - task": lambda: FRAGMENTED - TASK,
    "100 port ranges + task": lambda: FRAGMENTED + TASK,
    "sum of 100 tasks": lambda: Resources.sum([TASK] * 100),
    "rest + task, then hash": lambda: hash(fresh()),
    "rest + task, then quantities": lambda: fresh().quantities(),
    "rest + task, then allocated": lambda: fresh().allocated("web"),
    "rest + task, then to_message": lambda: fresh().to_message(),
    "allocatable_to": lambda: AGENT.allocatable_to("web"),
    "scalar": lambda: AGENT.scalar("cpus"),
    "from_message, seen before": lambda: Resources.from_message(MESSAGES),
    "from_message, new ports": lambda: Resources.from_message(next(NEW)),
    "validate": lambda: validate_resources(MESSAGES),
    "from_message, 100 port ranges": lambda: Resources.from_message(LARGE),
    "to_message, again": lambda: TASK.to_message(PRE),
    "parse": lambda: Resources.parse(TEXT),
    "str": lambda: str(AGENT),
}


def measure(operation: Callable[[], object]) -> float:
    """Return the nanoseconds that one call takes."""
    timer = Timer(operation)
    loops = LOOPS if timer.timeit(10) < 0.001 else LOOPS // 50
    return median(timer.repeat(RUNS, loops)) / loops * 1e9


def main() -> None:
    for name, operation in OPERATIONS.items():
        print(f"{name:32} {measure(operation):10.0f} ns")


if __name__ == "__main__":
    main()
