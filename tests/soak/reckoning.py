"""Comparing the books: what was asked and told, against what really ran."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mesoskit.model.tasks import TERMINAL, Reason, Source, TaskState
from tests.soak import books
from tests.soak.books import Book, Entry, Mark

_TERMINAL: Final = frozenset(TaskState(state).name for state in TERMINAL)

_NOWHERE: Final = frozenset(
    {"TASK_UNKNOWN", "TASK_GONE", "TASK_LOST", "TASK_DROPPED", "TASK_GONE_BY_OPERATOR"}
)
"""What is told of a task that does not run, and of which nothing else is known."""

STUCK: Final = "stuck"

_DISK: Final = ("disk is full", "No space left", "Failed to checkpoint")

_NO_STATUS: Final = "Failed to get exit status"


@dataclass(slots=True)
class Excuses:
    """
    Faults that hurt tasks, by the agent's id: (from, to), in seconds since the epoch.

    @ivar full: the disk was full.
    @ivar launchers: the launcher was killed.
    """

    full: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    launchers: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


@dataclass(slots=True)
class Reckoning:
    """
    What came out.

    @ivar wrong: what must not be: a sentence each.
    @ivar outcomes: how many tasks ended in each way.
    @ivar stuck: tasks of which nobody was told that they have ended.
    """

    wrong: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def tasks(self) -> int:
        """How many tasks there were."""
        return sum(self.outcomes.values())


def reckon(
    journal: Iterable[Entry], marks: Iterable[Mark], excuses: Excuses | None = None
) -> Reckoning:
    """
    Compare what a framework was told with what its tasks did.

    Nothing is lost: whatever ran was told of, to its end, and whatever ended well did run to its
    end. Nothing is doubled: no task started twice, or ended in two ways. Nothing is stuck:
    whatever was asked for has ended.
    """
    found = Reckoning()
    ran: defaultdict[str, list[Mark]] = defaultdict(list)
    for mark in marks:
        ran[mark.task].append(mark)
    told = books.books(list(journal))
    for name in sorted(set(ran) - set(told)):
        found.wrong.append(f"{name} ran, and was never asked for: {ran[name]}")
    for name, book in told.items():
        outcome, wrong = _task(book, ran.get(name, []), excuses or Excuses())
        if outcome.startswith("TASK_KILLED") and not _asked_to_end(book, told):
            wrong.append("killed, and nobody asked for it")
        found.outcomes[outcome] += 1
        if outcome == STUCK:
            found.stuck.append(name)
        found.wrong += [f"{name}: {each}; {_story(book, ran.get(name, []))}" for each in wrong]
    return found


def _task(book: Book, marks: list[Mark], excuses: Excuses) -> tuple[str, list[str]]:
    """Return in which way a task ended, and what is wrong with that."""
    wrong = []
    counts = Counter(mark.what for mark in marks)
    started, ended = counts["start"], counts["end"]
    if not book.intended["what"]:
        wrong.append("told of, and never asked for")
    if started > 1:
        wrong.append(f"started {started} times")
    if ended > 1:
        wrong.append(f"ended {ended} times")
    if any(entry["what"] == books.REFUSED for entry in book.entries):
        if started:
            wrong.append("refused, and ran")
        return "refused", wrong
    first = _first_end(book)
    if first is None:
        return STUCK, [*wrong, "never told to have ended"]
    state = first["state"]
    end = book.statuses.index(first)
    before = book.statuses[: end + 1]
    for status in book.statuses[end + 1 :]:
        if status["state"] != state and not _stale(status, before):
            wrong.append(f"told to be {status['state']} after {state}")
            break
    if state in _NOWHERE:
        if started:
            wrong.append(f"ran, and was told to be {state}")
        return f"{state}, never ran", wrong
    if state == "TASK_FINISHED":
        if not (started and ended):
            wrong.append("told to have finished, and did not")
        if book.intended.get("code"):
            wrong.append("told to have finished, and failed")
        return state, wrong
    if state == "TASK_KILLED":
        drained = first["reason"] == Reason.REASON_AGENT_DRAINING
        outcome = "TASK_KILLED, drained" if drained else "TASK_KILLED"
        return outcome if started else f"{outcome}, never ran", wrong
    if state == "TASK_FAILED":
        outcome, why = _failed(book, first, bool(started), bool(ended), excuses)
        return outcome, wrong + ([why] if why else [])
    return state, [*wrong, f"ended in {state}"]


def _stale(status: Entry, before: list[Entry]) -> bool:
    """
    Tell whether a status after the end says nothing new: what was told before comes again where an
    acknowledgement was lost (that is what its uuid is for), and so masters answer questions until
    they have heard that the end is known; or they do not know the task any more, or cannot reach
    its agent, as Mesos' do.
    """
    if status["uuid"]:
        return any(status["uuid"] == each["uuid"] for each in before)
    if status["reason"] == Reason.REASON_RECONCILIATION:
        told = {each["state"] for each in before if each["uuid"]}
        return status["state"] in _NOWHERE | {"TASK_UNREACHABLE"} | told
    return bool(status["state"] == "TASK_UNREACHABLE" and status["source"] == Source.SOURCE_MASTER)


def _first_end(book: Book) -> Entry | None:
    """Return the first status that says that a task has ended."""
    ends = [each for each in book.statuses if each["state"] in _TERMINAL | _NOWHERE]
    return ends[0] if ends else None


def _failed(
    book: Book, first: Entry, started: bool, ended: bool, excuses: Excuses
) -> tuple[str, str]:
    """Return in which way a task failed, and why that is wrong, C{""} where it is not."""
    # The answer to a question may have come before the update itself.
    said = " ".join(each["message"] for each in book.statuses if each["state"] == first["state"])
    agent = first["agent"]
    if any(text in said for text in _DISK):
        full = _excused(excuses.full, agent, book.intended["at"], first["at"])
        return "TASK_FAILED, disk full", "" if full else "failed for a disk that was not full"
    if _NO_STATUS in said:
        killed = _excused(excuses.launchers, agent, book.intended["at"], first["at"])
        if not killed:
            return "TASK_FAILED, no status", "no exit status, and its launcher was not killed"
        return "TASK_FAILED, no status", ""
    if f"exited with status {book.intended.get('code')}" in said and started and ended:
        if book.intended["code"]:
            return "TASK_FAILED, as it should", ""
    if not started and _excused(excuses.launchers, agent, book.intended["at"], first["at"]):
        return "TASK_FAILED, no launcher", ""
    if not started and _excused(excuses.full, agent, book.intended["at"], first["at"]):
        return "TASK_FAILED, disk full", ""
    return "TASK_FAILED", "failed for no reason of its own"


def _asked_to_end(book: Book, told: Mapping[str, Book]) -> bool:
    """Tell whether a task was to be killed, or has to go because another one of its group did."""
    if any(entry["what"] == books.KILL for entry in book.entries):
        return True
    if any(status["reason"] == Reason.REASON_AGENT_DRAINING for status in book.statuses):
        return True
    group = book.intended.get("group")
    return bool(group) and any(
        other.intended.get("group") == group
        and any(
            entry["what"] == books.KILL
            or entry.get("state") in ("TASK_FAILED", "TASK_DROPPED")
            or entry.get("reason") == Reason.REASON_AGENT_DRAINING
            for entry in other.entries
        )
        for other in told.values()
    )


def _excused(
    troubles: Mapping[str, list[tuple[float, float]]], agent: str, begin: float, end: float
) -> bool:
    """Tell whether a trouble of an agent touches a span of time."""
    return any(first <= end and begin <= last for first, last in troubles.get(agent, ()))


def _story(book: Book, marks: list[Mark]) -> str:
    """Return all that is known of a task, on one line."""
    lines = [(book.intended["at"], f"asked for {_short(book.intended)}")]
    for entry in book.entries:
        if entry["what"] == books.STATUS:
            reason = entry["reason"]
            why = Reason(reason).name if reason >= 0 else ""
            source = Source(entry["source"]).name
            said = f"told {entry['state']} {source} {why} {entry['message']!r}"
            lines.append((entry["at"], said.strip()))
        else:
            lines.append((entry["at"], f"{entry['what']} {entry.get('why', '')}".strip()))
    lines += [(mark.at, f"{mark.what} by {mark.pid}") for mark in marks]
    return ", ".join(f"{at:.2f} {what}" for at, what in sorted(lines))


def _short(entry: Entry) -> str:
    return " ".join(
        f"{key}={entry[key]}" for key in ("kind", "agent", "code", "seconds") if key in entry
    )
