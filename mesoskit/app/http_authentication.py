"""How daemons are told who is believed over HTTP: flags, and the guard they make."""

from typing import TYPE_CHECKING, Any, Final

from mesoskit.app.authentication import AuthenticationError, file_checker, made
from mesoskit.flags import Flag, Values, boolean, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from mesoskit.web.authentication import Guard, Realm


def names(value: str) -> tuple[str, ...]:
    """Read C{--http_authenticators}: names separated by commas."""
    found = tuple(name.strip() for name in value.split(","))
    if not all(found):
        raise ValueError("expected names separated by commas, such as basic")
    if len(set(found)) != len(found):
        raise ValueError("each name once is enough")
    return found


_WAYS: Final = (
    "or the dotted name of a function that is called with the realm's name and the path of the"
    " credentials, and returns an IHttpAuthenticator, an ICredentialsChecker or a Portal; several"
    " with commas between, of which one must believe."
)

_HTTP_FLAGS: Final = (
    Flag(
        "authenticate_http_readonly",
        boolean,
        False,
        "Answer HTTP requests that change nothing to those alone who prove who they are.",
    ),
    Flag(
        "authenticate_http_readwrite",
        boolean,
        False,
        "The same for HTTP requests that may change something, the operator API among them.",
        aliases=("authenticate_http",),
    ),
)

MASTER_FLAGS: Final = (
    *_HTTP_FLAGS,
    Flag(
        "authenticate_http_frameworks",
        boolean,
        False,
        "Let only authenticated frameworks use the v1 scheduler API over HTTP; needs"
        " --http_framework_authenticators.",
    ),
    Flag(
        "http_authenticators",
        names,
        ("basic",),
        f"How it is found out who asks over HTTP: basic, {_WAYS}",
        written="basic",
    ),
    Flag(
        "http_framework_authenticators",
        names,
        None,
        f"The same for frameworks over HTTP: basic, {_WAYS}",
    ),
)

AGENT_FLAGS: Final = (
    *_HTTP_FLAGS,
    Flag(
        "authenticate_http_executors",
        boolean,
        False,
        "Let executors speak only when they have proved which container they are, by the token"
        " in their environment; needs --jwt_secret_key.",
    ),
    Flag(
        "http_authenticators",
        names,
        None,
        "How it is found out who asks over HTTP: basic (the default, with jwt where executors are"
        f" authenticated), jwt (tokens of executors), {_WAYS}",
    ),
    Flag(
        "http_credentials",
        text,
        None,
        'A file of the credentials of those who ask the agent over HTTP, {"credentials":'
        ' [{"principal": ..., "secret": ...}]}; nobody but its owner may read it. Read again'
        " when it has changed.",
        is_path=True,
    ),
    Flag(
        "jwt_secret_key",
        text,
        None,
        "A file of the key that the tokens of executors are signed with, 32 bytes or more;"
        " nobody but its owner may read it.",
        aliases=("executor_secret_key",),
        is_path=True,
    ),
)


def master_guard(values: Values, clock: "IReactorTime") -> "Guard":
    """Return what finds out who comes to the master over HTTP. Raises L{AuthenticationError}."""
    from mesoskit.web.authentication import Guard, Realm

    ways = _Ways("master", "credentials", values.credentials, "http_authenticators")
    asked: dict[Realm, list[Any]] = {}
    if values.authenticate_http_readonly:
        asked[Realm.READONLY] = ways.make(Realm.READONLY, values.http_authenticators)
    if values.authenticate_http_readwrite:
        asked[Realm.READWRITE] = ways.make(Realm.READWRITE, values.http_authenticators)
    if values.authenticate_http_frameworks:
        if values.http_framework_authenticators is None:
            raise AuthenticationError(
                "Missing `--http_framework_authenticators` flag. This must be used in conjunction"
                " with `--authenticate_http_frameworks`; basic would do"
            )
        ways.flag = "http_framework_authenticators"
        asked[Realm.FRAMEWORKS] = ways.make(Realm.FRAMEWORKS, values.http_framework_authenticators)
    return Guard("master", clock, asked)


def agent_guard(values: Values, clock: "IReactorTime", key: bytes | None) -> "Guard":
    """
    Return what finds out who comes to the agent over HTTP. Raises L{AuthenticationError}.

    @param key: L{secret_key}.
    """
    from mesoskit.web.authentication import Guard, Realm

    if values.authenticate_http_executors and key is None:
        raise AuthenticationError(
            "--jwt_secret_key must be specified when --authenticate_http_executors is set to true"
        )
    chosen = values.http_authenticators
    executors = chosen or ("basic", "jwt")
    others = chosen or (executors if values.authenticate_http_executors else ("basic",))
    if chosen is None and values.http_credentials is None:
        # Mesos refuses to start here; executors by themselves need no names and secrets.
        executors = ("jwt",)
    ways = _Ways("agent", "http_credentials", values.http_credentials, "http_authenticators")
    ways.key, ways.seconds = key, clock.seconds
    asked = {
        realm: ways.make(realm, some)
        for realm, wanted, some in (
            (Realm.READONLY, values.authenticate_http_readonly, others),
            (Realm.READWRITE, values.authenticate_http_readwrite, others),
            (Realm.EXECUTORS, values.authenticate_http_executors, executors),
        )
        if wanted
    }
    return Guard("agent", clock, asked, nameless=True)


def secret_key(values: Values) -> bytes | None:
    """Return the key of C{--jwt_secret_key}. Raises L{AuthenticationError}."""
    from mesoskit.wire.auth.credentials import CredentialError, key_file

    if values.jwt_secret_key is None:
        return None
    try:
        return key_file(values.jwt_secret_key)
    except CredentialError as error:
        raise AuthenticationError(f"--jwt_secret_key: {error}") from None


def token_maker(key: bytes | None) -> "Callable[[str, str, str], str] | None":
    """Return what makes executors' tokens, with the claims that Mesos has in them."""
    if key is None:
        return None
    from mesoskit.wire.auth import jwt

    def make(framework_id: str, executor_id: str, container_id: str) -> str:
        return jwt.sign({"fid": framework_id, "eid": executor_id, "cid": container_id}, key)

    return make


class _Ways:
    """Makes authenticators of their names, for one daemon."""

    def __init__(self, daemon: str, credentials: str, path: str | None, flag: str) -> None:
        self.flag = flag
        self.key: bytes | None = None
        self.seconds: Callable[[], float] | None = None
        self._daemon = daemon
        self._credentials = credentials
        self._path = path
        self._checker: Any = None

    def make(self, realm: "Realm", wanted: tuple[str, ...]) -> list[Any]:
        """Return the authenticators of a realm."""
        name = f"mesos-{self._daemon}-{realm.value}"
        return [self._one(name, way) for way in wanted]

    def _one(self, realm: str, way: str) -> Any:
        if way == "basic":
            return self._basic(realm)
        if way == "jwt":
            return self._jwt(realm)
        return _plugged_http(self.flag, way, realm, self._path)

    def _basic(self, realm: str) -> Any:
        from mesoskit.web.authentication_basic import BasicAuthenticator

        if self._path is None:
            raise AuthenticationError(
                "No credentials provided for the default 'basic' HTTP authenticator for realm"
                f" '{realm}': give --{self._credentials}"
            )
        if self._checker is None:
            self._checker = file_checker(self._credentials, self._path)
        return BasicAuthenticator(realm, self._checker)

    def _jwt(self, realm: str) -> Any:
        from mesoskit.web.authentication_jwt import JwtAuthenticator

        if self.key is None or self.seconds is None:
            more = (
                ": give --jwt_secret_key" if self._daemon == "agent" else "; only agents have one"
            )
            raise AuthenticationError(
                "No secret key provided for the default 'jwt' HTTP authenticator for realm"
                f" '{realm}'{more}"
            )
        return JwtAuthenticator(realm, self.key, self.seconds)


def _plugged_http(flag: str, name: str, realm: str, path: str | None) -> Any:
    """Return an authenticator over HTTP that a function of somebody else's makes."""
    from twisted.cred.checkers import ICredentialsChecker
    from twisted.cred.portal import Portal

    from mesoskit.web.authentication import IHttpAuthenticator
    from mesoskit.web.authentication_basic import BasicAuthenticator, PortalChecker

    result = made(flag, name, realm, path)
    if isinstance(result, Portal):
        result = PortalChecker(result)
    if IHttpAuthenticator.providedBy(result):
        return result
    if ICredentialsChecker.providedBy(result):
        return BasicAuthenticator(realm, result)
    raise AuthenticationError(
        f"--{flag}: {name!r} returned {type(result).__name__}, which is no IHttpAuthenticator,"
        " ICredentialsChecker or Portal"
    )
