"""The whitelist: which agents are offered, and the file that says so."""

from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from mesoskit.master.whitelist import Whitelisted, WhitelistError
from mesoskit.master.whitelist_file import INTERVAL, WhitelistFile, read_whitelist
from mesoskit.messages.scheduler_pb2 import Event
from tests.base import SynchronousTestCase
from tests.master.bench import Bench, events


class WhitelistFileTests(SynchronousTestCase):
    """A file that is looked at again and again."""

    def setUp(self):
        self.path = Path(self.mktemp())
        self.path.write_text("a\nb\n")
        self.clock = Clock()
        self.told = []
        self.taken = True
        self.file = WhitelistFile(self.clock, str(self.path), frozenset("ab"), self.changed)
        self.errors = []
        heard: Any = self.heard
        globalLogPublisher.addObserver(heard)
        self.addCleanup(globalLogPublisher.removeObserver, heard)

    def heard(self, event):
        if event.get("log_namespace", "").endswith("WhitelistFile") and "wrong" in event:
            self.errors.append(event["wrong"])

    def changed(self, event):
        self.told.append(event)
        return self.taken

    def look(self):
        self.clock.advance(INTERVAL)

    def test_other_agents_are_told_once(self):
        self.file.start()
        self.look()
        self.assertEqual([], self.told)
        self.path.write_text(" c \n\n")
        self.look()
        self.look()
        self.assertEqual([Whitelisted(frozenset("c"))], self.told)

    def test_what_was_not_taken_is_told_again(self):
        self.taken = False
        self.file.start()
        self.path.write_text("c\n")
        self.look()
        self.look()
        self.assertEqual(2, len(self.told))

    def test_file_of_no_use_changes_nothing_and_is_named_once(self):
        self.file.start()
        for wrong in ("a b\n", "a b\n"):
            self.path.write_text(wrong)
            self.look()
        self.path.unlink()
        self.look()
        self.assertEqual([], self.told)
        self.assertEqual(2, len(self.errors))
        self.path.write_bytes(b"\xff")
        self.assertIn(
            "not UTF-8", str(self.assertRaises(WhitelistError, read_whitelist, self.path))
        )

    def test_nobody_looks_after_the_end(self):
        self.file.start()
        self.file.stop()
        self.assertEqual([], self.clock.getDelayedCalls())


class WhitelistTests(SynchronousTestCase):
    """What a master does with it."""

    def test_only_agents_that_are_listed_are_offered(self):
        bench = Bench(whitelist=frozenset({"b.example"}))
        bench.register("a.example")
        _, listed = bench.register("b.example", address="127.0.0.2:40000")
        framework, _ = bench.subscribe()
        self.assertEqual(listed, bench.offer(framework).agent_id.value)

    def test_agent_that_is_listed_later_is_offered_then(self):
        bench = Bench(whitelist=frozenset())
        _, agent_id = bench.register("a.example")
        framework, _ = bench.subscribe()
        self.assertEqual([], events(bench.run_until(bench.now + 3.0), framework, Event.OFFERS))
        bench.give(Whitelisted(frozenset({"a.example"})))
        self.assertEqual(agent_id, bench.offer(framework).agent_id.value)
