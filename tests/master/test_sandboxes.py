"""Which agent has a sandbox, and whose it is, out of a path alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mesoskit.agent import files
from mesoskit.master import sandboxes
from mesoskit.master.sandboxes import NoPlace
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.model.events import PeerKind
from mesoskit.web.files import NotThere
from tests.base import SynchronousTestCase
from tests.master.bench import Bench, registration, scheduler_call, task


class _All:
    """Every sandbox there could be."""

    going: tuple[str, ...] = ()

    def __contains__(self, path: str) -> bool:
        return True


def _agent() -> Any:
    options = SimpleNamespace(work_dir="/w", external_log_file=None)
    return SimpleNamespace(
        options=options, agent_id="S0", frameworks={}, sandboxes=_All(), completed_frameworks={}
    )


_WORDS = (
    "",
    ".",
    "..",
    "w",
    "slaves",
    "S0",
    "S1",
    "frameworks",
    "F",
    "executors",
    "E",
    "runs",
    "r",
)
_SANDBOXES = ("/w/slaves/S1/frameworks/F/executors/E/runs/r", "/frameworks/G/executors/H/runs/r")


class NameTests(SynchronousTestCase):
    """The master reads a path as the agent does: what it asks about is what is shown."""

    def test_names(self) -> None:
        for path, expected in (
            ("/var/lib/m/slaves/S/frameworks/F/executors/E/runs/R", ("S", "F", "E")),
            ("/var/lib/m/slaves/S/frameworks/F/executors/E/runs/latest/a/b", ("S", "F", "E")),
            ("//w/./slaves/S/frameworks/F//executors/E/runs/R/", ("S", "F", "E")),
            ("/frameworks/F/executors/E/runs/latest", (None, "F", "E")),
            ("/frameworks/F/executors/E", (None, "", "")),
            ("/var/lib/m/slaves/S", ("S", "", "")),
            ("/var/lib/m/slaves/S/meta", ("S", "", "")),
            ("/", (None, "", "")),
            ("", (None, "", "")),
        ):
            self.assertEqual(expected, sandboxes.names(path), path)

    @given(
        st.sampled_from(("", *_SANDBOXES)),
        st.lists(st.sampled_from((*_WORDS, *_SANDBOXES)), max_size=16),
        st.booleans(),
    )
    @settings(max_examples=1000, deadline=None)
    def test_whatever_the_agent_shows_is_what_the_master_asked_about(
        self, begin: str, words: list[str], absolute: bool
    ) -> None:
        path = begin + "/" * absolute + "/".join(words)
        self.patch(files, "_latest", lambda runs: f"{runs}/newest")
        try:
            place = files.resolve(_agent(), path)
        except NotThere:
            return
        parts = place.root.split("/")
        agent_id, framework_id, executor_id = sandboxes.names(path)
        self.assertEqual([framework_id, executor_id], [parts[5], parts[7]])
        self.assertIn(agent_id, (None, parts[3]))

    @given(st.text(max_size=300))
    def test_any_text_is_a_path(self, path: str) -> None:
        sandboxes.names(path)

    def test_long_paths_take_no_time(self) -> None:
        for part in ("/slaves/S", "/frameworks/F", "/slaves/S/frameworks/F/executors/E/runs"):
            sandboxes.names(part * 3000)


class PlaceTests(SynchronousTestCase):
    """Agents that are named, or that run what is named."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.framework, self.framework_id = self.bench.subscribe(name="f", user="alice")

    def find(self, path: str, agent_id: str | None = None) -> Any:
        return sandboxes.find(self.bench.state, path, agent_id)

    def refused(self, path: str) -> tuple[int, str]:
        with self.assertRaises(NoPlace) as caught:
            self.find(path)
        return caught.exception.status, caught.exception.why

    def launch(self, name: str, **fields: str) -> Any:
        offer = self.bench.offer(self.framework)
        info = task(offer, name, "cpus:1;mem:64")
        if "user" in fields:
            info.command.user = fields["user"]
        self.bench.launch(self.framework, offer, info)
        return offer

    def test_the_user_of_a_task_counts(self) -> None:
        self.bench.receive(self.bench.connect(PeerKind.AGENT), registration())
        offer = self.launch("a", user="bob")
        path = f"/frameworks/{self.framework_id}/executors/a/runs/latest"
        place = self.find(path)
        self.assertEqual(offer.agent_id.value, place.agent.id)
        self.assertEqual(("bob",), place.thing.values)

    def test_the_user_of_the_framework_counts_where_a_task_has_none(self) -> None:
        self.bench.receive(self.bench.connect(PeerKind.AGENT), registration())
        self.launch("a")
        place = self.find(f"/frameworks/{self.framework_id}/executors/a/runs/latest")
        self.assertEqual(("alice",), place.thing.values)

    def test_what_has_never_been_is_nobodys(self) -> None:
        self.bench.receive(self.bench.connect(PeerKind.AGENT), registration())
        (agent_id,) = self.bench.state.agents
        path = f"/w/slaves/{agent_id}/frameworks/{self.framework_id}/executors/x/runs/r"
        self.assertIsNone(self.find(path).thing.values)
        self.assertIsNone(self.find(path.replace(self.framework_id, "other")).thing.values)
        self.assertEqual((404, ""), self.refused(path.partition(agent_id)[2]))

    def test_a_framework_that_has_ended(self) -> None:
        self.bench.receive(self.bench.connect(PeerKind.AGENT), registration())
        self.launch("a", user="bob")
        self.bench.receive(self.framework, scheduler_call(Call.TEARDOWN, self.framework_id))
        place = self.find(f"/frameworks/{self.framework_id}/executors/a/runs/latest")
        self.assertEqual(("bob",), place.thing.values)

    def test_an_executor_that_runs_on_several_agents_must_be_asked_for_by_name(self) -> None:
        for port in (5051, 5052):
            agent = self.bench.connect(PeerKind.AGENT, f"127.0.0.1:{port}")
            self.bench.receive(agent, registration(port=port))
        offers = self.bench.offers(self.framework)
        for number, offer in enumerate(offers):
            info = task(offer, f"t{number}", "cpus:1;mem:64")
            info.ClearField("command")
            info.executor.executor_id.value = "e"
            info.executor.command.value = "run"
            info.executor.command.user = f"user{number}"
            self.bench.launch(self.framework, offer, info)
        path = f"/frameworks/{self.framework_id}/executors/e/runs/latest"
        status, why = self.refused(path)
        self.assertEqual(400, status)
        self.assertIn("runs on 2 agents", why)
        for number, offer in enumerate(offers):
            place = self.find(path, offer.agent_id.value)
            self.assertEqual((f"user{number}",), place.thing.values)
