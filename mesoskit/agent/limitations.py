"""What a container took too much of, as Mesos tells it (C{TaskResourceLimitation})."""

from mesoskit.agent.container import Amounts
from mesoskit.messages.mesos_pb2 import TaskResourceLimitation, Value


def fill(told: TaskResourceLimitation, amounts: Amounts) -> None:
    """Fill in how much that was."""
    for name, amount in amounts:
        if not isinstance(amount, tuple):
            told.resources.add(name=name, type=Value.SCALAR).scalar.value = amount
            continue
        resource = told.resources.add(name=name, type=Value.RANGES)
        for begin, end in amount:
            resource.ranges.range.add(begin=begin, end=end)
