"""The flags about authorisation, and what they become."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from zope.interface import implementer

from mesoskit.app import agent, master
from mesoskit.app.acl_file import FileAuthorizer
from mesoskit.app.authorization import AuthorizationError
from mesoskit.model.authorization import Action, IAuthorizer, Thing
from mesoskit.model.authorization_acls import LISTS, LocalAuthorizer
from mesoskit.model.authorization_text import parse_acls
from mesoskit.web.authorizing import Careful
from tests.app.test_conf import CONF
from tests.base import SynchronousTestCase

HERE = "tests.app.test_authorization"

INLINE = '{"permissive": false}'


@implementer(IAuthorizer)
class Plugged:
    """
    Allows what it was told to.

    @ivar acls: the value of C{--acls}.
    """

    def __init__(self, acls: str | None) -> None:
        self.acls = acls

    def prepare(self, principal: str | None) -> None:
        pass

    def allows(self, principal: str | None, action: Action, thing: Thing) -> bool:
        return principal == self.acls


def broken(acls: str | None) -> None:
    raise ZeroDivisionError("boom")


class FlagTests(SynchronousTestCase):
    """Flags of both daemons."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def master(self, *arguments: str) -> Any:
        """Make a master, and return who decides there."""
        given = master.FLAGS.parse([f"--work_dir={self.directory}/m", *arguments], {})
        made = master.make_master(Clock(), given)
        self.assertIs(made.authorizing.authorizer, made.state.options.authorizer)
        return made.authorizing.authorizer

    def agent(self, *arguments: str) -> Any:
        """Make an agent, and return who decides there."""
        (self.directory / "r").mkdir(mode=0o700, exist_ok=True)
        here = [f"--work_dir={self.directory}/a", f"--runtime_dir={self.directory}/r"]
        given = agent.FLAGS.parse([*here, "--master=127.0.0.1:5050", *arguments], {})
        made = agent.make_agent(MemoryReactorClock(), given)
        self.assertIs(made.authorizing.authorizer, made.state.options.authorizer)
        return made.authorizing.authorizer

    def file(self, text: str, mode: int = 0o644) -> Path:
        path = self.directory / "acls.json"
        path.write_text(text)
        path.chmod(mode)
        return path

    def wrong(self, *arguments: str) -> str:
        """Return why neither daemon is made of these."""
        said = {
            str(self.assertRaises(AuthorizationError, make, *arguments))
            for make in (self.master, self.agent)
        }
        return " ".join(said)

    def test_nobody_decides_by_default(self) -> None:
        self.assertIsNone(self.master())
        self.assertIsNone(self.agent())

    def test_as_text_as_a_path_and_as_a_file(self) -> None:
        path = self.file(INLINE)
        for given in (INLINE, f"\n {INLINE}", str(path), f"file://{path}"):
            for make in (self.master, self.agent):
                made = make(f"--acls={given}")
                kind = LocalAuthorizer if "{" in given else FileAuthorizer
                self.assertIsInstance(made, kind)
                self.assertFalse(made.allows("p", Action.VIEW_FLAGS, Thing()))

    def test_acls_for_people_who_need_prove_nothing_are_a_warning(self) -> None:
        with capturedLogs() as seen:
            self.master(f"--acls={INLINE}")
            self.agent(f"--acls={INLINE}")
            self.master()
        said = [formatEvent(one) for one in seen if one["log_level"] is LogLevel.warn]
        self.assertEqual(
            said,
            [
                "There are ACLs, but not everybody must prove who he is: that takes"
                f" {', '.join(flags)}"
                for flags in (
                    (
                        "--authenticate_frameworks",
                        "--authenticate_agents",
                        "--authenticate_http_frameworks",
                        "--authenticate_http_readonly",
                        "--authenticate_http_readwrite",
                    ),
                    ("--authenticate_http_readonly", "--authenticate_http_readwrite"),
                )
            ],
        )

    def test_what_is_wrong_is_named_with_its_line(self) -> None:
        path = self.file('{\n"run_tasks": [],\n"view_task": []\n}')
        for given in (str(path), f"file://{path}"):
            said = self.wrong(f"--acls={given}")
            self.assertIn(f"--acls: {path}, line 3: there is no list of ACLs 'view_task'", said)
            self.assertIn("did you mean view_tasks?", said)
        self.assertIn("--acls: ACLs, line 1: no JSON", self.wrong('--acls={"run_tasks": }'))

    def test_files_that_cannot_be_used(self) -> None:
        self.assertIn("cannot be read", self.wrong(f"--acls={self.directory}/nowhere"))
        for empty in ("", " \n"):
            self.assertIn("expected JSON that begins with {", self.wrong(f"--acls={empty}"))
        self.assertIn("is no file", self.wrong(f"--acls={self.directory}"))
        self.assertIn("expected JSON that begins with {", self.wrong("--acls=a\0b"))
        path = self.file(INLINE, 0o666)
        said = self.wrong(f"--acls={path}")
        self.assertIn("everybody may write it (mode 0666)", said)
        path = self.file(INLINE)
        path.write_bytes(b'{\n"\xff": 1}')
        self.assertIn(f"{path}, line 2: is not UTF-8 text", self.wrong(f"--acls={path}"))
        os.mkfifo(self.directory / "pipe")
        self.assertIn("is no file", self.wrong(f"--acls={self.directory}/pipe"))

    def test_somebody_elses_authorizer(self) -> None:
        for make, flag in (
            (self.master, "authorizers"),
            (self.master, "authorizer"),
            (self.agent, "authorizer"),
            (self.agent, "authorizers"),
        ):
            made = make(f"--{flag}={HERE}.Plugged", "--acls=anything at all")
            self.assertIsInstance(made, Careful)
            self.assertTrue(made.allows("anything at all", Action.VIEW_FLAGS, Thing()))
            self.assertFalse(made.allows("p", Action.VIEW_FLAGS, Thing()))
            self.assertTrue(make(f"--{flag}={HERE}.Plugged").allows(None, Action.RUN_TASK, Thing()))

    def test_what_is_none_is_named(self) -> None:
        self.assertIn(
            f"cannot use '{HERE}.broken': boom", self.wrong(f"--authorizers={HERE}.broken")
        )
        self.assertIn("cannot use 'no.such.thing'", self.wrong("--authorizers=no.such.thing"))
        self.assertIn("which is no IAuthorizer", self.wrong("--authorizers=builtins.repr"))

    def test_it_is_shown_as_it_was_given(self) -> None:
        for flags in (master.FLAGS, agent.FLAGS):
            required = [f"--{one.name}=/w" for one in flags.flags if one.required]
            given = flags.parse([*required, f"--acls={INLINE}"], {})
            self.assertEqual(given.shown["acls"], INLINE)


class SampleTests(SynchronousTestCase):
    """C{conf/auth/acls.json}, as it stands."""

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        path = directory / "acls.json"
        shutil.copy(CONF / "auth" / "acls.json", path)
        self.acls = parse_acls(path.read_text(), str(path))
        self.authorizer = LocalAuthorizer(self.acls)

    def may(self, who: str | None, action: Action, *values: str) -> bool:
        return self.authorizer.allows(who, action, Thing(values or None))

    def test_nothing_is_allowed_that_is_not_said(self) -> None:
        for action in Action:
            for who in (None, "stranger"):
                self.assertFalse(self.may(who, action, "x"), action)
                self.assertFalse(self.may(who, action), action)

    def test_who_may_do_what(self) -> None:
        for who, action, value, expected in (
            ("agents", Action.REGISTER_AGENT, "", True),
            ("marathon", Action.REGISTER_AGENT, "", False),
            ("marathon", Action.REGISTER_FRAMEWORK, "services/web", True),
            ("marathon", Action.REGISTER_FRAMEWORK, "other", False),
            ("marathon", Action.RUN_TASK, "services", True),
            ("marathon", Action.RUN_TASK, "root", False),
            ("ops", Action.RUN_TASK, "root", False),
            ("ops", Action.RUN_TASK, "anybody", True),
            ("viewer", Action.VIEW_TASK, "services", True),
            ("viewer", Action.ACCESS_SANDBOX, "services", False),
            ("metrics", Action.GET_ENDPOINT_WITH_PATH, "/metrics/snapshot", True),
            ("metrics", Action.GET_ENDPOINT_WITH_PATH, "/logging/toggle", False),
            ("ops", Action.MARK_AGENT_GONE, "", True),
            ("ops", Action.TEARDOWN_FRAMEWORK, "marathon", True),
        ):
            self.assertIs(self.may(who, action, *filter(None, [value])), expected, (who, action))

    def test_each_list_of_it_is_known(self) -> None:
        self.assertLessEqual(set(self.acls.rules), set(LISTS))
        self.assertFalse(self.acls.permissive)
