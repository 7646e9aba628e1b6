"""How long something takes: the last time, and how it is spread over the last hour.

Names and contents are those of libprocess' C{Timer} (C{3rdparty/libprocess/include/process/metrics/
timer.hpp} and C{statistics.hpp} of Apache Mesos): C{x_ms} is the last time, C{x_ms/p99} and its kin
are percentiles of what was measured within an hour, thinned out where that is more than 1,000.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

WINDOW: Final = 3600.0
"""Seconds for which a measurement counts."""

MOST: Final = 1000
"""Measurements that are kept."""

PERCENTILES: Final = (
    ("p50", 0.5),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p999", 0.999),
    ("p9999", 0.9999),
)


class Timer:
    """
    What was measured.

    @param name: of the metric, with its C{_ms}.
    @param seconds: the clock by which measurements grow old.
    """

    def __init__(self, name: str, seconds: Callable[[], float]) -> None:
        self.name = name
        self._seconds = seconds
        self._last: float | None = None
        # When, and how many milliseconds; the oldest first.
        self._kept: deque[tuple[float, float]] = deque()

    def add(self, took: float) -> None:
        """Note that something took so many seconds."""
        now = self._seconds()
        kept = self._kept
        self._last = took * 1000
        kept.append((now, self._last))
        while kept[0][0] < now - WINDOW:
            kept.popleft()
        if len(kept) > MOST:
            # Every other one of the older half goes: the window stays whole, and thins out.
            half = [kept.popleft() for _ in range(MOST // 2)]
            kept.extendleft(reversed(half[::2]))

    def metrics(self) -> dict[str, float]:
        """Return what is shown: nothing, where nothing was measured yet."""
        if self._last is None:
            return {}
        now, name = self._seconds(), self.name
        values = sorted(took for when, took in self._kept if when >= now - WINDOW)
        shown = {name: self._last, f"{name}/count": float(len(values))}
        if values:
            shown[f"{name}/min"], shown[f"{name}/max"] = values[0], values[-1]
            for percentile, part in PERCENTILES:
                shown[f"{name}/{percentile}"] = _at(values, part)
        return shown


def _at(values: list[float], part: float) -> float:
    """Return a percentile of sorted values, between two of them where it falls there."""
    position = part * (len(values) - 1)
    below = int(position)
    rest = position - below
    if not rest:
        return values[below]
    return values[below] * (1 - rest) + values[below + 1] * rest
