"""Who a task runs as: names to numbers, looked up in a thread and kept for a while."""

import os
import pwd
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool

T = TypeVar("T")


class UserError(Exception):
    """A user is unknown here, or we may not run anything as him; the message names him."""


class Credentials(NamedTuple):
    """What the kernel knows of a user: numbers, and all groups he is a member of."""

    user: int
    group: int
    groups: tuple[int, ...]


def look_up(name: str) -> Credentials | None:
    """
    Return the credentials of a user; L{None} for the user that we are.

    May take long where users are kept in a directory on the network. Raises L{UserError}.
    """
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError, UnicodeError):
        raise UserError(f"there is no user {name!r} on this machine") from None
    if entry.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        own = os.geteuid()
        raise UserError(
            f"cannot run as {name!r}: the agent is not root but user {own}; start it as root,"
            " or with --no-switch_user, for all tasks to run as the agent"
        )
    groups = os.getgrouplist(name, entry.pw_gid)
    return Credentials(entry.pw_uid, entry.pw_gid, tuple(groups))


class InThread(Protocol):
    """Calls a function in a thread, and gives what it returns or raises."""

    def __call__(self, function: Callable[[], T]) -> "Deferred[T]":
        """Call it."""
        ...


def in_thread_of(reactor: Any) -> InThread:
    """Return what runs functions in the thread pool of a reactor (C{IReactorThreads})."""

    def run(function: Callable[[], T]) -> "Deferred[T]":
        pool = reactor.getThreadPool()
        return deferToThreadPool(reactor, pool, function)

    return run


class Users:
    """
    The users that tasks run as.

    @ivar keep: seconds for which what was found is believed.
    """

    def __init__(self, clock: IReactorTime, in_thread: InThread, keep: float = 60.0) -> None:
        self.keep = keep
        self._clock = clock
        self._in_thread = in_thread
        self._known: dict[str, tuple[float, Credentials | None]] = {}

    def find(self, name: str | None) -> "Deferred[Credentials | None]":
        """Give a user's credentials; L{None} for our own user. Fails with L{UserError}."""
        if name is None:
            return succeed(None)
        known = self._known.get(name)
        now = self._clock.seconds()
        if known is not None and now < known[0]:
            return succeed(known[1])

        def found(credentials: Credentials | None) -> Credentials | None:
            # A framework may name users at will: what is over goes before there is too much.
            if len(self._known) >= 1024:
                self._known.clear()
            self._known[name] = (now + self.keep, credentials)
            return credentials

        return self._in_thread(lambda: look_up(name)).addCallback(found)
