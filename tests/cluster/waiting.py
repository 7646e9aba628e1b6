"""Waiting for what must come about: a condition, looked at until a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

reactor = cast(Any, _reactor)

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds after which what has not come about will not, on the busiest of machines."""

INTERVAL = 0.02


async def until(
    what: str,
    condition: Callable[[], T],
    timeout: float = PATIENCE,
    interval: float = INTERVAL,
    seen: Callable[[], object] = lambda: "",
) -> T:
    """
    Return the first result of C{condition} that counts as true.

    @param what: for the AssertionError where there is none in time.
    @param seen: says what there was instead.
    """
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"within {timeout:g} s not: {what}. {seen()}")
        await deferLater(reactor, interval)


async def until_async(
    what: str,
    condition: Callable[[], Coroutine[Deferred[Any], Any, T]],
    timeout: float = PATIENCE,
    seen: Callable[[], object] = lambda: "",
) -> T:
    """Do as L{until} does, for a condition that has to be waited for."""
    deadline = time.monotonic() + timeout
    while True:
        result = await Deferred.fromCoroutine(condition())
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"within {timeout:g} s not: {what}. {seen()}")
        await deferLater(reactor, INTERVAL)


async def pause(seconds: float) -> None:
    """Let time pass, where what must not happen has to have its chance."""
    await deferLater(reactor, seconds)
