"""How daemons are told who is believed and who they are: flags, and what they make."""

from typing import TYPE_CHECKING, Any, Final

from mesoskit.flags import Flag, Values, boolean, duration, text

if TYPE_CHECKING:
    from mesoskit.wire.auth.admission import Admission
    from mesoskit.wire.auth.identity import Identity

DEFAULT: Final = "crammd5"
"""Mesos' name for what it has by default; here it stands for SCRAM-SHA-256 besides CRAM-MD5."""


def mechanism(value: str) -> str:
    """Read C{--minimum_mechanism}."""
    from mesoskit.wire.auth.mechanisms import at_least

    name = value.upper().replace("_", "-")
    at_least(name)
    return name


def _minimum(what: str) -> Flag:
    return Flag(
        "minimum_mechanism",
        mechanism,
        "CRAM-MD5",
        f"The weakest SASL mechanism that {what}: CRAM-MD5, all that Mesos' own programs know, or"
        " SCRAM-SHA-256.",
    )


MASTER_FLAGS: Final = (
    Flag(
        "authenticate_frameworks",
        boolean,
        False,
        "Let only authenticated frameworks register, but for those over HTTP.",
        aliases=("authenticate",),
    ),
    Flag(
        "authenticate_agents",
        boolean,
        False,
        "Let only authenticated agents register.",
        aliases=("authenticate_slaves",),
    ),
    Flag(
        "credentials",
        text,
        None,
        'A file of the credentials of frameworks and agents, {"credentials": [{"principal": ...,'
        ' "secret": ...}]}; nobody but its owner may read it. Read again when it has changed.',
        is_path=True,
    ),
    Flag(
        "authenticators",
        text,
        DEFAULT,
        "How frameworks and agents are authenticated: crammd5, or the dotted name of a function"
        " that is called with the path of --credentials and returns an IAuthenticator.",
    ),
    Flag(
        "authentication_v0_timeout",
        duration,
        15.0,
        "How long a framework or an agent may take to authenticate.",
    ),
    _minimum("is taken from frameworks and agents"),
)

AGENT_FLAGS: Final = (
    Flag(
        "credential",
        text,
        None,
        'A file of the credential for the master, {"principal": ..., "secret": ...}; nobody but'
        " its owner may read it. Read again when it has changed.",
        is_path=True,
    ),
    Flag(
        "authenticatee",
        text,
        DEFAULT,
        "How the agent authenticates: crammd5, or the dotted name of a function that is called"
        " with the path of --credential and returns an IAuthenticatee.",
    ),
    Flag(
        "authentication_timeout_min",
        duration,
        5.0,
        "How long authenticating may take at least before it is tried again.",
    ),
    Flag("authentication_timeout_max", duration, 60.0, "The same, at most."),
    Flag(
        "authentication_backoff_factor",
        duration,
        1.0,
        "By up to how much that time exceeds the minimum at first; doubled each time.",
    ),
    _minimum("the agent proves itself by"),
)


class AuthenticationError(ValueError):
    """The flags about authentication do not go together, or what they name cannot be used."""


def admission(values: Values) -> "Admission":
    """Return what lets peers of the master in. Raises L{AuthenticationError}."""
    from mesoskit.messages.stream_pb2 import Role
    from mesoskit.wire.auth.admission import Admission
    from mesoskit.wire.auth.authenticator import Authenticator, IAuthenticator
    from mesoskit.wire.auth.checkers import nobody

    required = []
    if values.authenticate_frameworks:
        required.append(Role.FRAMEWORK)
    if values.authenticate_agents:
        required.append(Role.AGENT)
    if required:
        # Who may do more than either may not be asked less.
        required.append(Role.TOOL)
    if values.authentication_v0_timeout <= 0:
        raise AuthenticationError("--authentication_v0_timeout: must be more than 0")
    path = values.credentials
    if values.authenticators != DEFAULT:
        return Admission(_plugged("authenticators", values, path, IAuthenticator), required)
    if path is None and required:
        raise AuthenticationError(
            "--authenticate_frameworks and --authenticate_agents need --credentials: nobody could"
            " come in without"
        )
    checker = nobody() if path is None else file_checker("credentials", path)
    return Admission(Authenticator(checker, values.minimum_mechanism), required)


def file_checker(flag: str, path: str) -> Any:
    """Return what holds claims against the secrets in a file. Raises L{AuthenticationError}."""
    from mesoskit.wire.auth.checkers import of_file
    from mesoskit.wire.auth.credentials import CredentialError, credentials_file

    try:
        return of_file(credentials_file(path))
    except CredentialError as error:
        raise AuthenticationError(f"--{flag}: {error}") from None


def identity(values: Values, pid: str) -> "Identity | None":
    """
    Return who an agent is to its master, L{None} where it is nobody in particular. Raises
    L{AuthenticationError}.

    @param pid: what the agent names itself there.
    """
    from mesoskit.wire.auth.authenticatee import Authenticatee, IAuthenticatee
    from mesoskit.wire.auth.credentials import CredentialError, credential_file
    from mesoskit.wire.auth.identity import Identity, Patience

    try:
        patience = Patience(
            values.authentication_timeout_min,
            values.authentication_timeout_max,
            values.authentication_backoff_factor,
        )
    except ValueError as error:
        raise AuthenticationError(f"--{error}") from None
    path = values.credential
    if values.authenticatee != DEFAULT:
        return Identity(_plugged("authenticatee", values, path, IAuthenticatee), pid, patience)
    if path is None:
        return None
    try:
        file = credential_file(path)
    except CredentialError as error:
        raise AuthenticationError(f"--credential: {error}") from None
    return Identity(Authenticatee(file.current, values.minimum_mechanism), pid, patience)


def _plugged(flag: str, values: Values, path: str | None, interface: Any) -> Any:
    """Return what a function of somebody else's makes."""
    name = getattr(values, flag)
    result = made(flag, name, path)
    if not interface.providedBy(result):
        what = type(result).__name__
        raise AuthenticationError(
            f"--{flag}: {name!r} returned {what}, which is no {interface.__name__}"
        )
    return result


def made(flag: str, name: str, *arguments: Any) -> Any:
    """Return what the function of this dotted name returns."""
    from twisted.python.reflect import namedAny

    try:
        return namedAny(name)(*arguments)  # type: ignore[no-untyped-call]
    except Exception as error:
        # Whatever happens in there, the user reads one line about it.
        raise AuthenticationError(f"--{flag}: cannot use {name!r}: {error}") from error
