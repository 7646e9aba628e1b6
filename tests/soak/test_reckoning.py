"""The reckoning finds what is wrong: a proof that cannot fail proves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mesoskit.model.tasks import Reason, Source
from tests.base import SynchronousTestCase
from tests.soak import books
from tests.soak.books import Entry, Journal, Mark, Marks
from tests.soak.reckoning import STUCK, Excuses, Reckoning, reckon
from tests.soak.schedule import Kind, schedule

START, END = Mark("start", "t", 7, 2.0), Mark("end", "t", 7, 3.0)


def intend(task: str = "t", **more: Any) -> Entry:
    """Return the line of a task that is asked for."""
    given = {"agent": "A", "kind": "command", "code": 0, "seconds": 1.0, "group": "", **more}
    return {"at": 1.0, "what": books.INTEND, "task": task, **given}


def told(state: str, message: str = "", task: str = "t", **more: Any) -> Entry:
    """Return the line of a status."""
    entry = {"at": 4.0, "what": books.STATUS, "task": task, "state": f"TASK_{state}"}
    source = {"source": int(Source.SOURCE_EXECUTOR), "reason": -1, "agent": "A", "uuid": ""}
    return {**entry, **source, "message": message, **more}


def answered(state: str) -> Entry:
    """Return the line of an answer to a question."""
    return told(state, source=int(Source.SOURCE_MASTER), reason=int(Reason.REASON_RECONCILIATION))


class ReckoningTests(SynchronousTestCase):
    """One task each, and what is made of it."""

    def right(self, outcome: str, *journal: Entry, marks: Any = (START, END), **more: Any) -> None:
        found = reckon(journal, marks, **more)
        self.assertEqual((found.wrong, list(found.outcomes)), ([], [outcome]))

    def wrong(self, why: str, *journal: Entry, marks: Any = (START, END), **more: Any) -> Reckoning:
        found = reckon(journal, marks, **more)
        self.assertEqual(len(found.wrong), 1, found.wrong)
        self.assertIn(why, found.wrong[0])
        return found

    def test_what_ran_and_was_told_is_right(self) -> None:
        self.right("TASK_FINISHED", intend(), told("RUNNING"), told("FINISHED"))
        self.right(
            "TASK_FAILED, as it should",
            intend(code=3),
            told("FAILED", "Command exited with status 3"),
        )

    def test_what_never_ran_and_is_told_so_is_right(self) -> None:
        self.right("TASK_GONE, never ran", intend(), answered("GONE"), marks=())
        refused = {"at": 2.0, "what": books.REFUSED, "tasks": ["t"], "why": "no"}
        self.right("refused", intend(), refused, marks=())

    def test_lost(self) -> None:
        self.wrong("ran, and was told to be TASK_GONE", intend(), answered("GONE"))
        self.wrong("told to have finished, and did not", intend(), told("FINISHED"), marks=[START])
        self.wrong("ran, and was never asked for", marks=[START])
        refused = {"at": 2.0, "what": books.REFUSED, "tasks": ["t"], "why": "no"}
        self.wrong("refused, and ran", intend(), refused)

    def test_doubled(self) -> None:
        self.wrong("started 2 times", intend(), told("FINISHED"), marks=[START, START, END])
        self.wrong("ended 2 times", intend(), told("FINISHED"), marks=[START, END, END])
        self.wrong(
            "TASK_FAILED after TASK_FINISHED", intend(), told("FINISHED"), told("FAILED", "x")
        )
        self.wrong("TASK_RUNNING after TASK_FINISHED", intend(), told("FINISHED"), told("RUNNING"))

    def test_stuck(self) -> None:
        found = self.wrong("never told to have ended", intend(), told("RUNNING"))
        self.assertEqual((found.stuck, list(found.outcomes)), (["t"], [STUCK]))

    def test_questions_may_be_answered_late(self) -> None:
        unreachable = told("UNREACHABLE", source=int(Source.SOURCE_MASTER))
        for late in (answered("GONE"), answered("UNREACHABLE"), unreachable, told("FINISHED")):
            self.right("TASK_FINISHED", intend(), told("FINISHED"), late)

    def test_what_was_told_may_be_told_again(self) -> None:
        running, again = told("RUNNING", uuid="1"), told("RUNNING", uuid="1")
        self.right("TASK_FINISHED", intend(), running, told("FINISHED"), again, answered("RUNNING"))
        other = told("RUNNING", uuid="2")
        self.wrong("RUNNING after TASK_FINISHED", intend(), running, told("FINISHED"), other)
        self.wrong("after TASK_FINISHED", intend(), told("FINISHED"), answered("RUNNING"))

    def test_killed_only_where_it_was_asked_for(self) -> None:
        kill = {"at": 2.0, "what": books.KILL, "task": "t"}
        self.right("TASK_KILLED", intend(), kill, told("KILLED"), marks=[START])
        self.wrong("nobody asked", intend(), told("KILLED"), marks=[START])
        other = intend("u", group="g")
        failed = told("FAILED", "Command exited with status 1", "u")
        found = reckon([intend(group="g"), other, told("KILLED"), failed], [START])
        self.assertNotIn("nobody asked", " ".join(found.wrong))

    def test_failures_need_an_excuse(self) -> None:
        lost, full = told("FAILED", "Failed to get exit status"), told("FAILED", "The disk is full")
        self.wrong("its launcher was not killed", intend(), lost)
        self.wrong("a disk that was not full", intend(), full, marks=())
        self.wrong("no reason of its own", intend(), told("FAILED", "Command exited with status 1"))
        at = {"A": [(3.0, 5.0)]}
        self.right("TASK_FAILED, no status", intend(), lost, excuses=Excuses(launchers=at))
        self.right("TASK_FAILED, disk full", intend(), full, marks=(), excuses=Excuses(full=at))
        early = {"A": [(0.1, 0.2)]}
        self.wrong("its launcher was not", intend(), lost, excuses=Excuses(launchers=early))
        other = {"B": [(3.0, 5.0)]}
        self.wrong("its launcher was not", intend(), lost, excuses=Excuses(launchers=other))


class BooksTests(SynchronousTestCase):
    """Files that are read while they grow, and gone on with."""

    def test_journal_goes_on_where_it_ended(self) -> None:
        path = Path(self.mktemp())
        Journal(path).write(books.TAKEN, tasks=["a", "b"])
        again = Journal(path)
        self.assertEqual([entry["tasks"] for entry in again.before], [["a", "b"]])
        again.write(books.KILL, task="a")
        found = books.books(list(books.read_journal(path)))
        self.assertEqual([entry["what"] for entry in found["a"].entries], ["taken", "kill"])

    def test_marks_are_read_as_they_come(self) -> None:
        path = Path(self.mktemp())
        marks = Marks(path)
        books.mark("start", "t", path)
        with path.open("a") as file:
            file.write("end t 7 ")
        self.assertEqual([mark.what for mark in marks.read()], ["start"])
        self.assertEqual(list(marks.running), ["t"])
        with path.open("a") as file:
            file.write("8.5\n")
        self.assertEqual(marks.read()[1:], [Mark("end", "t", 7, 8.5)])
        self.assertEqual(marks.running, {})


class ScheduleTests(SynchronousTestCase):
    """Which faults come, and when."""

    def test_seed_makes_the_same_again(self) -> None:
        self.assertEqual(schedule(5, 100, 1.0), schedule(5, 100, 1.0))
        self.assertNotEqual(schedule(5, 100, 1.0), schedule(6, 100, 1.0))

    def test_all_kinds_come_equally_often_and_in_order(self) -> None:
        faults = schedule(1, 21 * len(Kind), 2.0, longest=5.0)
        for kind in Kind:
            self.assertEqual(sum(fault.kind is kind for fault in faults), 21)
        times = [fault.at for fault in faults]
        self.assertEqual(times, sorted(times))
        self.assertTrue(500 < times[-1] < 2000)
        self.assertTrue(all(0 <= fault.lasts <= 5.0 and 0 <= fault.pick < 1 for fault in faults))
