"""The flags about authentication, and what they become."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from mesoskit.app import agent, master
from mesoskit.app.authentication import AuthenticationError
from mesoskit.flags import FlagError, Flags
from mesoskit.messages.stream_pb2 import Role
from mesoskit.web.authentication import Realm
from mesoskit.wire.auth.authenticatee import IAuthenticatee
from mesoskit.wire.auth.authenticator import IAuthenticator
from tests.app.test_conf import CONF, variables
from tests.base import SynchronousTestCase


@implementer(IAuthenticator, IAuthenticatee)
class Plugged:
    """Neither lets in nor asks."""

    def __init__(self, path: str | None) -> None:
        self.path = path

    def begin(self, *arguments: Any) -> Any:
        raise NotImplementedError


def broken(path: str | None) -> None:
    raise ZeroDivisionError("boom")


HERE = "tests.app.test_authentication"


class FlagTests(SynchronousTestCase):
    """Flags of both daemons."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def private(self, name: str) -> Path:
        """Return a sample of conf/auth as it is installed."""
        path = self.directory / name
        shutil.copy(CONF / "auth" / name, path)
        path.chmod(0o600)
        return path

    def master(self, *arguments: str, **environment: str) -> Any:
        """Make a master."""
        given = master.FLAGS.parse([f"--work_dir={self.directory}/m", *arguments], environment)
        return master.make_master(Clock(), given)

    def agent(self, *arguments: str, **environment: str) -> Any:
        """Make an agent."""
        here = [f"--work_dir={self.directory}/a", f"--runtime_dir={self.directory}/r"]
        # A directory that nobody else can write to is asked for.
        (self.directory / "r").mkdir(mode=0o700, exist_ok=True)
        given = agent.FLAGS.parse([*here, "--master=127.0.0.1:5050", *arguments], environment)
        return agent.make_agent(MemoryReactorClock(), given)

    def wrong(self, make: Any, *arguments: str) -> str:
        """Return why no daemon is made of these."""
        return str(self.assertRaises(AuthenticationError, make, *arguments))

    def test_nobody_is_asked_by_default(self) -> None:
        made = self.master()
        self.assertEqual(made._admission.required, frozenset())
        self.assertEqual(made.factory.settings.settle_timeout, 15.0)

    def test_who_is_asked(self) -> None:
        path = self.private("credentials.json")
        for flags, roles in (
            (["--authenticate_frameworks"], {Role.FRAMEWORK, Role.TOOL}),
            (["--authenticate"], {Role.FRAMEWORK, Role.TOOL}),
            (["--authenticate_agents"], {Role.AGENT, Role.TOOL}),
            (["--authenticate_slaves=true"], {Role.AGENT, Role.TOOL}),
            (["--authenticate_agents", "--no-authenticate_agents"], set()),
        ):
            made = self.master(
                *flags, f"--credentials=file://{path}", "--authentication_v0_timeout=3secs"
            )
            self.assertEqual(made._admission.required, roles)
            self.assertEqual(made.factory.settings.settle_timeout, 3.0)

    def test_nobody_could_come_in_without_credentials(self) -> None:
        for flag in ("--authenticate_frameworks", "--authenticate_agents"):
            self.assertIn("need --credentials", self.wrong(self.master, flag))

    def test_values_that_cannot_work(self) -> None:
        for make, flag, why in (
            (self.master, "--credentials=/nowhere", "--credentials: /nowhere: cannot be read"),
            (self.agent, "--credential=/nowhere", "--credential: /nowhere: cannot be read"),
            (self.master, "--authentication_v0_timeout=0secs", "v0_timeout: must be"),
            (
                self.agent,
                "--authentication_timeout_min=2mins",
                "--authentication_timeout_min 120 s",
            ),
            (self.master, "--authenticators=no.such.thing", "cannot use 'no.such.thing'"),
            (self.agent, "--authenticatee=nothing", "cannot use 'nothing'"),
            (self.master, f"--authenticators={HERE}.broken", "boom"),
            (
                self.agent,
                "--authenticatee=builtins.str",
                "'builtins.str' returned str, which is no",
            ),
        ):
            self.assertIn(why, self.wrong(make, flag))
        for flags in (master.FLAGS, agent.FLAGS):
            with self.assertRaisesRegex(FlagError, "'plain'.*'PLAIN' is no mechanism"):
                flags.parse(["--minimum_mechanism=plain"], {})

    def test_samples_work_as_they_are_installed(self) -> None:
        key = self.directory / "jwt-key"
        key.write_text("0123456789abcdef" * 4)
        key.chmod(0o600)
        own = {
            "MESOS_CREDENTIAL": str(self.private("agent-credential.json")),
            "MESOS_HTTP_CREDENTIALS": str(self.private("http-credentials.json")),
            "MESOS_JWT_SECRET_KEY": str(key),
            "MESOS_ACLS": str(CONF / "auth" / "acls.json"),
        }
        secrets = {
            "MESOS_CREDENTIALS": str(self.private("credentials.json")),
            "MESOS_ACLS": own["MESOS_ACLS"],
        }
        for make, flags, name, moved in (
            (self.master, master.FLAGS, "mesos-master", secrets),
            (self.agent, agent.FLAGS, "mesos-agent", own),
        ):
            more = variables(CONF / "auth" / f"{name}.env.more")
            self.assertTrue(all(name[6:].lower() in _names(flags) for name in more))
            made = make(**{**more, **moved})
            if name == "mesos-master":
                admission = made._admission
                self.assertEqual(admission.required, {Role.AGENT, Role.FRAMEWORK, Role.TOOL})
                self.assertEqual(set(admission._authenticator._mechanisms), {"SCRAM-SHA-256"})
            realms = (Realm.READONLY, Realm.READWRITE, Realm.FRAMEWORKS, Realm.EXECUTORS)
            asks = [made.guard.asks(realm) for realm in realms]
            self.assertEqual(asks, [True, True, name == "mesos-master", name == "mesos-agent"])
        for name in ("credentials.json", "agent-credential.json", "http-credentials.json"):
            (CONF / "auth" / name).read_text().index("change me")

    def test_other_ways_are_given_the_path(self) -> None:
        made = self.master(f"--authenticators={HERE}.Plugged", "--authenticate_agents")
        self.assertIsNone(made._admission._authenticator.path)
        self.agent(f"--authenticatee={HERE}.Plugged", "--credential=/x")


def _names(flags: Flags) -> set[str]:
    return {flag.name for flag in flags.flags}
