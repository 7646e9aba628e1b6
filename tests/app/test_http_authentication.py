"""The flags about who is believed over HTTP, and what they become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.cred.portal import IRealm, Portal
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from mesoskit.app import agent, http_authentication, master
from mesoskit.app.authentication import AuthenticationError
from mesoskit.flags import FlagError
from mesoskit.web.authentication import IHttpAuthenticator, Realm
from mesoskit.web.authentication_basic import BasicAuthenticator, PortalChecker
from mesoskit.web.authentication_jwt import JwtAuthenticator
from mesoskit.wire.auth import jwt
from mesoskit.wire.auth.checkers import SecretsChecker, of_mapping
from mesoskit.wire.exchange import Asked, Principal
from tests.base import SynchronousTestCase

HERE = "tests.app.test_http_authentication"
CREDENTIALS = '{"credentials": [{"principal": "ops", "secret": "s"}]}'


@implementer(IHttpAuthenticator)
class Plugged:
    """Believes everybody."""

    scheme = "Any"

    def __init__(self, realm: str, path: str | None) -> None:
        self.realm = realm
        self.path = path

    def authenticate(self, asked: Asked) -> Principal:
        return Principal("anybody")


@implementer(IRealm)
class _Realm:
    """Is never asked here."""

    def requestAvatar(self, avatar_id: Any, mind: Any, *interfaces: Any) -> Any:
        raise NotImplementedError


def checker(realm: str, path: str | None) -> SecretsChecker:
    return of_mapping({"a": "b"})


def portal(realm: str, path: str | None) -> Portal:
    return Portal(_Realm(), [of_mapping({"a": "b"})])


class GuardTests(SynchronousTestCase):
    """Flags of both daemons."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.credentials = self.file("credentials.json", CREDENTIALS)
        self.key = self.file("key", "0123456789abcdef0123456789abcdef\n")

    def file(self, name: str, content: str, mode: int = 0o600) -> str:
        path = self.directory / name
        path.write_text(content)
        path.chmod(mode)
        return str(path)

    def master(self, *arguments: str) -> Any:
        """Make a master."""
        given = master.FLAGS.parse([f"--work_dir={self.directory}/m", *arguments], {})
        return master.make_master(Clock(), given)

    def agent(self, *arguments: str) -> Any:
        """Make an agent."""
        here = [f"--work_dir={self.directory}/a", f"--runtime_dir={self.directory}/r"]
        (self.directory / "r").mkdir(mode=0o700, exist_ok=True)
        given = agent.FLAGS.parse([*here, "--master=127.0.0.1:5050", *arguments], {})
        return agent.make_agent(MemoryReactorClock(), given)

    def asked(self, service: Any) -> dict[str, list[str]]:
        """Return the schemes of each realm that asks."""
        return {
            realm.value: [one.scheme for one in some] for realm, some in service.guard._of.items()
        }

    def test_nobody_is_asked_by_default(self) -> None:
        self.assertEqual({}, self.asked(self.master()))
        self.assertEqual({}, self.asked(self.agent()))

    def test_who_is_asked_by_a_master(self) -> None:
        credentials = f"--credentials={self.credentials}"
        for flags, realms in (
            (["--authenticate_http_readonly"], ["readonly"]),
            (["--authenticate_http_readwrite"], ["readwrite"]),
            (["--authenticate_http"], ["readwrite"]),
            (
                ["--authenticate_http_frameworks", "--http_framework_authenticators=basic"],
                ["scheduler"],
            ),
        ):
            made = self.master(*flags, credentials)
            self.assertEqual({realm: ["Basic"] for realm in realms}, self.asked(made), flags)

    def test_who_is_asked_by_an_agent(self) -> None:
        credentials, key = (
            f"--http_credentials=file://{self.credentials}",
            f"--jwt_secret_key={self.key}",
        )
        both = ["--authenticate_http_readonly", "--authenticate_http_readwrite"]
        executors = "--authenticate_http_executors"
        for flags, expected in (
            ([*both, credentials], {"readonly": ["Basic"], "readwrite": ["Basic"]}),
            ([executors, key], {"executor": ["Bearer"]}),
            ([executors, key, credentials], {"executor": ["Basic", "Bearer"]}),
            ([executors, f"--executor_secret_key={self.key}"], {"executor": ["Bearer"]}),
            (
                [executors, both[0], key, credentials],
                {"executor": ["Basic", "Bearer"], "readonly": ["Basic", "Bearer"]},
            ),
            ([both[0], "--http_authenticators=jwt", key], {"readonly": ["Bearer"]}),
        ):
            self.assertEqual(expected, self.asked(self.agent(*flags)), flags)

    def test_realms_are_named_as_by_mesos(self) -> None:
        made = self.master(
            "--authenticate_http_readonly",
            "--authenticate_http_frameworks",
            "--http_framework_authenticators=basic",
            f"--credentials={self.credentials}",
        )
        for realm, name in (
            (Realm.READONLY, "mesos-master-readonly"),
            (Realm.FRAMEWORKS, "mesos-master-scheduler"),
        ):
            ((one,),) = [some for of, some in made.guard._of.items() if of is realm]
            self.assertIsInstance(one, BasicAuthenticator)
            self.assertEqual(f'Basic realm="{name}"', one._away.headers["WWW-Authenticate"])

    def test_tokens_are_signed_with_the_whole_of_the_file(self) -> None:
        made = self.agent("--authenticate_http_executors", f"--jwt_secret_key={self.key}")
        options = made.state.options
        self.assertTrue(options.authenticate_http_executors)
        token = options.authentication_token("f", "e", "c")
        claims = {"fid": "f", "eid": "e", "cid": "c"}
        self.assertEqual(claims, jwt.verify(token, Path(self.key).read_bytes(), 0.0))
        (one,) = made.guard._of[Realm.EXECUTORS]
        self.assertIsInstance(one, JwtAuthenticator)
        self.assertIsNone(self.agent().state.options.authentication_token)

    def test_other_ways(self) -> None:
        read = "--authenticate_http_readonly"
        made = self.master(
            read, f"--http_authenticators={HERE}.Plugged", f"--credentials={self.credentials}"
        )
        (one,) = made.guard._of[Realm.READONLY]
        self.assertEqual(("mesos-master-readonly", self.credentials), (one.realm, one.path))
        (one,) = self.agent(read, f"--http_authenticators={HERE}.checker").guard._of[Realm.READONLY]
        self.assertIsInstance(one.checker, SecretsChecker)
        (one,) = self.agent(read, f"--http_authenticators={HERE}.portal").guard._of[Realm.READONLY]
        self.assertIsInstance(one.checker, PortalChecker)

    def test_flags_that_do_not_go_together(self) -> None:
        fine = f"--credentials={self.credentials}"
        open_file = self.file("open", CREDENTIALS, 0o640)
        open_key = self.file("open_key", "x" * 32, 0o604)
        executors = "--authenticate_http_executors"
        read = "--authenticate_http_readonly"
        for make, flags, why in (
            (self.master, [read], "No credentials provided for the default 'basic' HTTP"),
            (self.master, [read], "for realm 'mesos-master-readonly': give --credentials"),
            (self.agent, [read], "'mesos-agent-readonly': give --http_credentials"),
            (
                self.master,
                ["--authenticate_http_frameworks", fine],
                "Missing `--http_framework_authenticators` flag",
            ),
            (self.master, [read, "--http_authenticators=jwt", fine], "only agents have one"),
            (self.agent, [read, "--http_authenticators=jwt"], "give --jwt_secret_key"),
            (self.agent, [executors, read, f"--jwt_secret_key={self.key}"], "give --http_cred"),
            (self.agent, [executors], "--jwt_secret_key must be specified when"),
            (self.agent, ["--jwt_secret_key=/nowhere"], "/nowhere: cannot be read"),
            (self.agent, [f"--jwt_secret_key={open_key}"], "others than its owner may use it"),
            (
                self.agent,
                [f"--jwt_secret_key={self.file('short', 'x')}"],
                "a key of 1 bytes can be guessed",
            ),
            (
                self.agent,
                [read, f"--http_credentials={open_file}"],
                f"--http_credentials: {open_file}: others than its owner may use it (mode 0640)",
            ),
            (self.agent, [read, "--http_authenticators=no.such"], "cannot use 'no.such'"),
            (
                self.agent,
                [read, "--http_authenticators=os.path.join"],
                "--http_authenticators: cannot use 'os.path.join'",
            ),
            (
                self.master,
                [
                    "--authenticate_http_frameworks",
                    "--http_framework_authenticators=builtins.isinstance",
                ],
                "--http_framework_authenticators: cannot use 'builtins.isinstance'",
            ),
        ):
            self.assertIn(why, str(self.assertRaises(AuthenticationError, make, *flags)), flags)

    def test_something_else_than_an_authenticator(self) -> None:
        flags = ["--authenticate_http_readonly", "--http_authenticators=builtins.pow"]
        self.patch(http_authentication, "made", lambda *_: 7)
        error = self.assertRaises(AuthenticationError, self.master, *flags)
        self.assertIn("'builtins.pow' returned int, which is no IHttpAuthenticator", str(error))

    def test_names_that_are_none(self) -> None:
        for value in ("basic,", ",", "basic,basic"):
            with self.assertRaises(FlagError):
                master.FLAGS.parse(["--work_dir=/x", f"--http_authenticators={value}"], {})

    def test_secrets_stay_out_of_the_flags_that_are_shown(self) -> None:
        made = self.agent(
            "--authenticate_http_executors",
            f"--jwt_secret_key={self.key}",
            f"--http_credentials={self.credentials}",
        )
        shown = made.state.options.flags
        self.assertEqual(self.key, shown["jwt_secret_key"])
        self.assertNotIn("http_authenticators", shown)
        self.assertNotIn("0123456789abcdef", repr(shown) + repr(made.state.options))
