"""What C{/metrics/snapshot} shows of each framework, written when it changes and kept.

There are some 70 numbers a framework, and most frameworks do nothing between two looks.
"""

from collections.abc import Iterable
from operator import add, attrgetter
from typing import Final
from urllib.parse import quote

import orjson

from mesoskit.master.records import Framework
from mesoskit.messages.mesos_pb2 import Offer
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.tasks import TERMINAL, TaskState

PREFIX: Final = "master/frameworks/"
"""What the names of all these metrics begin with."""

LIVE: Final = (
    TaskState.TASK_STAGING,
    TaskState.TASK_STARTING,
    TaskState.TASK_RUNNING,
    TaskState.TASK_KILLING,
    TaskState.TASK_UNREACHABLE,
)
"""The states of tasks that have not ended."""

_UNREACHABLE: Final = int(TaskState.TASK_UNREACHABLE)
_ACTIVE: Final = (*LIVE, TaskState.TASK_UNKNOWN)
_TERMINAL: Final = tuple(map(TaskState, TERMINAL))


def _numbered(kind: str, names: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    return tuple((f"{kind}/{name.lower()}", number) for name, number in names if number)


_CALLS: Final = _numbered("calls", Call.Type.items())
_EVENTS: Final = _numbered("events", Event.Type.items())
_OPERATIONS: Final = _numbered("operations", Offer.Operation.Type.items())

# In the order in which the numbers are gathered.
_NAMES: Final = (
    "subscribed",
    "calls",
    "events",
    "operations",
    "offers/sent",
    "offers/accepted",
    "offers/declined",
    "offers/rescinded",
    *(name for name, _ in (*_CALLS, *_EVENTS, *_OPERATIONS)),
    *(f"tasks/active/{one.name.lower()}" for one in _ACTIVE),
    *(f"tasks/terminal/{one.name.lower()}" for one in _TERMINAL),
)
_CALL_NUMBERS: Final = tuple(number for _, number in _CALLS)
_EVENT_NUMBERS: Final = tuple(number for _, number in _EVENTS)
_OPERATION_NUMBERS: Final = tuple(number for _, number in _OPERATIONS)


class _Shown:
    """What is shown of a framework, and what it was like then."""

    __slots__ = ("json", "name", "names", "numbers", "prefix", "roles")

    def __init__(self, framework: Framework) -> None:
        self.name = framework.info.name
        self.roles = framework.roles
        self.prefix = f"{PREFIX}{quote(self.name, safe='')}/{framework.id}/"
        names = (*_NAMES, *(f"roles/{role}/suppressed" for role in self.roles))
        self.names = [self.prefix + name for name in names]
        self.numbers: list[int] = []
        self.json = b""

    def is_of(self, framework: Framework) -> bool:
        """Whether these are still the names of its metrics."""
        return self.name == framework.info.name and self.roles == framework.roles


class FrameworkMetrics:
    """
    The metrics of all frameworks of a master, as they were when L{look} was called last.

    @ivar active: how many tasks were in each state, all frameworks together, by its number.
    """

    def __init__(self) -> None:
        self._shown: dict[Framework, _Shown] = {}
        self.active = [0] * 14

    def metrics(self) -> dict[str, float]:
        """Return all of them, by name."""
        found: dict[str, float] = {}
        for shown in self._shown.values():
            found.update(zip(shown.names, map(float, shown.numbers), strict=True))
        return found

    def members(self) -> list[bytes]:
        """Return them as members of a JSON object, some at a time, names in order."""
        ordered = sorted(self._shown.values(), key=_PREFIX)
        for shown in ordered:
            if not shown.json:
                whole = dict(zip(shown.names, map(float, shown.numbers), strict=True))
                shown.json = orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)[1:-1]
        return [shown.json for shown in ordered]

    def look(self, frameworks: Iterable[Framework]) -> None:
        """See what there is; what is kept of others is forgotten."""
        known, kept = self._shown, {}
        total = [0] * len(self.active)
        for framework in frameworks:
            shown = known.get(framework)
            if shown is None or not shown.is_of(framework):
                shown = _Shown(framework)
            kept[framework] = shown
            active = framework.live.copy()
            active[_UNREACHABLE] += len(framework.unreachable)
            total = list(map(add, total, active))
            numbers = _numbers(framework, active)
            if numbers != shown.numbers:
                shown.numbers = numbers
                shown.json = b""
        self._shown = kept
        self.active = total


_PREFIX: Final = attrgetter("prefix")


def _numbers(framework: Framework, active: list[int]) -> list[int]:
    """
    Return the numbers of a framework, in the order of their names.

    @param active: how many of its tasks are in each state.
    """
    calls, events, operations = framework.calls, framework.events, framework.operations
    terminal, suppressed = framework.terminal, framework.suppressed
    return [
        int(framework.connected),
        sum(calls),
        sum(events),
        sum(operations),
        framework.offers_sent,
        framework.offers_accepted,
        framework.offers_declined,
        framework.offers_rescinded,
        *[calls[number] for number in _CALL_NUMBERS],
        *[events[number] for number in _EVENT_NUMBERS],
        *[operations[number] for number in _OPERATION_NUMBERS],
        *[active[state] for state in _ACTIVE],
        *[terminal[state] for state in _TERMINAL],
        *[int(role in suppressed) for role in framework.roles],
    ]
