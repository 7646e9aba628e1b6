"""ACLs in a file, which counts as it is now."""

import stat
from collections.abc import Callable
from typing import Final

from twisted.logger import Logger
from zope.interface import implementer

from mesoskit.model.authorization import Action, IAuthorizer, Thing
from mesoskit.model.authorization_acls import LocalAuthorizer
from mesoskit.model.authorization_text import AclError, parse_acls
from mesoskit.wire.files import FileRefused, read_text, stamp

INTERVAL: Final = 5.0
"""Seconds between two looks at the file, at least."""

_ADVICE: Final = (
    "everybody may write it (mode {mode}), and so decide what he may do; chmod o-w {path}"
)


@implementer(IAuthorizer)
class FileAuthorizer:
    """
    Decides by the ACLs in a file, read again when it has changed and somebody asks.

    Where it has become useless that is logged, once, and what stood there before goes on to count.
    """

    log = Logger()

    def __init__(self, path: str, seconds: Callable[[], float]) -> None:
        """
        Read it. Raises L{AclError}.

        @param path: of the file.
        @param seconds: tells the time.
        """
        self.path = path
        self._seconds = seconds
        self._seen = stamp(self.path)
        self._next = seconds() + INTERVAL
        self._rules = LocalAuthorizer(parse_acls(read_acls(path), path))

    def prepare(self, principal: str | None) -> None:
        """There is nothing to wait for."""
        self._read_again()

    def allows(self, principal: str | None, action: Action, thing: Thing) -> bool:
        """Say whether somebody may do something."""
        self._read_again()
        return self._rules.allows(principal, action, thing)

    def _read_again(self) -> None:
        now = self._seconds()
        if now < self._next:
            return
        self._next = now + INTERVAL
        seen = stamp(self.path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._rules = LocalAuthorizer(parse_acls(read_acls(self.path), self.path))
            self.log.info("The ACLs in {path} have changed and were read again", path=self.path)
        except AclError as error:
            self.log.error("The ACLs of before go on to count: {error}", error=error)


def read_acls(path: str) -> str:
    """Return the text of a file of ACLs, which not everybody may write. Raises L{AclError}."""
    if "\0" in path:
        raise AclError("expected JSON that begins with {, or the path of a file")
    try:
        return read_text(path, denied=stat.S_IWOTH, advice=_ADVICE)
    except FileRefused as error:
        raise AclError(str(error)) from None
