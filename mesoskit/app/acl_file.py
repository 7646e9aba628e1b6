"""ACLs in a file, which counts as it is now."""

import os
import stat
from collections.abc import Callable
from typing import Final

from twisted.logger import Logger
from zope.interface import implementer

from mesoskit.model.authorization import Action, IAuthorizer, Thing
from mesoskit.model.authorization_acls import LocalAuthorizer
from mesoskit.model.authorization_text import AclError, parse_acls

INTERVAL: Final = 5.0
"""Seconds between two looks at the file, at least."""

_LONGEST_FILE: Final = 4 * 1024 * 1024


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
        self._seen = self._look()
        self._next = seconds() + INTERVAL
        self._rules = LocalAuthorizer(parse_acls(read_acls(path), path))

    def prepare(self, principal: str | None) -> None:
        """There is nothing to wait for."""
        self._read_again()

    def allows(self, principal: str | None, action: Action, thing: Thing) -> bool:
        """Say whether somebody may do something."""
        if self._seconds() >= self._next:
            self._read_again()
        return self._rules.allows(principal, action, thing)

    def _read_again(self) -> None:
        now = self._seconds()
        if now < self._next:
            return
        self._next = now + INTERVAL
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._rules = LocalAuthorizer(parse_acls(read_acls(self.path), self.path))
            self.log.info("The ACLs in {path} have changed and were read again", path=self.path)
        except AclError as error:
            self.log.error("The ACLs of before go on to count: {error}", error=error)

    def _look(self) -> tuple[int, ...]:
        try:
            status = os.stat(self.path)
        except (OSError, ValueError):
            return ()
        return status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode


def read_acls(path: str) -> str:
    """Return the text of a file of ACLs, which not everybody may write. Raises L{AclError}."""
    try:
        # A named pipe in its place must not make anybody wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise AclError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise AclError("expected JSON that begins with {, or the path of a file") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise AclError(f"{path} is no file")
        if status.st_mode & stat.S_IWOTH:
            raise AclError(
                f"{path}: everybody may write it (mode {status.st_mode & 0o777:04o}), and"
                f" so decide what he may do; chmod o-w {path}"
            )
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(_LONGEST_FILE + 1)
    finally:
        os.close(descriptor)
    if len(data) > _LONGEST_FILE:
        raise AclError(f"{path} is larger than {_LONGEST_FILE} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise AclError(f"{path}, line {line}: is not UTF-8 text") from None
