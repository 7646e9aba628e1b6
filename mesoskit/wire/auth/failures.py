"""Who failed to prove who he is, and for how long he is not listened to then.

Each address has a few failures free, which come back one after the other. When they are used
up, nobody there guesses faster than that. Over HTTP what comes from there with a credential is
refused unseen, except a credential that was believed from there lately: who shares an address with
a guesser works on. On native links, where an exchange is begun before anybody is named, only the
bad news are late: whoever is believed hears so at once.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from ipaddress import IPv6Address
from math import ceil
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mesoskit.wire.exchange import Away

FREE: Final = 20
"""Failures in a row that an address has free."""

EVERY: Final = 2.0
"""Seconds after which one more is."""

_MOST: Final = 4096
"""So many addresses, and as many believed credentials, are remembered; the oldest are forgotten."""


class Failures:
    """
    Failures of a daemon, by address.

    @ivar count: how many there were.
    @ivar limited: how many requests were refused unseen.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, free: int = FREE, every: float = EVERY) -> None:
        self.count = self.limited = 0
        self._clock = clock
        self._free = free
        self._every = every
        # When each address will have all of its failures free again.
        self._until: OrderedDict[str, float] = OrderedDict()
        self._believed: OrderedDict[bytes, None] = OrderedDict()
        self._key = secrets.token_bytes(32)

    def gate(self, peer: str, shown: str) -> Away | None:
        """
        Say why a credential from there is not looked at, or return L{None}.

        @param shown: the header that it is in.
        """
        if not self._until:
            return None
        address = address_of(peer)
        until = self._until.get(address)
        if until is None:
            return None
        wait = until - self._clock.seconds() - (self._free - 1) * self._every
        if wait <= 0 or self._mark(address, shown) in self._believed:
            return None
        self.limited += 1
        return Away(
            429,
            f"Too many failures to authenticate from {address}; try again in {ceil(wait)} s",
            {"Retry-After": str(ceil(wait))},
        )

    def failed(self, peer: str) -> float:
        """
        A credential from there was not believed; return for how many seconds that should not be
        told where it was looked at all the same.
        """
        self.count += 1
        address, now = address_of(peer), self._clock.seconds()
        until = max(now, self._until.pop(address, now)) + self._every
        self._until[address] = until
        if until - now > (self._free - 1) * self._every:
            self.log.warn("{address} fails to authenticate too often", address=address)
        if len(self._until) > _MOST:
            self._until.popitem(last=False)
        return max(0.0, until - now - self._free * self._every)

    def later(self, delay: float, function: Callable[[], object]) -> None:
        """Call a function when bad news may be told."""
        self._clock.callLater(delay, function)

    def believed(self, peer: str, shown: str | None) -> None:
        """A credential from there was believed."""
        if shown is None:
            return
        mark = self._mark(address_of(peer), shown)
        believed = self._believed
        if mark in believed:
            believed.move_to_end(mark)
            return
        believed[mark] = None
        if len(believed) > _MOST:
            believed.popitem(last=False)

    def _mark(self, address: str, shown: str) -> bytes:
        """Return what stands for a credential: nothing that it could be had from again."""
        said = f"{address} {shown}".encode()
        return blake2b(said, key=self._key, digest_size=16).digest()


def address_of(peer: str) -> str:
    """Return the address in C{127.0.0.1:4711}; of an IPv6 address the network that is one's own."""
    host, colon, _ = peer.rpartition(":")
    if not colon:
        return peer
    if not host.startswith("["):
        return host
    try:
        address = IPv6Address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host
    network = int(address) >> 64 << 64
    return f"{IPv6Address(network)}/64"
