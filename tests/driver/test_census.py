"""How handles of tasks of a former life are made, and kills that outlive what they are for."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from mesoskit.driver import (
    FrameworkStopped,
    NotSubscribed,
    Scheduler,
    TaskState,
    TaskUnreachable,
)
from mesoskit.messages.scheduler_pb2 import Call
from tests.driver.peers import AGENT_ID, FrameworkCase

ID = {"id": {"value": "m-0007"}}


class Statuses(Scheduler):
    """Remembers the tasks of which it is told."""

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def status_update(self, framework: Any, status: Any) -> None:
        self.tasks.append(status.task_id.value)


class CensusTests(FrameworkCase):
    """A framework that comes back under its id."""

    def nobody(self) -> str:
        """Return the task that never was, of which was asked last."""
        asked = [tasks for tasks in self.master.reconciled() if tasks]
        [task] = asked[-1]
        return task

    def end(self) -> None:
        """Answer the question that ends the census."""
        self.master.update(self.nobody(), "TASK_UNKNOWN", b"")

    def test_all_tasks_are_asked_for_and_then_one_that_never_was(self) -> None:
        self.framework(fields=ID)
        every, one = self.master.reconciled()
        self.assertEqual([], every)
        self.assertTrue(one[0].startswith("mesoskit-nobody-"))

    def test_each_task_that_is_told_of_gets_a_handle(self) -> None:
        framework = self.framework(fields=ID)
        found = framework.adopt_all()
        self.master.update("a", "TASK_RUNNING", b"")
        self.master.update("b", "TASK_FINISHED")
        self.master.update("c", "TASK_UNKNOWN", b"")
        self.assertNoResult(found)
        self.end()
        handles = {each.id: each for each in self.successResultOf(found)}
        self.assertEqual(["a", "b"], sorted(handles))
        self.assertEqual(
            (AGENT_ID, TaskState.TASK_RUNNING), (handles["a"].agent_id, handles["a"].state)
        )
        self.successResultOf(handles["b"].terminal())
        self.assertEqual({"a": handles["a"]}, framework.tasks)

    def test_who_asks_late_gets_them_all_the_same(self) -> None:
        framework = self.framework(fields=ID)
        self.master.update("a", "TASK_RUNNING", b"")
        self.master.update("b", "TASK_FINISHED")
        self.end()
        self.assertEqual(["a"], list(framework.tasks))
        found = self.successResultOf(framework.adopt_all())
        self.assertEqual(["a", "b"], sorted(each.id for each in found))
        again = framework.adopt_all()
        self.assertNoResult(again)
        self.advance()
        self.end()
        self.assertEqual(["a"], [each.id for each in self.successResultOf(again)])

    def test_it_asks_until_it_is_answered(self) -> None:
        self.framework(fields=ID)
        self.advance(60)
        self.assertGreaterEqual(len(self.master.reconciled()), 6)
        self.end()
        asked = len(self.master.reconciled())
        self.advance(600)
        self.assertEqual(asked, len(self.master.reconciled()))

    def test_it_asks_the_next_master(self) -> None:
        framework = self.framework(fields=ID)
        found = framework.adopt_all()
        self.master.host.cut()
        self.advance(2)
        self.assertEqual(4, len(self.master.reconciled()))
        self.end()
        self.assertEqual([], self.successResultOf(found))

    def test_answers_to_what_was_asked_before_end_nothing(self) -> None:
        framework = self.framework(fields=ID, scheduler=(log := Statuses()))
        before = self.nobody()
        self.end()
        self.successResultOf(framework.adopt_all())
        found = framework.adopt_all()
        self.advance()
        self.master.update(before, "TASK_UNKNOWN", b"")
        self.assertNoResult(found)
        self.end()
        self.successResultOf(found)
        self.assertEqual([], log.tasks)

    def test_a_framework_in_its_first_life_may_ask_too(self) -> None:
        framework = self.framework()
        self.master.update("stranger", "TASK_RUNNING", b"")
        self.assertEqual({}, framework.tasks)
        found = framework.adopt_all()
        self.advance()
        self.master.update("stranger", "TASK_RUNNING", b"")
        self.end()
        self.assertEqual(["stranger"], [each.id for each in self.successResultOf(found)])

    def test_before_there_is_a_master(self) -> None:
        self.master.leave()
        framework = self.framework(fields=ID)
        found = framework.adopt_all()
        self.master.listen("127.0.0.1:5050")
        self.advance(30)
        self.end()
        self.assertEqual([], self.successResultOf(found))

    def test_stopping_tells_who_waits(self) -> None:
        framework = self.framework(fields=ID)
        found = framework.adopt_all()
        framework.stopService()
        self.failureResultOf(found, FrameworkStopped)
        self.advance(60)
        self.assertEqual(2, len(self.master.reconciled()))

    def test_unreachable_task_is_found_and_given_up(self) -> None:
        framework = self.framework(fields=ID)
        found = framework.adopt_all()
        self.master.update("a", "TASK_UNREACHABLE", b"")
        self.end()
        [handle] = self.successResultOf(found)
        self.failureResultOf(handle.terminal(), TaskUnreachable)


class Store:
    """Keeps an id, and takes its time."""

    def __init__(self) -> None:
        self.reads: list[Deferred[str]] = []
        self.said: list[Any] = []

    def read(self) -> Deferred[str]:
        self.reads.append(Deferred())
        return self.reads[-1]

    def write(self, framework_id: str) -> Deferred[None]:
        self.said.append(framework_id)
        self.writing: Deferred[None] = Deferred()
        return self.writing

    def forget(self) -> Deferred[None]:
        self.said.append(None)
        return Deferred()


class IdStoreTests(FrameworkCase):
    """Ids that are kept somewhere else than in a file."""

    def setUp(self) -> None:
        super().setUp()
        self.store = Store()
        self.fw = self.framework(id_file=self.store)

    def test_it_subscribes_when_it_knows_who_it_is(self) -> None:
        self.assertEqual(0, self.master.links)
        self.failureResultOf(self.fw.revive(), NotSubscribed)
        self.store.reads[0].callback("m-0009")
        self.advance()
        self.assertEqual("m-0009", self.master.said[0].framework_id.value)
        self.assertEqual([], self.store.said)
        self.assertTrue(self.fw.keeps_id)

    def test_a_new_id_is_written(self) -> None:
        self.store.reads[0].callback("")
        self.advance()
        self.assertEqual([self.fw.id], self.store.said)
        self.fw.teardown()
        self.advance()
        self.assertEqual(None, self.store.said[-1])

    def test_nothing_is_written_after_the_end(self) -> None:
        self.store.reads[0].callback("")
        self.advance()
        known = self.fw.id
        done = self.fw.teardown()
        self.advance(5)
        self.assertNoResult(done)
        self.store.writing.errback(OSError("too late"))
        self.advance(60)
        self.successResultOf(done)
        self.assertEqual([known, None], self.store.said)

    def test_it_asks_again_where_the_store_fails_or_is_silent(self) -> None:
        self.store.reads[0].errback(OSError("no such server"))
        self.advance(1)
        self.assertEqual(2, len(self.store.reads))
        self.advance(40)
        self.assertEqual(3, len(self.store.reads))
        self.store.reads[2].callback("m-0009")
        self.advance()
        self.assertTrue(self.fw.subscribed)

    def test_stopping_ends_the_waiting(self) -> None:
        self.fw.stopService()
        self.advance(60)
        self.assertEqual((1, 0), (len(self.store.reads), self.master.links))

    def test_an_id_that_cannot_be_written_is_complained_about(self) -> None:
        self.store.reads[0].callback("")
        self.patch(self.store, "write", lambda framework_id: 1 / 0)
        self.advance()
        self.assertTrue(self.fw.subscribed)


class PersistentKillTests(FrameworkCase):
    """A kill is carried out, whatever is away at the moment."""

    def test_it_is_said_again_as_soon_as_the_agent_is_back(self) -> None:
        framework = self.framework(scheduler=Scheduler())
        handle = framework.adopt("t", AGENT_ID)
        handle.kill()
        self.master.update("t", "TASK_UNREACHABLE", b"")
        self.advance(1000)
        killed = len(self.master.killed())
        self.master.update("t", "TASK_RUNNING", b"")
        self.advance()
        self.assertEqual(killed + 1, len(self.master.killed()))

    def test_task_that_was_to_be_killed_must_not_come_back(self) -> None:
        framework = self.framework(scheduler=Scheduler())
        for asked in (True, False):
            name = f"t{asked}"
            handle = framework.adopt(name, AGENT_ID)
            if asked:
                handle.kill()
            self.master.update(name, "TASK_UNKNOWN", b"")
            self.advance(600)
            before = self.master.killed().count(name)
            self.master.update(name, "TASK_RUNNING", b"")
            self.advance()
            self.assertEqual(before + asked, self.master.killed().count(name))

    def test_tasks_that_were_given_up_are_asked_for_where_another_master_leads(self) -> None:
        framework = self.framework()
        self.launch_one(framework, "t").terminal().addErrback(lambda _: None)
        self.master.update("t", "TASK_UNREACHABLE", b"")
        self.master.host.cut()
        self.advance(1)
        self.assertEqual([["t"]], self.master.reconciled())
        self.master.update("t", "TASK_RUNNING", b"")
        self.advance()
        [kill] = self.master.of_type(Call.KILL)
        self.assertEqual(("t", AGENT_ID), (kill.kill.task_id.value, kill.kill.agent_id.value))
