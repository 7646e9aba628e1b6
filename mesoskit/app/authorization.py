"""How daemons are told who may do what: C{--acls} and C{--authorizers}, and what they make."""

from collections.abc import Callable
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

_ACLS: Final = Flag(
    "acls",
    text,
    None,
    "Who may do what: JSON, or the path of a file of it, which is read again when it has changed."
    " Without it everything is allowed.",
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


def authorizer(values: Values, flag: str, seconds: Callable[[], float]) -> "IAuthorizer | None":
    """
    Return who decides, L{None} where everything is allowed. Raises L{AuthorizationError}.

    @param flag: the name of the flag that says who: C{authorizers}, C{authorizer}.
    @param seconds: the clock by which a file of ACLs is looked at.
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
    from mesoskit.app.acl_file import FileAuthorizer
    from mesoskit.model.authorization_acls import LocalAuthorizer
    from mesoskit.model.authorization_text import AclError, parse_acls

    try:
        if given.lstrip().startswith("{"):
            return LocalAuthorizer(parse_acls(given))
        return FileAuthorizer(given.removeprefix("file://"), seconds)
    except AclError as error:
        raise AuthorizationError(f"--acls: {error}") from None


def _warn(values: Values) -> None:
    """Say where ACLs are asked about people who may call themselves what they like."""
    missing = [f"--{name}" for name in _PROOFS if getattr(values, name, None) is False]
    if missing:
        log.warn(
            "There are ACLs, but not everybody must prove who he is: that takes {flags}",
            flags=", ".join(missing),
        )


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
