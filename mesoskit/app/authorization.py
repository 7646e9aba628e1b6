"""How daemons are told who may do what: C{--acls} and C{--authorizers}, and what they make."""

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twisted.logger import Logger

from mesoskit.flags import Flag, Values, text

if TYPE_CHECKING:
    from mesoskit.model.authorization import IAuthorizer

LOCAL: Final = "local"
"""Mesos' name for the authorizer that goes by ACLs."""

_EXPECTED: Final = "--acls: expected JSON that begins with {, or the path of a file"

_PROOFS: Final = (
    "authenticate_frameworks",
    "authenticate_agents",
    "authenticate_http_frameworks",
    "authenticate_http_readonly",
    "authenticate_http_readwrite",
)
"""Flags that have people prove who they are."""

_LONGEST_FILE: Final = 4 * 1024 * 1024

_ACLS: Final = Flag(
    "acls",
    text,
    None,
    "Who may do what: JSON, or the path of a file of it. Without it everything is allowed.",
    is_path=True,
)


def _authorizer_flag(name: str, alias: str) -> Flag:
    return Flag(
        name,
        text,
        LOCAL,
        "Who decides what is allowed: local, which goes by --acls, or the dotted name of a function"
        " that is called with the value of --acls and returns an IAuthorizer.",
        aliases=(alias,),
    )


MASTER_FLAGS: Final = (_ACLS, _authorizer_flag("authorizers", "authorizer"))

AGENT_FLAGS: Final = (_ACLS, _authorizer_flag("authorizer", "authorizers"))


log = Logger()


class AuthorizationError(ValueError):
    """The flags about authorisation cannot be used."""


def authorizer(values: Values, flag: str) -> "IAuthorizer | None":
    """
    Return who decides, L{None} where everything is allowed. Raises L{AuthorizationError}.

    @param flag: the name of the flag that says who: C{authorizers}, C{authorizer}.
    """
    name, given = getattr(values, flag), values.acls
    if name != LOCAL:
        plugged: IAuthorizer = _plugged(flag, name, given)
        return plugged
    if given is None:
        return None
    if not given.strip():
        raise AuthorizationError(_EXPECTED)
    _warn(values)
    from mesoskit.model.authorization_acls import LocalAuthorizer
    from mesoskit.model.authorization_text import AclError, parse_acls

    try:
        if given.lstrip().startswith("{"):
            acls = parse_acls(given)
        else:
            path = given.removeprefix("file://")
            acls = parse_acls(_read(path), path)
    except AclError as error:
        raise AuthorizationError(f"--acls: {error}") from None
    return LocalAuthorizer(acls)


def _warn(values: Values) -> None:
    """Say where ACLs are asked about people who may call themselves what they like."""
    missing = [f"--{name}" for name in _PROOFS if getattr(values, name, None) is False]
    if missing:
        log.warn(
            "There are ACLs, but not everybody must prove who he is: that takes {flags}",
            flags=", ".join(missing),
        )


def _read(path: str) -> str:
    """Return the text of a file of ACLs, which not everybody may write."""
    try:
        # A named pipe in its place must not make anybody wait.
        descriptor = os.open(Path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise AuthorizationError(f"--acls: cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise AuthorizationError(_EXPECTED) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise AuthorizationError(f"--acls: {path} is no file")
        if status.st_mode & stat.S_IWOTH:
            raise AuthorizationError(
                f"--acls: {path}: everybody may write it (mode {status.st_mode & 0o777:04o}), and"
                f" so decide what he may do; chmod o-w {path}"
            )
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(_LONGEST_FILE + 1)
    finally:
        os.close(descriptor)
    if len(data) > _LONGEST_FILE:
        raise AuthorizationError(f"--acls: {path} is larger than {_LONGEST_FILE} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise AuthorizationError(f"--acls: {path}, line {line}: is not UTF-8 text") from None


def _plugged(flag: str, name: str, given: str | None) -> Any:
    """Return what a function of somebody else's makes."""
    from twisted.python.reflect import namedAny

    from mesoskit.model.authorization import IAuthorizer
    from mesoskit.web.authorizing import Careful

    try:
        made = namedAny(name)(given)  # type: ignore[no-untyped-call]
    except Exception as error:
        # Whatever happens in there, the user reads one line about it.
        raise AuthorizationError(f"--{flag}: cannot use {name!r}: {error}") from error
    if not IAuthorizer.providedBy(made):
        raise AuthorizationError(
            f"--{flag}: {name!r} returned {type(made).__name__}, which is no IAuthorizer"
        )
    return Careful(made)
