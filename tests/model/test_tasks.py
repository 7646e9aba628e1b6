"""What can become of a task."""

import re
from pathlib import Path

from mesoskit.messages import mesos_pb2
from mesoskit.model.tasks import (
    ACTIVE,
    REASONS,
    SENTENCES,
    TERMINAL,
    TRANSITIONS,
    Reason,
    Source,
    TaskState,
    after_update,
    as_lost,
    legal,
    may_cause,
)
from tests.base import SynchronousTestCase

DOCUMENT = Path(__file__).parents[2] / "docs" / "states.md"


def rows_of_document(heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading of the document."""
    text = DOCUMENT.read_text(encoding="utf-8").split(f"# {heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    lines = table.group().splitlines() if table else []
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


class NumbersTests(SynchronousTestCase):
    """Names and numbers are Mesos' own."""

    def test_states_sources_and_reasons_are_those_of_the_messages(self):
        for ours, theirs in (
            (TaskState, mesos_pb2.TaskState),
            (Source, mesos_pb2.TaskStatus.Source),
            (Reason, mesos_pb2.TaskStatus.Reason),
        ):
            self.assertEqual({one.name: one.value for one in ours}, dict(theirs.items()))


class TableTests(SynchronousTestCase):
    """The table of transitions is complete and agrees with itself."""

    def test_nothing_leaves_a_terminal_state(self):
        for before in TERMINAL:
            for after in TaskState:
                self.assertFalse(legal(before, after), (before, after))

    def test_a_state_named_again_is_no_transition(self):
        for state in TaskState:
            self.assertFalse(legal(state, state))

    def test_no_task_is_ever_unknown(self):
        for state in TaskState:
            self.assertFalse(legal(state, TaskState.TASK_UNKNOWN))
            self.assertFalse(legal(TaskState.TASK_UNKNOWN, state))

    def test_each_row_stands_once(self):
        pairs = [(row.before, row.after) for row in TRANSITIONS]
        self.assertEqual(len(pairs), len(set(pairs)))
        self.assertTrue(all(legal(*pair) for pair in pairs))

    def test_every_active_task_can_end_in_every_way_and_be_cut_off(self):
        for before in ACTIVE:
            for after in (*TERMINAL, TaskState.TASK_UNREACHABLE):
                self.assertTrue(legal(before, after), (before, after))

    def test_a_task_that_was_cut_off_can_come_back_as_whatever_it_is_by_now(self):
        for after in (*ACTIVE, *TERMINAL):
            self.assertTrue(legal(TaskState.TASK_UNREACHABLE, after), after)

    def test_an_active_task_never_goes_back(self):
        for place, before in enumerate(ACTIVE):
            for after in ACTIVE[:place]:
                self.assertFalse(legal(before, after), (before, after))

    def test_executors_cannot_speak_for_master_and_agent(self):
        executor = Source.SOURCE_EXECUTOR
        for after in ("TASK_UNREACHABLE", "TASK_DROPPED", "TASK_GONE", "TASK_UNKNOWN"):
            for before in ACTIVE:
                self.assertFalse(may_cause(executor, before, TaskState[after]))
        self.assertTrue(may_cause(executor, TaskState.TASK_STAGING, TaskState.TASK_RUNNING))
        self.assertFalse(
            may_cause(Source.SOURCE_MASTER, TaskState.TASK_STAGING, TaskState.TASK_RUNNING)
        )

    def test_every_state_has_a_sentence_and_its_reasons(self):
        self.assertEqual(set(SENTENCES), set(TaskState))
        self.assertEqual(set(REASONS), set(TaskState))

    def test_every_row_names_reasons_of_its_state(self):
        for row in TRANSITIONS:
            known = frozenset[Reason]().union(*REASONS[row.after].values())
            self.assertLessEqual(row.reasons, known, row)


class AfterUpdateTests(SynchronousTestCase):
    """Where a task is after an update of which the agent may know more by now."""

    def test_the_state_that_the_agent_knows_counts(self):
        self.assertEqual(
            after_update(TaskState.TASK_STAGING, TaskState.TASK_STARTING, TaskState.TASK_FINISHED),
            TaskState.TASK_FINISHED,
        )

    def test_without_it_the_status_counts(self):
        self.assertEqual(
            after_update(TaskState.TASK_STAGING, TaskState.TASK_RUNNING), TaskState.TASK_RUNNING
        )

    def test_an_old_update_does_not_take_a_task_back(self):
        self.assertEqual(
            after_update(TaskState.TASK_RUNNING, TaskState.TASK_STARTING), TaskState.TASK_RUNNING
        )
        self.assertEqual(
            after_update(TaskState.TASK_FINISHED, TaskState.TASK_RUNNING), TaskState.TASK_FINISHED
        )


class AsLostTests(SynchronousTestCase):
    """What frameworks are told that know no better."""

    def test_states_that_partition_aware_frameworks_know_are_lost_to_others(self):
        hidden = {state.name for state in TaskState if as_lost(state, False) != state}
        self.assertEqual(
            hidden,
            {
                "TASK_UNREACHABLE",
                "TASK_DROPPED",
                "TASK_GONE",
                "TASK_GONE_BY_OPERATOR",
                "TASK_UNKNOWN",
            },
        )
        for name in hidden:
            self.assertEqual(as_lost(TaskState[name], False), TaskState.TASK_LOST)

    def test_partition_aware_frameworks_are_told_everything(self):
        for state in TaskState:
            self.assertEqual(as_lost(state, True), state)


class DocumentTests(SynchronousTestCase):
    """C{docs/states.md} says what the table says."""

    def test_the_states_are_documented(self):
        rows = rows_of_document("States of a task")
        self.assertEqual(
            rows,
            [
                [f"`{s.name}`", str(s.value), "yes" if s in TERMINAL else "", SENTENCES[s]]
                for s in sorted(TaskState, key=[*SENTENCES].index)
            ],
        )

    def test_the_transitions_are_documented(self):
        rows = rows_of_document("Transitions of a task")
        self.assertEqual(
            rows,
            [
                [
                    f"`{row.before.name}`",
                    f"`{row.after.name}`",
                    ", ".join(
                        source.name.removeprefix("SOURCE_").lower() for source in row.sources
                    ),
                    ", ".join(
                        reason.name.removeprefix("REASON_") for reason in sorted(row.reasons)
                    ),
                ]
                for row in TRANSITIONS
            ],
        )
