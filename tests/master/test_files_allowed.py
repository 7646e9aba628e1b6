"""Logs among the files that a master shows, and who may see which."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mesoskit.messages.codec import to_json
from mesoskit.messages.master_pb2 import Call, Response
from mesoskit.model.authorization import Action, Thing
from tests.master.test_files import Bench


class LogTests(Bench):
    """The daemons' own logs, where somebody writes them."""

    def setUp(self) -> None:
        super().setUp()
        self.log = Path(self.mktemp()).absolute()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.newest = self.log.with_suffix(".newest")
        self.newest.write_text("led\n")
        self.log.symlink_to(self.newest)
        state: Any = self.cluster.master
        state.options = replace(state.options, external_log_file=str(self.log))
        theirs: Any = self.agent.state
        theirs.options = replace(theirs.options, external_log_file=str(self.log))

    def test_the_masters_log(self) -> None:
        answer = self.get("read", "/master/log", "&offset=0")
        self.assertEqual({"data": "led\n", "offset": 0}, answer.json())
        self.assertEqual({"data": "", "offset": 4}, self.get("read", "/master/log").json())
        answer = self.get("download", "/master/log")
        self.assertEqual((200, b"led\n"), (answer.status, answer.body))
        name = f"attachment; filename={self.newest.name}"
        self.assertEqual(name, answer.headers["content-disposition"])
        self.assertEqual(404, self.get("browse", "/master/log").status)
        self.assertEqual({"/master/log": str(self.newest)}, self.ask("GET /files/debug").json())
        self.assertEqual(str(self.log), self.ask("GET /state").json()["external_log_file"])
        self.assertEqual(0, self.links.asked)

    def test_the_log_of_an_agent(self) -> None:
        answer = self.get("read", "/slave/log", f"&offset=0&agent_id={self.agent.id}")
        self.assertEqual("led\n", answer.json()["data"])
        self.assertEqual(str(self.log), self.direct("GET /state").json()["external_log_file"])
        debug = self.direct("GET /files/debug").json()
        self.assertEqual(str(self.newest), debug["/slave/log"])
        answer = self.get("read", "/slave/log", f"&offset=0&agent_id={self.other.id}")
        self.assertEqual(404, answer.status)

    def test_nothing_beside_it_can_be_read(self) -> None:
        for path in (
            "/master/log/..",
            "/master/log/../x",
            "/master/log/x",
            "/master/logs",
            "/master",
        ):
            for what in ("read", "browse", "download"):
                self.assertIn(self.get(what, path, "&offset=0").status, (400, 404), path)

    def test_operators_read_it_too(self) -> None:
        call = Call(type=Call.READ_FILE, read_file={"path": "/master/log", "offset": 1})
        answer = self.ask(
            "POST /api/v1",
            to_json(call).decode(),
            Content_Type="application/json",
            Accept="application/x-protobuf",
        )
        self.assertEqual(b"ed\n", Response.FromString(answer.body).read_file.data)


class _Authorizer:
    """Allows everything but what is named, and remembers what it was asked."""

    def __init__(self, *denied: str) -> None:
        self.denied = denied
        self.asked: list[Any] = []

    def prepare(self, principal: str | None) -> None:
        """There is nothing to wait for."""

    def allows(self, principal: str | None, action: Action, thing: Thing) -> bool:
        self.asked.append((principal, action.name, thing.values))
        return action.name not in self.denied


class WhoMayTests(Bench):
    """Sandboxes are shown to who may see them, by whom their tasks run as."""

    def setUp(self) -> None:
        super().setUp()
        service: Any = self.cluster.master_service
        self.authorizer = _Authorizer("ACCESS_SANDBOX")
        service.authorizing.authorizer = self.authorizer

    def test_who_may_not_is_refused(self) -> None:
        latest = f"/frameworks/{self.framework_id}/executors/t/runs/latest"
        for path in (self.sandbox, latest, f"{self.sandbox}/nosuch"):
            for what in ("browse", "read", "download"):
                self.assertEqual(403, self.get(what, path).status)
        self.assertEqual({(None, "ACCESS_SANDBOX", ("alice",))}, set(self.authorizer.asked))
        self.assertEqual(0, self.links.asked)

    def test_of_what_is_not_known_only_who_may_see_all_is_shown_anything(self) -> None:
        for path in (str(self.sandbox).replace("/t/", "/u/"), f"{self.sandbox.parents[4]}/x"):
            self.assertEqual(403, self.get("browse", path).status)
        self.assertEqual({(None, "ACCESS_SANDBOX", None)}, set(self.authorizer.asked))

    def test_logs_are_another_matter(self) -> None:
        state: Any = self.cluster.master
        state.options = replace(state.options, external_log_file=__file__)
        self.assertEqual(200, self.get("read", "/master/log").status)
        self.assertEqual(404, self.get("read", "/slave/log", f"&agent_id={self.agent.id}").status)
        self.authorizer.denied = ("ACCESS_MESOS_LOG",)
        self.assertEqual(403, self.get("read", "/master/log").status)
        self.assertEqual(403, self.get("read", "/slave/log", f"&agent_id={self.agent.id}").status)
        self.assertEqual(200, self.get("browse", self.sandbox).status)

    def test_the_agent_is_told_who_asks_and_decides_too(self) -> None:
        self.authorizer.denied = ()
        theirs = _Authorizer("ACCESS_SANDBOX", "GET_ENDPOINT_WITH_PATH")
        assert self.agent.service is not None
        self.agent.service.authorizing.authorizer = theirs
        for what in ("browse", "read", "download"):
            answer = self.get(what, self.sandbox)
            self.assertEqual((403, b"403 Forbidden."), (answer.status, answer.body), what)
        answer = self.ask(f"GET /files/debug?agent_id={self.agent.id}")
        self.assertEqual(403, answer.status)
        expected = {
            (None, "ACCESS_SANDBOX", ("alice",)),
            (None, "GET_ENDPOINT_WITH_PATH", ("/files/debug",)),
        }
        self.assertEqual(expected, set(theirs.asked))
        theirs.denied = ()
        self.assertEqual(200, self.get("browse", self.sandbox).status)
