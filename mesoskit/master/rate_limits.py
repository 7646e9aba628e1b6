"""Rate limits of frameworks, by principal (C{docs/framework-rate-limiting.md} of Apache Mesos).

What C{--rate_limits} says, and how fast calls may pass by it. All frameworks of a principal share
one L{Limiter}; those whose principal is not named share another one, if there is a default.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

from mesoskit.messages.codec import Malformed, from_dict
from mesoskit.messages.mesos_pb2 import RateLimits as RateLimitsMessage

SLACK: Final = 0.02
"""
Seconds that a limiter may be behind and catch up with: timers come late, and the rate should hold
all the same.
"""


@dataclass(slots=True, frozen=True)
class RateLimit:
    """
    How fast calls may come.

    @ivar qps: calls a second.
    @ivar capacity: how many may wait; L{None}: as many as come, but the frameworks are made to
        wait with the rest.
    """

    qps: float
    capacity: int | None = None

    def __str__(self) -> str:
        waits = "any number" if self.capacity is None else str(self.capacity)
        return f"{self.qps:g} calls a second, {waits} waiting"


@dataclass(slots=True, frozen=True)
class RateLimits:
    """
    The limits of all principals.

    @ivar by_principal: L{None} for one who is not limited, whatever the default is.
    @ivar default: of everybody else together; L{None}: they are not limited.
    """

    by_principal: Mapping[str, RateLimit | None] = field(default_factory=dict)
    default: RateLimit | None = None


def parse_rate_limits(text: str) -> RateLimits:
    """
    Read C{--rate_limits}: C{RateLimits} as JSON. Raises L{ValueError}, with Mesos' words where it
    refuses the same.
    """
    try:
        given: Any = json.loads(text)
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(given, dict):
        raise ValueError('expected an object such as {"limits": [{"principal": "p", "qps": 10}]}')
    try:
        message = from_dict(RateLimitsMessage, given)
    except Malformed as error:
        raise ValueError(str(error)) from None
    by_principal: dict[str, RateLimit | None] = {}
    for limit in message.limits:
        if limit.principal in by_principal:
            raise ValueError(
                f"Duplicate principal {limit.principal} found in RateLimits configuration"
            )
        by_principal[limit.principal] = None
        if limit.HasField("qps"):
            capacity = limit.capacity if limit.HasField("capacity") else None
            by_principal[limit.principal] = RateLimit(_rate("qps", limit.qps), capacity)
    default = None
    if message.HasField("aggregate_default_qps"):
        name = "aggregate_default_capacity"
        default = RateLimit(
            _rate("aggregate_default_qps", message.aggregate_default_qps),
            message.aggregate_default_capacity if message.HasField(name) else None,
        )
    return RateLimits(by_principal, default)


def _rate(name: str, qps: float) -> float:
    if not isfinite(qps) or qps <= 0:
        raise ValueError(f"Invalid {name}: {qps:g}. It must be a positive number")
    return qps


class Limiter:
    """
    Lets one thing pass after the other, evenly spaced, as libprocess' C{RateLimiter}.

    @ivar limit: how fast.
    @ivar waiting: how many calls wait; kept by who lets them.
    """

    __slots__ = ("_next", "limit", "waiting")

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.waiting = 0
        self._next = 0.0

    @property
    def full(self) -> bool:
        """Whether no more calls may wait."""
        capacity = self.limit.capacity
        return capacity is not None and self.waiting >= capacity

    def delay(self, now: float) -> float:
        """Return seconds until something may pass."""
        return max(0.0, self._next - now)

    def pass_one(self, now: float) -> None:
        """Something passes."""
        self._next = max(self._next, now - SLACK) + 1 / self.limit.qps


class Limiters:
    """The limiters of all principals, made when they are first needed."""

    def __init__(self, limits: RateLimits) -> None:
        self._by_principal = {
            name: None if limit is None else Limiter(limit)
            for name, limit in limits.by_principal.items()
        }
        self._default = None if limits.default is None else Limiter(limits.default)

    def of(self, principal: str | None) -> Limiter | None:
        """Return what frameworks of this principal share; L{None} where they are not limited."""
        if principal is not None and principal in self._by_principal:
            return self._by_principal[principal]
        return self._default
